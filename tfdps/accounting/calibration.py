"""The noise that a target epsilon demands, or the steps that a noise allows."""

from tfdps import checks
from tfdps.accounting import accountants, shown
from tfdps.accounting.events import planned

DEFAULT_STEPS = 5000


def num_steps(config, shares):
    """Returns the number of steps that a RunConfig asks for, the refiner's aside, or None.

    Args:
      config: the RunConfig.
      shares: of the rounds, or None.

    Raises:
      UsageError: for another number than that of the rounds.
    """
    if shares is None:
        return config.num_steps
    if config.num_steps not in (None, len(shares)):
        raise checks.UsageError(
            f"num_steps must be the number of rounds, {len(shares)} for num_atoms="
            f"{config.num_atoms}, or left out, received {config.num_steps}."
        )
    return len(shares)


def noise_and_steps(config, sampling_probability, steps, shares, refining):
    """Returns (noise multiplier, number of steps): what is not given follows from what is.

    Args:
      config: the RunConfig.
      sampling_probability: q of these steps.
      steps: their number, or None.
      shares: of the rounds, or None.
      refining: the charges of the refiner's steps, a list.

    Raises:
      UsageError: when target_epsilon cannot be met, or too little is given.
    """
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
        sigma = accountants.noise_multiplier(
            target_epsilon=target, steps=steps, shares=shares, beside=refining, **common
        )
        return sigma, steps
    if steps is None:
        if target is None:
            raise checks.UsageError("noise_multiplier needs target_epsilon or num_steps as well.")
        return sigma, accountants.steps(target_epsilon=target, noise_multiplier=sigma, **common)
    every = planned(
        noise_multiplier=sigma,
        sampling_probability=sampling_probability,
        steps=steps,
        shares=shares,
    )
    spent = accountants.epsilon_of(
        [*every, *refining], delta=config.delta, accountant=config.accountant
    )
    if target is not None and spent > target:
        advice = "Leave"
        if shares is None:
            most = accountants.steps(target_epsilon=target, noise_multiplier=sigma, **common)
            advice = f"Take at most num_steps={most}, leave"
        raise checks.UsageError(
            f"target_epsilon={target} cannot be met: {steps} steps at noise_multiplier={sigma} cost "
            f"epsilon {shown.up(spent)} at delta={config.delta}. {advice} noise_multiplier "
            "out to have it calibrated, or raise target_epsilon."
        )
    return sigma, steps
