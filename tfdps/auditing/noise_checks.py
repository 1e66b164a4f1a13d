"""Checks of a release beside the attacks: its sums, its noise's law and freshness."""

import random

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from tfdps.auditing.releases import Releases

_FAILURE_PROBABILITY = 1e-6  # of each check, for noise that is as claimed
_ROUNDING = 1e-5  # of the sensitivity; sums are exact, but what is released is float32
_TAILS = (2.0, 3.0, 4.0)  # standard deviations
_SIGNS = 64  # releases looked at for repeated noise


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


def check_law(values, what):
    """Returns checks that noise is Gaussian, of the standard deviation that is claimed.

    The whole distribution is compared (Kolmogorov and Smirnov), then its scale, which that test is slow
    to see, and its tails, which it hardly sees at all: how many numbers are far out, and how far the
    furthest is, which tells where noise ends.

    Args:
      values: float64 [n], noise over the standard deviation that is claimed.
      what: whose noise it is.
    """
    size, share = len(values), _FAILURE_PROBABILITY / (3 + len(_TAILS))
    pvalues = {"distribution": float(stats.kstest(values, "norm").pvalue) if size > 1 else 0.0}
    energy = float(np.sum(values**2))
    pvalues["scale"] = 2 * min(stats.chi2.cdf(energy, size), stats.chi2.sf(energy, size))
    for tail in _TAILS:
        beyond = int(np.count_nonzero(np.abs(values) > tail))
        test = stats.binomtest(beyond, size, 2 * stats.norm.sf(tail))
        pvalues[f"beyond {tail:g} standard deviations"] = float(test.pvalue)
    # The logarithm of how likely no number is further out.
    none_further = size * np.log1p(-2 * stats.norm.sf(np.max(np.abs(values))))
    pvalues["furthest"] = 2 * min(float(np.exp(none_further)), float(-np.expm1(none_further)))
    worst = min(pvalues, key=lambda name: pvalues[name] if np.isfinite(pvalues[name]) else -1.0)
    deviation = np.sqrt(energy / size)
    return {
        "name": f"noise has the law that is accounted, {what}",
        "passed": bool(all(value > share for value in pvalues.values())),
        "detail": f"{size} numbers, standard deviation {deviation:.4f} of the claimed, least likely: "
        f"{worst}, p = {pvalues[worst]:.2g}",
    }


def check_independence(noises, what):
    """Returns a check that steps, or runs, do not share their noise, or a part of it.

    The correlation of two of them is by chance Gaussian, of variance 1/n, nearly.

    Args:
      noises: float64 [r, n], r >= 2: of each the noise of the same numbers.
      what: whose it is.
    """
    with np.errstate(invalid="ignore"):  # what is not finite fails
        normed = noises / np.linalg.norm(noises, axis=1, keepdims=True)
    correlations = np.abs(normed @ normed.T)[np.triu_indices(len(noises), 1)]
    largest = float(np.max(correlations))
    allowed = stats.norm.isf(_FAILURE_PROBABILITY / 2 / len(correlations)) / np.sqrt(
        noises.shape[1]
    )
    return {
        "name": f"noise is not used twice, {what}",
        "passed": bool(largest <= allowed),
        "detail": f"largest correlation of two of {len(noises)} {largest:.4f}, by chance {allowed:.4f}",
    }


def check_residual(step, what):
    """Returns a check that a step without its noise learned from what the guarantee says, all records.

    Args:
      step: a shadow.Step of a quiet run.
      what: whose it is.
    """
    distance = float(np.linalg.norm(step.residual)) / step.sensitivity
    allowed = _ROUNDING + step.rounding / step.sensitivity * np.sqrt(step.residual.size)
    return {
        "name": f"un-noised sums, {what}",
        "passed": bool(distance <= allowed),
        "detail": f"{distance:.2g} of the sensitivity from the auditor's own",
    }


def check_shapes(release, pair):
    """Returns a check that the release's shape and type do not follow the draw.

    Args:
      release: (state, draw) -> the released tensor, of the learner's.
      pair: the Neighbours; of a draw of one part.
    """
    [(images, labels, weights)] = pair.having
    padded_size, seen = len(weights), set()
    for drawn in sorted({0, 1, 2, padded_size // 2, padded_size}):
        weights = tf.cast(tf.range(padded_size) < drawn, tf.float32)
        released = release(pair.state, [(images, labels, weights)])
        seen.add((tuple(released.shape), released.dtype.name))
    return {
        "name": f"shape does not follow the draw, {pair.name}",
        "passed": len(seen) == 1,
        "detail": ", ".join(f"{list(shape)} {dtype}" for shape, dtype in sorted(seen)),
    }


def check_sums(release, pair):
    """Returns a check that the release without its noise is what the guarantee says, record by record.

    The noise is turned down, not taken out: it is the release itself that is held against the
    auditor's own sums. So even a leak that no attack sees through the noise is found.

    Args:
      release: as for `check_shapes`.
      pair: Neighbours with a quiet_state.
    """
    draws = zip((pair.without, pair.having), pair.expected, strict=True)
    furthest = max(
        float(np.linalg.norm(release(pair.quiet_state, draw).numpy() - expected))
        for draw, expected in draws
    )
    return {
        "name": f"un-noised sums, {pair.name}",
        "passed": bool(furthest <= _ROUNDING * pair.sensitivity),
        "detail": f"{furthest / pair.sensitivity:.2g} of the sensitivity from the auditor's own",
    }


def check_repeats(releases, pair):
    """Returns a check that no two numbers of a release, and no two releases, share their noise.

    Numbers of one noise, in whatever order and with whatever factor, have equal or opposite signs in
    all of 64 releases. By chance that has probability 2^-63 for two numbers: 2e-7 among two million.

    Args:
      releases: the Releases of the run's learner.
      pair: the Neighbours; their batch without the record is used.
    """
    signs, whole = np.zeros(pair.difference.size, np.uint64), []
    for released in releases.many(pair.state, pair.without, _SIGNS):
        for positive in released > np.ravel(pair.expected[0]):
            signs |= positive.astype(np.uint64) << np.uint64(len(whole))
            whole.append(np.packbits(positive).tobytes())
    signs = np.where(signs & np.uint64(1), signs, ~signs)
    numbers, releases = len(signs) - len(np.unique(signs)), _SIGNS - len(set(whole))
    return {
        "name": f"noise is not used twice, {pair.name}",
        "passed": numbers == 0 and releases == 0,
        "detail": f"{numbers} of {len(signs)} numbers and {releases} of {_SIGNS} releases repeat",
    }


def check_freshness(build, pair):
    """Returns a check that a seed does not repeat the noise, nor one model another's.

    Args:
      build: makes the run's model anew.
      pair: the Neighbours.
    """
    released = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        of_model = Releases(build().learner)
        released += [of_model.one(pair.state, pair.having).numpy() for _ in range(2)]
    tf.random.set_seed(None)
    np.random.seed(None)
    random.seed(None)
    same = sum(
        np.array_equal(first, second) for i, first in enumerate(released) for second in released[:i]
    )
    return {
        "name": "noise does not repeat under a seed",
        "passed": same == 0,
        "detail": f"{same} of {len(released)} releases repeat another",
    }
