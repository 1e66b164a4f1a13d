"""PrivacyPlan: what a run is allowed to do to the private data, settled before the first step."""

import dataclasses
import itertools
import math
import typing

from tfdps import checks
from tfdps.accounting import accountants, calibration, overflow, round_shares
from tfdps.accounting.events import NoiseEvent, check_shares, part, planned
from tfdps.config import automatic, mechanism_registry
from tfdps.config.run_config import RunConfig

# Of per_record times clip_norm: then no release's noise has 2^56 steps of its grid (`exact_gaussian`).
_LARGEST_NOISE = 1e5
NOISE = "gaussian-rounded-to-grid"


class Stage(typing.NamedTuple):
    """Steps of a run whose draws are alike: the first one's number, how many, and q of each."""

    first: int
    steps: int
    sampling_probability: float


@dataclasses.dataclass(frozen=True)
class PrivacyPlan:
    """The noisy steps of a run, all of them public.

    Guarantee: what `epsilon` returns for the first steps of the plan holds, for zero-out adjacency
    (one record replaced by nothing, N the same), as long as each of them is a Gaussian mechanism of
    its own entry of `noise_multipliers` on a draw of its Stage's probability, whatever it releases
    and however that follows from earlier releases (see `accounting`). The shares are in the plan,
    so nothing that a release says can move them.

    Attributes:
      mechanism: one of mechanism_registry.NAMES.
      dataset_size: N, the public number of records.
      batch_size: B, the expected number drawn; sampling probability B / N.
      noise_multiplier: sigma, of every step, or of as many equal ones where there are shares; 0
        without a mechanism.
      clip_norm: C.
      steps: the number of steps after which the run ends.
      delta: in (0, 1/N).
      accountant: the one that decides, "rdp" or "pld".
      target_epsilon: what the run stays below, or None.
      shares: the fraction of the budget that each step has, > 0, summing to 1; None: equal steps.
      noise: NOISE, the law of the noise; None without a mechanism and in runs of tfdps 0.1, whose noise
        was not Gaussian.
      refiner_steps: how many of the steps, the last ones, train the refiner; they have no shares.
      refiner_batch_size, refiner_noise_multiplier: B and sigma of those; 0 where there are none.
      images_per_person: the most images of a person, where persons are the records that are spoken of
        here; None: images are.

    Raises:
      UsageError: from the constructor, for shares that are not a fraction a step.

    Examples:
      >>> import tfdps
      >>> settings = dict(batch_size=50, noise_multiplier=1.0, num_steps=100)
      >>> config = tfdps.RunConfig(mechanism="joint", **settings)
      >>> plan = tfdps.make_plan(config, 1000)
      >>> plan.sampling_probability, round(plan.epsilon(10), 2), round(plan.epsilon(100), 2)
      (0.05, 2.16, 4.04)
    """

    mechanism: str
    dataset_size: int
    batch_size: int
    noise_multiplier: float
    clip_norm: float
    steps: int
    delta: float
    accountant: str
    target_epsilon: typing.Optional[float]
    shares: typing.Optional[tuple] = None
    noise: typing.Optional[str] = None
    refiner_steps: int = 0
    refiner_batch_size: int = 0
    refiner_noise_multiplier: float = 0.0
    images_per_person: typing.Optional[int] = None

    def __post_init__(self) -> None:
        if self.shares is not None:
            check_shares(self.shares, self.steps - self.refiner_steps)
            # JSON, which knows lists only, gives the same plan back.
            object.__setattr__(self, "shares", tuple(float(share) for share in self.shares))

    @property
    def private(self) -> bool:
        """Whether there is a guarantee at all."""
        return mechanism_registry.entry(self.mechanism).private

    @property
    def images_per_unit(self) -> int:
        """The most images that one record, or person, has."""
        return self.images_per_person or 1

    @property
    def sampling_probability(self) -> float:
        """q = B / N, of all steps but the refiner's."""
        return self.batch_size / self.dataset_size

    @property
    def stages(self) -> list["Stage"]:
        """The run's Stages, a list in their order: the steps of one sampling probability each."""
        main = Stage(0, self.steps - self.refiner_steps, self.sampling_probability)
        if not self.refiner_steps:
            return [main]
        return [
            main,
            Stage(main.steps, self.refiner_steps, self.refiner_batch_size / self.dataset_size),
        ]

    @property
    def noise_multipliers(self) -> tuple[float, ...]:
        """The noise multiplier of each step, a tuple: sigma_t = sigma / sqrt(steps shares[t])."""
        if not self.private:
            return (self.noise_multiplier,) * self.steps
        kinds = ((c.noise_multiplier,) * c.steps for c in self.charges(0, self.steps))
        return tuple(itertools.chain.from_iterable(kinds))

    def charges(self, first: int, count: int) -> list[NoiseEvent]:
        """Returns the charges of steps first, ..., first + count - 1 (0-based), a list of NoiseEvent.

        In the order of the steps, neighbours of one noise multiplier merged.

        Raises:
          UsageError: when the plan does not have these steps, or has no mechanism.
        """
        checks.at_least("first", first, 0)
        checks.at_least("count", count, 0)
        if first + count > self.steps:
            raise checks.UsageError(
                f"count must stay within the plan's {self.steps} steps, received first={first}, "
                f"count={count}."
            )
        every = planned(
            noise_multiplier=self.noise_multiplier,
            sampling_probability=self.sampling_probability,
            steps=self.steps - self.refiner_steps,
            shares=self.shares,
        )
        return part([*every, *_refining(self, self.dataset_size)], first, count)

    def epsilon(self, steps: int, accountant: str | None = None) -> float:
        """Returns the epsilon after the first `steps` steps; infinity without a mechanism."""
        if not self.private:
            return math.inf
        return accountants.epsilon_of(
            self.charges(0, steps), delta=self.delta, accountant=accountant or self.accountant
        )


def make_plan(
    config: RunConfig, dataset_size: int, *, num_classes: int | None = None
) -> PrivacyPlan:
    """Returns the PrivacyPlan of a RunConfig on `dataset_size` records.

    From a target epsilon and a number of steps it calibrates the noise; from a noise multiplier and
    a target it finds the steps; given all three it checks them. It never ends above the target.
    The steps of per_record are its rounds, each with its own share of the budget (`round_shares`).

    Args:
      config: a RunConfig.
      dataset_size: N.
      num_classes: L, by which num_atoms is chosen where `config` leaves it open.

    Raises:
      UsageError: when both num_atoms and num_classes are missing, the target cannot be met, delta
        is not below 1/N, N is below B, num_steps is not the number of rounds, or there would be more
        noise than releases have room for.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", target_epsilon=3.0, num_steps=100)
      >>> plan = tfdps.make_plan(config, dataset_size=1000)
      >>> round(plan.noise_multiplier, 2), plan.epsilon(plan.steps) <= 3.0
      (1.16, True)
    """
    dataset_size = int(checks.at_least("dataset_size", dataset_size, 1))
    batch_size = config.batch_size or dataset_size
    if dataset_size < batch_size:
        raise checks.UsageError(
            f"batch_size must be at most the number of records, received batch_size="
            f"{batch_size} for {dataset_size} records."
        )
    config = _with_atoms(config, dataset_size, num_classes)
    shares = None
    if mechanism_registry.entry(config.mechanism).steps_are_rounds:
        shares = tuple(entry.share for entry in round_shares.of(config.num_atoms))
    num_steps = calibration.num_steps(config, shares)
    if not config.private:
        sigma, steps = 0.0, num_steps or calibration.DEFAULT_STEPS
    else:
        if config.delta >= 1 / dataset_size:
            raise checks.UsageError(
                f"delta must be below 1/N = {1 / dataset_size:.3g} for {dataset_size} records, "
                f"received {config.delta!r}: a larger one allows publishing a whole record."
            )
        refining = _refining(config, dataset_size)
        sigma, steps = calibration.noise_and_steps(
            config, batch_size / dataset_size, num_steps, shares, refining
        )
    plan = PrivacyPlan(
        mechanism=config.mechanism,
        dataset_size=dataset_size,
        batch_size=batch_size,
        noise_multiplier=sigma,
        clip_norm=config.clip_norm,
        steps=steps + config.refiner_steps,
        delta=config.delta,
        accountant=config.accountant,
        target_epsilon=config.target_epsilon if config.private else None,
        shares=shares,
        noise=NOISE if config.private else None,
        images_per_person=config.images_per_person if config.person else None,
        **_refinement(config),
    )
    _check_noise(plan)
    sampled = sum(stage.steps for stage in plan.stages if stage.sampling_probability < 1)
    if sampled and plan.shares is not None:  # steps of records, not of whole batches
        overflow.check(steps=sampled, epsilon=plan.epsilon(plan.steps), delta=plan.delta)
    return plan


def _with_atoms(config, dataset_size, num_classes):
    """A RunConfig whose number of atoms, and so of rounds, is settled."""
    if "num_atoms" not in config.chosen_where_open or config.num_atoms is not None:
        return config
    if num_classes is None:
        raise checks.UsageError(
            "num_classes is missing: by it num_atoms, and so the rounds, are chosen. Give "
            "make_plan(..., num_classes=10), or a num_atoms."
        )
    return automatic.settled(config, dataset_size, num_classes=num_classes)[0]


def _refinement(config):
    """What a plan says of the refiner's steps, by the names of its fields; {} where there are none."""
    if not config.refiner_steps:
        return {}
    return {
        "refiner_steps": config.refiner_steps,
        "refiner_batch_size": config.refiner_batch_size,
        "refiner_noise_multiplier": config.refiner_noise_multiplier,
    }


def _refining(settings, dataset_size):
    """The charges of the refiner's steps, a list of one or none.

    Args:
      settings: what has the fields refiner_*: a RunConfig, or a PrivacyPlan.
      dataset_size: N.

    Raises:
      UsageError: where a step would draw more records than there are.
    """
    if not settings.refiner_steps:
        return []
    if settings.refiner_batch_size > dataset_size:
        raise checks.UsageError(
            f"refiner_batch_size must be at most the number of records, received "
            f"{settings.refiner_batch_size} for {dataset_size} records."
        )
    probability = settings.refiner_batch_size / dataset_size
    return [NoiseEvent(settings.refiner_noise_multiplier, probability, settings.refiner_steps)]


def _check_noise(plan):
    """Raises UsageError for noise that the grids of releases have no room for."""
    if not plan.private:
        return
    relative = mechanism_registry.entry(plan.mechanism).clip_norm_is_relative
    times = plan.clip_norm if relative else 1.0
    charges = plan.charges(0, plan.steps)
    largest = max(charge.noise_multiplier for charge in charges) * times
    if largest > _LARGEST_NOISE:
        what = "noise_multiplier times clip_norm" if relative else "noise_multiplier"
        raise checks.UsageError(
            f"{what} must be at most {_LARGEST_NOISE:.0e} in every step, received {largest:.3g}. "
            "Take less of it: nothing is learned under so much noise."
        )
