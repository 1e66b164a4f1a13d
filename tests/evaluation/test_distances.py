"""FID, KID, precision, recall, density and coverage against closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg

from tfdps import checks
from tfdps.evaluation import distances


def cloud(count, dimension, seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, dimension)) + shift


def cloud_with(mean, covariance, count=40, seed=0):
    """A cloud whose sample mean and unbiased sample covariance are exactly those given."""
    points = cloud(count, len(mean), seed)
    points -= points.mean(0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    return points @ np.linalg.cholesky(covariance).T + mean


# ------------------------------------------------------------------------------------------- FID


def test_fid_of_diagonal_gaussians_is_the_closed_form():
    real = cloud_with([0, 1, 2], np.diag([1.0, 4.0, 9.0]))
    generated = cloud_with([1, 1, 0], np.diag([4.0, 4.0, 1.0]), count=77, seed=1)
    # |(1, 0, -2)|^2 + (1 - 2)^2 + (2 - 2)^2 + (3 - 1)^2; rounding of float64 only
    assert distances.frechet_distance(real, generated) == pytest.approx(5 + 5, abs=1e-10)


def test_fid_of_gaussians_that_do_not_commute_is_that_of_the_matrix_square_root():
    first, second = cloud(60, 6, 2), cloud(90, 6, 3) @ cloud(6, 6, 4)
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.sum((first.mean(0) - second.mean(0)) ** 2)
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distances.frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert distances.frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_fid_holds_with_fewer_points_than_dimensions_and_constant_features():
    first, second = cloud(9, 20, 5), cloud(14, 20, 6, shift=0.5)
    first[:, 3] = second[:, 3] = 0.0
    values, vectors = np.linalg.eigh(np.cov(first, rowvar=False))
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ np.cov(second, rowvar=False) @ root)
    expected = np.sum((first.mean(0) - second.mean(0)) ** 2) + first.var(0, ddof=1).sum()
    expected += second.var(0, ddof=1).sum() - 2 * np.sqrt(np.maximum(inner, 0)).sum()
    # The oracle takes roots of eigenvalues that are 0 but for 1e-16: twelve times 1e-8.
    assert distances.frechet_distance(first, second) == pytest.approx(expected, abs=1e-6)


def test_fid_of_a_cloud_with_itself_is_zero_and_of_a_shifted_one_the_squared_shift():
    points = cloud(50, 8, 7) * 10
    assert distances.frechet_distance(points, points[::-1]) == pytest.approx(0, abs=1e-10)
    shifted = points + np.full(8, 3.0)
    assert distances.frechet_distance(points, shifted) == pytest.approx(72, rel=1e-12)


def test_fid_of_float32_features_is_computed_in_float64():
    real, generated = cloud(300, 5, 8).astype(np.float32), cloud(300, 5, 9).astype(np.float32)
    wide = distances.frechet_distance(real.astype(np.float64), generated.astype(np.float64))
    assert distances.frechet_distance(real, generated) == wide


# ------------------------------------------------------------------------------------------- KID


def u_statistic(real, generated):
    """The unbiased squared MMD by loops over pairs."""

    def kernel(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def within(points):
        return np.mean([kernel(x, y) for x, y in itertools.permutations(points.tolist(), 2)])

    between = [kernel(x, y) for x in real.tolist() for y in generated.tolist()]
    return within(real) + within(generated) - 2 * np.mean(between)


def test_kid_of_two_points_repeated_is_the_closed_form():
    real, generated = np.tile([1.0, 2.0], (10, 1)), np.tile([3.0, -1.0], (8, 1))
    result = distances.kernel_distance(real, generated)
    # (5/2 + 1)^3 + (10/2 + 1)^3 - 2 (1/2 + 1)^3
    assert result.value == pytest.approx(42.875 + 216 - 6.75, rel=1e-12)
    assert result.standard_error == pytest.approx(0, abs=1e-10)
    assert result.subset_size == 4


def test_kid_tends_to_the_u_statistic_of_all_points():
    real, generated = cloud(14, 3, 10), cloud(12, 3, 11, shift=0.4)
    result = distances.kernel_distance(real, generated, num_subsets=4000)
    # Each subset's value has the U-statistic as its mean; the mean of 4000 lies within 5 sigma. Half
    # of the points make a subset, so that the standard error is one subset's sigma but for 1/8000.
    tolerance = 5 * result.standard_error / math.sqrt(4000)
    assert result.value == pytest.approx(u_statistic(real, generated), abs=tolerance)
    assert tolerance < 0.2 * abs(result.value)


def test_kid_of_equal_distributions_is_zero_within_its_error_and_of_shifted_ones_is_not():
    real = cloud(600, 4, 12)
    same = distances.kernel_distance(real, cloud(500, 4, 13), subset_size=100)
    far = distances.kernel_distance(real, cloud(500, 4, 14, shift=0.5), subset_size=100)
    assert abs(same.value) < 4 * same.standard_error
    assert far.value > 5 * far.standard_error


def test_standard_error_of_kid_is_the_spread_over_fresh_data():
    results = [
        distances.kernel_distance(
            cloud(160, 2, seed), cloud(160, 2, 1000 + seed, shift=0.7), subset_size=40
        )
        for seed in range(120)
    ]
    spread = np.std([result.value for result in results], ddof=1)
    claimed = np.sqrt(np.mean([result.standard_error**2 for result in results]))
    # The spread of 120 values is known to 1 / sqrt(240) = 6.5 %: four sigma. The error that counts
    # the subsets alone, sigma / sqrt(100), would be a sixth of it.
    assert 0.74 < claimed / spread < 1.26


def test_kid_is_the_same_for_the_same_seed_only():
    real, generated = cloud(60, 3, 15), cloud(60, 3, 16)
    first, again, other = (
        distances.kernel_distance(real, generated, num_subsets=5, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.value != other.value


# ------------------------------------------------------ precision, recall, density and coverage


def all_four(real, generated, *, k=5):
    """Precision, recall, density and coverage, all by the k-th neighbours."""
    return {
        **distances.precision_recall(real, generated, k=k),
        **distances.density_coverage(real, generated, k=k),
    }


def brute_force(real, generated, k):
    """The four numbers from their definitions, point by point."""

    def radius(points, index):
        others = [math.dist(points[index], p) for j, p in enumerate(points) if j != index]
        return sorted(others)[k - 1]

    real, generated = real.tolist(), generated.tolist()
    real_radii = [radius(real, i) for i in range(len(real))]
    generated_radii = [radius(generated, j) for j in range(len(generated))]
    inside = [
        [math.dist(x, y) <= r for y in generated] for x, r in zip(real, real_radii, strict=True)
    ]
    recalled = [
        any(math.dist(x, y) <= r for y, r in zip(generated, generated_radii, strict=True))
        for x in real
    ]
    return {
        "precision": sum(map(any, zip(*inside, strict=True))) / len(generated),
        "recall": sum(recalled) / len(real),
        "density": sum(map(sum, inside)) / (k * len(generated)),
        "coverage": sum(map(any, inside)) / len(real),
    }


@pytest.mark.parametrize(("k", "block"), [(1, 2**22), (3, 100), (5, 1)])
def test_the_four_numbers_are_those_of_brute_force_whatever_the_block(monkeypatch, k, block):
    monkeypatch.setattr(distances, "_BLOCK", block)
    real, generated = cloud(70, 3, 17), cloud(45, 3, 18, shift=0.8)
    result = all_four(real, generated, k=k)
    assert result == pytest.approx(brute_force(real, generated, k), abs=1e-12)
    assert 0 < result["precision"] < 1
    assert 0 < result["coverage"] < 1


def test_copies_of_repeated_points_lie_in_their_balls_of_radius_zero():
    real = np.repeat(cloud(60, 37, 19), 3, axis=0)
    generated = real[:120]  # forty of the sixty points
    result = all_four(real, generated, k=2)
    assert result == {"precision": 1.0, "recall": 4 / 6, "density": 1.5, "coverage": 4 / 6}
    assert result == pytest.approx(brute_force(real, generated, 2), abs=1e-12)


def test_clouds_far_from_the_origin_are_compared_as_well():
    real, generated = cloud(70, 3, 17, shift=1e6), cloud(45, 3, 18, shift=1e6 + 0.8)
    result = all_four(real, generated, k=3)
    assert result == pytest.approx(brute_force(real, generated, 3), abs=1e-12)


def test_precision_and_recall_are_those_of_the_third_neighbour_unless_told():
    real, generated = cloud(70, 3, 17), cloud(45, 3, 18, shift=0.8)
    expected = brute_force(real, generated, 3)
    result = distances.precision_recall(real, generated)
    assert result == pytest.approx({name: expected[name] for name in result}, abs=1e-12)
    assert 0 < result["precision"] < 1
    assert 0 < result["recall"] < 1


def test_a_cloud_has_full_precision_and_recall_of_itself_and_none_of_one_far_away():
    points = cloud(60, 5, 36)
    same = distances.precision_recall(points, points[::-1])
    assert same == {"precision": 1.0, "recall": 1.0}
    far = distances.precision_recall(points, points + 1000)
    assert far == {"precision": 0.0, "recall": 0.0}


def test_points_on_a_line_have_the_precision_and_recall_of_the_closed_form():
    # Real ones at 0 ... 9: a ball of the third neighbour reaches 2, at 1 and 8 too, and 3 at the ends.
    real = np.arange(10.0)[:, np.newaxis]
    # Generated ones at 11.5 ... 20.5: 11.5 lies in the ball of 9 (to 12), 12.5 in none; the ball of
    # 11.5 (3) reaches 8.5, so 9 alone; that of 12.5 (2) reaches 10.5.
    generated = real + 11.5
    assert distances.precision_recall(real, generated) == {"precision": 0.1, "recall": 0.1}


def test_equal_distributions_have_density_and_coverage_as_published():
    result = distances.density_coverage(cloud(2000, 4, 20), cloud(2000, 4, 21))
    # Naeem et al., section 3.2: the expectations are 1 and 1 - (N-1)...(N-k) / (2N-1)...(2N-k),
    # about 1 - 1/2^5; 2000 balls leave a standard deviation of about 0.01 and 0.004.
    assert result["density"] == pytest.approx(1, abs=0.05)
    assert result["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)


def two_modes(count, seed):
    return np.concatenate([cloud(count, 3, seed), cloud(count, 3, seed + 1, shift=50)])


def test_a_dropped_mode_costs_recall_and_coverage_but_not_precision():
    real, whole = two_modes(200, 22), two_modes(200, 24)
    both = all_four(real, whole)
    one = all_four(real, whole[:200])
    assert both["recall"] > 0.9
    assert both["coverage"] > 0.9
    assert one["precision"] > 0.9
    assert one["recall"] <= 0.5
    assert one["coverage"] <= 0.5


def test_outliers_cost_precision_and_density_but_not_coverage():
    real, generated = cloud(300, 3, 26), cloud(300, 3, 27)
    spoilt = np.concatenate([generated, cloud(300, 3, 28) * 10 + 200])
    clean = all_four(real, generated)
    result = all_four(real, spoilt)
    # Half of the points are in no real ball, the other half and so the coverage are as before.
    assert result["precision"] == pytest.approx(clean["precision"] / 2, abs=1e-12)
    assert result["density"] == pytest.approx(clean["density"] / 2, abs=1e-12)
    assert result["coverage"] == clean["coverage"]


# -------------------------------------------------------------------------------------- refusals

MEASURES = {
    "fid": (distances.frechet_distance, 2),
    "kid": (distances.kernel_distance, 4),
    "precision and recall": (distances.precision_recall, 4),
    "density and coverage": (distances.density_coverage, 6),
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_refuses_what_is_no_cloud(name):
    measure, fewest = MEASURES[name]
    good, small = cloud(fewest, 3, 29), cloud(fewest - 1, 3, 30)
    measure(good, good + 1)
    broken = good.copy()
    broken[0, 1] = np.nan
    infinite = good.copy()
    infinite[1, 0] = np.inf
    for real, generated, message in [
        (small, good, f"real features .* n >= {fewest}"),
        (good, small, f"generated features .* n >= {fewest}"),
        (good[0], good, "real features"),
        (broken, good, "real features must be finite, received 1 "),
        (good, infinite, "generated features must be finite"),
        (good, np.ones((fewest, 3), int), "generated features must be floats, received int64"),
        (good, cloud(fewest, 4, 31), "same length, received 3 and 4"),
        (good[:, :0], good, "d >= 1"),
    ]:
        with pytest.raises(checks.UsageError, match=message):
            measure(real, generated)


@pytest.mark.parametrize("setting", [{"subset_size": 1}, {"num_subsets": 1}, {"seed": -1}])
def test_kid_refuses_numbers_that_make_no_estimate(setting):
    with pytest.raises(checks.UsageError, match=f"{next(iter(setting))} must be >= "):
        distances.kernel_distance(cloud(9, 2, 32), cloud(9, 2, 33), **setting)


@pytest.mark.parametrize("measure", [distances.precision_recall, distances.density_coverage])
def test_no_neighbour_is_no_radius(measure):
    with pytest.raises(checks.UsageError, match="k must be >= 1"):
        measure(cloud(9, 2, 34), cloud(9, 2, 35), k=0)
