"""Ground costs between two clouds of points, and the gradient of a transport plan's total cost.

    l2:     c(a, b) = ||a - b||^2              (no factor 1/2)
    l1+l2:  c(a, b) = ||a - b||^2 + m ||a - b||_1

Both are computed without ever holding an array of n * m * d numbers: the squared distance by one
matrix product, the L1 part feature by feature.
"""

import tensorflow as tf

from tfdps import checks

COSTS = ("l2", "l1+l2")
_FEATURES_PER_TRIP = 16  # enough arithmetic a loop trip to hide the trip's own cost


def cost_matrix(x, y, *, cost="l2", cost_l1_weight=1.0):
    """Returns the cost of every pair, [n, m], in the points' dtype.

    Args:
      x: points, float32 or float64 [n, d].
      y: points of the same dtype, [m, d].
      cost: "l2" or "l1+l2".
      cost_l1_weight: m >= 0 above; unused by "l2".
    """
    checks.one_of("cost", cost, COSTS)
    # Moving both clouds changes no distance, but the product's rounding error, for the better.
    center = tf.reduce_mean(x, axis=0, keepdims=True)
    x, y = x - center, y - center
    squares = (
        tf.reduce_sum(x * x, axis=1)[:, None]
        + tf.reduce_sum(y * y, axis=1)[None, :]
        - 2 * tf.matmul(x, y, transpose_b=True)
    )
    costs = tf.maximum(squares, 0)
    if cost == "l2":
        return costs
    return costs + scalar(cost_l1_weight, x.dtype) * _l1_distances(x, y)


def plan_gradient(x, y, plan, *, cost="l2", cost_l1_weight=1.0):
    """Returns sum_j plan_ij grad_1 c(x_i, y_j), [n, d]: the envelope gradient in x.

    The derivative of |t| at 0 is taken as 0, so tied pixels pull nowhere.

    Args:
      x: points [n, d].
      y: points [m, d].
      plan: transport plan [n, m], held fixed.
      cost, cost_l1_weight: as for `cost_matrix`.
    """
    checks.one_of("cost", cost, COSTS)
    mass = tf.reduce_sum(plan, axis=1, keepdims=True)
    gradient = 2 * (mass * x - tf.matmul(plan, y))
    if cost == "l2":
        return gradient
    return gradient + scalar(cost_l1_weight, x.dtype) * _l1_plan_gradient(x, y, plan)


def scalar(value, dtype):
    """Returns `value` as a scalar tensor; a Python float is never rounded to float32 on the way."""
    return tf.cast(value, dtype) if tf.is_tensor(value) else tf.constant(value, dtype)


def _l1_distances(x, y):
    """||x_i - y_j||_1, [n, m], accumulated over features."""
    x_groups, y_groups, trips = _feature_groups(x, y)

    def accumulate(trip, total):
        difference = x_groups[trip][:, :, None] - y_groups[trip][:, None, :]
        # Summing over the major axis keeps the inner loop over j contiguous.
        return trip + 1, total + tf.reduce_sum(tf.abs(difference), axis=0)

    zero = tf.zeros([tf.shape(x)[0], tf.shape(y)[0]], x.dtype)
    return tf.while_loop(lambda trip, _: trip < trips, accumulate, [0, zero])[1]


def _l1_plan_gradient(x, y, plan):
    """sum_j plan_ij sign(x_i - y_j), [n, d], a group of features at a time."""
    x_groups, y_groups, trips = _feature_groups(x, y)
    plan_columns = tf.transpose(plan)  # [m, n]: the sum over j runs over the major axis

    def accumulate(trip, groups):
        signs = tf.sign(x_groups[trip][:, None, :] - y_groups[trip][:, :, None])
        group = tf.reduce_sum(plan_columns[None] * signs, axis=1)
        return trip + 1, groups.write(trip, group)

    groups = tf.TensorArray(x.dtype, size=trips, element_shape=[_FEATURES_PER_TRIP, None])
    groups = tf.while_loop(lambda trip, _: trip < trips, accumulate, [0, groups])[1]
    rows = tf.reshape(groups.stack(), [trips * _FEATURES_PER_TRIP, tf.shape(x)[0]])
    return tf.transpose(rows[: tf.shape(x)[1]])


def _feature_groups(x, y):
    """(x^T, y^T) as [trips, features a trip, points], padded with zero features, and trips."""
    dimension = tf.shape(x)[1]
    trips = (dimension + _FEATURES_PER_TRIP - 1) // _FEATURES_PER_TRIP

    def groups(points):
        rows = tf.pad(tf.transpose(points), [[0, trips * _FEATURES_PER_TRIP - dimension], [0, 0]])
        return tf.reshape(rows, [trips, _FEATURES_PER_TRIP, tf.shape(points)[0]])

    return groups(x), groups(y), trips
