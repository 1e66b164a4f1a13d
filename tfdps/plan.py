"""PrivacyPlan: what a run is allowed to do to the private data, settled before the first step."""

import dataclasses
import itertools
import math
import typing

from tfdps import accounting, checks, schedule
from tfdps.charges import check_shares, part, planned

DEFAULT_STEPS = 5000
ADJACENCY = "add-or-remove-one"
SAMPLING = "poisson"
CAVEATS = (
    "The number of records N, the class names and the image shape are treated as public.",
    "The unit of protection is one record: a person with k records has k times the epsilon.",
    "The guarantee covers this run alone: other runs on the same data, tuning included, add up.",
    "Noise is floating-point Gaussian noise from a Philox generator keyed by the operating system; "
    "it is not hardened against attacks on floating-point rounding or on Philox.",
    "How long a step takes follows its data a little; timings (also in the ledger) are not covered.",
    "Evaluation and audit files, where there are any, read private data and are not covered.",
)


@dataclasses.dataclass(frozen=True)
class PrivacyPlan:
    """The noisy steps of a run, all of them public.

    Guarantee: what `epsilon` returns for the first steps of the plan holds, for add-or-remove-one
    adjacency, as long as each of them is a Gaussian mechanism of its own entry of
    `noise_multipliers` on a draw of `sampling_probability`, whatever it releases and however that
    follows from earlier releases (see `accounting`). The shares are in the plan, so nothing that a
    release says can move them.

    Attributes:
      mechanism: one of config.MECHANISMS.
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

    Raises:
      UsageError: from the constructor, for shares that are not a fraction a step.
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

    def __post_init__(self):
        if self.shares is not None:
            check_shares(self.shares, self.steps)
            # JSON, which knows lists only, gives the same plan back.
            object.__setattr__(self, "shares", tuple(float(share) for share in self.shares))

    @property
    def private(self):
        """Whether there is a guarantee at all."""
        return self.mechanism != "none"

    @property
    def sampling_probability(self):
        """q = B / N."""
        return self.batch_size / self.dataset_size

    @property
    def noise_multipliers(self):
        """The noise multiplier of each step, a tuple: sigma_t = sigma / sqrt(steps shares[t])."""
        if not self.private:
            return (self.noise_multiplier,) * self.steps
        kinds = ((c.noise_multiplier,) * c.steps for c in self.charges(0, self.steps))
        return tuple(itertools.chain.from_iterable(kinds))

    def charges(self, first, count):
        """Returns the charges of steps first, ..., first + count - 1 (0-based), a list of Charge.

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
            steps=self.steps,
            shares=self.shares,
        )
        return part(every, first, count)

    def epsilon(self, steps, accountant=None):
        """Returns the epsilon after the first `steps` steps; infinity without a mechanism."""
        if not self.private:
            return math.inf
        return accounting.epsilon_of(
            self.charges(0, steps), delta=self.delta, accountant=accountant or self.accountant
        )


def make_plan(config, dataset_size):
    """Returns the PrivacyPlan of a RunConfig on `dataset_size` records.

    From a target epsilon and a number of steps it calibrates the noise; from a noise multiplier and
    a target it finds the steps; given all three it checks them. It never ends above the target.
    The steps of per_record are its rounds, each with its own share of the budget (`schedule`).

    Args:
      config: a RunConfig.
      dataset_size: N.

    Raises:
      UsageError: when the target cannot be met, delta is not below 1/N, N is below B, or num_steps
        is not the number of rounds.
    """
    batch_size = config.batch_size or dataset_size
    if dataset_size < batch_size:
        raise checks.UsageError(
            f"batch_size must be at most the number of records, received batch_size="
            f"{batch_size} for {dataset_size} records."
        )
    shares = None
    if config.mechanism == "per_record":
        shares = tuple(entry.share for entry in schedule.of(config.num_atoms))
    num_steps = _num_steps(config, shares)
    if not config.private:
        sigma, steps = 0.0, num_steps or DEFAULT_STEPS
    else:
        if config.delta >= 1 / dataset_size:
            raise checks.UsageError(
                f"delta must be below 1/N = {1 / dataset_size:.3g} for {dataset_size} records, "
                f"received {config.delta!r}: a larger one allows publishing a whole record."
            )
        sigma, steps = _noise_and_steps(config, batch_size / dataset_size, num_steps, shares)
    return PrivacyPlan(
        mechanism=config.mechanism,
        dataset_size=dataset_size,
        batch_size=batch_size,
        noise_multiplier=sigma,
        clip_norm=config.clip_norm,
        steps=steps,
        delta=config.delta,
        accountant=config.accountant,
        target_epsilon=config.target_epsilon if config.private else None,
        shares=shares,
    )


def _num_steps(config, shares):
    """The number of steps asked for, or None."""
    if shares is None:
        return config.num_steps
    if config.num_steps not in (None, len(shares)):
        raise checks.UsageError(
            f"num_steps must be the number of rounds, {len(shares)} for num_atoms="
            f"{config.num_atoms}, or left out, received {config.num_steps}."
        )
    return len(shares)


def _noise_and_steps(config, sampling_probability, steps, shares):
    common = {
        "sampling_probability": sampling_probability,
        "delta": config.delta,
        "accountant": config.accountant,
    }
    sigma, target = config.noise_multiplier, config.target_epsilon
    if sigma is None:
        steps = steps or DEFAULT_STEPS
        if target is None:
            raise checks.UsageError("give target_epsilon or noise_multiplier, received neither.")
        sigma = accounting.noise_multiplier(
            target_epsilon=target, steps=steps, shares=shares, **common
        )
        return sigma, steps
    if steps is None:
        if target is None:
            raise checks.UsageError("noise_multiplier needs target_epsilon or num_steps as well.")
        return sigma, accounting.steps(target_epsilon=target, noise_multiplier=sigma, **common)
    every = planned(
        noise_multiplier=sigma,
        sampling_probability=sampling_probability,
        steps=steps,
        shares=shares,
    )
    spent = accounting.epsilon_of(every, delta=config.delta, accountant=config.accountant)
    if target is not None and spent > target:
        advice = "Leave"
        if shares is None:
            most = accounting.steps(target_epsilon=target, noise_multiplier=sigma, **common)
            advice = f"Take at most num_steps={most}, leave"
        raise checks.UsageError(
            f"target_epsilon={target} cannot be met: {steps} steps at noise_multiplier={sigma} cost "
            f"epsilon {spent:.4g} at delta={config.delta}. {advice} noise_multiplier "
            "out to have it calibrated, or raise target_epsilon."
        )
    return sigma, steps


def account(config, plan):
    """Yields the lines that tell what a plan costs by each accountant, and what it could take."""
    if not plan.private:
        yield f"NOT PRIVATE: no noise is added, epsilon is infinity. {plan.steps} steps."
        return
    yield f"records N                 {plan.dataset_size}"
    yield f"batch size B              {plan.batch_size}"
    yield f"sampling probability      {plan.sampling_probability:.6g}"
    yield f"noise multiplier          {plan.noise_multiplier:.6g}"
    yield f"steps                     {plan.steps}"
    yield f"delta                     {plan.delta:g}"
    for name in accounting.ACCOUNTANTS:
        yield f"epsilon by {name.upper()}            {plan.epsilon(plan.steps, name):.4f}"
    if plan.shares is not None:
        for number, (share, sigma) in enumerate(
            zip(plan.shares, plan.noise_multipliers, strict=True), start=1
        ):
            yield f"round {number:<4} share {share:<8.4g} noise multiplier {sigma:.6g}"
        return
    if config.target_epsilon is None:
        return
    for name in accounting.ACCOUNTANTS:
        most = accounting.steps(
            target_epsilon=config.target_epsilon,
            noise_multiplier=plan.noise_multiplier,
            sampling_probability=plan.sampling_probability,
            delta=plan.delta,
            accountant=name,
        )
        yield f"most steps by {name.upper()}         {most} at epsilon {config.target_epsilon:g}"


def privacy_statement(plan, charges, mechanism):
    """Returns the `privacy` block of the model card, from what the ledger says was executed.

    `events` are the ledger's charges in their order, so that anybody can compose them again with an
    accountant of their own. `epsilon_pld` is exact where all have sampling_probability 1.
    `noise_multiplier` is the plan's: with shares no single step's, see PrivacyPlan.

    Args:
      plan: the run's PrivacyPlan.
      charges: the ledger's charges, a list of Charge.
      mechanism: the mechanism object, for its sensitivity.
    """
    steps = sum(charge.steps for charge in charges)

    def spent(accountant):
        if not plan.private:
            return "infinity"  # JSON has no number for it; float("infinity") reads it back
        return accounting.epsilon_of(charges, delta=plan.delta, accountant=accountant)

    by_accountant = {name: spent(name) for name in accounting.ACCOUNTANTS}
    return {
        "private": plan.private,
        "epsilon": by_accountant[plan.accountant],
        "delta": plan.delta if plan.private else None,
        "accountant": plan.accountant,
        "epsilon_rdp": by_accountant["rdp"],
        "epsilon_pld": by_accountant["pld"],
        "adjacency": ADJACENCY,
        "mechanism": plan.mechanism,
        "sensitivity": (
            mechanism.sensitivity_over_clip_norm * plan.clip_norm if plan.private else "infinity"
        ),
        "clip_norm": plan.clip_norm if plan.private else None,
        "noise_multiplier": plan.noise_multiplier,
        "sampling": SAMPLING,
        "sampling_probability": plan.sampling_probability,
        "steps": steps,
        "events": [dataclasses.asdict(charge) for charge in charges],
        "dataset_size": plan.dataset_size,
        "caveats": list(CAVEATS) if plan.private else ["NOT PRIVATE: no noise was added."],
    }
