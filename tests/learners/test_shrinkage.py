"""Shrinkage: nothing without noise, less error with it, and the blocks against plain loops."""

import numpy as np
import pytest

from tfdps.learners.per_record import shrinkage
from tfdps.learners.per_record.waves import cosine_basis


def symmetric_noise(rng, size, stddev):
    noise = rng.normal(size=[size, size]) * stddev
    upper = np.triu(noise, 1) / np.sqrt(2)
    return upper + upper.T + np.diag(np.diag(noise))


def test_without_noise_everything_is_kept():
    rng = np.random.default_rng(0)
    values, rings = rng.normal(size=[3, 12]), np.arange(12) // 4
    matrix = symmetric_noise(rng, 12, 1.0)
    np.testing.assert_allclose(shrinkage.vectors(values, 0.0), values)
    np.testing.assert_allclose(shrinkage.rings(values, rings, 0.0), values)
    np.testing.assert_allclose(
        shrinkage.blocks(matrix @ matrix, rings, 0.0), matrix @ matrix, atol=1e-12
    )
    np.testing.assert_allclose(shrinkage.vector_bands(values, rings, 0.0), values)
    np.testing.assert_allclose(shrinkage.elements(values, np.zeros([3, 12])), values)
    np.testing.assert_allclose(shrinkage.matrix_bands(matrix, rings, 0.0), matrix)


@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0, 5.0])
def test_shrunk_vectors_have_a_smaller_expected_error(signal):
    """James and Stein's theorem in 50 dimensions, on the mean of 2000 trials."""
    rng = np.random.default_rng(1)
    truth = np.full([2000, 50], signal)
    noisy = truth + rng.normal(size=truth.shape)
    error = np.mean((shrinkage.vectors(noisy, 1.0) - truth) ** 2)
    assert error < np.mean((noisy - truth) ** 2)
    # Of the ideal factor, s^2 / (1 + s^2), it misses 2 / 50 (and the positive part's gain).
    assert error < signal**2 / (1 + signal**2) + 0.06


def test_every_vector_has_a_noise_of_its_own():
    values = np.array([[3.0, 4.0], [3.0, 4.0]])
    kept = shrinkage.vectors(values, np.array([[0.0], [2.5]]))
    np.testing.assert_allclose(kept, [[3.0, 4.0], [1.5, 2.0]])  # 1 - 2 * 6.25 / 25


def test_rings_are_shrunk_apart_and_leading_axes_together():
    waves = np.array([[2.0, 0.0, 1.0], [0.0, 2.0, -1.0]])
    kept = shrinkage.rings(waves, np.array([0, 0, 1]), 1.0)
    np.testing.assert_allclose(kept[:, :2], waves[:, :2] * 0.5)  # 1 - 4 / 8
    np.testing.assert_allclose(kept[:, 2], 0)  # 1 - 2 / 2


def test_blocks_are_what_plain_loops_make_of_them():
    rng = np.random.default_rng(2)
    rings = np.array([0, 1, 1, 2, 2, 2, 4, 4])  # ring 3 is empty
    truth = np.diag([9.0, 4, 4, 2, 2, 2, 1, 1])
    truth[0, 1] = truth[1, 0] = 3.0
    noise = 0.7
    matrix = truth + symmetric_noise(rng, 8, noise)
    expected = np.zeros_like(matrix)
    for a in np.unique(rings):
        for b in np.unique(rings):
            rows, columns = np.flatnonzero(rings == a), np.flatnonzero(rings == b)
            block = matrix[np.ix_(rows, columns)]
            flat, variance = 0, noise**2 / 2 * block.size
            if a == b:
                flat = max(np.trace(block) / len(rows), 0) * np.eye(len(rows))
                variance = noise**2 * len(rows) * (len(rows) + 1) / 2
            rest = block - flat
            kept = max(0, 1 - variance / max(np.sum(rest**2), 1e-30))
            expected[np.ix_(rows, columns)] = flat + kept * rest
    np.testing.assert_allclose(shrinkage.blocks(matrix, rings, noise), expected, atol=1e-12)


def test_blocks_bring_a_smooth_covariance_out_of_noise_that_hides_it():
    """Smooth 8x8 images: the noisy eigenvalues are mostly noise, the shrunk matrix is not."""
    rng = np.random.default_rng(3)
    basis, rings = cosine_basis((8, 8, 1))
    truth = np.diag(4.0 / (1 + rings) ** 3)
    noisy = truth + symmetric_noise(rng, 64, 0.2)
    error = np.linalg.norm(shrinkage.blocks(noisy, rings, 0.2) - truth)
    assert error < 0.25 * np.linalg.norm(noisy - truth)
    assert len(basis) == 64


BANDS = np.arange(24) // 8


def test_bands_keep_what_the_posterior_mean_keeps():
    """Normal signals of known variances: the estimate is as good as the Bayes rule that knows them."""
    rng = np.random.default_rng(4)
    stddev = np.array([3.0, 1.0, 0.1])[BANDS]
    noise = rng.uniform(0.5, 2.0, size=400)
    truth = stddev * rng.normal(size=[400, 24])
    noisy = truth + noise[:, None] * rng.normal(size=truth.shape)
    best = stddev**2 / (stddev**2 + noise[:, None] ** 2)
    error = np.mean((shrinkage.vector_bands(noisy, BANDS, noise) - truth) ** 2)
    assert error < 1.02 * np.mean((best * noisy - truth) ** 2)
    assert error < 0.6 * np.mean((noisy - truth) ** 2)


def test_elements_are_shrunk_each_by_its_own_noise_as_if_the_signal_were_known():
    rng = np.random.default_rng(7)
    stddev = np.array([2.0, 0.5, 0.0])
    noise = rng.uniform(0.3, 3.0, size=[2, 500, 3])
    truth = stddev * rng.normal(size=noise.shape)
    noisy = truth + noise * rng.normal(size=noise.shape)
    best = stddev**2 / (stddev**2 + noise**2)
    error = np.mean((shrinkage.elements(noisy, noise) - truth) ** 2, axis=(0, 1))
    ideal = np.mean((best * noisy - truth) ** 2, axis=(0, 1))
    assert (error < 1.05 * ideal + 0.03 * np.mean(noise**2)).all()
    assert (error < 0.7 * np.mean(noise**2)).all()


def test_bands_of_matrices_do_the_same_in_blocks():
    rng = np.random.default_rng(5)
    scale = np.array([3.0, 1.0, 0.05])[BANDS]
    noise = rng.uniform(0.5, 1.0, size=50)
    truth = np.stack([symmetric_noise(rng, 24, 1.0) for _ in noise]) * np.outer(scale, scale)
    noisy = truth + np.stack([symmetric_noise(rng, 24, s) for s in noise])
    variance = np.outer(scale, scale) ** 2
    best = variance / (variance + noise[:, None, None] ** 2)
    shrunk = shrinkage.matrix_bands(noisy, BANDS, noise)
    np.testing.assert_allclose(shrunk, shrunk.swapaxes(-1, -2))
    error = np.mean((shrunk - truth) ** 2)
    assert error < 1.05 * np.mean((best * noisy - truth) ** 2)
    assert error < 0.7 * np.mean((noisy - truth) ** 2)


def test_bands_of_noise_alone_vanish():
    rng = np.random.default_rng(6)
    noise = np.stack([symmetric_noise(rng, 24, 1.5) for _ in range(50)])
    left = np.linalg.norm(shrinkage.matrix_bands(noise, BANDS, np.full(50, 1.5)))
    assert left < 0.15 * np.linalg.norm(noise)
    one = rng.normal(size=[24])
    assert np.linalg.norm(shrinkage.vector_bands(one, BANDS, 1.0)) < np.linalg.norm(one)
