"""Lower bounds on epsilon and mu from the scores of an attack on two neighbouring inputs."""

import dataclasses
import itertools
import math

import numpy as np
from scipy import optimize, special

from tfdps import checks
from tfdps.accounting.gaussian_curve import gaussian_delta, gaussian_epsilon
from tfdps.auditing import counts
from tfdps.auditing.counts import clopper_pearson

__all__ = [
    "Event",
    "ThresholdBounds",
    "clopper_pearson",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_fit_bound",
    "threshold_bounds",
]

_SELECTION_SHARE = 0.1  # of the trials, spent on choosing the events
_SMALLEST_NUM_TRIALS = 100  # fewer leave under ten to choose by
_SMALLEST_NUM_FITTED = 10  # fewer make the density in `_lower_noncentrality` too steep for its grid


@dataclasses.dataclass(frozen=True)
class Event:
    """What the attacker looks for, and how often it came true in the trials kept for the test.

    Attributes:
      threshold: of the score.
      above: True for "score >= threshold", False for "score < threshold".
      shows_with: True where the event is taken to show the input of `scores_with`.
      counts: hits and false alarms.
    """

    threshold: float
    above: bool
    shows_with: bool
    counts: counts.Counts


@dataclasses.dataclass(frozen=True)
class ThresholdBounds:
    """Lower bounds that hold together with probability 1 - failure_probability, and their evidence.

    Attributes:
      epsilon: below the epsilon of every true (epsilon, delta) claim; at least 0.
      mu: below the mu of every true claim of mu-Gaussian differential privacy; at least 0.
      epsilon_event, mu_event: the events that prove them.
    """

    epsilon: float
    mu: float
    epsilon_event: Event
    mu_event: Event


def threshold_bounds(scores_without, scores_with, *, delta, failure_probability):
    """Returns ThresholdBounds: what an attack that compares a score with a threshold proves.

    Guarantee: the trials being independent and their order not depending on the scores, a
    mechanism that is (epsilon, delta)-private or mu-Gaussian private towards these two inputs, in
    both directions, is contradicted (a returned bound exceeds epsilon or mu) with probability at
    most failure_probability. Nothing is assumed about the distribution of the scores.

    The first tenth of the trials of either side chooses one event for epsilon and one for mu:
    score >= t or score < t, taken to show one input or the other, so neither the direction of the
    score nor that of the leak matters. The thresholds tried include every score and the float
    after it, which tell ">" from ">=" where scores repeat. The other trials only count how often
    the chosen events come true; `counts.lower_bound` turns the counts into bounds, each with
    half of the failure probability. Auditing by thresholds: Jagielski, Ullman and Oprea 2020;
    Nasr et al. 2021; for mu: Nasr et al. 2023.

    Args:
      scores_without, scores_with: float [n] and [m], at least 100 each, in order of the trials;
        repeated and infinite values are allowed.
      delta: in [0, 1), of the claim that epsilon belongs to.
      failure_probability: in (0, 1), for both bounds together.

    Raises:
      UsageError: for too few scores, NaN, or values outside these ranges.
    """
    checks.fraction("delta", delta, zero=True)
    share = checks.fraction("failure_probability", failure_probability) / 2
    without = _scores("scores_without", scores_without, _SMALLEST_NUM_TRIALS)
    with_ = _scores("scores_with", scores_with, _SMALLEST_NUM_TRIALS)
    choosing, testing = zip(*map(_split, (without, with_)), strict=True)

    def bound(claim):
        rule = _strongest_rule(*choosing, claim, share)
        event = Event(*rule, _count(rule, *testing))
        return counts.lower_bound(event.counts, claim, failure_probability=share), event

    epsilon, epsilon_event = bound(counts.approximate_claim(delta))
    mu, mu_event = bound(counts.gaussian_claim())
    return ThresholdBounds(epsilon, mu, epsilon_event, mu_event)


def gaussian_fit_bound(scores_without, scores_with, *, failure_probability):
    """Returns a lower bound on mu for a Gaussian mechanism seen through a linear statistic.

    Guarantee: if both sets of scores are independent normal draws with one standard deviation s,
    and means that differ by (mean with - mean without) = mu s, the bound exceeds mu with
    probability at most failure_probability. A Gaussian mechanism with noise multiplier sigma,
    whose output a linear statistic reads, has mu <= 1 / sigma; a bound above 1 / sigma refutes it.
    Unlike `threshold_bounds` this says nothing about other mechanisms.

    The two-sample t statistic is noncentral t distributed with n + m - 2 degrees of freedom and
    noncentrality mu / sqrt(1/n + 1/m); its distribution function, decreasing in mu, is inverted
    (Johnson and Welch 1940). Where an F test at level failure_probability finds the standard
    deviations unequal, as when one side carries no noise, no s fits the claim and the larger of
    the two is used. As that can only lower the bound, the guarantee stays as it is; the
    mechanism is at fault all the same, which `threshold_bounds` may show.

    Args:
      scores_without, scores_with: finite float [n] and [m], at least 10 each, larger for "with".
      failure_probability: in (0, 1).

    Returns:
      The bound, at least 0. Infinite for two constants that differ, 0 for equal ones.

    Raises:
      UsageError: for too few scores, scores that are not finite, or another failure_probability.
    """
    checks.fraction("failure_probability", failure_probability)
    without = _scores("scores_without", scores_without, _SMALLEST_NUM_FITTED, finite=True)
    with_ = _scores("scores_with", scores_with, _SMALLEST_NUM_FITTED, finite=True)
    difference = _mean(with_) - _mean(without)
    deviation = _common_deviation(without, with_, failure_probability)
    if deviation == 0:
        return math.inf if difference != 0 else 0.0
    scale = math.sqrt(1 / len(without) + 1 / len(with_))
    statistic, degrees = difference / deviation / scale, len(without) + len(with_) - 2
    return scale * _lower_noncentrality(statistic, degrees, failure_probability)


def _scores(name, values, smallest, *, finite=False):
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < smallest:
        raise checks.UsageError(
            f"{name} must be a vector of at least {smallest} scores, received shape "
            f"{list(values.shape)}. Run more trials."
        )
    if np.isnan(values).any() or (finite and np.isinf(values).any()):
        wrong = np.count_nonzero(~np.isfinite(values) if finite else np.isnan(values))
        raise checks.UsageError(
            f"{name} must be {'finite' if finite else 'free of NaN'}, received {wrong} scores that "
            "are not. Look for an overflow in the attack's statistic."
        )
    return values


def _split(scores):
    """Returns (choosing, testing), each sorted: the first tenth of the trials and the others."""
    num_choosing = int(_SELECTION_SHARE * len(scores))
    return np.sort(scores[:num_choosing]), np.sort(scores[num_choosing:])


def _strongest_rule(without, with_, claim, failure_probability):
    """Returns the (threshold, above, shows_with) whose counts rank highest; see Event."""
    values = np.unique(np.concatenate([without, with_]))
    thresholds = np.unique(np.concatenate([values, np.nextafter(values, np.inf)]))
    candidates = []
    for above, shows_with in itertools.product((True, False), repeat=2):
        ranks = counts.evidence(
            _count((thresholds, above, shows_with), without, with_),
            claim,
            failure_probability=failure_probability,
        )
        index = np.argmax(ranks)
        candidates.append((ranks[index], (float(thresholds[index]), above, shows_with)))
    return max(candidates)[1]


def _count(rule, without, with_):
    """Returns the Counts of a rule in two sorted arrays; of many, where its threshold is an array."""
    threshold, above, shows_with = rule

    def times(scores):
        below = np.searchsorted(scores, threshold)
        times_true = len(scores) - below if above else below
        return times_true if np.ndim(threshold) else int(times_true)

    hits, false = (with_, without) if shows_with else (without, with_)
    return counts.Counts(times(false), len(false), times(hits), len(hits))


def _mean(scores):
    # The mean of equal floats may differ from them in the last digit.
    return float(scores[0] if np.ptp(scores) == 0 else scores.mean())


def _common_deviation(without, with_, failure_probability):
    degrees = np.array([len(without) - 1, len(with_) - 1])
    variances = np.array([0.0 if np.ptp(s) == 0 else s.var(ddof=1) for s in (without, with_)])
    if variances.max() == 0:
        return 0.0
    larger = np.argmax(variances)
    ratio = variances[1 - larger] / variances[larger]
    if 2 * special.fdtr(degrees[1 - larger], degrees[larger], ratio) < failure_probability:
        return math.sqrt(variances.max())
    return math.sqrt(degrees @ variances / degrees.sum())


def _lower_noncentrality(statistic, degrees, failure_probability):
    """Returns the noncentrality under which t reaches `statistic` with failure_probability, or 0.

    t = (z + noncentrality) / u with z normal and u^2 chi-squared over its degrees of freedom, so
    P[t >= statistic] is the mean of Phi(noncentrality - statistic u). The trapezium rule is as good
    as exact for so smooth a density, also at the sizes where scipy's series for nct gives out.
    """
    tail = 1e-20  # of u, left out at either end
    half = degrees / 2
    ends = np.sqrt([special.gammaincinv(half, tail), special.gammainccinv(half, tail)])
    u = np.linspace(*(ends / math.sqrt(half)), 5001)
    log_density = (degrees - 1) * np.log(u) - half * u**2
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()

    def excess(noncentrality):
        return weights @ special.ndtr(noncentrality - statistic * u) - failure_probability

    if excess(0.0) >= 0:
        return 0.0
    return optimize.brentq(excess, 0, statistic * u[-1] + 40, xtol=1e-10)
