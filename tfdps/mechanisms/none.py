"""No privacy at all: for finding out what the generator and the loss can do. Named for what it is."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdps.mechanisms import poisson


class NoMechanism:
    """Passes the gradient through unchanged. NOT PRIVATE: epsilon is infinite.

    Guarantee: none. Whatever is trained with it may reveal any record.

    Args:
      learning_rate: of `optimizer`, a plain Keras Adam, > 0, or a Keras learning-rate schedule.

    Examples:
      >>> import tfdps
      >>> tfdps.mechanisms.NoMechanism().private
      False
    """

    name = "none"
    private = False
    overflow_probability, draws_in_parts = poisson.OVERFLOW_PROBABILITY, False
    sums_integers_in_float64 = False
    clip_norm = None
    noise_multiplier = 0.0
    noise_stddev = 0.0
    sensitivity = math.inf

    def __init__(
        self, *, learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3
    ) -> None:
        self.optimizer = keras.optimizers.Adam(learning_rate)

    def step_noise(self, shape: Sequence[int]) -> None:
        """There is no noise: None."""

    def release(self, gradient: tf.Tensor, noise: None = None) -> tf.Tensor:
        """Returns `gradient` itself."""
        return gradient

    def limit_public(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns `gradient` itself."""
        return gradient
