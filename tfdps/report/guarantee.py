"""What (epsilon, delta) means for one record, in numbers that need no mathematics."""

import math
import typing

import numpy as np

from tfdps.accounting import accountants

# The deltas at which the whole privacy profile is read; more of them change the third digit.
_DELTAS = np.geomspace(1e-9, 0.9, 90)


class StageSpent(typing.NamedTuple):
    """What the steps of a plan's Stage did, as far as they are spent.

    Attributes:
      steps: how many.
      sampling_probability: q of each.
      batch_size: the number of records drawn on average.
      clip_norm: of what a draw can change.
      noise: the smallest and the largest noise multiplier.
      refining: whether they trained the refiner.
    """

    steps: int
    sampling_probability: float
    batch_size: int
    clip_norm: float
    noise: tuple[float, float]
    refining: bool


def stages_spent(plan, steps):
    """Returns the StageSpents of the first `steps` steps of a private PrivacyPlan, a list."""
    # Here: whoever asks what a report takes needs no TensorFlow.
    from tfdps.mechanisms.record_gradients import RecordGradientMechanism

    found = []
    for number, stage in enumerate(plan.stages):
        last = min(stage.first + stage.steps, steps)
        if last <= stage.first:
            continue
        noise = plan.noise_multipliers[stage.first : last]
        found.append(
            StageSpent(
                steps=last - stage.first,
                sampling_probability=stage.sampling_probability,
                batch_size=plan.refiner_batch_size if number else plan.batch_size,
                clip_norm=RecordGradientMechanism.sensitivity if number else plan.clip_norm,
                noise=(min(noise), max(noise)),
                refining=number > 0,
            )
        )
    return found


def belief_at_most(epsilon, before):
    """Returns the largest belief that a record is in, after seeing everything; delta left aside.

    By Bayes' rule the odds grow by at most e^epsilon.

    Args:
      epsilon: >= 0; infinity gives 1.
      before: the observer's belief before, in (0, 1).
    """
    return 1 / (1 + (1 - before) / before * math.exp(-epsilon))


def recognised_at_most(charges, false_alarms):
    """Returns the largest fraction of members that any test recognises, by RDP.

    A run that is (epsilon, delta)-private is so for every delta at once, each with its epsilon, and
    each bounds a test (Kairouz, Oh and Viswanath 2015, theorem 2.1): with F the fraction of false
    alarms and R that of members recognised, R <= e^epsilon F + delta and
    1 - F <= e^epsilon (1 - R) + delta. The smallest of all these bounds is returned.

    Args:
      charges: the ledger's charges, a list of NoiseEvent.
      false_alarms: F, the fraction of outsiders that the test calls members, in (0, 1).
    """
    bounds = [1.0]
    for delta in _DELTAS:
        epsilon = accountants.epsilon_of(charges, delta=delta)
        if epsilon < 700:  # beyond it e^epsilon is no float64, and bounds nothing
            bounds.append(math.exp(epsilon) * false_alarms + delta)
        bounds.append(1 - math.exp(-epsilon) * (1 - delta - false_alarms))
    return float(min(bounds))
