"""A Keras Adam for clipped and noised gradients, where tensorflow-privacy cannot be installed.

The two functions take and return what those of `tf_privacy` do: the same integers, and the same
updates, to the last bit. `tests/mechanisms/test_dp_adam.py` compares them.
"""

import keras
import tensorflow as tf

from tfdps.mechanisms import gradient_grid


class GaussianAdam(keras.optimizers.Adam):
    """An Adam that holds a clip norm and refuses gradients before one was released.

    Attributes:
      clip_norm: float64 tensor: a tensor, since XLA divides by a Python number in another way.
      has_released: whether `clip_and_noise` was called with it.
    """

    def __init__(self, clip_norm, learning_rate):
        super().__init__(learning_rate)
        self.clip_norm = tf.constant(clip_norm, tf.float64)
        self.has_released = False

    def apply_gradients(self, *args, **kwargs):
        if not self.has_released:
            raise RuntimeError("No gradient was clipped and noised: this training is not private.")
        return super().apply_gradients(*args, **kwargs)


def gaussian_adam(*, clip_norm, noise_stddev, learning_rate):
    """Returns a Keras Adam for gradients of `clip_and_noise`.

    Args:
      clip_norm: L2 norm that the whole gradient is clipped to, > 0.
      noise_stddev: standard deviation of the noise on every element, which tensorflow-privacy wants
        to know. It is not used here: the noise itself is an argument of `clip_and_noise`.
      learning_rate: Adam's, > 0, or a Keras learning-rate schedule.
    """
    del noise_stddev
    return GaussianAdam(clip_norm, learning_rate)


def clip_and_noise(optimizer, gradient, noise):
    """Returns `gradient` clipped, on the grid, plus noise: integers in float64, of the same shape.

    Guarantee: the gradient leaves as the integers of `gradient_grid.clip`, and noise is added to them
    once, as integers. It is what the caller gives, `exact_gaussian`'s: TensorFlow's random numbers
    have no part in it.

    Args:
      optimizer: of `gaussian_adam`.
      gradient: float32, finite; one step of the result is its clip norm / STEPS.
      noise: int64 of the same shape, in those steps.

    Raises:
      UsageError: as `gradient_grid.check_size`.
    """
    gradient_grid.check_size(gradient.shape)
    optimizer.has_released = True
    return tf.cast(gradient_grid.clip(gradient, optimizer.clip_norm) + noise, tf.float64)
