"""Faults that a programmer could make, planted in joint runs: the audit names each."""

import numpy as np
import pytest
from planted import check_doubling_is_found, double_sampling_probability, found_by

from tfdps.learners.joint import ImageGradientLearner
from tfdps.mechanisms import batches, exact_gaussian

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(digits_run):
    """The model_dir of a finished run on the digits."""
    return digits_run[0]


def test_an_honest_run_is_not_accused(run, tmp_path):
    assert found_by(run, tmp_path) == []


def test_noise_that_ends_at_three_standard_deviations_is_found(run, tmp_path, monkeypatch):
    honest = exact_gaussian.draw
    monkeypatch.setattr(
        exact_gaussian,
        "draw",
        lambda size, stddev: np.clip(honest(size, stddev), -int(3 * stddev), int(3 * stddev)),
    )
    [name] = found_by(run, tmp_path)
    assert name.startswith("noise has the law that is accounted")


def test_a_tenth_of_the_noise_in_training_alone_is_found(run, tmp_path, monkeypatch):
    honest = ImageGradientLearner.noisy_step

    def quieter(self, batch, z, labels):
        *records, noise = batch
        return honest(self, (*records, noise // 10), z, labels)

    monkeypatch.setattr(ImageGradientLearner, "noisy_step", quieter)
    [name] = found_by(run, tmp_path)
    assert name.startswith("noise has the law that is accounted")


def test_a_gradient_that_is_released_in_a_step_beside_the_noisy_one_is_found(
    run, tmp_path, monkeypatch
):
    """The fresh images' gradient gets a thousandth of the private one."""
    honest = ImageGradientLearner._image_gradients

    def leaking(self, *arguments):
        loss, gradient, fresh = honest(self, *arguments)
        return loss, gradient, fresh + 1e-3 * gradient[: len(fresh)]

    monkeypatch.setattr(ImageGradientLearner, "_image_gradients", leaking)
    assert found_by(run, tmp_path) == ["nothing but releases depends on the records"]


def test_a_doubled_sampling_probability_is_found(run, tmp_path, monkeypatch):
    double_sampling_probability(monkeypatch)
    check_doubling_is_found(found_by(run, tmp_path))


def test_noise_drawn_once_for_all_batches_is_found(run, tmp_path, monkeypatch):
    honest = batches.PoissonBatches.__init__

    def once(self, *arguments, **options):
        honest(self, *arguments, **options)
        self._noise = _Once(self._noise)

    monkeypatch.setattr(batches.PoissonBatches, "__init__", once)
    assert any(
        name.startswith("noise is not used twice, ") and name.endswith(" of a run")
        for name in found_by(run, tmp_path)
    )


class _Once:
    """Draws a run's noise ahead, for one step."""

    def __init__(self, noise):
        self.shape, self._drawn = noise.shape, noise.draw()

    def draw(self):
        return self._drawn
