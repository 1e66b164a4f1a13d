"""The exact (epsilon, delta) of a Gaussian mechanism, rounded to the safe side. No TensorFlow.

Sources: Balle and Wang 2018, theorem 8; Dong, Roth and Su 2022, corollary 2.13. Gaussian mechanisms
one after the other, each chosen by what the ones before released, are one of
mu = sqrt(mu_1^2 + mu_2^2 + ...) (the latter's corollary 3.3), so this curve is the whole account of
a run whose every step reads all records.
"""

import math

from scipy import special

from tfdps import checks

_ROUNDING = 1e-14  # relative; above what float64's erfcx, ndtr and exp are off by
_WIDTH = 1e-12  # relative, of epsilon: the last bracket, and above what its own terms are off by


def gaussian_delta(epsilon, mu):
    """Returns the smallest delta at which a Gaussian mechanism is (epsilon, delta)-private.

    delta = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu).

    Args:
      epsilon: at least 0.
      mu: sensitivity divided by the standard deviation of the noise, at least 0; may be infinite.

    Returns:
      In [0, 1], above the truth by about 1e-14 of the two terms; 0 where it is under 1e-308.

    Raises:
      UsageError: for values outside these ranges.
    """
    checks.not_negative("epsilon", epsilon)
    if _mu(mu) in (0, math.inf):
        return float(mu > 0)
    return math.exp(_log_delta(epsilon, mu))


def gaussian_epsilon(delta, mu):
    """Returns the smallest epsilon at which a Gaussian mechanism is (epsilon, delta)-private.

    Guarantee: never below the truth: `gaussian_delta`, in logarithms, is at most `delta` at what is
    returned, the upper end of a bracket of relative width 1e-12.

    Args:
      delta: in [0, 1).
      mu: sensitivity divided by the standard deviation of the noise, at least 0; may be infinite.

    Returns:
      The inverse of `gaussian_delta`, at least 0; infinite for infinite mu, and for delta = 0
      unless mu = 0.

    Raises:
      UsageError: for values outside these ranges.
    """
    checks.fraction("delta", delta, zero=True)
    if _mu(mu) == 0 or delta >= gaussian_delta(0, mu):
        return 0.0
    if delta == 0 or mu == math.inf:
        return math.inf
    target = math.log(delta)
    # delta(epsilon) <= Phi(mu/2 - epsilon/mu) <= exp(-(epsilon/mu - mu/2)^2 / 2).
    low, high = 0.0, mu**2 / 2 + mu * math.sqrt(-2 * target)
    while high - low > _WIDTH * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _log_delta(middle, mu) <= target else (middle, high)
    return high * (1 + _WIDTH)


def _log_delta(epsilon, mu):
    """The logarithm of `gaussian_delta`, at most 0; for mu in (0, infinity)."""
    near, far = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    # Phi(-x) = exp(-x^2 / 2) erfcx(x / sqrt 2) / 2, and e^epsilon exp(-far^2 / 2) is
    # exp(-near^2 / 2): the common factor leaves a difference of tame numbers.
    far_tail = special.erfcx(far / math.sqrt(2)) * (1 - _ROUNDING)
    if near < 0:  # erfcx overflows
        far_tail *= math.exp(-(near**2) / 2) / 2
        return min(math.log(special.ndtr(-near) * (1 + _ROUNDING) - far_tail), 0.0)
    near_tail = special.erfcx(near / math.sqrt(2)) * (1 + _ROUNDING)
    return math.log((near_tail - far_tail) / 2) - near**2 / 2


def _mu(mu):
    return mu if mu == math.inf else checks.not_negative("mu", mu)
