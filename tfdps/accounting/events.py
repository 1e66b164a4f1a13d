"""What a run does to the private data: noisy steps, counted. What they cost is `accountants.py`'s.

A stage of a run may take a larger share of the budget than another: its noise is smaller then. The
shares are public and fixed before the first step.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

from tfdps import checks

_ROUNDING = 1e-9  # of a sum of shares


@dataclasses.dataclass(frozen=True)
class NoiseEvent:
    """`steps` executions of one subsampled Gaussian mechanism.

    Attributes:
      noise_multiplier: noise standard deviation over L2 sensitivity, > 0.
      sampling_probability: q in (0, 1], of every record in every step.
      steps: >= 0.

    Examples:
      >>> from tfdps import accounting
      >>> event = accounting.NoiseEvent(noise_multiplier=2.0, sampling_probability=1.0, steps=4)
      >>> round(accounting.epsilon_of([event], delta=1e-5, accountant="pld"), 2)
      4.38
    """

    noise_multiplier: float
    sampling_probability: float
    steps: int

    def __post_init__(self) -> None:
        checks.positive("noise_multiplier", self.noise_multiplier)
        checks.fraction("sampling_probability", self.sampling_probability, one=True)
        checks.at_least("steps", self.steps, 0)
        checks.field_types(self)  # plain numbers, for JSON


def planned(
    *,
    noise_multiplier: float,
    sampling_probability: float,
    steps: int,
    shares: Sequence[float] | None = None,
) -> list[NoiseEvent]:
    """Returns the charges of `steps` steps in their order, a list of NoiseEvent.

    Args:
      noise_multiplier: sigma > 0; with shares the one that as many equal steps would have: the
        sum of 1 / sigma_t^2 is steps / sigma^2 however it is divided.
      sampling_probability: q in (0, 1].
      steps: >= 0.
      shares: None, all steps have noise multiplier sigma; or a sequence of `steps` numbers > 0 that
        sum to 1: step t has share shares[t] of 1 / sigma_t^2, so sigma_t is
        sigma / sqrt(steps shares[t]).

    Raises:
      UsageError: on an argument out of range.
    """
    if shares is None:
        return [NoiseEvent(noise_multiplier, sampling_probability, steps)]
    check_shares(shares, steps)
    return merged(
        NoiseEvent(noise_multiplier / math.sqrt(steps * share), sampling_probability, 1)
        for share in shares
    )


def check_shares(shares: Sequence[float], steps: int) -> None:
    """Raises UsageError unless `shares` are `steps` numbers > 0 whose sum is 1 (to 1e-9)."""
    if len(shares) != steps:
        raise checks.UsageError(
            f"shares must have an entry a step, received {len(shares)} for {steps} steps."
        )
    for step, share in enumerate(shares):
        checks.positive(f"shares[{step}]", share)
    if abs(math.fsum(shares) - 1) > _ROUNDING:
        raise checks.UsageError(
            f"shares must sum to 1, received a sum of {math.fsum(shares)!r}. Divide them by it."
        )


def merged(charges: Iterable[NoiseEvent]) -> list[NoiseEvent]:
    """Returns the list of `charges` in their order, neighbours of one kind added up."""
    kinds = itertools.groupby(charges, lambda c: (c.noise_multiplier, c.sampling_probability))
    return [NoiseEvent(*kind, sum(charge.steps for charge in equal)) for kind, equal in kinds]


def part(charges: Iterable[NoiseEvent], first: int, count: int) -> list[NoiseEvent]:
    """Returns the charges of `count` steps from step `first` (0-based) on, in their order."""
    found, start = [], 0
    for charge in charges:
        steps = min(start + charge.steps, first + count) - max(start, first)
        if steps > 0:
            found.append(dataclasses.replace(charge, steps=steps))
        start += charge.steps
    return found
