"""What leaves a private batch: clip, noise, sensitivity, and the adapter's contract."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT
from tfdps import accounting, checks
from tfdps.mechanisms import tf_privacy
from tfdps.mechanisms.joint import JointMechanism
from tfdps.mechanisms.none import NoMechanism

CLIP_NORM, SIGMA = 0.5, 1.3
SHAPE = (50, 8, 8, 1)
SIGMAS = 5.0  # a false alarm of a noise test: below 1e-6


def mechanism(**changes):
    return JointMechanism(**{"clip_norm": CLIP_NORM, "noise_multiplier": SIGMA, **changes})


def noiseless(mechanism):
    """The mechanism's own path with the noise, and nothing else, taken out."""
    mechanism.optimizer = tf_privacy.gaussian_adam(clip_norm=mechanism.clip_norm, noise_stddev=0.0)
    return mechanism


def gradient_of_norm(norm, seed=0):
    direction = np.random.default_rng(seed).normal(size=SHAPE)
    return tf.constant(norm * direction / np.linalg.norm(direction), tf.float32)


def noise_of(release, draws, gradient=None):
    gradient = tf.zeros(SHAPE) if gradient is None else gradient
    return np.stack([release(gradient).numpy() for _ in range(draws)])


def standard_deviation_is(noise, expected):
    """Within 5 sigma / sqrt(2 n)."""
    return abs(noise.std() / expected - 1) < SIGMAS / np.sqrt(2 * noise.size)


@pytest.fixture(params=[pytest.param("eager", marks=pytest.mark.slow), "graph", "compiled"])
def execution(request):
    """How the release is run."""
    return {
        "eager": lambda f: f,
        "graph": tf.function,
        "compiled": lambda f: tf.function(f, jit_compile=True),
    }[request.param]


def test_noise_has_mean_zero_and_the_stated_deviation(execution):
    noise = noise_of(execution(mechanism().release), draws=60)
    stated = mechanism().noise_stddev
    assert abs(noise.mean()) < SIGMAS * stated / np.sqrt(noise.size)
    assert standard_deviation_is(noise, stated)
    assert not standard_deviation_is(noise, 0.95 * stated)
    assert not standard_deviation_is(noise, 1.05 * stated)


def test_noise_over_sensitivity_is_the_multiplier_that_is_accounted(execution):
    """Sensitivity is measured here, on the two batches that are furthest apart, not read off."""
    bare = noiseless(mechanism())
    one, other = gradient_of_norm(100.0), gradient_of_norm(-100.0)
    moved = np.linalg.norm(bare.release(one) - bare.release(other))
    noise = noise_of(execution(mechanism().release), draws=60)
    assert standard_deviation_is(noise, accounting.Charge(SIGMA, 0.1, 1).noise_multiplier * moved)
    assert mechanism().sensitivity == pytest.approx(moved, rel=1e-6)


def test_every_element_gets_its_own_noise_every_time():
    noise = noise_of(tf.function(mechanism().release), draws=200).reshape(200, -1)
    spread = noise.std(axis=0)
    assert np.abs(spread / spread.mean() - 1).max() < 6 / np.sqrt(2 * 200)
    correlation = noise[1:].ravel() @ noise[:-1].ravel() / noise[1:].size / noise.var()
    assert abs(correlation) < SIGMAS / np.sqrt(noise[1:].size)
    neighbours = noise[:, 1:].ravel() @ noise[:, :-1].ravel() / noise[:, 1:].size / noise.var()
    assert abs(neighbours) < SIGMAS / np.sqrt(noise[:, 1:].size)


def test_noise_does_not_depend_on_the_gradient():
    for norm in (0.0, 0.1, 1e6):
        gradient = gradient_of_norm(norm)
        clipped = noiseless(mechanism()).release(gradient)
        noise = noise_of(tf.function(mechanism().release), 40, gradient) - clipped.numpy()
        assert standard_deviation_is(noise, mechanism().noise_stddev)


@pytest.mark.parametrize("norm", [0.0, 1e-20, 1e-3, 0.499, 0.5, 0.501, 3.0, 1e6, 1e18])
def test_the_clip_bounds_every_norm_and_leaves_small_gradients_alone(norm, execution):
    gradient = gradient_of_norm(norm)
    released = execution(noiseless(mechanism()).release)(gradient).numpy()
    expected = gradient.numpy() * min(1.0, CLIP_NORM / norm) if norm else gradient.numpy()
    np.testing.assert_allclose(released, expected, rtol=1e-5, atol=1e-30)
    assert np.linalg.norm(released) <= CLIP_NORM * (1 + 1e-6)  # float32 rounding of one division


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_gradient_that_is_not_finite_leaves_as_zero(value, execution):
    gradient = gradient_of_norm(1.0).numpy()
    gradient[3, 2, 1, 0] = value
    released = execution(noiseless(mechanism()).release)(tf.constant(gradient)).numpy()
    assert not released.any()
    assert np.isfinite(mechanism().release(tf.constant(gradient)).numpy()).all()


def test_any_two_gradients_move_the_bare_release_by_at_most_the_sensitivity():
    bare, random = tf.function(noiseless(mechanism()).release), np.random.default_rng(0)
    furthest = 0.0
    for _ in range(200):
        one, other = (
            bare(gradient_of_norm(10 ** random.uniform(-4, 6), seed=random.integers(2**31)))
            for _ in range(2)
        )
        furthest = max(furthest, float(tf.norm(one - other)))
    assert furthest <= mechanism().sensitivity * (1 + 1e-6)


def test_no_seed_makes_the_noise_repeat(execution):
    def draw():
        keras.utils.set_random_seed(7)
        return execution(mechanism().release)(tf.zeros(SHAPE)).numpy()

    # A handful of float32 values may coincide by chance; a repeated stream would share them all.
    assert len(np.unique([draw(), draw(), draw()])) > 2.99 * np.prod(SHAPE)


@pytest.mark.slow
def test_two_processes_draw_different_noise():
    code = (
        "import tensorflow as tf\n"
        "from tfdps.mechanisms.joint import JointMechanism\n"
        "m = JointMechanism(clip_norm=1.0, noise_multiplier=1.0)\n"
        "f, g = tf.function(m.release), tf.function(m.release, jit_compile=True)\n"
        "print(*[x for r in (m.release, f, g) for x in r(tf.zeros([4])).numpy()])"
    )
    prints = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert len(set(prints[0] + prints[1])) == 24


def test_the_public_gradient_is_clipped_and_has_no_noise():
    gradient = gradient_of_norm(9.0)
    limited = mechanism().limit_public(gradient)
    np.testing.assert_allclose(limited, gradient * CLIP_NORM / 9.0, rtol=1e-5)


def test_the_optimizer_is_tensorflow_privacys_on_a_keras_adam():
    """The adapter's contract: its class, and that applying equals Adam on the released gradient."""
    optimizer = mechanism(learning_rate=0.1).optimizer
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert any(
        base.__module__.startswith("tensorflow_privacy") or "DPOptimizer" in base.__name__
        for base in type(optimizer).__mro__
    )
    plain = keras.optimizers.Adam(learning_rate=0.1)
    ours, theirs = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    tf_privacy.clip_and_noise(optimizer, tf.zeros([2]))
    for gradient in ([0.5, -1.0], [0.1, 0.3], [-2.0, 0.0]):
        optimizer.apply_gradients([(tf.constant(gradient), ours)])
        plain.apply_gradients([(tf.constant(gradient), theirs)])
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_no_mechanism_passes_the_gradient_and_says_it_is_not_private():
    none = NoMechanism(learning_rate=0.1)
    gradient = gradient_of_norm(9.0)
    assert none.release(gradient) is gradient
    assert not none.private
    assert none.sensitivity == np.inf


@pytest.mark.parametrize("name", ["clip_norm", "noise_multiplier"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_settings_without_a_guarantee_are_refused(name, value):
    with pytest.raises(checks.UsageError, match=f"{name} must be > 0"):
        mechanism(**{name: value})
