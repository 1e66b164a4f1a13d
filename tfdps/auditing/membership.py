"""Black-box membership test: do the samples tell training records from others?"""

import numpy as np
import scipy.special
import scipy.stats

from tfdps import checks
from tfdps.auditing import bounds, nearest

CONFIDENCE = 0.95
_ONE_IN = 100  # non-members, a false alarm
_FEWEST = 200  # records of either kind: 1 % of fewer is less than two
MEANING = (
    "How well an attacker who sees only the samples tells training records from held-out records "
    "by their distance to the nearest sample. Guessing has AUC 0.5 and finds 1 % of the members at "
    "1 % false alarms; auc_without_leak is what real records in place of the samples give, which "
    "differs from 0.5 where the two sets of records differ. It is one attack, so a lower bound on "
    "what leaks, and it tests no epsilon: finding nothing is no proof of safety."
)


def membership(train, heldout, reference, samples, *, seed=0):
    """Returns how well nearness to the samples tells training records from held-out ones.

    A record's score is r / (r + s), which orders records as r / s does: s is its distance to the
    nearest sample, r to the nearest reference record. Dividing by s is the calibration: some
    records are near to everything, member or not. The source takes a difference. The ratio is
    taken here since the nearest of n points of density f in d dimensions lies at a distance
    proportional to (n f)**(-1 / d), so log(r / s) compares the two densities at the record, a
    likelihood ratio, with noise of one size everywhere; the spread of r - s grows with the
    distances, and the 1 % highest scores are then those of far-off records. On MNIST and Fashion
    MNIST the ratio found more of copies, blurred copies and interpolations at 1 % false alarms,
    and less of copies under strong independent pixel noise, than r - s or r**2 - s**2.

    The result is computed from private records, without noise: no guarantee covers it.

    Args:
      train: points [n, d], members; all of the training records or some drawn evenly.
      heldout: points [m, d], non-members drawn as the training records were.
      reference: points [k, d], held-out records that are not in `heldout`.
      samples: points [l, d] of the generator, the more the stronger the attack.
      seed: of the draw for `auc_without_leak`.

    Returns:
      A dict: "auc" and "tpr_at_1_percent_fpr", each {"value", "low", "high"} as `auc` and
      `true_positive_rate` compute them; "auc_without_leak", the same with training records drawn
      at random, as many as the samples but at most half, in place of the samples, and the other
      training records as members; "num_members", "num_nonmembers", "num_reference",
      "num_samples", "confidence" and "meaning".

    Raises:
      UsageError: for fewer than 200 non-members or members, or arrays that are no such points.

    Source: Chen et al. (2020), GAN-Leaks (the calibrated attack); Carlini et al. (2022),
    Membership Inference Attacks From First Principles (the true positive rate at a low false
    positive rate).
    """
    train = nearest.as_points("train", train)
    heldout = nearest.as_points("heldout", heldout, like=train)
    reference = nearest.as_points("reference", reference, like=train)
    samples = nearest.as_points("samples", samples, like=train)
    if len(heldout) < _FEWEST:
        raise checks.UsageError(
            f"heldout must hold at least {_FEWEST} records, received {len(heldout)}. "
            "--eval_dataset names another held-out set."
        )
    if len(train) < _FEWEST:
        raise checks.UsageError(
            f"train must hold at least {_FEWEST} records, received {len(train)}."
        )
    member_range, _ = nearest.nearest(train, reference)
    nonmember_range, _ = nearest.nearest(heldout, reference)

    def scores(chosen, stand_in):
        to_members, _ = nearest.nearest(train[chosen], stand_in)
        to_nonmembers, _ = nearest.nearest(heldout, stand_in)
        return (
            nearest.share(member_range[chosen], to_members),
            nearest.share(nonmember_range, to_nonmembers),
        )

    order = np.random.default_rng(seed).permutation(len(train))
    num_drawn = min(len(samples), len(train) // 2)
    found = scores(slice(None), samples)
    return {
        "auc": auc(*found),
        "tpr_at_1_percent_fpr": true_positive_rate(*found),
        "auc_without_leak": auc(*scores(order[num_drawn:], train[order[:num_drawn]])),
        "num_members": len(train),
        "num_nonmembers": len(heldout),
        "num_reference": len(reference),
        "num_samples": len(samples),
        "confidence": CONFIDENCE,
        "meaning": MEANING,
    }


def auc(members, nonmembers):
    """Returns the probability that a member scores above a non-member, with its 95 % interval.

    A tie counts half. The interval is DeLong's, on the logit scale so that it stays inside
    (0, 1). Its variance vanishes when the groups are parted, however few they are; so the limits
    are held at least as wide as min(n, m) independent pairs that all came out right allow
    (Clopper-Pearson): a fraction of members that look otherwise could have been missed.

    Under no leak the scores are those of equally distributed records and the interval holds 0.5
    in 95 % of audits. Otherwise it speaks of further records scored against the same samples.

    Args:
      members: scores [n], n >= 2.
      nonmembers: scores [m], m >= 2.

    Returns:
      {"value", "low", "high"}, floats.

    Source: DeLong, DeLong and Clarke-Pearson (1988); Sun and Xu (2014) for the ranks.
    """
    n, m = len(members), len(nonmembers)
    ranks = scipy.stats.rankdata(np.concatenate([members, nonmembers]))
    # Of each member the fraction of non-members it beats, and of each non-member that beat it.
    wins = (ranks[:n] - scipy.stats.rankdata(members)) / m
    losses = 1 - (ranks[n:] - scipy.stats.rankdata(nonmembers)) / n
    value = wins.mean()
    tail = (1 - CONFIDENCE) / 2
    unseen = 1 - tail ** (1 / min(n, m))
    low = high = value
    if 0 < value < 1:
        error = np.sqrt(wins.var(ddof=1) / n + losses.var(ddof=1) / m) / (value * (1 - value))
        reach = scipy.stats.norm.isf(tail) * error
        centre = scipy.special.logit(value)
        low, high = scipy.special.expit([centre - reach, centre + reach])
    return _interval(value, min(low, 1 - unseen), max(high, unseen))


def true_positive_rate(members, nonmembers):
    """Returns the fraction of members above the threshold that 1 % of non-members exceed, with limits.

    The interval allows for both groups: the wanted threshold, the 99 % quantile of all possible
    non-members, lies between two order statistics of these m, for any distribution; members are
    independent of them, so the fraction above either has its Clopper-Pearson limit. Each of the
    four errors gets a quarter of 5 %, and their sum bounds the whole. A bootstrap would not do: it
    never sees a score above the largest one that came. A threshold from one half of the
    non-members would have an exact interval, but for a false positive rate that is itself unknown.

    Below 437 non-members no threshold is surely high enough for 1 %, and low is 0.

    Args:
      members: scores [n].
      nonmembers: scores [m].

    Returns:
      {"value", "low", "high"}, floats, for a confidence of at least 95 %.

    Source: Clopper and Pearson (1934); Conover (1999), Practical Nonparametric Statistics
    (limits of a quantile).
    """
    m, tail = len(nonmembers), (1 - CONFIDENCE) / 4
    # Above descending[k] lie at most k - 1 of them; above -inf, all.
    descending = np.concatenate([[np.inf], np.sort(nonmembers)[::-1], [-np.inf]])
    # The threshold with k - 1 above it is too low with probability cdf(k - 1) at most, and too
    # high with probability sf(k - 1).
    strict = int(np.count_nonzero(scipy.stats.binom.cdf(np.arange(m), m, 1 / _ONE_IN) <= tail))
    lenient = int(scipy.stats.binom.isf(tail, m, 1 / _ONE_IN)) + 1
    allowed = m // _ONE_IN
    value = np.mean(members > descending[allowed + 1])
    low, _ = _fraction_above(descending[strict], members, tail)
    _, high = _fraction_above(descending[lenient], members, tail)
    return _interval(value, low, high)


def _fraction_above(threshold, members, tail):
    count = int(np.count_nonzero(members > threshold))
    return bounds.clopper_pearson(count, len(members), failure_probability=2 * tail)


def _interval(value, low, high):
    return {"value": float(value), "low": float(low), "high": float(high)}
