"""Both makers of clipped and noised gradients: what each is, and one against the other, bit for bit.

tensorflow-privacy's computes by a jacobian, a loop over records and its query; ours has none of these.
"""

import importlib.util
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdps import checks
from tfdps.learners.optimizer_state import OptimizerVariables
from tfdps.mechanisms import dp_adam, gradient_grid, keras_privacy
from tfdps.mechanisms.joint import JointMechanism

HAS_TF_PRIVACY = importlib.util.find_spec("tensorflow_privacy") is not None
needs_tf_privacy = pytest.mark.skipif(
    not HAS_TF_PRIVACY, reason="tensorflow-privacy cannot be installed on Python 3.12 or later"
)
if HAS_TF_PRIVACY:
    from tfdps.mechanisms import tf_privacy
else:
    tf_privacy = None
MAKERS = [
    pytest.param(keras_privacy, id="keras"),
    pytest.param(tf_privacy, id="tensorflow-privacy", marks=needs_tf_privacy),
]
CLIP_NORM = 0.7
SHAPE = (5, 4, 3, 1)
STDDEV = 2.5 * gradient_grid.STEPS
EXECUTIONS = {
    "eager": lambda f: f,
    "graph": tf.function,
    "compiled": lambda f: tf.function(f, jit_compile=True),
}


def optimizer_of(maker, clip_norm=CLIP_NORM, learning_rate=1e-3):
    return maker.gaussian_adam(
        clip_norm=clip_norm, noise_stddev=2 * clip_norm, learning_rate=learning_rate
    )


def gradient_of_norm(norm, seed=0):
    direction = np.random.default_rng(seed).normal(size=SHAPE)
    return tf.constant(norm * direction / np.linalg.norm(direction), tf.float32)


def noise_of(seed):
    return tf.constant(np.rint(np.random.default_rng(seed).normal(0, STDDEV, SHAPE)), tf.int64)


def both(execution, clip_norm=CLIP_NORM):
    """Two functions of a gradient and its noise: what each maker releases."""
    for maker in (tf_privacy, keras_privacy):
        optimizer = optimizer_of(maker, clip_norm)
        yield EXECUTIONS[execution](
            lambda gradient, noise, maker=maker, optimizer=optimizer: maker.clip_and_noise(
                optimizer, gradient, noise
            )
        )


def test_tensorflow_privacy_is_used_where_it_can_be_installed_and_ours_elsewhere():
    """setup.cfg's markers are these versions too."""
    maker = tf_privacy if sys.version_info < (3, 12) else keras_privacy
    assert dp_adam.gaussian_adam is maker.gaussian_adam
    assert dp_adam.clip_and_noise is maker.clip_and_noise


@needs_tf_privacy
@pytest.mark.slow
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("clip_norm", [1e-30, 1e-3, CLIP_NORM, 1e30])
def test_both_release_the_same_integers_for_gradients_of_any_norm(execution, clip_norm):
    theirs, ours = both(execution, clip_norm)
    released = set()
    for norm in (0.0, 1e-42, 1e-20, 1e-6, 0.5, 1 - 1e-7, 1.0, 1 + 1e-7, 3.0, 1e6, 1e38 / clip_norm):
        norm = min(norm * clip_norm, 1e38)
        for noise in (tf.zeros(SHAPE, tf.int64), noise_of(0)):
            expected = theirs(gradient_of_norm(norm), noise).numpy()
            found = ours(gradient_of_norm(norm), noise).numpy()
            assert found.dtype == expected.dtype == np.float64
            np.testing.assert_array_equal(found, expected)
            released.add(found.tobytes())
    assert len(released) >= 8  # the norms and the noise matter


@needs_tf_privacy
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e-45])
def test_both_release_the_same_integers_for_what_is_hardly_a_gradient(value):
    """`JointMechanism` lets no such thing through, but the last."""
    gradient = gradient_of_norm(1.0).numpy()
    gradient[3, 2, 1, 0] = value
    for execution in EXECUTIONS:
        theirs, ours = both(execution)
        arguments = tf.constant(gradient), noise_of(1)
        np.testing.assert_array_equal(ours(*arguments), theirs(*arguments))


if HAS_TF_PRIVACY:
    PAIR = list(both("compiled"))


@needs_tf_privacy
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-44, 37.5))
def test_both_release_the_same_integers_for_any_gradient(seed, exponent):
    theirs, ours = PAIR
    arguments = gradient_of_norm(10**exponent, seed), noise_of(seed)
    np.testing.assert_array_equal(ours(*arguments), theirs(*arguments))


@needs_tf_privacy
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(
    "shape", [(3, 8, 8, 3), *(pytest.param(s, marks=pytest.mark.slow) for s in ((1,), (7, 3)))]
)
def test_both_update_weights_alike_step_by_step(execution, shape):
    """A generator of one matrix: the release is pulled back through it, as in a joint step."""
    weights = []
    for maker in (tf_privacy, keras_privacy):
        optimizer = optimizer_of(maker, learning_rate=0.05)
        variable = tf.Variable(np.linspace(-1, 1, 4), dtype=tf.float32)
        optimizer.build([variable])

        def step(gradient, noise, maker=maker, optimizer=optimizer, variable=variable):
            released = maker.clip_and_noise(optimizer, gradient, noise)
            pulled = tf.reduce_sum(released) * tf.constant([1e-6, -1e-7, 0.0, 1e-5], tf.float64)
            optimizer.apply_gradients([(tf.cast(pulled, tf.float32), variable)])

        step, random = EXECUTIONS[execution](step), np.random.default_rng(0)
        for norm in (0.0, 1e-3, CLIP_NORM, 50.0, 1e-3, 0.3):
            gradient = norm * random.normal(size=shape)
            noise = np.rint(random.normal(0, STDDEV, shape))
            step(tf.constant(gradient, tf.float32), tf.constant(noise, tf.int64))
            weights.append(variable.numpy())
    theirs, ours = np.array(weights).reshape(2, 6, 4)
    np.testing.assert_array_equal(ours, theirs)
    assert all((before != after).any() for before, after in zip(ours, ours[1:], strict=False))


@needs_tf_privacy
@pytest.mark.parametrize("execution", ["graph", "compiled"])
def test_a_joint_mechanism_releases_the_same_by_both(execution, monkeypatch):
    def released(maker):
        monkeypatch.setattr(dp_adam, "gaussian_adam", maker.gaussian_adam)
        monkeypatch.setattr(dp_adam, "clip_and_noise", maker.clip_and_noise)
        mechanism = JointMechanism(clip_norm=CLIP_NORM, noise_multiplier=1.3)
        release = EXECUTIONS[execution](mechanism.release)
        gradients = [gradient_of_norm(norm) for norm in (0.0, 1e-6, 0.5, 2.0, 1e30)]
        gradients.append(tf.constant(np.full(SHAPE, np.nan), tf.float32))
        return [release(gradient, noise_of(3)).numpy() for gradient in gradients]

    np.testing.assert_array_equal(released(keras_privacy), released(tf_privacy))


@needs_tf_privacy
@pytest.mark.parametrize("goes_on", ["keras", "tensorflow-privacy"])
def test_a_run_goes_on_under_the_other_from_the_same_checkpoint(goes_on, tmp_path):
    """A model_dir may be resumed under another Python."""

    def begun(maker):
        optimizer = optimizer_of(maker, learning_rate=0.1)
        variable = tf.Variable([1.0, 2.0])
        optimizer.build([variable])
        maker.clip_and_noise(optimizer, tf.zeros(SHAPE), tf.zeros(SHAPE, tf.int64))
        slots = OptimizerVariables(optimizer)
        return optimizer, variable, tf.train.Checkpoint(optimizer=slots, weights=variable)

    first, second = tf_privacy, keras_privacy
    if goes_on == "tensorflow-privacy":
        first, second = second, first
    optimizer, variable, checkpoint = begun(first)
    optimizer.apply_gradients([(tf.constant([0.5, -1.0]), variable)])
    path = checkpoint.save(str(tmp_path / "checkpoint"))
    other, resumed, checkpoint = begun(second)
    checkpoint.restore(path).assert_consumed()
    for each, weights in ((optimizer, variable), (other, resumed)):
        each.apply_gradients([(tf.constant([0.1, 0.3]), weights)])
    np.testing.assert_array_equal(resumed, variable)
    assert int(other.iterations) == 2


@needs_tf_privacy
def test_the_clip_is_that_of_tensorflow_privacys_query_but_for_the_grid():
    """The contract with its noise-free path: GaussianSumQuery, the class that ours is made of."""
    theirs = tf_privacy.gaussian_query.GaussianSumQuery(CLIP_NORM, 0.0)
    assert isinstance(optimizer_of(tf_privacy)._dp_sum_query, type(theirs))
    params = theirs.derive_sample_params(theirs.initial_global_state())
    for norm in (0.0, 1e-3, 0.699, 0.7, 0.701, 3.0, 1e6):
        gradient = gradient_of_norm(norm)
        [clipped] = theirs.preprocess_record(params, [gradient])
        spacing = CLIP_NORM / gradient_grid.STEPS
        ours = spacing * gradient_grid.clip(gradient, tf.constant(CLIP_NORM, tf.float64)).numpy()
        # 1e-6 that ours stays below C, and as much for float32.
        np.testing.assert_allclose(ours, clipped, rtol=2e-6, atol=spacing)


@needs_tf_privacy
def test_the_optimizer_is_tensorflow_privacys():
    assert any(
        base.__module__.startswith("tensorflow_privacy") or "DPOptimizer" in base.__name__
        for base in type(optimizer_of(tf_privacy)).__mro__
    )


@pytest.mark.parametrize("maker", MAKERS)
def test_applying_is_that_of_a_keras_adam(maker):
    optimizer = optimizer_of(maker, learning_rate=0.1)
    assert isinstance(optimizer, keras.optimizers.Adam)
    plain = keras.optimizers.Adam(learning_rate=0.1)
    ours, theirs = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    maker.clip_and_noise(optimizer, tf.zeros([2]), np.zeros(2, np.int64))
    for gradient in ([0.5, -1.0], [0.1, 0.3], [-2.0, 0.0]):
        optimizer.apply_gradients([(tf.constant(gradient), ours)])
        plain.apply_gradients([(tf.constant(gradient), theirs)])
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("maker", MAKERS)
def test_gradients_are_refused_before_one_was_released(maker):
    optimizer, variable = optimizer_of(maker), tf.Variable([1.0])
    with pytest.raises((AssertionError, RuntimeError), match="not .*private"):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    maker.clip_and_noise(optimizer, tf.zeros([1]), tf.zeros([1], tf.int64))
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])


@pytest.mark.parametrize("maker", MAKERS)
def test_noise_is_what_was_given_and_is_added_once(maker):
    optimizer, noise = optimizer_of(maker), noise_of(2).numpy()
    for norm in (0.0, 1e-3, 1e6):
        bare = maker.clip_and_noise(optimizer, gradient_of_norm(norm), 0 * noise).numpy()
        noisy = maker.clip_and_noise(optimizer, gradient_of_norm(norm), noise).numpy()
        np.testing.assert_array_equal(noisy - bare, noise)


@pytest.mark.parametrize("maker", MAKERS)
def test_more_elements_than_int64_adds_up_are_refused(maker):
    gradient = tf.zeros([2, 2**21 + 1])
    with pytest.raises(checks.UsageError, match="at most 4194304 numbers, received 4194306"):
        maker.clip_and_noise(optimizer_of(maker), gradient, tf.zeros(gradient.shape, tf.int64))
