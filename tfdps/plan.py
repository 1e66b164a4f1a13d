"""PrivacyPlan: what a run is allowed to do to the private data, settled before the first step."""

import dataclasses
import math
import typing

from tfdps import accounting, checks

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

    Attributes:
      mechanism: "joint" or "none".
      dataset_size: N, the public number of records.
      batch_size: B, the expected number drawn; sampling probability B / N.
      noise_multiplier: sigma; 0 without a mechanism.
      clip_norm: C.
      steps: the number of steps after which the run ends.
      delta: in (0, 1/N).
      accountant: the one that decides, "rdp" or "pld".
      target_epsilon: what the run stays below, or None.
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

    @property
    def private(self):
        """Whether there is a guarantee at all."""
        return self.mechanism != "none"

    @property
    def sampling_probability(self):
        """q = B / N."""
        return self.batch_size / self.dataset_size

    def charge(self, steps):
        """Returns the Charge of `steps` of the plan's steps."""
        return accounting.Charge(self.noise_multiplier, self.sampling_probability, steps)

    def epsilon(self, steps, accountant=None):
        """Returns the epsilon after `steps` steps; infinity without a mechanism."""
        if not self.private:
            return math.inf
        accountant = accountant or self.accountant
        return accounting.epsilon_of([self.charge(steps)], delta=self.delta, accountant=accountant)


def make_plan(config, dataset_size):
    """Returns the PrivacyPlan of a RunConfig on `dataset_size` records.

    From a target epsilon and a number of steps it calibrates the noise; from a noise multiplier and
    a target it finds the steps; given all three it checks them. It never ends above the target.

    Raises:
      UsageError: when the target cannot be met, delta is not below 1/N, or N is below B.
    """
    if dataset_size < config.batch_size:
        raise checks.UsageError(
            f"batch_size must be at most the number of records, received batch_size="
            f"{config.batch_size} for {dataset_size} records."
        )
    if not config.private:
        sigma, steps = 0.0, config.num_steps or DEFAULT_STEPS
    else:
        if config.delta >= 1 / dataset_size:
            raise checks.UsageError(
                f"delta must be below 1/N = {1 / dataset_size:.3g} for {dataset_size} records, "
                f"received {config.delta!r}: a larger one allows publishing a whole record."
            )
        sigma, steps = _noise_and_steps(config, config.batch_size / dataset_size)
    return PrivacyPlan(
        mechanism=config.mechanism,
        dataset_size=dataset_size,
        batch_size=config.batch_size,
        noise_multiplier=sigma,
        clip_norm=config.clip_norm,
        steps=steps,
        delta=config.delta,
        accountant=config.accountant,
        target_epsilon=config.target_epsilon if config.private else None,
    )


def _noise_and_steps(config, sampling_probability):
    common = {
        "sampling_probability": sampling_probability,
        "delta": config.delta,
        "accountant": config.accountant,
    }
    sigma, steps, target = config.noise_multiplier, config.num_steps, config.target_epsilon
    if sigma is None:
        steps = steps or DEFAULT_STEPS
        if target is None:
            raise checks.UsageError("give target_epsilon or noise_multiplier, received neither.")
        return accounting.noise_multiplier(target_epsilon=target, steps=steps, **common), steps
    if steps is None:
        if target is None:
            raise checks.UsageError("noise_multiplier needs target_epsilon or num_steps as well.")
        return sigma, accounting.steps(target_epsilon=target, noise_multiplier=sigma, **common)
    spent = accounting.epsilon(noise_multiplier=sigma, steps=steps, **common)
    if target is not None and spent > target:
        most = accounting.steps(target_epsilon=target, noise_multiplier=sigma, **common)
        raise checks.UsageError(
            f"target_epsilon={target} cannot be met: {steps} steps at noise_multiplier={sigma} cost "
            f"epsilon {spent:.4g} at delta={config.delta}. Take at most num_steps={most}, leave "
            "noise_multiplier out to have it calibrated, or raise target_epsilon."
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
        "sensitivity": mechanism.sensitivity if plan.private else "infinity",
        "clip_norm": plan.clip_norm if plan.private else None,
        "noise_multiplier": plan.noise_multiplier,
        "sampling": SAMPLING,
        "sampling_probability": plan.sampling_probability,
        "steps": steps,
        "dataset_size": plan.dataset_size,
        "caveats": list(CAVEATS) if plan.private else ["NOT PRIVATE: no noise was added."],
    }
