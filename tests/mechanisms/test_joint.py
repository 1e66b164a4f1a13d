"""What leaves a private batch: clip, noise, sensitivity."""

import keras
import noise_judge
import numpy as np
import pytest
import tensorflow as tf

from tfdps import checks
from tfdps.accounting import accountants
from tfdps.mechanisms import dp_adam
from tfdps.mechanisms.joint import JointMechanism
from tfdps.mechanisms.none import NoMechanism

CLIP_NORM, SIGMA = 0.5, 1.3
SHAPE = (50, 8, 8, 1)
SIGMAS = 5.0  # a false alarm of a noise test: below 1e-6


def mechanism(**changes):
    return JointMechanism(**{"clip_norm": CLIP_NORM, "noise_multiplier": SIGMA, **changes})


def noiseless(release):
    """A release whose noise, and nothing else, is taken out."""
    return lambda gradient: release(gradient, tf.zeros(gradient.shape, tf.int64))


def steps_of(mechanism, gradient, noise):
    """The release in steps of its grid, int64."""
    steps = dp_adam.clip_and_noise(mechanism.optimizer, gradient, noise).numpy()
    assert (steps == np.rint(steps)).all()
    return steps.astype(np.int64)


def gradient_of_norm(norm, seed=0):
    direction = np.random.default_rng(seed).normal(size=SHAPE)
    return tf.constant(norm * direction / np.linalg.norm(direction), tf.float32)


def noise_of(release, draws, gradient=None):
    gradient, noise = (
        tf.zeros(SHAPE) if gradient is None else gradient,
        mechanism().step_noise(SHAPE),
    )
    drawn = (tf.constant(noise.draw()) for _ in range(draws))
    return np.stack([release(gradient, noise).numpy() for noise in drawn])


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
    bare = noiseless(mechanism().release)
    one, other = gradient_of_norm(100.0), gradient_of_norm(-100.0)
    moved = np.linalg.norm(bare(one) - bare(other))
    noise = noise_of(execution(mechanism().release), draws=60)
    assert standard_deviation_is(
        noise, accountants.NoiseEvent(SIGMA, 0.1, 1).noise_multiplier * moved
    )
    # A millionth below C, and towards 0 by less than a step of 3,200 elements.
    assert moved <= mechanism().sensitivity
    assert moved == pytest.approx(mechanism().sensitivity, rel=1e-4)


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
        clipped = noiseless(mechanism().release)(gradient)
        noise = noise_of(tf.function(mechanism().release), 40, gradient) - clipped.numpy()
        assert standard_deviation_is(noise, mechanism().noise_stddev)


@pytest.mark.parametrize("norm", [0.0, 1e3, 1e38])
def test_noise_is_added_once_to_integers_and_leaves_no_trace_of_them(norm):
    """To the last bit, on the same public grid whatever the gradient is: low bits are uniform."""
    gradient, low = gradient_of_norm(norm), 0
    bare = steps_of(mechanism(), gradient, np.zeros(SHAPE, np.int64))
    for _ in range(8):
        noise = mechanism().step_noise(SHAPE).draw()
        noisy = steps_of(mechanism(), gradient, noise)
        np.testing.assert_array_equal(noisy - bare, noise)
        low = low + noise_judge.low_bits(noisy.ravel())
    assert noise_judge.are_uniform(low)


def test_the_grid_of_the_release_follows_the_clip_norm_alone():
    assert mechanism().spacing == CLIP_NORM / 2**20
    noise = mechanism().step_noise(SHAPE)
    assert (noise.shape, noise.stddev) == (SHAPE, 2 * SIGMA * 2**20)
    for norm in (0.0, 1e6):
        released = mechanism().release(gradient_of_norm(norm), noise.draw()).numpy()
        steps = released / mechanism().spacing
        np.testing.assert_array_equal(steps, np.rint(steps))


@pytest.mark.parametrize("norm", [0.0, 1e-20, 1e-3, 0.499, 0.5, 0.501, 3.0, 1e6, 1e18])
def test_the_clip_bounds_every_norm_and_leaves_small_gradients_alone(norm, execution):
    gradient = gradient_of_norm(norm)
    released = execution(noiseless(mechanism().release))(gradient).numpy()
    expected = gradient.numpy() * min(1.0, CLIP_NORM / norm) if norm else gradient.numpy()
    np.testing.assert_allclose(released, expected, rtol=1e-5, atol=mechanism().spacing)
    assert np.linalg.norm(released.astype(np.float64)) <= CLIP_NORM


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_gradient_that_is_not_finite_leaves_as_zero(value, execution):
    gradient = gradient_of_norm(1.0).numpy()
    gradient[3, 2, 1, 0] = value
    released = execution(noiseless(mechanism().release))(tf.constant(gradient)).numpy()
    assert not released.any()
    noise = mechanism().step_noise(SHAPE).draw()
    assert np.isfinite(mechanism().release(tf.constant(gradient), noise).numpy()).all()


def test_any_two_gradients_move_the_bare_release_by_at_most_the_sensitivity():
    bare, random = tf.function(noiseless(mechanism().release)), np.random.default_rng(0)
    furthest = 0.0
    for _ in range(200):
        one, other = (
            bare(gradient_of_norm(10 ** random.uniform(-4, 6), seed=random.integers(2**31)))
            for _ in range(2)
        )
        furthest = max(furthest, float(tf.norm(one - other)))
    assert furthest <= mechanism().sensitivity


def test_no_seed_makes_the_noise_repeat():
    def draw():
        keras.utils.set_random_seed(7)
        return mechanism().step_noise(SHAPE).draw()

    # Of 2^23 integers some coincide by chance; a repeated stream would share them all.
    assert len(np.unique([draw(), draw(), draw()])) > 2.95 * np.prod(SHAPE)


def test_a_batch_whose_squares_would_overflow_is_refused():
    with pytest.raises(checks.UsageError, match="at most 4194304 numbers, received 4194305"):
        mechanism().step_noise((2**22 + 1,))
    with pytest.raises(checks.UsageError, match="Take a smaller batch_size"):
        noiseless(mechanism().release)(tf.zeros([2, 2**21 + 1]))
    mechanism().step_noise((2**22,))


def test_the_public_gradient_is_clipped_and_has_no_noise():
    gradient = gradient_of_norm(9.0)
    limited = mechanism().limit_public(gradient)
    np.testing.assert_allclose(limited, gradient * CLIP_NORM / 9.0, rtol=1e-5)


def test_no_mechanism_passes_the_gradient_and_says_it_is_not_private():
    none = NoMechanism(learning_rate=0.1)
    gradient = gradient_of_norm(9.0)
    assert none.release(gradient) is gradient
    assert not none.private
    assert none.sensitivity == np.inf


def test_the_public_gradient_is_clipped_to_its_share_and_the_private_one_is_not():
    own, gradient = mechanism(fresh_clip=0.3), gradient_of_norm(9.0)
    np.testing.assert_allclose(
        own.limit_public(gradient), gradient * 0.3 * CLIP_NORM / 9.0, rtol=1e-5
    )
    released = noiseless(own.release)(gradient)
    np.testing.assert_allclose(released, gradient * CLIP_NORM / 9.0, atol=2 * own.spacing)
    with pytest.raises(checks.UsageError, match=r"fresh_clip must be in \(0, 1\], received 0"):
        mechanism(fresh_clip=0)


@pytest.mark.parametrize("name", ["clip_norm", "noise_multiplier"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_settings_without_a_guarantee_are_refused(name, value):
    with pytest.raises(checks.UsageError, match=f"{name} must be > 0"):
        mechanism(**{name: value})
