"""What a run will need of a machine, from public values alone: memory, and about how long.

An estimate, made before the ledger opens: a run that is killed for want of memory has spent its budget.
`benchmarks/image_size.md` holds it against what runs took. The terms are the arrays that grow with what
is declared: N records of d pixels, L classes of K atoms, p dimensions of a subspace, m waves.
"""

import dataclasses
import math
import os

from tfdps import checks
from tfdps.accounting import round_shares
from tfdps.generators import scaling
from tfdps.learners.per_record.class_rounds import num_waves
from tfdps.learners.refiner import pretrained, pretraining, private_steps
from tfdps.training import free_memory

# Bytes, measured: fitted to the runs of benchmarks/image_size.md, and a little above most of them.
_PROCESS = 1.05e9  # Python, TensorFlow, compiled programs and what malloc keeps
_PART = 2**28  # of a draw, see PoissonBatches
_COPIES_OF_PART = 4  # gathered, padded, prefetched, worked on
_PIECE, _OF_PIECE = (
    2**22,
    90,
)  # numbers of a piece of records, see PerRecordMechanism; bytes for each
_OF_ATOM_PIXEL = 130  # float64 of positions, sums, noise, means, spreads and their transforms
# A basis in float32: the query's, and two copies that TensorFlow makes for a constant of a program.
_OF_WAVE_PIXEL, _KEPT_OF_WAVE_PIXEL = 21, 4
_OF_BASIS_PIXEL = 24
_OF_SAMPLE_PIXEL = 36  # of an image that is generated
# A denoiser's programs, and what is kept of an image of theirs.
_REFINED, _OF_REFINED_PIXEL = 3.2e8, 45
# A view of a record at a time in a private step, for each pixel and each of a denoiser's filters.
_OF_VIEW = 100
_SAMPLES_OF_CLASS, _CLASSES_SHOWN = 10, 20
_LARGEST_ONNX = 2**31  # bytes: protobuf's limit

_START_SECONDS, _ROUND_SECONDS = 20.0, 2.0
_PRODUCTS_A_SECOND = 2.5e9  # of float64, on a core of 2020
_WAVE_PIXELS_A_SECOND = 2e7  # transformed
_ATOM_PIXELS_A_SECOND = 1.5e6  # set in closed form, in a round
_CLASS_SECONDS = 0.1  # of a round with atoms
_MADE_UP_A_SECOND = 1e6  # numbers of procedural images, on one core
_DENOISER_SECONDS, _GRADIENT_SECONDS = (
    0.15,
    1.3e-3,
)  # of a core: a step of pretraining, a view's gradient


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a run needs; about.

    Attributes:
      memory: bytes of this machine's memory, at most.
      seconds: of work, on this machine's cores.
    """

    memory: float
    seconds: float


def of_run(config, spec, num_records):
    """Returns the Needs of a run of the per-record mechanism; None of others, whose batches are small.

    Args:
      config: the RunConfig.
      spec: the DatasetSpec.
      num_records: N.
    """
    if config.num_atoms is None:
        return None
    return Needs(_memory(config, spec, num_records), _seconds(config, spec, num_records))


def refuse_what_cannot_fit(config, spec, num_records, *, available=None):
    """Raises UsageError for a run that needs more memory than there is, or makes too large a file.

    To be called before a ledger is opened: nothing is spent then.

    Args:
      config, spec, num_records: as for `of_run`.
      available: bytes that the run may have in all; default: what it has, and what is free.
    """
    needs = of_run(config, spec, num_records)
    if needs is None:
        return
    size = _tables(config, spec)
    if size > _LARGEST_ONNX:
        raise checks.UsageError(
            f"the generator of this run would take {size / 1e9:.1f} GB, and an ONNX file holds "
            f"{_LARGEST_ONNX / 1e9:.1f} GB at most. {_smaller(config, spec, _fits_file)}"
        )
    available = free_memory.of_process() if available is None else available
    if available is None or needs.memory <= available:
        return

    def fits(config, spec):
        return _memory(config, spec, num_records) <= available

    raise checks.UsageError(
        f"this run needs about {needs.memory / 1e9:.1f} GB of memory, and there are "
        f"{available / 1e9:.1f} GB: {num_records} records of {'x'.join(map(str, spec.image_shape))}, "
        f"{spec.num_classes} classes of {config.num_atoms} atoms. {_smaller(config, spec, fits)}"
    )


def _memory(config, spec, num_records):
    pixels, atom_pixels = math.prod(spec.image_shape), _atom_pixels(config, spec)
    records = min(num_records * pixels, config.records_mib * 2**20)
    part = min(num_records * pixels, _PART)
    waves = num_waves(spec.image_shape) * pixels
    basis = (config.latent_dim - 1) * pixels
    samples = _SAMPLES_OF_CLASS * min(spec.num_classes, _CLASSES_SHOWN) * pixels
    piece = min(_PIECE, -(-num_records // spec.num_classes) * pixels)
    of_atoms = _OF_ATOM_PIXEL * atom_pixels + _OF_BASIS_PIXEL * basis
    # One after the other: a round of waves, the generator set while its query is kept, samples.
    at_a_time = max(
        _OF_WAVE_PIXEL * waves,
        of_atoms + _KEPT_OF_WAVE_PIXEL * waves,
        _OF_SAMPLE_PIXEL * samples,
    )
    refined = _REFINED + _OF_REFINED_PIXEL * samples if config.refined else 0
    refined += _of_private_steps(config, spec)
    of_records = records + _COPIES_OF_PART * part + _OF_PIECE * piece
    return _PROCESS + of_records + at_a_time + refined + _made_up(config, spec)


def _of_private_steps(config, spec):
    """Bytes of the refiner's private steps, were its network as small as can be: then most fit."""
    if not config.refiner_steps:
        return 0
    views = config.refiner_views * (config.images_per_person or 1)
    at_a_time = views * private_steps.units_at_a_time(1, views=views)
    pixels = math.prod(scaling.refined_shape(spec.image_shape)[:2])
    return at_a_time * _OF_VIEW * pixels * config.refiner_width + private_steps.CHUNK_BYTES


def _seconds(config, spec, num_records):
    pixels, atoms = math.prod(spec.image_shape), config.num_atoms
    rounds = len(round_shares.of(atoms))
    drawn = min(num_records, config.batch_size or num_records)
    # Of every class the last piece is padded.
    waves = num_waves(spec.image_shape)
    products = 1.5 * drawn * pixels * (waves + config.latent_dim + 4 * atoms)
    cores = os.cpu_count() or 1
    seconds = _START_SECONDS + rounds * _ROUND_SECONDS
    seconds += products / (_PRODUCTS_A_SECOND * cores)
    seconds += waves * pixels / _WAVE_PIXELS_A_SECOND
    seconds += rounds * _atom_pixels(config, spec) / _ATOM_PIXELS_A_SECOND
    seconds += (rounds - 3) * _CLASS_SECONDS * spec.num_classes
    if config.refined:
        if made_up := _made_up(config, spec):
            seconds += made_up / _MADE_UP_A_SECOND
            seconds += config.refiner_pretraining * _DENOISER_SECONDS / cores
        views = config.refiner_steps * config.refiner_batch_size * config.refiner_views
        seconds += views * _GRADIENT_SECONDS / cores
    return seconds


def _made_up(config, spec):
    """Numbers of the procedural images that a run makes up; 0 where none are."""
    if not config.refined:
        return 0
    settings = {"steps": config.refiner_pretraining, "width": config.refiner_width}
    if pretrained.is_kept(spec.image_shape, family=config.refiner, **settings):
        return 0
    return pretraining.NUM_IMAGES * math.prod(scaling.refined_shape(spec.image_shape))


def _atom_pixels(config, spec):
    return spec.num_classes * config.num_atoms * math.prod(spec.image_shape)


def _tables(config, spec):
    """Bytes of the generator's tables."""
    pixels = math.prod(spec.image_shape)
    # Means and gains of every atom, their ranges of every class; basis and directions of noise.
    of_classes = 2 * _atom_pixels(config, spec) + 16 * spec.num_classes * pixels
    return of_classes + 2 * (config.latent_dim - 1) * pixels


def _fits_file(config, spec):
    return _tables(config, spec) <= _LARGEST_ONNX


def _smaller(config, spec, fits):
    """A sentence: which smaller settings fit, one at a time."""
    side = max(spec.image_shape[:2])
    found = [
        f"--image_size={size}"
        for size in _halved(side, 8)
        if fits(config, dataclasses.replace(spec, image_shape=(size, size, spec.image_shape[2])))
    ][:1]
    found += [
        f"--num_atoms={atoms}"
        for atoms in _halved(config.num_atoms, 1)
        if fits(dataclasses.replace(config, num_atoms=atoms), spec)
    ][:1]
    if spec.image_shape[2] == 3:
        grey = dataclasses.replace(spec, image_shape=(*spec.image_shape[:2], 1))
        found += ["--channels=1"] if fits(config, grey) else []
    if not found:
        return "Take another machine, or a smaller --image_size with fewer --num_atoms."
    return f"Take {' or '.join(found)}, or a machine with more memory."


def _halved(value, least):
    """Half of it, a quarter, and so on, down to `least`."""
    while (value := value // 2) >= least:
        yield value
