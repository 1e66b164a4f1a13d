"""What two counts of an attack prove: lower bounds on a privacy parameter from binomial counts."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from tfdps import checks

_RATE_SHARE = 0.02  # of the failure probability, spent on the range of the false alarm rate
_CELLS = 160  # of that range: each about 0.06 standard deviations wide
_BLOCKS = 200  # of false alarm counts: each about 0.1 standard deviations wide
_STEP = 1e-4  # in the parameter, by which the bound is rounded down


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often an event came true in independent trials under two neighbouring inputs.

    Attributes:
      hits: under the input that the attack takes the event to show, of `hit_trials`.
      false_alarms: under the other input, of `false_alarm_trials`.
    """

    false_alarms: int
    false_alarm_trials: int
    hits: int
    hit_trials: int


@dataclasses.dataclass(frozen=True)
class Claim:
    """A privacy claim with one parameter, larger for less privacy.

    Attributes:
      ceiling: (parameter, false alarm rate) -> the largest hit rate that the claim allows any
        event; non-decreasing in both arguments.
      of_hits, of_false_alarms: non-decreasing functions of a rate. Their difference ranks pairs
        of rates by how large a parameter they call for.
    """

    ceiling: Callable
    of_hits: Callable
    of_false_alarms: Callable


def gaussian_claim():
    """Returns the claim of mu-Gaussian differential privacy (Dong, Roth and Su 2019).

    The hit rate at the false alarm rate q is at most Phi(Phi^-1(q) + mu).
    """
    return Claim(
        ceiling=lambda mu, rate: special.ndtr(special.ndtri(rate) + mu),
        of_hits=special.ndtri,
        of_false_alarms=special.ndtri,
    )


def approximate_claim(delta):
    """Returns the claim of (epsilon, delta)-differential privacy, epsilon being its parameter.

    Hit rate p and false alarm rate q obey p <= e^epsilon q + delta, and with the complement of
    the event and the inputs exchanged 1 - q <= e^epsilon (1 - p) + delta (Kairouz, Oh and
    Viswanath 2015, theorem 2.1).
    """

    def ceiling(epsilon, rate):
        by_event = np.exp(epsilon) * rate + delta
        by_complement = 1 - (1 - delta - rate) * np.exp(-epsilon)
        return np.minimum(1, np.minimum(by_event, by_complement))

    return Claim(
        ceiling=ceiling,
        of_hits=lambda rate: np.log(np.maximum(rate - delta, 0)),
        of_false_alarms=np.log,
    )


def clopper_pearson(successes, trials, *, failure_probability):
    """Returns (low, high), between which the success probability lies.

    Either end is wrong with probability at most failure_probability / 2, so both are right with
    probability at least 1 - failure_probability, whatever the success probability is. Exact
    (Clopper and Pearson 1934).

    Args:
      successes: how many of the trials succeeded, 0 to `trials`.
      trials: how many independent trials there were, at least 1.
      failure_probability: in (0, 1), for both ends together.

    Raises:
      UsageError: for values outside these ranges.
    """
    checks.at_least("trials", trials, 1)
    checks.at_least("successes", successes, 0)
    if successes > trials:
        raise checks.UsageError(f"successes must be <= trials, received {successes} of {trials}.")
    tail = checks.fraction("failure_probability", failure_probability) / 2
    failures = trials - successes
    low = special.betaincinv(successes, failures + 1, tail) if successes else 0.0
    high = special.betainccinv(successes + 1, failures, tail) if failures else 1.0
    return float(low), float(high)


def evidence(counts, claim, *, failure_probability):
    """Returns how strongly counts speak for a large parameter: a rank, not a bound.

    It is the parameter called for by Wilson's (1927) lower bound of the hit rate and his upper
    bound of the false alarm rate, which keep a ratio of few events below the same ratio of many.

    Args:
      counts: Counts; its counts may be arrays.
      claim: Claim.
      failure_probability: the one of the bound that uses the rank; decides how cautious it is.
    """
    # A sum of two independent deviations is sqrt(2) times as large as either.
    deviations = max(1, -special.ndtri(failure_probability) / np.sqrt(2))
    with np.errstate(divide="ignore"):  # a rate of 0 has the rank -inf
        return claim.of_hits(
            _wilson(counts.hits, counts.hit_trials, -deviations)
        ) - claim.of_false_alarms(
            _wilson(counts.false_alarms, counts.false_alarm_trials, deviations)
        )


def lower_bound(counts, claim, *, failure_probability):
    """Returns a number that the claim's true parameter undercuts with a small probability only.

    Guarantee: if the mechanism obeys the claim with parameter theta, the event was fixed before
    these trials and the trials are independent, the returned number exceeds theta with
    probability at most failure_probability. Nothing is assumed about the two rates but
    `hit rate <= claim.ceiling(theta, false alarm rate)`.

    The bound is Buehler's (1957): the smallest theta under which counts that rank at least as high
    (`evidence`) as the observed ones have a probability above failure_probability, for the worst
    false alarm rate. The joint distribution of both counts enters, so the bound is larger than
    one from two separate Clopper-Pearson intervals. The false alarm rate is searched in its own
    Clopper-Pearson interval, whose failure probability is added (Berger and Boos 1994). The
    search is by cells: high-ranking counts have many hits and few false alarms, so in a cell their
    probability is at most that at its smallest false alarm rate and its largest hit rate. Blocks
    of false alarm counts are treated likewise. Rounding is thus on the safe side throughout.

    Args:
      counts: Counts.
      claim: Claim.
      failure_probability: in (0, 1).

    Returns:
      The bound, 0 where the counts refute nothing.
    """
    probability = _probability_of_as_much_evidence(counts, claim, failure_probability)
    if probability is None or probability(0.0) > failure_probability:
        return 0.0
    above = 1.0
    while probability(above) <= failure_probability:
        above *= 2

    def excess(parameter):  # nearly linear in the parameter, which saves evaluations
        return special.ndtri(min(probability(parameter), 1 - 1e-9)) - special.ndtri(
            failure_probability
        )

    if excess(0.0) == 0:
        return 0.0
    root = optimize.brentq(excess, 0.0, above, xtol=_STEP)
    return max(0.0, root - 2 * _STEP)


def _probability_of_as_much_evidence(counts, claim, failure_probability):
    """Returns parameter -> an upper bound of the p-value; None where no evidence is weaker."""
    trials = counts.false_alarm_trials

    def ranks(hits, false_alarms):
        pair = Counts(false_alarms, trials, hits, counts.hit_trials)
        return evidence(pair, claim, failure_probability=failure_probability)

    observed = ranks(counts.hits, counts.false_alarms)
    if not np.isfinite(observed):
        return None
    spent = _RATE_SHARE * failure_probability
    low, high = clopper_pearson(counts.false_alarms, trials, failure_probability=spent)
    # In the angle the standard deviation of a count is 1 / (2 sqrt(trials)) at every rate.
    angles = np.arcsin(np.sqrt([low, high]))
    rates = np.sin(np.linspace(*angles, _CELLS + 1)) ** 2
    six_deviations = 3 / np.sqrt(trials)
    first, last = np.clip(angles + [-six_deviations, six_deviations], 0, np.pi / 2)
    starts = np.floor(trials * np.sin(np.linspace(first, last, _BLOCKS)) ** 2)
    starts = np.unique(np.append(starts, 0))
    ends = np.append(starts[1:] - 1, trials)
    block_probability = np.diff(special.bdtr(ends, trials, rates[:-1, None]), prepend=0)

    by_hits = ranks(np.arange(counts.hit_trials + 1), counts.false_alarms)
    # The fewest hits that rank with the observed counts, for the fewest false alarms of a block.
    shift = observed - ranks(counts.hits, starts)
    fewest = np.searchsorted(by_hits, observed + shift - 1e-9)
    possible = fewest <= counts.hit_trials

    def probability(parameter):
        hit_rate = np.clip(claim.ceiling(parameter, rates[1:, None]), 0, 1)
        enough_hits = special.bdtrc(fewest - 1.0, counts.hit_trials, hit_rate)
        return (block_probability * enough_hits * possible).sum(axis=1).max() + spent

    return probability


def _wilson(successes, trials, deviations):
    square = deviations**2
    spread = deviations * np.sqrt(successes * (trials - successes) / trials + square / 4)
    return np.clip((successes + square / 2 + spread) / (trials + square), 0, 1)
