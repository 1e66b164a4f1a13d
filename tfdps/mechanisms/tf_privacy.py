"""The one place that touches tensorflow-privacy: its DP optimizer on a Keras 3 Adam, and its sums.

tensorflow-privacy 0.9.0 was written for Keras 2. Two of its private names are used here,
`_compute_gradients` and `_name`; a numeric contract test holds what they do.
"""

import os
import sys

import dp_accounting
import keras
import numpy as np
import tensorflow as tf

sys.skip_tf_privacy_import = True  # skips its estimator modules, which Keras 3 cannot load
from tensorflow_privacy.privacy.dp_query import gaussian_query  # noqa: E402
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras  # noqa: E402

_DPAdam = dp_optimizer_keras.make_keras_generic_optimizer_class(keras.optimizers.Adam)


class _FreshGaussianSumQuery(gaussian_query.GaussianSumQuery):
    """tensorflow-privacy's Gaussian sum query with noise that nobody can reproduce.

    Its own noise comes from TensorFlow's global generator, which `tf.random.set_seed` makes
    repeatable, which XLA replaces by one that starts alike in every process, and whose unseeded
    state is 32 bits. Here it comes from a Philox generator of its own, whose whole state, key and
    counter, is 192 bits from the operating system. Made in the scope of a tf.distribute strategy it
    is a stream for each replica: its key there is a hash of the state's and the replica's number.
    tf.distribute then gives the first worker's state to the others: once, over their network.
    """

    def __init__(self, l2_norm_clip, stddev):
        super().__init__(l2_norm_clip, stddev)
        state = np.frombuffer(os.urandom(24), np.int64)
        self._generator = tf.random.Generator.from_state(state, alg="philox")

    def get_noised_result(self, sample_state, global_state):
        def add_noise(total):
            noise = self.standard_normal(tf.shape(total), total.dtype)
            return total + tf.cast(global_state.stddev, total.dtype) * noise

        event = dp_accounting.GaussianDpEvent(global_state.stddev / global_state.l2_norm_clip)
        return tf.nest.map_structure(add_noise, sample_state), global_state, event

    def standard_normal(self, shape, dtype):
        """Returns the stream's next numbers."""
        return self._generator.normal(shape, dtype=dtype)


class GaussianSum:
    """Adds the query's Gaussian noise to a sum whose records are already clipped."""

    def __init__(self):
        self._query = _FreshGaussianSumQuery(1.0, 1.0)

    def add_noise(self, total, *, clip_norm, stddev):
        """Returns `total` plus noise on every element; same shape and dtype.

        Args:
          total: sum over records, float, in a shape that does not depend on private data. It is not
            clipped here: the norm bounds one record's contribution, not the sum.
          clip_norm: L2 norm that bounds a record's contribution, > 0.
          stddev: standard deviation of the noise on every element, >= 0, in the sum's units.
        """
        state = self._query.make_global_state(clip_norm, stddev)
        return self._query.get_noised_result(total, state)[0]

    def sample(self, size):
        """Returns the next numbers of the noise, float64 [size], which `add_noise` then passes over."""
        return self._query.standard_normal([size], tf.float64)


def gaussian_adam(*, clip_norm, noise_stddev, **adam_settings):
    """Returns tensorflow-privacy's DP optimizer on a Keras Adam, with a Gaussian sum query.

    Args:
      clip_norm: L2 norm that the whole gradient is clipped to, > 0.
      noise_stddev: standard deviation of the noise on every element, >= 0, in the gradient's units.
      **adam_settings: learning_rate and so on, for `keras.optimizers.Adam`.
    """
    optimizer = _DPAdam(
        dp_sum_query=_FreshGaussianSumQuery(clip_norm, noise_stddev),
        num_microbatches=1,
        **adam_settings,
    )
    optimizer._name = optimizer.name  # Keras 3 has no `_name`; tensorflow-privacy reads it
    optimizer.gradient_accumulation_steps = None  # Keras 3 reads None as "off" where Keras 2 had 1
    return optimizer


def noise_sample(optimizer, size):
    """Returns the next numbers of an optimizer's noise, as `GaussianSum.sample` does."""
    return optimizer._dp_sum_query.standard_normal([size], tf.float64)


def clip_and_noise(optimizer, gradient):
    """Returns `gradient` clipped to the optimizer's norm, plus its noise; same shape and dtype.

    The optimizer wants a loss and a variable. It gets a point at the origin and the linear function
    whose gradient there is `gradient`, exactly.
    """
    point = tf.zeros_like(gradient)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(point)
        linear = tf.reduce_sum(point * tf.stop_gradient(gradient))
    [(released, _)] = optimizer._compute_gradients(linear, [point], tape=tape)
    return released
