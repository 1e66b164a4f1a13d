"""RunConfig: everything a run is made of, as one frozen value that flags map onto."""

import dataclasses
import typing

from tfdps import checks
from tfdps.config import data_settings, mechanism_registry, refiners, run_checks
from tfdps.config.fields import GUARANTEE, MODEL, setting

COSTS = ("l2", "l1+l2")
SCHEDULES = ("converged", "reference")
LOSSES = ("semi_debiased", "plain")
GENERATORS = ("mlp", "dcgan", "biggan", "mixture")
LEARNING_RATE_SCHEDULES = ("constant", "cosine")
ACCOUNTANTS = ("rdp", "pld")
STRATEGIES = ("one", "mirrored", "multiworker", "tpu")
PRECISIONS = ("float32", "bfloat16")
_IMAGES_PER_PERSON = 10


@checks.known_fields
@dataclasses.dataclass(frozen=True)
class RunConfig(data_settings.DataSettings):
    """What one run trains, on what, at which privacy. Field names are the flags' names.

    Raises:
      UsageError: from the constructor, when a value lies outside what its help text allows.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(dataset="mnist", target_epsilon=1.0, model_dir="runs/mnist")
      >>> config.mechanism, config.delta, config.clip_norm
      ('per_record', 1e-05, 1.0)
    """

    model_dir: typing.Optional[str] = setting(None, "Where the run lives: all its files.")

    # Privacy
    mechanism: str = setting(
        "per_record",
        "per_record: each record clipped on its own. joint: the paper's, one clip over the batch's "
        "image gradient. none: NOT PRIVATE.",
        resume=GUARANTEE,
        choices=mechanism_registry.NAMES,
    )
    target_epsilon: typing.Optional[float] = setting(
        10.0, "The run never ends above this epsilon.", resume=GUARANTEE
    )
    person: typing.Optional[str] = setting(
        None,
        "Makes a person, with all of their images, the unit of privacy, where it says whose an image "
        "is; default: an image is. folder: the sub-folders of the classes are persons. column: person "
        "of --labels_csv. dicom: DICOM's PatientID. passed: with arrays. Or a pattern of the files' "
        "names, a regular expression whose one group is the person: (.+)_[0-9]+. N is then the "
        "number of persons.",
        resume=GUARANTEE,
    )
    images_per_person: typing.Optional[int] = setting(
        None,
        "The most images of a person, 1 to 100, default 10; of more a fixed choice is taken. Without "
        "--person: --mode=account then says what a person with so many images has.",
        resume=GUARANTEE,
    )
    delta: float = setting(1e-5, "The delta of (epsilon, delta), below 1/N.", resume=GUARANTEE)
    noise_multiplier: typing.Optional[float] = setting(
        None,
        "Noise standard deviation over sensitivity; default: calibrated to target_epsilon.",
        resume=GUARANTEE,
    )
    clip_norm: float = setting(
        None,
        "joint: L2 bound on the image gradient of a whole batch, default 0.5. per_record: bound on a "
        "record's contribution, over its root mean square as the model so far expects it; default 1.",
        resume=GUARANTEE,
    )
    num_steps: typing.Optional[int] = setting(
        None,
        "Noisy steps; default: as many as noise_multiplier and target_epsilon allow, or 5000 when "
        "neither is given; per_record: its rounds, and no other number.",
        resume=GUARANTEE,
    )
    batch_size: typing.Optional[int] = setting(
        None,
        "B: the expected number of private records drawn a step, and of images that joint generates; "
        "default: 50, per_record: all records.",
        resume=GUARANTEE,
    )
    accountant: str = setting(
        None,
        "The accountant that calibrates and decides when the budget is spent; default: rdp, "
        "per_record: pld, which is exact while batch_size is all records.",
        resume=GUARANTEE,
        choices=ACCOUNTANTS,
    )

    # Transport
    loss: str = setting(
        "semi_debiased",
        "semi_debiased: 2 W(X,Y) - W(X,X'). plain: the Sinkhorn divergence.",
        choices=LOSSES,
    )
    debias_ratio: float = setting(
        0.2, "p: the fraction of the batch that is drawn afresh for the debiasing term, in [0, 1]."
    )
    fresh_clip: float = setting(
        1.0,
        "joint: L2 bound on the gradient of the images drawn afresh, over clip_norm, in (0, 1]. That "
        "gradient holds no private data; a smaller bound makes it weigh less.",
    )
    cost: str = setting("l2", "Ground cost: ||a-b||^2, or ||a-b||^2 + m ||a-b||_1.", choices=COSTS)
    cost_l1_weight: float = setting(1.0, "m of the l1+l2 cost.")
    regularization: float = setting(
        None,
        "Entropic regularisation lambda, in units of the cost (per_record: ||a-b||^2/2); default 5, "
        "per_record: 1. Not the privacy epsilon.",
    )
    schedule: str = setting(
        "converged",
        "converged: solved to a marginal error. reference: the published, unconverged schedule.",
        choices=SCHEDULES,
    )
    schedule_exponent: float = setting(
        2.0, "r of the reference schedule: its blur is regularization^(1/r)."
    )
    label_scale: float = setting(15.0, "Weight of the one-hot label in the transport's features.")

    # Generator
    generator: str = setting(
        None,
        "The generator's architecture; mixture is per_record's only one, the others are joint's, "
        "whose default is mlp.",
        resume=MODEL,
        choices=GENERATORS,
    )
    latent_dim: int = setting(
        None,
        "Dimension of the latent z ~ U[0,1]; default 16. mixture: 1 and the dimensions of the "
        "subspace that images vary in; default: chosen by N, epsilon and the number of pixels.",
        resume=MODEL,
    )
    generator_width: typing.Optional[int] = setting(
        None,
        "mlp, dcgan, biggan: units or channels of the widest layer, a multiple of 4; default: mlp 512, "
        "dcgan and biggan 256. dcgan halves it twice. A small generator takes less time a step, and "
        "noise has fewer ways to move it.",
        resume=MODEL,
    )
    num_atoms: typing.Optional[int] = setting(
        None,
        "mixture: atoms a class, each a mean and spreads of its own; default: chosen by N, the number "
        "of classes and epsilon. Six thousand records a class carry 128 at epsilon 10, 32 at 1, 8 at "
        "0.2.",
        resume=GUARANTEE,
    )
    grain: typing.Optional[float] = setting(
        None,
        "mixture: noise on every pixel, in units of what images have outside the subspace; default: 1 "
        "for grey images, 2 for colour. "
        "Without it classifiers learn patterns too faint to see. More where the subspace holds less.",
    )
    warp: typing.Optional[float] = setting(
        None, "mixture: bends images by so many pixels (standard deviation, 0 to 1); default 0."
    )
    mirror: typing.Optional[bool] = setting(
        None, "mixture: mirrors half of the images; default off. Not for digits or letters."
    )

    learning_rate: float = setting(1e-3, "Adam's learning rate, at first.")
    learning_rate_schedule: str = setting(
        "constant",
        "constant, or cosine: the learning rate falls to 0 by half a cosine over the run's steps.",
        resume=MODEL,
        choices=LEARNING_RATE_SCHEDULES,
    )
    weight_decay: float = setting(1e-5, "Weight of the L2 term on the generator's weights.")
    ema_decay: float = setting(0.999, "Decay of the averaged weights that are exported, in [0, 1).")

    # Refiner
    refiner: typing.Optional[str] = setting(
        None,
        "mixture: makes its images look real, by a denoiser of procedural images: strokes "
        "(handwriting, line drawings), shapes (things on black), scenes (photographs) or mixed (all "
        "three, and the default from 16 pixels on); or none: it takes a flag file's refiner out with "
        "its settings.",
        resume=MODEL,
        choices=refiners.NAMES,
    )
    refiner_start: typing.Optional[float] = setting(
        None,
        "The noise that the refiner adds to an image and takes out, 0.03 to 1 in pixels of -1 to 1; "
        "default 0.4, for scenes 0.3. More of it hides more of the mixture, and makes up more.",
    )
    refiner_levels: typing.Optional[int] = setting(
        None,
        "The steps in which the refiner takes the noise out; default 3, for shapes 5, mixed 4.",
    )
    refiner_width: int = setting(32, "Channels of the denoiser, a multiple of 8.", resume=MODEL)
    refiner_pretraining: int = setting(
        1500, "Steps on 64 procedural images each that the denoiser learns for.", resume=MODEL
    )
    refiner_steps: int = setting(
        0,
        "Private steps after the rounds: the denoiser learns from records, with noise; default none. "
        "The rounds get what these leave of target_epsilon.",
        resume=GUARANTEE,
    )
    refiner_batch_size: int = setting(
        3000, "The expected number of private records drawn for such a step.", resume=GUARANTEE
    )
    refiner_noise_multiplier: float = setting(
        1.0, "Noise standard deviation over sensitivity of such a step.", resume=GUARANTEE
    )
    refiner_views: int = setting(2, "Noise levels that a record's gradient is the mean of.")
    refiner_learning_rate: float = setting(
        0.0005, "Adam's learning rate of such steps at first; it falls to 0."
    )

    # Running
    strategy: str = setting(
        "one",
        "one: a single device. mirrored: every GPU of this machine. multiworker: several machines, "
        "each started with its TF_CONFIG. tpu: the cores of --tpu.",
        choices=STRATEGIES,
    )
    tpu: typing.Optional[str] = setting(
        None, "The TPU of --strategy=tpu: a name or grpc:// address; default: this machine's own."
    )
    precision: str = setting(
        "float32",
        "bfloat16: the generator computes in it, its weights stay float32; transport, clip and noise "
        "are float32 always. Faster on accelerators. The export is float32.",
        choices=PRECISIONS,
    )
    records_mib: float = setting(
        4096.0,
        "MiB of memory for the records of a machine: more than that are read from disk again in "
        "every pass.",
    )
    checkpoint_secs: float = setting(60.0, "Seconds between checkpoints.")
    sample_secs: float = setting(120.0, "Seconds between sample grids.")

    def __post_init__(self) -> None:
        checks.one_of("mechanism", self.mechanism, mechanism_registry.NAMES)
        checks.field_types(self)
        if self.refiner == "none" and "refiner" in self._entry.without_use:
            object.__setattr__(self, "refiner", None)  # which says as much there
        defaults = {**self._entry.defaults, **refiners.DEFAULTS.get(self.refiner or "none", {})}
        if self.person is not None:
            defaults = {**defaults, "images_per_person": _IMAGES_PER_PERSON}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        run_checks.check(self, self._entry)

    @property
    def private(self) -> bool:
        """Whether the run has a privacy guarantee."""
        return self._entry.private

    @property
    def refined(self) -> bool:
        """Whether the generator's images go through a refiner."""
        return self.refiner not in (None, "none")

    @property
    def chosen_where_open(self) -> tuple[str, ...]:
        """Names of the settings that `automatic.settled` chooses where they are None."""
        return self._entry.chosen_where_open

    @property
    def _entry(self):
        return mechanism_registry.entry(self.mechanism)

    @property
    def num_fresh(self) -> int:
        """n' = floor(p n), the images drawn afresh a step for the debiasing term; plain loss: 0."""
        if self.loss == "plain":
            return 0
        return int(self.debias_ratio * (self.batch_size or 0) + 1e-9)

    def to_flags(self) -> str:
        """Returns a valid absl flagfile: a --name=value line for every field with a value and a use."""
        return "".join(
            f"--{name}={value}\n"
            for name, value in dataclasses.asdict(self).items()
            if value is not None and name not in self._entry.without_use
        )

    def differences(self, other: "RunConfig") -> list[tuple[str, typing.Any, typing.Any, str]]:
        """Returns [(field name, self's value, other's value, resume policy)] where they differ."""
        return [
            (f.name, getattr(self, f.name), getattr(other, f.name), f.metadata["resume"])
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]
