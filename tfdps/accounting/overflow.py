"""How rarely a draw of static size may hold fewer records than were drawn, and what that costs.

A mechanism that is bounded for neighbouring batches alone must not cut a draw short: with one record
more, another one would be left out, and the batches would differ in two. So its draws have room for all
but a share `PROBABILITY` of what chance can draw, and what happens beyond is paid for out of delta.

Guarantee: let M be the run, and M* the one whose draws are never cut short, which is (epsilon, delta*)
private. The two can be made with the same coins, and then differ only if a part of one of T draws
overflows: the probability of any set of outputs differs by at most t = T MOST_PARTS PROBABILITY. So
P[M(D) in S] <= P[M*(D) in S] + t <= e^epsilon P[M*(D') in S] + delta* + t
             <= e^epsilon P[M(D') in S] + delta* + t (1 + e^epsilon),
and M is (epsilon, delta)-private for delta = delta* + t (1 + e^epsilon). `check` sees to it that the
last term is at most `SHARE_OF_DELTA` of delta; `accountants` computes epsilon at what is left of it.
"""

import math

from tfdps import checks

PROBABILITY = 1e-30  # of a part of a draw
MOST_PARTS = 10_000  # of a draw, on all replicas
SHARE_OF_DELTA = 2.0**-20


def is_covered(*, steps: int, epsilon: float, delta: float) -> bool:
    """Returns whether the share of delta that is kept covers `steps` draws at epsilon."""
    log_t = math.log(steps * MOST_PARTS * PROBABILITY)
    return log_t + math.log1p(math.exp(min(epsilon, 700))) <= math.log(SHARE_OF_DELTA * delta)


def check(*, steps: int, epsilon: float, delta: float) -> None:
    """Raises UsageError unless the share of delta that is kept covers `steps` draws at epsilon."""
    if not is_covered(steps=steps, epsilon=epsilon, delta=delta):
        raise checks.UsageError(
            f"epsilon {epsilon:.3g} at delta={delta} in {steps} subsampled steps is beyond what is "
            "accounted for: take a target_epsilon below 20, or a larger delta."
        )
