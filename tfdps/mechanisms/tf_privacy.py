"""The one place that touches tensorflow-privacy: its DP optimizer on a Keras 3 Adam, and its query.

tensorflow-privacy 0.9.0 was written for Keras 2. Three of its private names are used here,
`_compute_gradients`, `_global_state` and `_name`; a numeric contract test holds what they do. Where
it cannot be installed, `keras_privacy` has the same two functions: `dp_adam` picks.
"""

import collections
import sys

import dp_accounting
import keras
import tensorflow as tf

from tfdps.mechanisms import gradient_grid

sys.skip_tf_privacy_import = True  # type: ignore[attr-defined]  # skips its estimator modules, which Keras 3 cannot load
from tensorflow_privacy.privacy.dp_query import gaussian_query  # noqa: E402
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras  # noqa: E402

_DPAdam = dp_optimizer_keras.make_keras_generic_optimizer_class(keras.optimizers.Adam)


class _GridSumQuery(gaussian_query.GaussianSumQuery):
    """tensorflow-privacy's Gaussian sum query on a grid: it sums integers, and is given its noise.

    Guarantee: a record leaves `preprocess_record` as the integers of `gradient_grid.clip`. Noise is
    what the global state of a release holds, integers of `exact_gaussian`. tensorflow-privacy's own
    noise comes from a float32 generator, which is neither Gaussian in its tails nor fresh under a
    seed.
    """

    _GlobalState = collections.namedtuple("_GlobalState", ["l2_norm_clip", "stddev", "noise"])

    def make_global_state(self, l2_norm_clip, stddev, noise=None):
        clip_norm, stddev = (tf.constant(value, tf.float64) for value in (l2_norm_clip, stddev))
        return self._GlobalState(clip_norm, stddev, noise)

    def initial_sample_state(self, template):
        return tf.nest.map_structure(lambda array: tf.zeros(array.shape, tf.int64), template)

    def preprocess_record(self, params, record):
        [gradient] = tf.nest.flatten(record)
        return tf.nest.pack_sequence_as(record, [gradient_grid.clip(gradient, params)])

    def get_noised_result(self, sample_state, global_state):
        [total] = tf.nest.flatten(sample_state)
        noisy = tf.nest.pack_sequence_as(sample_state, [total + global_state.noise])
        event = dp_accounting.GaussianDpEvent(global_state.stddev / global_state.l2_norm_clip)
        return noisy, global_state._replace(noise=None), event


def gaussian_adam(*, clip_norm, noise_stddev, learning_rate):
    """Returns tensorflow-privacy's DP optimizer on a Keras Adam, with a Gaussian sum query on a grid.

    Args:
      clip_norm: L2 norm that the whole gradient is clipped to, > 0.
      noise_stddev: standard deviation of the noise on every element, >= 0, in the gradient's units;
        for the query's event: the noise itself is an argument of `clip_and_noise`.
      learning_rate: Adam's, > 0, or a Keras learning-rate schedule.
    """
    optimizer = _DPAdam(
        dp_sum_query=_GridSumQuery(clip_norm, noise_stddev),
        num_microbatches=1,
        learning_rate=learning_rate,
    )
    optimizer._name = optimizer.name  # Keras 3 has no `_name`; tensorflow-privacy reads it
    optimizer.gradient_accumulation_steps = None  # Keras 3 reads None as "off" where Keras 2 had 1
    return optimizer


def clip_and_noise(optimizer, gradient, noise):
    """Returns `gradient` clipped, on the grid, plus noise: integers in float64, of the same shape.

    The optimizer wants a loss and a variable. It gets a point at the origin and the linear function
    whose gradient there is `gradient`, exactly.

    Args:
      optimizer: of `gaussian_adam`.
      gradient: float32, finite; one step of the result is its clip norm / STEPS.
      noise: int64 of the same shape, in those steps.

    Raises:
      UsageError: as `gradient_grid.check_size`.
    """
    gradient_grid.check_size(gradient.shape)
    point = tf.zeros_like(gradient)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(point)
        linear = tf.reduce_sum(point * tf.stop_gradient(gradient))
    optimizer._global_state = optimizer._global_state._replace(noise=noise)
    [(released, _)] = optimizer._compute_gradients(linear, [point], tape=tape)
    return released
