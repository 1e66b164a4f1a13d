"""The clip of a gradient: integers on a grid that the clip norm alone decides."""

import math

import tensorflow as tf

from tfdps import checks

STEPS = 2**20  # of the grid, from 0 to the clip norm
MOST_ELEMENTS = 2**22  # whose squares, up to 2^40 each, int64 adds up


def check_size(shape):
    """Raises UsageError for a shape of more than MOST_ELEMENTS elements."""
    count = math.prod(shape)
    if count > MOST_ELEMENTS:
        raise checks.UsageError(
            f"a replica's batch of images must have at most {MOST_ELEMENTS} numbers, received {count}. "
            "Take a smaller batch_size or image_size."
        )


def clip(gradient, clip_norm):
    """Returns `gradient`, clipped as a whole, in steps of clip_norm / STEPS: int64 of its shape.

    Guarantee: the squares of what leaves sum to at most STEPS^2, by a comparison of integers: no
    rounding of the clip can carry it further. What breaks it: more than MOST_ELEMENTS elements, whose
    squares int64 need not add up (`check_size`).

    Args:
      gradient: float32, of any norm.
      clip_norm: float64 tensor, > 0, in the gradient's units.
    """
    # Below C by a millionth, and then towards 0: the comparison finds nothing to refuse.
    scaled = tf.cast(gradient, tf.float64) / clip_norm
    scaled *= (1 - 1e-6) * STEPS / tf.maximum(tf.norm(scaled), 1)
    # A NaN is in no range, and would be cast to no particular integer.
    integers = tf.cast(tf.where(tf.abs(scaled) <= STEPS, scaled, 0), tf.int64)
    within = tf.reduce_sum(integers * integers) <= STEPS**2
    return tf.where(within, integers, 0)


def clip_rows(gradients, counted, *, softening):
    """Returns each row divided by its norm and the softening, in steps of 1 / STEPS: int64 [n, D].

    Guarantee: a row follows from its own gradient alone, and the squares of what leaves sum to at most
    STEPS^2 in each, by a comparison of integers. A row that does not count, or is not finite, is 0.

    Args:
      gradients: float32 [n, D], D at most MOST_ELEMENTS.
      counted: bool [n].
      softening: > 0, in the gradients' units.
    """
    norms = tf.sqrt(tf.reduce_sum(tf.square(tf.cast(gradients, tf.float64)), axis=1, keepdims=True))
    scales = (1 - 1e-6) * STEPS / (norms + softening)
    finite = tf.math.is_finite(norms) & counted[:, None]
    scaled = tf.cast(gradients, tf.float64) * tf.where(finite, scales, 0)
    integers = tf.cast(tf.where(finite & (tf.abs(scaled) <= STEPS), scaled, 0), tf.int64)
    within = tf.reduce_sum(integers * integers, axis=1, keepdims=True) <= STEPS**2
    return tf.where(within, integers, 0)
