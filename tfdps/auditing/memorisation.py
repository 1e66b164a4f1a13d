"""Memorisation: are the samples nearer to the training records than to records never seen?"""

import numpy as np
import scipy.stats

from tfdps import checks
from tfdps.auditing import nearest

CONFIDENCE = 0.95
_COPY = 1 / 3  # of the distance to the nearest held-out record
_NUM_CLOSEST = 16
_FEWEST = 4  # training records, of which a quarter is drawn
MEANING = (
    "nearer_to_training is the chance that a sample lies nearer to a training record than to any "
    "of equally many held-out records, 0.5 without memorisation; copies is the fraction of samples "
    "at less than a third of the held-out distance; without_leak is what real records in place of "
    "the samples give, which differs where the two sets of records differ. It tests no epsilon. A "
    "lower bound on what leaks, and no proof of safety: samples may give away records without lying "
    "near them."
)


def memorisation(train, heldout, samples, *, seed=0):
    """Returns how much nearer the samples lie to the training records than to held-out ones.

    Nearest distances shrink with the number of records, so `nearer_to_training` compares equally
    many of both; the larger set is subsampled, every record with the same chance.

    Its interval. Were the samples independent of which records trained the generator, the labels
    "training" and "held-out" could be exchanged among the N records of both sets. With w[j] the
    fraction of the samples whose nearest record is j, the statistic is the sum of w[j] over the
    training records, so under exchanged labels it has mean 1/2 and variance
    (sum w**2 - 1 / N) / (1 - 1 / N) / 4. That is the variance of 1/4 over an effective number of
    independent samples, which here is not allowed to exceed the true one; a generator that makes
    one image only has an effective number of 1, however often it is sampled. The interval is
    Clopper-Pearson's for the effective number, as survey statistics use it for clusters. It allows
    for the draw of the records as well as of the samples.

    `copies` takes all records of both sets and speaks of this generator and these records, so
    its interval is that of independent samples. With k times as many training as held-out records
    on a manifold of d dimensions, about k / (k + 3**d) of the samples are such copies by chance:
    nothing for images, something for features of few dimensions.

    Both have their value `without_leak` beside them: training records drawn at random, as many as
    the samples but at most a quarter, stand in for the samples, and the other training records
    are what they are compared with.

    The result is computed from private records, without noise: no guarantee covers it.

    Args:
      train: points [n, d], the training records.
      heldout: points [m, d], records drawn as the training records were and never trained on.
      samples: points [l, d] of the generator.
      seed: of the subsamples.

    Returns:
      A dict: "nearer_to_training", "nearer_to_training_without_leak", "copies" and
      "copies_without_leak", each {"value", "low", "high"}; "effective_num_samples";
      "num_samples"; "num_records" (of each set, compared); "closest", the at most 16 samples of
      the smallest ratio of training to held-out distance, each {"sample", "training", "heldout",
      "distance", "heldout_distance"}: indices into the arguments, and distances to the nearest of
      all records; "confidence"; "meaning".

    Raises:
      UsageError: for arrays that are no such points, or fewer than 4 training records.

    Source: Meehan, Chaudhuri and Dasgupta (2020), A Non-Parametric Test to Detect Data-Copying
    (the three samples); Platzer and Reutterer (2021), Holdout-Based Empirical Assessment of
    Mixed-Type Synthetic Data (the share nearer to training); Yoon et al. (2023), Diffusion
    Probabilistic Models Generalize when They Fail to Memorize (the third); Korn and Graubard
    (1998), Confidence intervals for proportions with small expected number of positive counts.
    """
    train = nearest.as_points("train", train)
    heldout = nearest.as_points("heldout", heldout, like=train)
    samples = nearest.as_points("samples", samples, like=train)
    if len(train) < _FEWEST:
        raise checks.UsageError(
            f"train must hold at least {_FEWEST} records, received {len(train)}."
        )
    generator = np.random.default_rng(seed)
    found, closest = _compare(samples, train, heldout, generator)
    order = generator.permutation(len(train))
    num_drawn = min(len(samples), len(train) // 4)
    honest, _ = _compare(train[order[:num_drawn]], train[order[num_drawn:]], heldout, generator)
    return {
        "nearer_to_training": found["nearer_to_training"],
        "nearer_to_training_without_leak": honest["nearer_to_training"],
        "copies": found["copies"],
        "copies_without_leak": honest["copies"],
        "effective_num_samples": found["effective_num_samples"],
        "num_samples": len(samples),
        "num_records": min(len(train), len(heldout)),
        "closest": closest,
        "confidence": CONFIDENCE,
        "meaning": MEANING,
    }


def closest_pairs(closest, train, heldout, samples):
    """Returns the images behind `closest`: of each sample, its training and its held-out record.

    `pixels.save_png(path, closest_pairs(...), columns=3)` draws a row a sample. The picture shows
    private records: it stays where they may be seen.

    Args:
      closest: the entry of `memorisation`'s result.
      train, heldout, samples: images uint8 [., H, W, C], in the order the points had.

    Returns:
      uint8 [3 * len(closest), H, W, C].
    """
    images = {"sample": samples, "training": train, "heldout": heldout}
    return np.stack([images[name][pair[name]] for pair in closest for name in images])


def _compare(samples, train, heldout, generator):
    """Returns (what the samples show, the `closest` of them); see `memorisation`."""
    count = min(len(train), len(heldout))
    (to_train, train_index), all_train = _nearest(samples, train, count, generator)
    (to_heldout, heldout_index), all_heldout = _nearest(samples, heldout, count, generator)
    nearer = np.mean((to_train < to_heldout) + 0.5 * (to_train == to_heldout))  # half for a tie
    winners = np.where(to_train <= to_heldout, train_index, len(train) + heldout_index)
    weights = np.bincount(winners) / len(samples)
    one = 1 / (2 * count)
    variance = (np.sum(weights**2) - one) / (1 - one)  # times 4
    effective = 1 / max(variance, 1 / len(samples))
    found = {
        "nearer_to_training": _proportion(nearer, effective),
        "copies": _proportion(np.mean(all_train[0] < _COPY * all_heldout[0]), len(samples)),
        "effective_num_samples": float(effective),
    }
    ranked = np.argsort(nearest.share(all_train[0], all_heldout[0]), kind="stable")
    closest = [
        {
            "sample": int(i),
            "training": int(all_train[1][i]),
            "heldout": int(all_heldout[1][i]),
            "distance": float(all_train[0][i]),
            "heldout_distance": float(all_heldout[0][i]),
        }
        for i in ranked[:_NUM_CLOSEST]
    ]
    return found, closest


def _nearest(samples, records, count, generator):
    """Returns (distances, indices) among `count` of the records, drawn evenly, and among all."""
    order = generator.permutation(len(records))
    distances, index = nearest.nearest(samples, records[order[:count]])
    index = order[index]
    if count == len(records):
        return (distances, index), (distances, index)
    others, others_index = nearest.nearest(samples, records[order[count:]])
    others_index = order[count:][others_index]
    everywhere = np.where(others < distances, others_index, index)
    return (distances, index), (np.minimum(others, distances), everywhere)


def _proportion(value, trials):
    """Returns {"value", "low", "high"} by Clopper-Pearson; value * trials need not be whole."""
    tail, successes, failures = (1 - CONFIDENCE) / 2, value * trials, (1 - value) * trials
    low = scipy.stats.beta.ppf(tail, successes, failures + 1) if successes else 0.0
    high = scipy.stats.beta.isf(tail, successes + 1, failures) if failures else 1.0
    return {"value": float(value), "low": float(low), "high": float(high)}
