"""The black-box half of the audit: a copier is caught, an honest generator is not."""

import json

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import sklearn.metrics

from tfdps import checks
from tfdps.auditing import membership, memorisation, nearest
from tfdps.data import loading
from tfdps.generators import pixels


def _normal(seed, *counts, dimension=8):
    """Clouds of independent standard normal points, one for each count."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(count, dimension)).astype(np.float32) for count in counts]


def _copies(records, seed, scale=1e-3):
    noise = np.random.default_rng(seed).normal(size=records.shape)
    return (records + scale * noise).astype(np.float32)


def _holds(interval, value):
    return interval["low"] <= value <= interval["high"]


def _most_misses(cases):
    """A 95 % interval misses more often in one of 1000 such tests; the seeds are fixed."""
    return scipy.stats.binom.ppf(0.999, cases, 0.05)


# Distances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("dimension", [1, 3, 200])
def test_nearest_is_brute_force_over_several_blocks(dimension, offset):
    queries, points = _normal(0, 2100, 2200, dimension=dimension)
    queries, points = queries + np.float32(offset), points + np.float32(offset)
    distances, index = nearest.nearest(queries, points)
    oracle = scipy.spatial.distance.cdist(queries.astype(np.float64), points.astype(np.float64))
    # Both are float64 sums of the same squares, in another order.
    np.testing.assert_allclose(distances, oracle.min(axis=1), rtol=1e-12)
    np.testing.assert_allclose(oracle[np.arange(2100), index], distances, rtol=1e-12)


def test_copies_and_near_copies_have_their_true_distance():
    points, others = _normal(1, 3000, 10, dimension=300)
    points += np.float32(50)  # a float32 product alone errs by about 0.1 here
    near = points[100:200] + np.float32(2**-14)
    distances, index = nearest.nearest(np.concatenate([points[:100], near, others]), points)
    assert np.all(distances[:100] == 0)
    np.testing.assert_array_equal(index[:200], np.arange(200))
    np.testing.assert_allclose(distances[100:200], 2**-14 * np.sqrt(300), rtol=1e-12)


def test_collapsed_points_are_told_apart_in_float64():
    queries, centres, noise = _normal(2, 100, 3, 3000, dimension=20)
    points = np.repeat(centres, 1000, axis=0) + np.float32(1e-5) * noise
    queries[:50] = points[::60]  # at 1e-5 from a thousand others: within float32's rounding
    distances, index = nearest.nearest(queries, points)
    oracle = scipy.spatial.distance.cdist(queries.astype(np.float64), points.astype(np.float64))
    np.testing.assert_allclose(distances, oracle.min(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(distances[:50], 0)
    np.testing.assert_array_equal(index[:50], np.arange(0, 3000, 60))


def test_share_orders_as_the_ratio_and_is_half_at_0_to_0():
    np.testing.assert_allclose(nearest.share(np.array([1.0, 0, 2, 0]), np.array([3.0, 1, 0, 0])),
                               [0.25, 0, 1, 0.5])  # fmt: skip


def test_pixels_are_bytes_over_255():
    images = np.array([[[[0], [51]], [[255], [102]]]], np.uint8)
    np.testing.assert_allclose(nearest.pixels(images), [[0, 0.2, 1, 0.4]], rtol=1e-6)
    with pytest.raises(checks.UsageError, match="images must be uint8"):
        nearest.pixels(images / 255)


@pytest.mark.parametrize(
    ("queries", "points", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 4)), r"queries must be points \[n, 4\]"),
        (np.zeros((3, 2)), np.zeros((0, 2)), "points must be points"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), "queries must be finite"),
    ],
)
def test_what_is_no_cloud_of_points_is_refused(queries, points, message):
    with pytest.raises(checks.UsageError, match=message):
        nearest.nearest(queries, points)


# Intervals -----------------------------------------------------------------------------------


def test_auc_is_sklearns_with_ties():
    generator = np.random.default_rng(3)
    members, nonmembers = generator.integers(2, 12, 300), generator.integers(0, 10, 500)
    labels = np.repeat([1, 0], [300, 500])
    expected = sklearn.metrics.roc_auc_score(labels, np.concatenate([members, nonmembers]))
    assert membership.auc(members, nonmembers)["value"] == pytest.approx(expected, abs=1e-12)


def test_auc_interval_is_the_bootstraps():
    generator = np.random.default_rng(4)
    members, nonmembers = generator.normal(1, 2, 400), generator.normal(0, 1, 900)
    drawn = [
        membership.auc(generator.choice(members, 400), generator.choice(nonmembers, 900))["value"]
        for _ in range(500)
    ]
    interval = membership.auc(members, nonmembers)
    # A 2.5 % quantile of 500 has a standard error of about a tenth of the interval's half width.
    low, high = np.quantile(drawn, [0.025, 0.975])
    tolerance = 0.3 * (high - low) / 2
    assert interval["low"] == pytest.approx(low, abs=tolerance)
    assert interval["high"] == pytest.approx(high, abs=tolerance)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_auc_and_tpr_intervals_cover(shift):
    generator = np.random.default_rng(5)
    true_auc = scipy.stats.norm.cdf(shift / np.sqrt(2))
    true_tpr = scipy.stats.norm.sf(scipy.stats.norm.isf(0.01) - shift)
    misses, tpr_misses = 0, 0
    for _ in range(200):
        members, nonmembers = generator.normal(shift, 1, 400), generator.normal(0, 1, 600)
        misses += not _holds(membership.auc(members, nonmembers), true_auc)
        tpr_misses += not _holds(membership.true_positive_rate(members, nonmembers), true_tpr)
    # Intervals that are far too wide miss never: below is a 0.1 % quantile as well.
    assert scipy.stats.binom.ppf(0.001, 200, 0.05) <= misses <= _most_misses(200)
    assert tpr_misses <= _most_misses(200)  # its confidence is at least 95 %, so rarely any


def test_auc_of_parted_groups_is_not_claimed_to_be_exact():
    interval = membership.auc(np.arange(300.0) + 1000, np.arange(200.0))
    # 200 independent pairs, all right: Clopper-Pearson's limit for 200 of 200.
    limit = scipy.stats.binomtest(200, 200).proportion_ci(0.95).low
    assert interval == {"value": 1.0, "low": pytest.approx(limit, abs=1e-12), "high": 1.0}


def test_tpr_is_the_fraction_above_the_threshold_1_percent_exceed():
    nonmembers = np.arange(1000.0)  # ten of them, 990 to 999, may exceed the threshold 989
    members = np.array([988.0, 989.0, 989.5, 995.0])
    assert membership.true_positive_rate(members, nonmembers)["value"] == 0.5


def test_tpr_interval_is_narrow_where_there_are_many_records():
    generator = np.random.default_rng(6)
    members, nonmembers = generator.normal(2, 1, 10_000), generator.normal(0, 1, 10_000)
    interval = membership.true_positive_rate(members, nonmembers)
    # The threshold is known within z(0.987) to z(0.9925) = 2.23 to 2.43: within 0.08 of the rate.
    assert interval["high"] - interval["low"] < 0.12
    assert _holds(interval, scipy.stats.norm.sf(scipy.stats.norm.isf(0.01) - 2))


def test_tpr_has_a_lower_limit_from_437_nonmembers_on():
    members = np.full(1000, 5.0)  # 0.99**437 < 1.25 % < 0.99**436
    assert membership.true_positive_rate(members, np.arange(436.0) / 436)["low"] == 0
    assert membership.true_positive_rate(members, np.arange(437.0) / 437)["low"] > 0.99


# Membership ----------------------------------------------------------------------------------


def test_membership_of_copied_records_is_found():
    train, heldout, reference = _normal(7, 600, 600, 600)
    found = membership.membership(train, heldout, reference, _copies(train, 8))
    assert found["auc"]["low"] > 0.99
    assert found["tpr_at_1_percent_fpr"]["value"] > 0.99
    assert found["tpr_at_1_percent_fpr"]["low"] > 0.97
    assert _holds(found["auc_without_leak"], 0.5)


def test_membership_is_not_found_in_fresh_draws():
    found = [membership.membership(*_normal(seed, 600, 500, 400, 800)) for seed in range(100, 120)]
    for name in ("auc", "auc_without_leak"):
        misses = sum(not _holds(one[name], 0.5) for one in found)
        assert misses <= _most_misses(20)
    assert all(_holds(one["tpr_at_1_percent_fpr"], 0.01) for one in found)


def test_membership_without_leak_shows_that_the_sets_differ():
    train, heldout, reference, samples = _normal(9, 900, 600, 600, 900)
    heldout[:, 0] += 3  # drawn otherwise than the training records
    found = membership.membership(train, heldout, reference + 3 * np.eye(8)[0], samples)
    assert found["auc"]["low"] > 0.6  # looks like a leak
    assert found["auc_without_leak"]["value"] == pytest.approx(found["auc"]["value"], abs=0.05)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((600, 199, 100, 100), "heldout must hold at least 200 records, received 199. .*eval_data"),
        ((199, 600, 100, 100), "train must hold at least 200 records, received 199"),
        ((600, 600, 0, 100), "reference must be points"),
    ],
)
def test_membership_of_too_few_records_is_refused(sizes, message):
    with pytest.raises(checks.UsageError, match=message):
        membership.membership(*_normal(10, *sizes))


# Memorisation --------------------------------------------------------------------------------


def test_memorised_records_are_found():
    train, heldout = _normal(11, 900, 300)
    found = memorisation.memorisation(train, heldout, _copies(train, 12))
    # A third of the training records is compared; the other copies are nearer to either.
    assert found["nearer_to_training"]["low"] > 0.6
    assert found["copies"]["low"] > 0.98 > 0.01 > found["copies_without_leak"]["value"]
    whole = memorisation.memorisation(train[:300], heldout, _copies(train[:300], 12))
    assert whole["nearer_to_training"]["low"] > 0.98
    assert whole["copies"]["low"] > 0.98
    for pair in found["closest"]:
        assert pair["sample"] == pair["training"]
        assert pair["distance"] < 0.01 < pair["heldout_distance"]
    ratios = [pair["distance"] / pair["heldout_distance"] for pair in found["closest"]]
    assert len(ratios) == 16
    assert ratios == sorted(ratios)


@pytest.mark.parametrize("num_modes", [None, 30, 4])
def test_without_memorisation_one_half_is_covered_even_if_samples_collapse(num_modes):
    generator = np.random.default_rng(13)
    misses, naive_misses = 0, 0
    for _ in range(200):
        train, heldout, samples = (generator.normal(size=(200, 3)) for _ in range(3))
        if num_modes:
            modes = generator.integers(num_modes, size=200)
            samples = samples[modes] + 0.1 * generator.normal(size=(200, 3))
        found = memorisation.memorisation(train, heldout, samples)
        misses += not _holds(found["nearer_to_training"], 0.5)
        successes = round(200 * found["nearer_to_training"]["value"])
        naive_misses += scipy.stats.binomtest(successes, 200).pvalue < 0.05
    assert misses <= _most_misses(200)
    if num_modes:  # what the effective number is for
        assert naive_misses > 2 * _most_misses(200)


def test_memorisation_interval_is_the_spread_under_exchanged_labels():
    records, samples = _normal(14, 400, 300, dimension=3)
    generator = np.random.default_rng(15)
    values = []
    for _ in range(300):
        order = generator.permutation(400)
        found = memorisation.memorisation(records[order[:200]], records[order[200:]], samples)
        values.append(found["nearer_to_training"]["value"])
    # A standard deviation of 300 draws is within 3 / sqrt(600) = 12 % of its expectation.
    expected = 0.5 / np.sqrt(found["effective_num_samples"])
    assert np.std(values) == pytest.approx(expected, rel=0.12)


def test_copies_by_chance_are_k_over_k_plus_3_to_the_dimension():
    generator = np.random.default_rng(24)
    train, heldout, samples = (generator.random((count, 2)) for count in (8000, 4000, 4000))
    found = memorisation.memorisation(train, heldout, samples)
    # Uniform on a square, k = 2; seeds fixed, edges shift it by less than the interval.
    assert _holds(found["copies"], 2 / (2 + 9))
    # The records left are 6000: k = 1.5.
    assert _holds(found["copies_without_leak"], 1.5 / (1.5 + 9))


def test_one_image_made_over_and_over_is_one_comparison():
    train, heldout, sample = _normal(16, 300, 300, 1)
    found = memorisation.memorisation(train, heldout, np.repeat(sample, 500, axis=0))
    assert found["effective_num_samples"] == pytest.approx(1)
    assert _holds(found["nearer_to_training"], 0.5)


def test_records_in_both_sets_count_half_and_are_no_copies():
    (records,) = _normal(17, 100)
    found = memorisation.memorisation(records, records[::-1], records)
    assert found["nearer_to_training"]["value"] == 0.5
    assert found["copies"]["value"] == 0


def test_memorisation_without_leak_shows_that_the_sets_differ():
    train, heldout, samples = _normal(18, 1600, 400, 400)
    heldout *= 1.5
    found = memorisation.memorisation(train, heldout, samples)
    assert found["nearer_to_training"]["low"] > 0.5  # looks like memorisation
    without = found["nearer_to_training_without_leak"]
    assert found["nearer_to_training"]["value"] == pytest.approx(without["value"], abs=0.1)


def test_memorisation_of_too_few_records_is_refused():
    train, heldout, samples = _normal(19, 3, 10, 10)
    with pytest.raises(checks.UsageError, match="train must hold at least 4 records, received 3"):
        memorisation.memorisation(train, heldout, samples)
    with pytest.raises(checks.UsageError, match="heldout must be points"):
        memorisation.memorisation(heldout, heldout[:0], samples)


def test_closest_pairs_are_rows_of_three_images():
    generator = np.random.default_rng(20)
    train, heldout, samples = (
        generator.integers(0, 256, (20, 4, 4, 1)).astype(np.uint8) for _ in range(3)
    )
    samples[5] = train[9]
    points = [nearest.pixels(images) for images in (train, heldout, samples)]
    closest = memorisation.memorisation(*points)["closest"]
    images = memorisation.closest_pairs(closest, train, heldout, samples)
    assert (closest[0]["sample"], closest[0]["training"], closest[0]["distance"]) == (5, 9, 0)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[2], heldout[closest[0]["heldout"]])
    assert len(images) == 3 * len(closest)
    assert pixels.class_grid(images, 3).dtype == np.uint8


@pytest.mark.parametrize("test", [membership.membership, memorisation.memorisation])
def test_results_are_plain_json_with_a_meaning_and_repeat(test):
    sets = _normal(21, 400, 300, 300, 300)[: 4 if test is membership.membership else 3]
    found = test(*sets)
    assert json.loads(json.dumps(found)) == found == test(*sets)
    assert "ower bound" in found["meaning"]
    assert "no proof of safety" in found["meaning"]
    assert found["confidence"] == 0.95


# Real images ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tfds_dir):
    """Pixels of real MNIST images of one split in random order: four disjoint sets."""
    images = loading.load("mnist", data_dir=tfds_dir, split="test").images
    order = np.random.default_rng(22).permutation(len(images))
    return np.split(nearest.pixels(images[order[:5500]]), [1500, 3000, 4000])


def test_a_copier_of_mnist_is_caught(digits):
    train, heldout, reference, _ = digits
    samples = np.clip(_copies(train, 23, scale=0.02), 0, 1)
    found = membership.membership(train, heldout, reference, samples)
    assert found["auc"]["low"] > 0.98
    assert found["tpr_at_1_percent_fpr"]["low"] > 0.95
    found = memorisation.memorisation(train, heldout, samples)
    assert found["nearer_to_training"]["low"] > 0.98
    assert found["copies"]["low"] > 0.8


def test_an_honest_generator_of_mnist_is_not_accused(digits):
    found = membership.membership(*digits)
    assert _holds(found["auc"], 0.5)
    assert _holds(found["tpr_at_1_percent_fpr"], 0.01)
    train, heldout, _, samples = digits
    found = memorisation.memorisation(train, heldout, samples)
    assert _holds(found["nearer_to_training"], 0.5)
    assert found["copies"]["high"] < 0.01
