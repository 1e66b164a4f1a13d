"""The two-sample score: fair pairs, the numbers of a planted classifier, what the CNN tells apart."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from conftest import ROOT
from tfdps import checks
from tfdps.data import loading
from tfdps.evaluation import classifiers, two_sample
from tfdps.samplers import onnx_sampler


def numbered(count, first):
    """Images whose two pixels are their number, in base 256: first, first + 1, ..."""
    numbers = np.arange(first, first + count)
    return np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8).reshape(-1, 1, 2, 1)


def numbers_of(images):
    high, low = images.reshape(-1, 2).astype(int).T
    return 256 * high + low


@pytest.fixture
def planted(monkeypatch):
    """Puts a classifier in the CNN's place that calls an image generated from a number on.

    Returns a dict: `threshold` to be set, and what it was given: `trained`, `answers`, `tested`.
    """
    seen = {"threshold": 1000}

    def trained(name, images, is_generated, *, num_classes, seed, title):
        assert (name, num_classes) == ("cnn_without_dropout", 2)
        seen.update(trained=numbers_of(images), answers=is_generated)

        def logits(tested):
            seen["tested"] = numbers_of(tested)
            return np.stack([np.full(len(tested), seen["threshold"]), seen["tested"] + 0.5], axis=1)

        return logits

    monkeypatch.setattr(classifiers, "trained", trained)
    return seen


def test_images_are_paired_within_their_class_and_each_is_taken_once():
    real = np.array([0] * 30 + [1] * 10 + [2] * 5)
    generated = np.array([0, 1] * 15 + [3] * 9)
    pairs = two_sample._pairs(real, generated, np.random.default_rng(0))
    assert pairs.shape == (
        2,
        15 + 10,
    )  # of class 0 as many as were generated, of class 1 as are real
    np.testing.assert_array_equal(real[pairs[0]], generated[pairs[1]])
    assert all(len(set(indices)) == 25 for indices in pairs.tolist())
    assert len(set(real[pairs[0][:12]])) == 2  # no half holds one class alone


def test_no_more_pairs_than_the_most_are_taken(monkeypatch):
    monkeypatch.setattr(two_sample, "_MOST_PAIRS", 40)
    labels = np.arange(100) % 2
    assert two_sample._pairs(labels, labels, np.random.default_rng(0)).shape == (2, 40)


def test_half_of_the_pairs_are_trained_on_and_the_others_are_tested(planted):
    labels = np.zeros(100, int)
    found = two_sample.score((numbered(100, 0), labels), (numbered(100, 5000), labels))
    for numbers in (planted["trained"], planted["tested"]):
        assert (numbers < 1000).sum() == (numbers >= 5000).sum() == 50
    assert not set(planted["trained"]) & set(planted["tested"])
    np.testing.assert_array_equal(planted["answers"], planted["trained"] >= 5000)
    assert (found.accuracy, found.auc, found.num_tested) == (1.0, 1.0, 100)
    # Clopper and Pearson's interval of 100 hits in 100: from the root 0.025^(1/100) to 1.
    assert (found.low, found.high) == (pytest.approx(0.025**0.01, abs=1e-9), 1.0)


def test_accuracy_auc_and_interval_are_those_of_brute_force(planted):
    # Real ones are 0 ... 199, generated ones 100 ... 299: they overlap by half.
    planted["threshold"], labels = 120, np.zeros(200, int)
    real, generated = numbered(200, 0), numbered(200, 100)
    found = two_sample.score((real, labels), (generated, labels), seed=3)
    shown, made = planted["tested"][:100], planted["tested"][100:]
    correct = (shown < 120).sum() + (made >= 120).sum()
    assert found.accuracy == correct / 200
    beta = scipy.stats.beta
    assert found.low == pytest.approx(beta.ppf(0.025, correct, 200 - correct + 1), abs=1e-9)
    assert found.high == pytest.approx(beta.ppf(0.975, correct + 1, 200 - correct), abs=1e-9)
    order = np.sign(made[:, np.newaxis] - shown)
    assert found.auc == pytest.approx((order.mean() + 1) / 2, abs=1e-12)
    assert 0.5 < found.accuracy < 1


def test_a_classifier_that_gives_all_the_same_answer_is_half_right(planted):
    planted["threshold"], labels = 9999, np.zeros(60, int)
    found = two_sample.score((numbered(60, 0), labels), (numbered(60, 5000), labels))
    assert found.accuracy == 0.5
    assert found.low < 0.5 < found.high


def test_the_seed_decides_the_pairs(planted):
    labels = np.zeros(100, int)
    tested = []
    for seed in (1, 1, 2):
        two_sample.score((numbered(100, 0), labels), (numbered(100, 5000), labels), seed=seed)
        tested.append(planted["tested"].tolist())
    assert tested[0] == tested[1] != tested[2]


def test_too_few_pairs_are_refused():
    labels = np.zeros(19, int)
    images = numbered(19, 0)
    with pytest.raises(checks.UsageError, match="at least 20 pairs .*received 19"):
        two_sample.score((images, labels), (images, labels))
    with pytest.raises(checks.UsageError, match="received 0: raise --eval_samples"):
        two_sample.score((images, labels), (images, labels + 1))


@pytest.mark.slow
def test_real_images_are_not_told_from_real_ones_and_noise_always_is(monkeypatch):
    # Three epochs for ten: what they learn by heart they have learned, and noise needs none.
    short = dataclasses.replace(classifiers._RECIPES["cnn_without_dropout"], max_epochs=3)
    monkeypatch.setitem(classifiers._RECIPES, "cnn_without_dropout", short)
    train, test = loading.load("digits"), loading.load("digits", split="test")
    real = test.images, test.labels
    same = two_sample.score(real, (train.images, train.labels))
    # 360 images are tested: a standard deviation of 0.026 around 0.5, and five of them.
    assert abs(same.accuracy - 0.5) < 0.13
    assert abs(same.auc - 0.5) < 0.15
    noise = np.random.default_rng(0).integers(0, 256, train.images.shape, np.uint8)
    told = two_sample.score(real, (noise, train.labels))
    assert told.accuracy > 0.99
    assert told.auc > 0.99


@pytest.mark.slow
def test_images_of_a_shipped_generator_are_told_from_real_ones(tfds_dir):
    sampler = onnx_sampler.load(str(ROOT / "saved_models" / "mnist_eps10"))
    labels = np.arange(3000) % 10
    test = loading.load("mnist", data_dir=tfds_dir, split="test")
    found = two_sample.score((test.images, test.labels), (sampler.sample(labels, 0), labels))
    # Of 10,000 images 0.971 and 0.996; before they had a refiner 0.992, where the classic CNN,
    # which has dropout, said 0.772 and overlooked their grain.
    assert found.accuracy > 0.93
    assert found.auc > 0.98


@pytest.mark.slow
def test_the_same_seed_gives_the_same_score(monkeypatch):
    short = dataclasses.replace(
        classifiers._RECIPES["cnn_without_dropout"], max_epochs=2, fewest_updates=20
    )
    monkeypatch.setitem(classifiers._RECIPES, "cnn_without_dropout", short)
    train, test = loading.load("digits"), loading.load("digits", split="test")
    bright = np.maximum(train.images, 60)
    first, second = (
        two_sample.score((test.images, test.labels), (bright, train.labels), seed=5)
        for _ in range(2)
    )
    # Sums in another order may change the weights in their last bits, so an image on the edge.
    assert first.accuracy == pytest.approx(second.accuracy, abs=0.01)
    assert first.auc == pytest.approx(second.auc, abs=0.01)
