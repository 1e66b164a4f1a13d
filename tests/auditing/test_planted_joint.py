"""Faults that a programmer could make, planted in joint runs: the audit names each.

That the same run as it is is not accused, by the same audit, is in test_attacks.py.
"""

import numpy as np
import pytest
from planted import (
    check_doubling_is_found,
    double_sampling_probability,
    found_by,
    one_pair_attacked,
)

from tfdps.learners.joint import ImageGradientLearner
from tfdps.mechanisms import batches, exact_gaussian

pytestmark = pytest.mark.slow
LAW = "noise has the law that is accounted"


@pytest.fixture(scope="module")
def run(digits_run):
    """The model_dir of a finished run on the digits."""
    return digits_run[0]


def test_noise_that_ends_a_leak_beside_it_and_a_doubled_probability_are_each_found(
    run, tmp_path, monkeypatch
):
    """Of one audit, since each is seen by checks of its own.

    Noise ends at three standard deviations; the gradient of a step's fresh images, which is released
    beside the noisy one, gets a thousandth of the private one.
    """
    draw, releases = exact_gaussian.draw, ImageGradientLearner._releases

    def clipped(size, stddev):
        return np.clip(draw(size, stddev), -int(3 * stddev), int(3 * stddev))

    def leaking(self, images, labels, batch):
        loss, released, fresh = releases(self, images, labels, batch)
        _, gradient = self.image_gradients(images, labels, *batch[:3])
        return loss, released, fresh + 1e-3 * gradient[: fresh.shape[0]]

    monkeypatch.setattr(exact_gaussian, "draw", clipped)
    monkeypatch.setattr(ImageGradientLearner, "_releases", leaking)
    double_sampling_probability(monkeypatch)
    found = found_by(run, tmp_path, by=one_pair_attacked)
    of_noise = [name for name in found if name.startswith(LAW)]
    assert len(of_noise) == 1
    found.remove(*of_noise)
    found.remove("nothing but releases depends on the records")
    check_doubling_is_found(found)


def test_a_tenth_of_the_noise_in_training_alone_and_one_noise_for_all_batches_are_found(
    run, tmp_path, monkeypatch
):
    step, init = ImageGradientLearner.noisy_step, batches.PoissonBatches.__init__

    def quieter(self, batch, z, labels):
        *records, noise = batch
        return step(self, (*records, noise // 10), z, labels)

    def once(self, *arguments, **options):
        init(self, *arguments, **options)
        self._noise = _Once(self._noise)

    monkeypatch.setattr(ImageGradientLearner, "noisy_step", quieter)
    monkeypatch.setattr(batches.PoissonBatches, "__init__", once)
    law, twice = sorted(found_by(run, tmp_path, by=one_pair_attacked))
    assert law.startswith(LAW)
    assert twice.startswith("noise is not used twice, ")
    assert twice.endswith(" of a run")


class _Once:
    """Draws a run's noise ahead, for one step."""

    def __init__(self, noise):
        self.shape, self._drawn = noise.shape, noise.draw()

    def draw(self):
        return self._drawn
