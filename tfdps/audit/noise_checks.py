"""Checks of a release's noise that need no neighbours: its scale, everywhere, and its freshness."""

import numpy as np
import tensorflow as tf
from scipy import stats

_FAILURE_PROBABILITY = 1e-6  # of each check, for noise that is as claimed


def check_scale(variances, degrees, *, claimed_variance, what):
    """Returns a check that no sample variance is below the claimed one by more than chance.

    Args:
      variances: float [k], sample variances of normal values of equal variance.
      degrees: degrees of freedom of each.
      claimed_variance: what each must be, at least.
      what: whose variances they are.
    """
    ratio = float(np.min(variances)) / claimed_variance
    smallest = stats.chi2.ppf(_FAILURE_PROBABILITY / len(variances), degrees) / degrees
    return {
        "name": f"noise scale of {what}",
        "passed": bool(ratio >= smallest),
        "detail": f"smallest variance over the claimed one {ratio:.4f}, by chance {smallest:.4f}",
    }


def check_shapes(model, pair, padded_size):
    """Returns a check that the release's shape and type do not follow the draw."""
    images, labels, (private, private_labels, _) = pair.images, pair.labels, pair.having
    release, seen = tf.function(model.release), set()
    for drawn in sorted({0, 1, 2, padded_size // 2, padded_size}):
        weights = tf.cast(tf.range(padded_size) < drawn, tf.float32)
        _, released, _ = release(images, labels, (private, private_labels, weights))
        seen.add((tuple(released.shape), released.dtype.name))
    return {
        "name": "shape does not follow the draw",
        "passed": len(seen) == 1,
        "detail": ", ".join(f"{list(shape)} {dtype}" for shape, dtype in sorted(seen)),
    }


def check_freshness(build, pair):
    """Returns a check that a seed does not repeat the noise, nor one model another's.

    Args:
      build: makes the run's model anew.
      pair: the Neighbours.
    """
    releases = []
    for _ in range(2):
        tf.random.set_seed(0)
        mechanism = build().mechanism
        for _ in range(2):
            releases.append(mechanism.release(tf.constant(pair.difference)).numpy())
    tf.random.set_seed(None)
    same = sum(
        np.array_equal(first, second) for i, first in enumerate(releases) for second in releases[:i]
    )
    return {
        "name": "noise does not repeat under a seed",
        "passed": same == 0,
        "detail": f"{same} of {len(releases)} releases repeat another",
    }


def check_sampler(sampler, *, num_draws=2000):
    """Returns checks that every record is drawn with probability q, independently each step.

    Args:
      sampler: the run's PoissonSampler.
      num_draws: how many draws to count.
    """
    size, probability = sampler.dataset_size, sampler.sampling_probability
    draws = [sampler.draw() for _ in range(num_draws)]
    counts = np.array([len(draw) for draw in draws])
    per_record = np.bincount(np.concatenate(draws), minlength=size)
    total = stats.binomtest(int(counts.sum()), size * num_draws, probability)
    return [
        {
            "name": "sampling probability",
            "passed": bool(total.pvalue > _FAILURE_PROBABILITY),
            "detail": f"{counts.sum() / size / num_draws:.6g}, claimed {probability:.6g}",
        },
        _check_dispersion("draws vary as coins do", counts, size, probability),
        _check_dispersion("records' draws are independent", per_record, num_draws, probability),
    ]


def _check_dispersion(name, counts, trials, probability):
    """Binomial counts have variance n p (1 - p); their sum of squares is chi-square, nearly."""
    variance = trials * probability * (1 - probability)
    if variance == 0:  # q = 1: everybody is in every draw
        return {
            "name": name,
            "passed": bool(np.all(counts == trials)),
            "detail": "q = 1: all drawn",
        }
    dispersion = float(np.mean((counts - trials * probability) ** 2)) / variance
    # Variance of the squared, standardised count: 2 and the binomial's excess kurtosis.
    spread = np.sqrt((2 + (1 - 6 * probability * (1 - probability)) / variance) / len(counts))
    allowed = stats.norm.isf(_FAILURE_PROBABILITY / 2) * spread
    return {
        "name": name,
        "passed": bool(abs(dispersion - 1) <= allowed),
        "detail": f"variance over a coin's {dispersion:.4f}, by chance 1 +- {allowed:.4f}",
    }
