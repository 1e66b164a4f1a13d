"""The downstream protocols: the networks they name, and accuracies that real data must reach."""

import keras
import numpy as np
import pytest
import sklearn.linear_model
import tensorflow as tf

from tfdps.data import loading
from tfdps.evaluation import classifiers, resnet


@pytest.fixture(scope="module")
def digits():
    train, test = loading.load("digits"), loading.load("digits", split="test")
    return train, (test.images, test.labels)


@pytest.mark.parametrize(
    ("name", "num_weights"),
    [
        ("logreg", 784 * 10 + 10),
        ("mlp", 784 * 100 + 100 + 100 * 10 + 10),
        # 28 -> 26 -> 13 -> 11 -> 5 -> 3: valid padding.
        (
            "cnn",
            (9 * 32 + 32)
            + (9 * 32 * 64 + 64)
            + (9 * 64 * 128 + 128)
            + (3 * 3 * 128 * 128 + 128)
            + (128 * 10 + 10),
        ),
    ],
)
def test_the_networks_are_the_published_ones(name, num_weights):
    assert classifiers._NETWORKS[name]((28, 28, 1), 10, 0).count_params() == num_weights


def test_cnn_pools_then_activates_then_drops():
    model = classifiers._cnn((28, 28, 1), 10, 0)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("SpatialDropout2D") == 2
    assert kinds.count("Dropout") == 1
    assert kinds.index("MaxPooling2D") < kinds.index("ReLU") < kinds.index("SpatialDropout2D")


def test_the_cnn_without_dropout_is_the_same_but_for_that():
    networks = [
        classifiers._NETWORKS[name]((28, 28, 1), 2, 0) for name in ("cnn", "cnn_without_dropout")
    ]
    for weights in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(*weights)
    rates = [[x.rate for x in network.layers if hasattr(x, "rate")] for network in networks]
    assert rates == [[0.5] * 3, [0.0] * 3]


def test_threshold_sets_pixels_below_zero_to_minus_one():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    as_floats = images / 127.5 - 1
    expected = np.where(as_floats < 0, -1, as_floats)
    np.testing.assert_allclose(classifiers.thresholded(images) / 127.5 - 1, expected, atol=1e-12)


def test_small_images_are_enlarged_for_the_cnn_only_as_far_as_it_needs():
    small = np.random.default_rng(0).integers(256, size=(2, 8, 8, 1), dtype=np.uint8)
    enlarged = classifiers._enlarge(small)
    assert enlarged.shape == (2, 24, 24, 1)
    np.testing.assert_array_equal(enlarged[:, ::3, ::3], small)
    large = np.zeros((2, 28, 28, 1), np.uint8)
    assert classifiers._enlarge(large) is large


@pytest.mark.slow
def test_logreg_learns_what_scikit_learn_does(digits):
    train, test = digits
    found = classifiers.accuracy(
        "logreg", train.images, train.labels, test=test, num_classes=10, seed=0
    )
    flat = train.images.reshape(len(train), -1) / 127.5 - 1
    oracle = sklearn.linear_model.LogisticRegression(C=0.01, max_iter=500).fit(flat, train.labels)
    expected = oracle.score(test[0].reshape(len(test[0]), -1) / 127.5 - 1, test[1])
    # 359 test images: a standard error of 1.2 %; Adam stops a little earlier than the optimum.
    assert found == pytest.approx(expected, abs=0.06)


@pytest.mark.slow
def test_labels_that_say_nothing_leave_chance(digits):
    train, test = digits
    labels = np.random.default_rng(0).integers(10, size=len(train))
    found = classifiers.accuracy("logreg", train.images, labels, test=test, num_classes=10)
    assert found < 0.3  # 0.1, and the luck of correlated images


def test_training_a_classifier_leaves_the_global_randomness_alone(digits):
    train, test = digits
    tf.random.set_seed(3)
    expected = tf.random.uniform([2]).numpy()
    tf.random.set_seed(3)
    np_state = np.random.get_state()[1].copy()
    classifiers._cnn((28, 28, 1), 10, 0)
    resnet._network((28, 28, 1), 10, 0)
    np.testing.assert_array_equal(tf.random.uniform([2]).numpy(), expected)
    np.testing.assert_array_equal(np.random.get_state()[1], np_state)
    tf.random.set_seed(None)


def test_a_tenth_is_kept_for_early_stopping_whatever_the_order_of_the_labels():
    kept = classifiers._validation(5000, 0)
    assert kept.sum() == 500
    labels = np.arange(5000) % 10
    # 50 of each class in the mean, standard deviation 6.7.
    assert np.bincount(labels[kept], minlength=10).min() >= 20
    assert np.bincount(labels[kept], minlength=10).max() <= 80


def test_the_seed_decides_the_initial_weights():
    first, again, other = (
        classifiers._mlp((8, 8, 1), 10, seed).get_weights()[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_the_cnn_s_learning_rate_falls_to_zero_and_the_others_stay():
    rate = classifiers._learning_rate(classifiers._RECIPES["cnn"], 100)
    assert [float(rate(step)) for step in (0, 900, 1800)] == pytest.approx([2e-3, 1e-3, 0])
    assert classifiers._learning_rate(classifiers._RECIPES["logreg"], 100) == 1e-4


def test_resnet_flips_colour_images_only():
    def layers(channels):
        return [type(layer).__name__ for layer in resnet._network((32, 32, channels), 10, 0).layers]

    assert "RandomFlip" in layers(3)
    assert "RandomFlip" not in layers(1)
    assert "RandomTranslation" in layers(1)


def test_resnet_warms_up_and_ends_at_zero():
    rate = resnet._one_cycle(100)
    values = [float(keras.ops.convert_to_numpy(rate(step))) for step in (0, 20, 100)]
    assert values[0] < values[1] == pytest.approx(4e-3)
    assert values[2] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_resnet_learns_the_digits(digits):
    train, test = digits
    repeated = np.tile(train.images, (20, 1, 1, 1)), np.tile(train.labels, 20)  # 450 updates
    assert resnet.accuracy(*repeated, test=test, num_classes=10) > 0.95


@pytest.mark.slow
def test_logreg_on_real_data_is_near_the_published_accuracy(tfds_dir):
    """0.92 of 60,000 images; of a third of them, in a third of the time, a little less."""
    train = loading.load("mnist", data_dir=tfds_dir)
    test = loading.load("mnist", data_dir=tfds_dir, split="test")
    found = classifiers.accuracy(
        "logreg",
        train.images[:20_000],
        train.labels[:20_000],
        test=(test.images, test.labels),
        num_classes=10,
    )
    assert found == pytest.approx(0.907, abs=0.01)
