"""Anderson acceleration of a fixed-point iteration v <- T(v), in tensors of static shape.

The next point is the combination of the last few images T(v) whose residuals T(v) - v, combined with
the same weights (of sum 1), are smallest (Anderson 1965; Walker and Ni 2011, type II). For a Sinkhorn
iteration it saves most of the iterations where plain ones converge slowly.
"""

import typing

import tensorflow as tf

MEMORY = 5
# Relative to the trace of the residuals' Gram matrix: keeps the small system solvable in float32.
_RIDGE = {tf.float32: 1e-6, tf.float64: 1e-10}
_NEVER = 1e6  # on the diagonal of an empty slot: it gets no weight


class History(typing.NamedTuple):
    """The last images and residuals, [MEMORY, n] each, and how many there have been."""

    images: tf.Tensor
    residuals: tf.Tensor
    count: tf.Tensor


def empty(point):
    """Returns the History of nothing yet, for points like `point`, [n]."""
    slots = tf.zeros([MEMORY, tf.shape(point)[0]], point.dtype)
    return History(slots, slots, tf.constant(0))


def remember(history, image, residual):
    """Returns `history` with one more image and (scaled) residual, [n], in the oldest one's place."""
    slot = tf.one_hot(history.count % MEMORY, MEMORY, on_value=True, off_value=False)[:, None]
    return History(
        tf.where(slot, image[None, :], history.images),
        tf.where(slot, residual[None, :], history.residuals),
        history.count + 1,
    )


def mix(history):
    """Returns the next point, [n]: the best combination of the images; with one image that image."""
    dtype = history.residuals.dtype
    gram = tf.matmul(history.residuals, history.residuals, transpose_b=True)
    trace = tf.maximum(tf.linalg.trace(gram), tf.constant(1e-30, dtype))
    empty_slot = tf.range(MEMORY) >= history.count
    ridge = tf.where(empty_slot, tf.constant(_NEVER, dtype), tf.constant(_RIDGE[dtype], dtype))
    gram = gram / trace + tf.linalg.diag(ridge)
    factor = tf.linalg.cholesky(gram)
    weights = tf.linalg.cholesky_solve(factor, tf.ones([MEMORY, 1], dtype))[:, 0]
    weights = tf.where(empty_slot, tf.zeros_like(weights), weights)
    weights /= tf.reduce_sum(weights)
    return tf.linalg.matvec(history.images, weights, transpose_a=True)
