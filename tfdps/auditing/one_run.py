"""A lower bound on epsilon from guesses about many canaries in one training run."""

import numpy as np
from scipy import special

from tfdps import checks

_HALVINGS = 50  # of the search interval: to the last digits of a float


def guesses(scores, included, *, num_guesses):
    """Returns how many guesses about the canaries are right.

    The num_guesses / 2 highest scores are guessed to belong to included canaries, the
    num_guesses / 2 lowest to excluded ones; the guesser abstains on the others. Where equal scores
    leave a choice which canaries to guess, the choice that gets the fewest right is counted, so
    neither ties nor the order of the canaries can help the attack.

    Guarantee: the scores must be computed from what the mechanism released, without `included`,
    and num_guesses must be fixed before anyone looks at `included`: trying several and keeping the
    best would void the failure probability of `one_run_epsilon`.

    Args:
      scores: float [m], larger for "included"; infinite values are allowed.
      included: bool [m] (or 0 and 1), which canaries took part in training.
      num_guesses: even, from 2 to m.

    Raises:
      UsageError: for other shapes, NaN, values of `included` besides 0 and 1, or another
        num_guesses.
    """
    scores, included = np.asarray(scores, np.float64), np.asarray(included)
    if scores.ndim != 1 or scores.shape != included.shape:
        raise checks.UsageError(
            "scores and included must be vectors of one length, received shapes "
            f"{list(scores.shape)} and {list(included.shape)}."
        )
    if np.isnan(scores).any():
        raise checks.UsageError(
            f"scores must be free of NaN, received {np.isnan(scores).sum()}. "
            "Look for an overflow in the attack's statistic."
        )
    if not np.isin(included, (0, 1)).all():
        raise checks.UsageError("included must be True or False for each canary.")
    checks.at_least("num_guesses", num_guesses, 2)
    if num_guesses % 2 or num_guesses > len(scores):
        raise checks.UsageError(
            f"num_guesses must be even and <= {len(scores)}, the number of canaries; "
            f"received {num_guesses}."
        )
    included, half = included.astype(bool), num_guesses // 2
    return _fewest_right(scores, included, half) + _fewest_right(-scores, ~included, half)


def one_run_epsilon(*, num_canaries, num_guesses, num_correct, delta, failure_probability):
    """Returns a number that epsilon undercuts with a small probability only.

    Guarantee: if every canary was included independently with probability 1/2, the mechanism is
    (epsilon, delta)-private towards adding or removing one canary, and the guesses about at most
    num_guesses canaries depend on its output only, the returned number exceeds epsilon with
    probability at most failure_probability. No statement about several delta at once.

    Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), corollary 5.4. With W binomial of
    num_guesses trials and success probability e^epsilon / (1 + e^epsilon), the rate of randomised
    response,

      P[correct >= v] <= P[W >= v] + 2 num_canaries delta max_i P[v > W >= v - i] / i,

    i = 1, 2, ..., num_canaries. All canaries count in the delta term, abstained ones too. For
    delta = 0 randomised response attains the bound. The result is the largest epsilon at which the
    right side is at most failure_probability.

    Args:
      num_canaries: how many canaries were included or not by the toss of a coin, at least 1.
      num_guesses: largest number of guesses allowed, 1 to num_canaries, fixed beforehand.
      num_correct: how many guesses were right, 0 to num_guesses.
      delta: in [0, 1), of the claim that epsilon belongs to.
      failure_probability: in (0, 1).

    Returns:
      The bound, 0 where the guesses refute nothing.

    Raises:
      UsageError: for values outside these ranges.
    """
    checks.at_least("num_guesses", num_guesses, 1)
    checks.at_least("num_correct", num_correct, 0)
    if not num_correct <= num_guesses <= num_canaries:
        raise checks.UsageError(
            "num_correct must be <= num_guesses and num_guesses <= num_canaries, received "
            f"{num_correct} correct of {num_guesses} guesses about {num_canaries} canaries."
        )
    checks.fraction("delta", delta, zero=True)
    checks.fraction("failure_probability", failure_probability)

    def refuted(epsilon):
        chance = _chance(num_correct, num_guesses, 2 * num_canaries * delta, epsilon)
        return chance <= failure_probability

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _chance(correct, num_guesses, weight, epsilon):
    """Returns the theorem's bound on the probability of at least `correct` right guesses."""
    rate = special.expit(epsilon)
    # at_least[i] = P[W >= correct - i]; i beyond `correct` adds no probability, only divides.
    at_least = special.bdtrc(correct - 1.0 - np.arange(correct + 1), num_guesses, rate)
    if weight == 0 or correct == 0:
        return at_least[0]
    steepest = np.max((at_least[1:] - at_least[0]) / np.arange(1, correct + 1))
    return at_least[0] + weight * steepest


def _fewest_right(scores, right, num_highest):
    """Returns how many of the highest scores are `right`, at worst among equal scores.

    The highest and the lowest scores may compete for one group of equal ones; what is wrong for one
    is right for the other, so both can have their worst choice.
    """
    last = np.partition(scores, -num_highest)[-num_highest]
    above, equal = scores > last, scores == last
    to_choose = num_highest - np.count_nonzero(above)
    wrong_ones = np.count_nonzero(equal & ~right)
    return int(np.count_nonzero(above & right) + max(0, to_choose - wrong_ones))
