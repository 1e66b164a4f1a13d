"""The shipped sampler of noise before a judge that knows its law, and samplers that must not pass.

Noise that is clamped, coarse or has a memory passes tests of its variance.
"""

import numpy as np
import pytest
from noise_judge import judge

from tfdps.mechanisms import exact_gaussian

STDDEV = 2.0**25
LEAST_UNIFORM = 1e-7  # of TensorFlow's normal numbers, so that they end at 5.678


def box_muller(random):
    """TensorFlow's way to normal numbers, in float64: pairs never leave a disc."""

    def draw(size, stddev):
        uniform, angle = random.random((2, size // 2))
        radius = np.sqrt(-2 * np.log(np.maximum(uniform, LEAST_UNIFORM)))
        angle *= 2 * np.pi
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return np.rint(stddev * pairs.ravel()).astype(np.int64)

    return draw


def clamped(random):
    def draw(size, stddev):
        normal = random.standard_normal(size).clip(-3, 3)
        return np.rint(stddev * normal).astype(np.int64)

    return draw


def single_precision(random):
    def draw(size, stddev):
        return np.rint(np.float32(stddev) * random.standard_normal(size, np.float32)).astype(
            np.int64
        )

    return draw


def on_a_grid_of(sums):
    """Exact noise, in multiples of a spacing that follows what it is added to."""
    spacing = 2 ** int(np.log2(np.abs(sums).max()) / 4)

    def make(random):
        def draw(size, stddev):
            return exact_gaussian.draw(size, stddev) // spacing * spacing

        return draw

    return make


def one_stream(random):
    """Every call starts anew under the same key."""

    def draw(size, stddev):
        again = np.random.default_rng(0)
        return np.rint(stddev * again.standard_normal(size)).astype(np.int64)

    return draw


@pytest.mark.slow
def test_a_hundred_million_numbers_of_the_shipped_sampler_are_as_its_law_says():
    assert judge(exact_gaussian.draw, STDDEV, 10**8) == []


def test_a_million_numbers_of_the_shipped_sampler_are_as_its_law_says():
    assert judge(exact_gaussian.draw, STDDEV, 10**6) == []
    assert judge(exact_gaussian.draw, 2.0**40 / 3, 10**6) == []


@pytest.mark.slow
def test_noise_that_never_leaves_a_disc_is_caught_by_the_ring_around_it():
    """Ten pairs of a hundred million lie on it, and none beyond, where ten should."""
    found = judge(box_muller(np.random.default_rng(0)), STDDEV, 2 * 10**8)
    assert "ring" in found
    assert set(found) <= {"ring", "pair"}


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        (clamped, "tail"),
        (single_precision, "grid"),
        (on_a_grid_of(np.array([3, -(2**30)])), "grid"),
        (one_stream, "ring"),
    ],
)
def test_a_wrong_sampler_is_caught_by_name(sampler, name):
    found = judge(sampler(np.random.default_rng(0)), STDDEV, 2 * 10**6)
    assert name in found


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_wrong_scale_is_caught(factor):
    found = judge(lambda n, s: exact_gaussian.draw(n, factor * s), STDDEV, 10**6)
    assert "scale" in found


def test_noise_that_is_like_its_neighbour_is_caught():
    def draw(size, stddev):
        noise = exact_gaussian.draw(size + 1, stddev)
        return np.rint(0.999 * noise[1:] + np.sqrt(1 - 0.999**2) * noise[:-1]).astype(np.int64)

    assert "correlation" in judge(draw, STDDEV, 10**6)
