"""DPImageBench's classifiers: sizes of the papers, the epoch, the short form, the file and the page."""

import types

import keras
import numpy as np
import pytest

from conftest import small_config
from tfdps import checks
from tfdps.config import evaluation_options
from tfdps.data import loading
from tfdps.evaluation import dpimagebench, protocols, residual_networks
from tfdps.report import utility_section


# Weights of the networks for 32 x 32 in colour and 10 classes, in millions, as the papers give them.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "millions"), [("resnet110", 1.7), ("wrn40_4", 8.9), ("resnext29", 34.4)]
)
def test_a_network_has_as_many_weights_as_its_paper_says(name, millions):
    model = residual_networks.build(name, (32, 32, 3), 10)
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trained / 1e6 == pytest.approx(millions, abs=0.06)
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("name", residual_networks.NAMES)
def test_images_of_any_shape_give_logits_and_a_seed_the_same_weights(name, monkeypatch):
    shallow(monkeypatch)
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 1), np.uint8)
    one, same, other = (residual_networks.build(name, (9, 12, 1), 4, seed=s) for s in (0, 0, 1))
    found = one.predict(images, verbose=0)
    assert found.shape == (3, 4)
    np.testing.assert_array_equal(same.predict(images, verbose=0), found)
    assert np.abs(other.predict(images, verbose=0) - found).max() > 1e-3


def shallow(monkeypatch):
    """One block a stage."""
    networks = {
        name: lambda *args, network=network: network(*args, blocks=1)
        for name, network in residual_networks._NETWORKS.items()
    }
    monkeypatch.setattr(residual_networks, "_NETWORKS", networks)


def tiny(monkeypatch):
    """A small network, which learns faster, for each of the three."""

    def build(name, image_shape, num_classes, *, seed=0):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Rescaling(1 / 127.5, offset=-1), keras.layers.Flatten()]
        layers += [keras.layers.Dense(64, "relu"), keras.layers.Dense(num_classes)]
        return keras.Sequential([keras.Input(image_shape), *layers])

    monkeypatch.setattr(residual_networks, "build", build)
    monkeypatch.setattr(dpimagebench, "_LEARNING_RATE", 1e-2)


def test_a_classifier_learns_the_digits(monkeypatch):
    tiny(monkeypatch)
    train, test = loading.load("digits"), loading.load("digits", split="test")
    found = dpimagebench.accuracy(
        "resnet110",
        np.tile(train.images, (4, 1, 1, 1)),
        np.tile(train.labels, 4),
        validation=dpimagebench.validation_of(train),
        test=(test.images, test.labels),
        num_classes=10,
        epochs=8,
    )
    assert found > 0.85


def test_the_best_epoch_of_the_validation_records_is_kept_of_equals_the_last():
    accuracies, weights = iter([0.2, 0.7, 0.7, 0.5]), iter("abcd")
    model = types.SimpleNamespace(
        evaluate=lambda *args, **options: {"accuracy": next(accuracies)},
        get_weights=lambda: now[0],
    )
    kept, now, logs = dpimagebench._BestEpoch(None), [None], {}
    kept.set_model(model)
    for epoch in range(4):
        now[0] = next(weights)
        kept.on_epoch_end(epoch, logs)
    assert kept.weights == "c"
    assert logs["val_accuracy"] == 0.5


def test_the_average_of_the_weights_is_as_long_as_the_training_allows():
    assert dpimagebench._momentum(10) == 0.55
    assert dpimagebench._momentum(6000) == pytest.approx(1 - 9 / 6010)
    assert dpimagebench._momentum(10**7) == 0.9999


def test_validation_records_are_some_of_the_real_ones_and_the_same_each_time(monkeypatch):
    monkeypatch.setattr(dpimagebench, "_VALIDATION", 100)
    digits = loading.load("digits")
    (images, labels), (again, _) = (dpimagebench.validation_of(digits) for _ in range(2))
    np.testing.assert_array_equal(images, again)
    assert len(images) == len(labels) == 100
    known = {
        image.tobytes(): label for image, label in zip(digits.images, digits.labels, strict=True)
    }
    assert [known[image.tobytes()] for image in images] == list(labels)


def test_a_short_form_says_so():
    assert "SHORT FORM: 3 epochs of 50" in dpimagebench.protocol(3)
    assert "SHORT" not in dpimagebench.protocol(50)
    with pytest.raises(
        checks.UsageError, match="eval_protocol must be one of classic, dpimagebench"
    ):
        evaluation_options.EvaluationOptions(eval_protocol="dpib")
    with pytest.raises(checks.UsageError, match="eval_epochs must be >= 1, received 0"):
        evaluation_options.EvaluationOptions(eval_epochs=0)
    with pytest.raises(
        checks.UsageError, match="--eval_epochs=3 needs --eval_protocol=dpimagebench"
    ):
        evaluation_options.EvaluationOptions(eval_epochs=3)


@pytest.mark.slow
def test_an_evaluation_by_it_has_the_three_their_mean_and_their_best(
    digits_run, tmp_path, monkeypatch, short_networks
):
    tiny(monkeypatch)
    settings = evaluation_options.EvaluationOptions(
        eval_protocol="dpimagebench",
        eval_epochs=2,
        eval_samples=300,
        eval_repeats=2,
        eval_real=True,
        feature_cache=str(tmp_path),
        report_dir=str(tmp_path / "report"),
    )
    with short_networks():
        result = protocols.evaluate(small_config(digits_run[0]), settings)
    assert "SHORT FORM" in result["protocol"]
    assert "accuracy" not in result
    found = result["dpimagebench"]
    of_three = [found["accuracy"][name]["runs"] for name in dpimagebench.NAMES]
    sets = np.array(of_three).T
    np.testing.assert_allclose(found["accuracy"]["mean"]["runs"], sets.mean(axis=1))
    np.testing.assert_allclose(found["accuracy"]["best"]["runs"], sets.max(axis=1))
    assert len(found["accuracy_real"]["best"]["runs"]) == 1
    rows = utility_section.measured(result)["single"]
    assert len(rows) == 10
    assert rows[0].protocol == "DPImageBench's, 2 epochs, SHORT FORM: resnet110"
    assert [row.source for row in rows[::5]] == ["This run", "Real training records"]
