"""No privacy at all: for finding out what the generator and the loss can do. Named for what it is."""

import math

import keras


class NoMechanism:
    """Passes the gradient through unchanged. NOT PRIVATE: epsilon is infinite.

    Guarantee: none. Whatever is trained with it may reveal any record.

    Args:
      **adam_settings: for `optimizer`, a plain Keras Adam.
    """

    name = "none"
    private = False
    bounds_any_batches = True  # not neighbours alone: draws may be truncated
    clip_norm = None
    noise_multiplier = 0.0
    noise_stddev = 0.0
    sensitivity = math.inf

    def __init__(self, **adam_settings):
        self.optimizer = keras.optimizers.Adam(**adam_settings)

    def release(self, gradient):
        """Returns `gradient` itself."""
        return gradient

    def limit_public(self, gradient):
        """Returns `gradient` itself."""
        return gradient
