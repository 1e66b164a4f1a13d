"""The rounds of a per-record run: what each asks of the private records, and what it learns.

A round asks a question, public atoms and scales, of the model so far; the mechanism answers with
noisy moments; the round turns the answer into a better model. What it asks and what it makes of the
answer depend on earlier answers and public values alone, so the composition is adaptive and the
model is post-processing.

  centre   the mean of each class, from the grey image
  scatter  one second moment for all classes, around the means, in waves: the subspace, its spectrum
  atoms    K atoms a class, put where draws of the model so far cluster: their mass, mean and
           covariance, each drawn towards what the model expected as far as the noise demands

The atoms' softmax is the column of an entropic transport plan between the model and the records
(`mechanisms/per_record.py`), with the model's weights as marginal and potentials of 0.
"""

import dataclasses
import typing

import numpy as np

from tfdps import shrinkage
from tfdps.frequencies import cosine_basis
from tfdps.local_gaussians import LocalGaussians, Proposal
from tfdps.mechanisms.per_record import Atoms, Scales

MOST_WAVES = 800  # of the scatter, the slowest: 320,000 numbers; all waves of a 28 x 28 image

# Scales of the channels, over the root mean square distance of a record from its atom.
_MASS, _ENERGY, _SECOND = 0.7, 0.2, 3.0
_SCATTER_SECOND = 6.0

_BAND = 8  # coordinates of like variance that shrink together
_SMALLEST_PIXEL_VARIANCE = 1e-4
_SMALLEST_VARIANCE = 0.02  # of an atom along a direction, over the basis' median


class Question(typing.NamedTuple):
    """What a round asks of the mechanism. Public.

    atoms, scales, pooled: the arguments of `PerRecordMechanism.release`.
    expected: the Proposal that the atoms came from, or None.
    """

    atoms: Atoms
    scales: Scales
    pooled: bool
    expected: Proposal | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the rounds need to know of the run; all of it public.

    image_shape: (height, width, channels).
    num_classes: L.
    class_size: N / L, the public stand-in for the size of a class.
    rank: p, the dimension of the subspace.
    clip_norm: the clip, over the root mean square of a contribution as the model expects it.
    regularization: lambda of the atoms' softmax.
    """

    image_shape: tuple
    num_classes: int
    class_size: float
    rank: int
    clip_norm: float
    regularization: float


def make(entry, settings):
    """Returns the round of an entry of `schedule.of`."""
    if entry.name == "centre":
        return CentreRound(settings)
    if entry.name == "scatter":
        return ScatterRound(settings)
    return AtomRound(settings, entry.num_atoms)


class CentreRound:
    """The mean of every class, and how far records are from it; the first round.

    Args:
      settings: the Settings.
    """

    def __init__(self, settings):
        self._settings = settings

    def question(self, model, rng):
        """Returns the Question: one grey atom a class."""
        settings = self._settings
        pixels = int(np.prod(settings.image_shape))
        # The furthest image, all black and white, has a norm of sqrt(d), and then all three terms.
        root = np.sqrt(pixels)
        mass, energy = root / 3, 0.7 / root
        clip_norm = settings.clip_norm * np.sqrt(mass**2 + pixels + (energy * pixels) ** 2)
        positions = np.zeros([settings.num_classes, 1, pixels])
        atoms = Atoms(positions, positions[..., 0], settings.regularization)
        return Question(atoms, Scales(float(clip_norm), float(mass), float(energy)), False)

    def absorb(self, model, question, moments):
        """Returns the LocalGaussians of one point a class, without a subspace yet."""
        pixels = moments.displacement.shape[-1]
        count = _counts(moments, np.full_like(moments.mass, self._settings.class_size))[:, 0]
        basis, ring_of = cosine_basis(self._settings.image_shape)
        noise = moments.displacement_stddev / count
        waves = moments.displacement[:, 0] / count[:, None] @ basis.T
        centres = np.clip(shrinkage.rings(waves, ring_of, noise[:, None]) @ basis, -1, 1)
        within = moments.energy[:, 0] / count - np.sum(centres**2, axis=1)
        ones = np.ones([len(count), 1])
        return LocalGaussians(
            centres=centres,
            within=float(np.clip(within.mean(), 0.01 * pixels, pixels)),
            basis=np.zeros([0, pixels]),
            variances=np.zeros(0),
            pixel_variances=np.zeros(pixels),
            weights=ones,
            offsets=np.zeros([len(count), 1, 0]),
            details=np.zeros([len(count), 1, pixels]),
            factors=np.zeros([len(count), 1, 0, 0]),
        )


class ScatterRound:
    """The covariance of records around their class's centre, all classes together, in waves.

    Args:
      settings: the Settings.
    """

    def __init__(self, settings):
        self._settings = settings

    def question(self, model, rng):
        """Returns the Question: one atom a class at its centre, second moments in waves."""
        settings = self._settings
        waves, _ = cosine_basis(settings.image_shape, MOST_WAVES)
        root = np.sqrt(model.within)
        mass, second = 0.1 * root, _SCATTER_SECOND / root
        norm = np.sqrt(mass**2 + model.within + (second * model.within) ** 2)
        atoms = Atoms(
            model.centres[:, None], np.zeros_like(model.weights), settings.regularization, waves
        )
        scales = Scales(float(settings.clip_norm * norm), float(mass), second=float(second))
        return Question(atoms, scales, True)

    def absorb(self, model, question, moments):
        """Returns the model with its subspace: every class a Gaussian of the common covariance."""
        settings = self._settings
        waves, ring_of = cosine_basis(settings.image_shape, MOST_WAVES)
        records = settings.class_size * settings.num_classes
        second, noise = moments.second / records, moments.second_stddev / records
        values, directions = np.linalg.eigh(shrinkage.blocks(second, ring_of, noise))
        root = waves.T @ (directions * np.sqrt(np.maximum(values, 0)))
        pixel_variances = self._pixel_variances(waves, second, noise)
        # Waves are everywhere; the map of variances says where in the image they are.
        root *= _scale_to(pixel_variances, np.sum(root**2, axis=1))[:, None]
        basis, scales, _ = np.linalg.svd(root, full_matrices=False)
        rank = settings.rank
        variances = np.maximum(scales[:rank] ** 2, _SMALLEST_PIXEL_VARIANCE)
        factors = np.broadcast_to(np.diag(np.sqrt(variances)), (model.num_classes, 1, rank, rank))
        return dataclasses.replace(
            model,
            basis=basis[:, :rank].T,
            variances=variances,
            pixel_variances=pixel_variances,
            offsets=np.zeros([model.num_classes, 1, rank]),
            factors=factors,
        )

    def _pixel_variances(self, waves, second, noise):
        """[d]: how much each pixel varies, a smooth image; less what noise may have left in it."""
        raw = np.sum(waves * (second @ waves), axis=0)
        every, ring_of = cosine_basis(self._settings.image_shape)
        # The noise on a pixel: white where all waves were asked about, a little less where not.
        coefficients = every @ raw
        smooth = shrinkage.rings(coefficients[None], ring_of, noise)[0]
        kept = smooth / np.where(coefficients == 0, 1, coefficients)
        left = noise * np.sqrt(np.mean(kept**2))
        return np.clip(smooth @ every - left, _SMALLEST_PIXEL_VARIANCE, 1)


class AtomRound:
    """Mass, mean and covariance at a number of atoms a class.

    Args:
      settings: the Settings.
      num_atoms: K.
    """

    def __init__(self, settings, num_atoms):
        self._settings, self._num_atoms = settings, num_atoms

    def question(self, model, rng):
        """Returns the Question: atoms where draws of the model cluster."""
        settings = self._settings
        expected = model.proposal(self._num_atoms, rng, regularization=settings.regularization)
        positions = model.centres[:, None] + expected.atoms @ model.basis
        offsets = settings.regularization * np.log(np.maximum(expected.weights, 1e-6))
        atoms = Atoms(positions, offsets, settings.regularization, model.basis)
        return Question(atoms, self._scales(model, expected), False, expected)

    def _scales(self, model, expected):
        share = expected.weights / model.num_classes
        in_basis = np.trace(expected.covariances, axis1=-2, axis2=-1)
        fourth = in_basis**2 + 2 * np.sum(expected.covariances**2, axis=(-2, -1))
        fourth = np.sum(share * fourth)  # E ||B delta||^4 of Gaussians
        within = np.sum(share * in_basis) + max(model.within - model.variances.sum(), 0)
        root = np.sqrt(within)
        mass, energy, second = _MASS * root, _ENERGY / root, _SECOND / root
        square = mass**2 + within + (energy * within) ** 2 + second**2 * fourth
        clip_norm = self._settings.clip_norm * np.sqrt(square)
        return Scales(float(clip_norm), float(mass), float(energy), float(second))

    def absorb(self, model, question, moments):
        """Returns the model with these atoms."""
        expected = question.expected
        expected_mass = expected.weights * self._settings.class_size
        mass = expected_mass + shrinkage.vectors(moments.mass - expected_mass, moments.mass_stddev)
        weights = np.maximum(mass, 0.1 * expected_mass)
        count = _counts(moments, expected_mass, mass)
        means = moments.displacement / count[..., None]
        noise = moments.displacement_stddev / count
        in_basis = means @ model.basis.T
        shifts = expected.shifts + shrinkage.vector_bands(
            in_basis - expected.shifts, _bands(model), noise
        )
        centres, details = self._outside(model, means - in_basis @ model.basis, count, noise)
        return dataclasses.replace(
            model,
            centres=centres,
            details=details,
            weights=weights / weights.sum(axis=1, keepdims=True),
            offsets=expected.atoms + shifts,
            factors=self._factors(model, expected, moments, count, in_basis, noise),
        )

    def _outside(self, model, rest, count, noise):
        """(centres, details): what the means have outside the basis, of a class and of its atoms."""
        waves, ring_of = cosine_basis(self._settings.image_shape)
        share = (count / count.sum(axis=1, keepdims=True))[..., None]
        common = np.sum(share * rest, axis=1)
        common_noise = np.sqrt(np.sum((share[..., 0] * noise) ** 2, axis=1, keepdims=True))
        centres = model.centres + shrinkage.rings(common @ waves.T, ring_of, common_noise) @ waves
        own = (rest - common[:, None]) @ waves.T
        details = shrinkage.rings(own, ring_of, noise[..., None]) @ waves
        return centres, details if self._num_atoms > 1 else np.zeros_like(details)

    def _factors(self, model, expected, moments, count, in_basis, noise):
        """[L, K, p, p]: the covariances, drawn to their class's change, and that to all classes'."""
        second = moments.second / count[..., None, None]
        second -= in_basis[..., :, None] * in_basis[..., None, :]
        second += noise[..., None, None] ** 2 * np.eye(second.shape[-1])  # the square's own noise
        change = second - expected.covariances
        change_noise = moments.second_stddev / count
        share = count / count.sum(axis=1, keepdims=True)
        of_class = np.sum(share[..., None, None] * change, axis=1)
        class_noise = np.sqrt(np.sum((share * change_noise) ** 2, axis=1))
        common_noise = np.sqrt(np.sum(class_noise**2)) / len(class_noise)
        bands = _bands(model)
        common = shrinkage.matrix_bands(of_class.mean(axis=0), bands, common_noise)
        of_class = common + shrinkage.matrix_bands(of_class - common, bands, class_noise)
        change = of_class[:, None] + shrinkage.matrix_bands(
            change - of_class[:, None], bands, change_noise
        )
        values, directions = np.linalg.eigh(expected.covariances + change)
        smallest = _SMALLEST_VARIANCE * np.median(model.variances)
        return directions * np.sqrt(np.maximum(values, smallest))[..., None, :]


def _bands(model):
    """int [p]: coordinates of the basis in bands of like variance, for shrinkage."""
    return np.arange(len(model.basis)) // _BAND


def _scale_to(wanted, variances):
    """Factors that bring pixels of these variances to the wanted ones, or half the way up."""
    return np.sqrt(np.clip(wanted / np.maximum(variances, 1e-9), 0, 4))


def _counts(moments, expected, mass=None):
    """The masses to divide by: never so small that noise would be blown up."""
    mass = moments.mass if mass is None else mass
    return np.maximum(mass, np.maximum(0.3 * expected, 2 * moments.mass_stddev))
