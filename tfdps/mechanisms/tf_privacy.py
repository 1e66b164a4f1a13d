"""The one place that touches tensorflow-privacy: its DP optimizer class on a Keras 3 Adam.

tensorflow-privacy 0.9.0 was written for Keras 2. Two of its private names are used here,
`_compute_gradients` and `_name`; a numeric contract test holds what they do.
"""

import sys

import keras
import tensorflow as tf

sys.skip_tf_privacy_import = True  # skips its estimator modules, which Keras 3 cannot load
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras  # noqa: E402

_DPAdam = dp_optimizer_keras.make_gaussian_query_optimizer_class(
    dp_optimizer_keras.make_keras_generic_optimizer_class(keras.optimizers.Adam)
)


def gaussian_adam(*, clip_norm, noise_stddev, **adam_settings):
    """Returns a Keras Adam whose `clip_and_noise` is tensorflow-privacy's Gaussian sum query.

    Args:
      clip_norm: L2 norm that the whole gradient is clipped to, > 0.
      noise_stddev: standard deviation of the noise on every element, >= 0, in the gradient's units.
      **adam_settings: learning_rate and so on, for `keras.optimizers.Adam`.
    """
    optimizer = _DPAdam(
        l2_norm_clip=clip_norm,
        noise_multiplier=noise_stddev / clip_norm,
        num_microbatches=1,
        **adam_settings,
    )
    optimizer._name = optimizer.name  # Keras 3 has no `_name`; tensorflow-privacy reads it
    optimizer.gradient_accumulation_steps = None  # Keras 3 reads None as "off" where Keras 2 had 1
    return optimizer


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
