"""Noisy mean and variance of each pixel in each class; images are drawn from these Gaussians.

The floor: what one release of the simplest statistics gives. One Gaussian mechanism (Dwork and Roth
2014, appendix A; exact curve of Balle and Wang 2018) on one vector a record, which holds the image
and its square, both clipped and scaled, and a number for the count, in the columns of its class.

Guarantee, but for the random numbers: a record's vector has norm at most 1, so that the sums of two
data sets that differ in one record replaced by nothing are at most 1 apart.
"""

import math

import numpy as np

from field import dp_sgd, race

_TYPICAL = 0.5  # root mean square of an image's pixels in [0, 1] at which it is clipped
_SHARES = (0.45, 0.45, 0.1)  # of the squared norm: image, squares, count


def run(given):
    """Returns the Finish of a Race."""
    plan = dp_sgd.plan_of(given, batch=len(given.labels), steps=1)
    random = np.random.default_rng(given.seed)
    means, deviations = released(given, plan.sigma, random)

    def draw(labels):
        def part(labels, number):
            own = np.random.default_rng([given.seed + 1, number])
            noise = own.standard_normal((len(labels), means.shape[1]), np.float32)
            values = means[labels] + deviations[labels] * noise
            return race.to_bytes(2 * values - 1).reshape(-1, *given.images.shape[1:])

        return race.by_parts(part, labels)

    return race.Finish(draw=draw, numbers=plan.numbers())


def released(given, sigma, random):
    """Returns (means, standard deviations), float32 [L, H W C] of pixels in [0, 1], with noise."""
    sums = statistics(given)
    sums += sigma * random.standard_normal(sums.shape)
    scales, pixels = parts(given), sums.shape[1] // 2
    first, squares = (sums[:, i * pixels : (i + 1) * pixels] / scales[i] for i in range(2))
    counts = np.maximum(sums[:, -1:] / scales[2], 1.0)
    means = np.clip(first / counts, 0, 1)
    variances = np.clip(squares / counts - means**2, 0, 0.25)
    return means.astype(np.float32), np.sqrt(variances).astype(np.float32)


def statistics(given):
    """Returns the sums of the records' vectors, each of norm at most 1: float64 [L, 2 H W C + 1]."""
    scales, rows = parts(given), []
    for label in range(given.num_classes):
        own = given.images[given.labels == label]
        own = own.reshape(len(own), -1) / np.float32(255)
        first, squares = (
            scales[i] * clipped(own**power, largest_norm(given)).sum(0, dtype=np.float64)
            for i, power in enumerate((1, 2))
        )
        rows.append(np.append(np.append(first, squares), scales[2] * len(own)))
    return np.stack(rows)


def parts(given):
    """Returns the factors of image, squares and count in a record's vector."""
    image, squares, count = np.sqrt(_SHARES)
    return image / largest_norm(given), squares / largest_norm(given), count


def largest_norm(given):
    """Returns the norm that images [H W C] of pixels in [0, 1], and their squares, are clipped to."""
    return _TYPICAL * math.sqrt(math.prod(given.images.shape[1:]))


def clipped(vectors, largest):
    """Returns the vectors [n, d], those with a norm above `largest` shortened to it."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * np.minimum(1, largest / np.maximum(norms, 1e-12))
