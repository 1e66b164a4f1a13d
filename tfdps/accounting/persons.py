"""What a person has of a run that draws images one by one: an epsilon for all of theirs.

Guarantee: for zero-out adjacency of all images of one person, at most k, the rest the same. Each is
drawn by itself, so a step has J of them, binomial of k and q, and J move the release by at most J
times what one may. That is a Gaussian mechanism whose shift is drawn from the binomial weights, which
dp-accounting's MixtureOfGaussiansDpEvent bounds (Choquette-Choo et al., ICLR 2024, arXiv 2312.00648).
Where q is 1 it is one Gaussian mechanism of k times the sensitivity. Where any two batches of a
replica are no further apart than the sensitivity, whatever is in them, the images that are drawn move
the releases of at most k replicas, together by at most sqrt(k) sensitivities; of one replica by one. So
a step is one of that sensitivity, sampled with the probability that any of the k is drawn,
1 - (1 - q)^k. What `overflow` keeps of delta is k times as much for k images; where that does not cover
the run's draws at the epsilon found, none is claimed.
"""

import dataclasses
import math

import dp_accounting
from dp_accounting import pld
from scipy import stats

from tfdps import checks
from tfdps.accounting import accountants, gaussian_curve, overflow
from tfdps.accounting.plan import PrivacyPlan
from tfdps.config import mechanism_registry


def epsilon(plan: PrivacyPlan, images: int, *, one_replica: bool = True) -> float | None:
    """Returns the epsilon at the plan's delta of a person with at most `images` images, by PLD.

    Infinity where it is too large to be claimed. None where it cannot be computed here: images are
    drawn with a probability below 1, and dp-accounting is 0.4.3, as under Python 3.10 and 3.11.

    Args:
      plan: of a run whose units are images.
      images: k >= 1.
      one_replica: whether the run has one; several cost the joint mechanism's persons more.

    Raises:
      UsageError: on an argument out of range.

    Examples:
      >>> import tfdps
      >>> plan = tfdps.make_plan(tfdps.RunConfig(target_epsilon=1.0), 1000, num_classes=10)
      >>> round(tfdps.accounting.persons.epsilon(plan, 4), 2)
      5.11
    """
    checks.at_least("images", images, 1)
    charges = plan.charges(0, plan.steps)
    if mechanism_registry.entry(plan.mechanism).any_batches:
        apart = 1.0 if one_replica else math.sqrt(images)
        any_drawn = [
            dataclasses.replace(
                c,
                noise_multiplier=c.noise_multiplier / apart,
                sampling_probability=1 - (1 - c.sampling_probability) ** images,
            )
            for c in charges
        ]
        return accountants.epsilon_of(any_drawn, delta=plan.delta, accountant="pld")
    whole = [c for c in charges if c.sampling_probability == 1]
    sampled = [c for c in charges if c.sampling_probability < 1]
    mu = images * math.sqrt(math.fsum(c.steps / c.noise_multiplier**2 for c in whole))
    if not sampled:
        return gaussian_curve.gaussian_epsilon(plan.delta, mu)
    if not hasattr(dp_accounting, "MixtureOfGaussiansDpEvent"):
        return None
    composed = pld.PLDAccountant(value_discretization_interval=accountants.PLD_GRID)
    for charge in sampled:
        composed.compose(_mixture(charge, images), charge.steps)
    if whole:
        composed.compose(dp_accounting.GaussianDpEvent(1 / mu))
    kept = images * overflow.SHARE_OF_DELTA
    found = float(composed.get_epsilon(plan.delta * (1 - kept)))
    draws = sum(charge.steps for charge in sampled)
    covered = overflow.is_covered(steps=draws, epsilon=found, delta=images * plan.delta)
    return found if covered else math.inf


def _mixture(charge, images):
    """The event of one step: so many of a person's images, each with its probability."""
    drawn = range(images + 1)
    weights = stats.binom.pmf(drawn, images, charge.sampling_probability)
    return dp_accounting.MixtureOfGaussiansDpEvent(
        charge.noise_multiplier, [float(j) for j in drawn], [float(w) for w in weights]
    )
