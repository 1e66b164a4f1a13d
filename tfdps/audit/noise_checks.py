"""Checks of a release beside the attacks: its sums, its noise's scale and freshness, its draws."""

import numpy as np
import tensorflow as tf
from scipy import stats

_FAILURE_PROBABILITY = 1e-6  # of each check, for noise that is as claimed
_ROUNDING = 1e-4  # of the sensitivity; releases are float32, which is off by 1e-6 of it
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


def check_shapes(release, pair):
    """Returns a check that the release's shape and type do not follow the draw.

    Args:
      release: (state, batch) -> the released array: the learner's, of a draw of one part.
      pair: the Neighbours.
    """
    images, labels, weights = pair.having
    padded_size, seen = len(weights), set()
    for drawn in sorted({0, 1, 2, padded_size // 2, padded_size}):
        weights = tf.cast(tf.range(padded_size) < drawn, tf.float32)
        released = release(pair.state, (images, labels, weights))
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
    batches = zip((pair.without, pair.having), pair.expected, strict=True)
    furthest = max(
        float(np.linalg.norm(release(pair.quiet_state, batch).numpy() - expected))
        for batch, expected in batches
    )
    return {
        "name": f"un-noised sums, {pair.name}",
        "passed": bool(furthest <= _ROUNDING * pair.sensitivity),
        "detail": f"{furthest / pair.sensitivity:.2g} of the sensitivity from the auditor's own",
    }


def check_repeats(release, pair):
    """Returns a check that no two numbers of a release, and no two releases, share their noise.

    Numbers of one noise, in whatever order and with whatever factor, have equal or opposite signs in
    all of 64 releases. By chance that has probability 2^-63 for two numbers: 2e-7 among two million.

    Args:
      release: as for `check_shapes`.
      pair: the Neighbours; their batch without the record is used.
    """
    signs, whole = np.zeros(pair.difference.size, np.uint64), []
    for bit in range(_SIGNS):
        released = release(pair.state, pair.without).numpy()
        positive = np.ravel(released > pair.expected[0])
        signs |= positive.astype(np.uint64) << np.uint64(bit)
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
    releases = []
    for _ in range(2):
        tf.random.set_seed(0)
        learner = build().learner
        releases += [learner.release(pair.state, [pair.having]).numpy() for _ in range(2)]
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
    counts, per_record = np.zeros(num_draws, int), np.zeros(size, int)
    for i in range(num_draws):
        drawn = sampler.draw()
        counts[i] = len(drawn)
        per_record += np.bincount(drawn, minlength=size)
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
