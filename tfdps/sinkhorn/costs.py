"""Ground costs between two clouds of points, and the gradient of a transport plan's total cost.

    l2:     c(a, b) = ||a - b||^2              (no factor 1/2)
    l1+l2:  c(a, b) = ||a - b||^2 + m ||a - b||_1

Both are computed without ever holding an array of n * m * d numbers: the squared distance by one
matrix product, the L1 part feature by feature. Compiled by XLA, once for each shape.
"""

import tensorflow as tf

from tfdps import checks

COSTS = ("l2", "l1+l2")

# Terms that a loop trip adds up, one after the other: XLA makes one vectorised loop of them. On a core
# of a Xeon 8.7 G terms a second at n = m = 512; 1.6 with 8, 4.2 with 32, 2.0 as a sum over an axis.
_A_TRIP = 16


def cost_matrix(x, y, *, cost="l2", cost_l1_weight=1.0):
    """Returns the cost of every pair, [n, m], in the points' dtype.

    Args:
      x: points, float32 or float64 [n, d].
      y: points of the same dtype, [m, d].
      cost: "l2" or "l1+l2".
      cost_l1_weight: m >= 0 above; unused by "l2".
    """
    checks.one_of("cost", cost, COSTS)
    x = tf.convert_to_tensor(x)
    return _cost_matrix(x, tf.cast(y, x.dtype), scalar(cost_l1_weight, x.dtype), cost=cost)


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
    x = tf.convert_to_tensor(x)
    y, plan = tf.cast(y, x.dtype), tf.cast(plan, x.dtype)
    return _plan_gradient(x, y, plan, scalar(cost_l1_weight, x.dtype), cost=cost)


def scalar(value, dtype):
    """Returns `value` as a scalar tensor; a Python float is never rounded to float32 on the way."""
    return tf.cast(value, dtype) if tf.is_tensor(value) else tf.constant(value, dtype)


@tf.function(jit_compile=True, autograph=False)
def _cost_matrix(x, y, l1_weight, *, cost):
    # Moving both clouds changes no distance, but the product's rounding error, for the better.
    center = tf.reduce_mean(x, axis=0, keepdims=True)
    x, y = x - center, y - center
    squares = (
        _row_sums(x * x)[:, None]
        + _row_sums(y * y)[None, :]
        - 2 * tf.matmul(x, y, transpose_b=True)
    )
    costs = tf.maximum(squares, 0)
    return costs if cost == "l2" else costs + l1_weight * _l1_distances(x, y)


@tf.function(jit_compile=True, autograph=False)
def _plan_gradient(x, y, plan, l1_weight, *, cost):
    gradient = 2 * (_row_sums(plan)[:, None] * x - tf.matmul(plan, y))
    return gradient if cost == "l2" else gradient + l1_weight * _l1_plan_gradient(x, y, plan)


def _row_sums(matrix):
    """[n]: as a product, for XLA sums over the minor axis one by one on a CPU."""
    return tf.linalg.matvec(matrix, tf.ones_like(matrix[0]))


def _l1_distances(x, y):
    """||x_i - y_j||_1, [n, m], accumulated over features."""
    x_trips, y_trips = _in_trips(tf.transpose(x)), _in_trips(tf.transpose(y))

    def accumulate(trip, total):
        for row, column in zip(tf.unstack(x_trips[trip]), tf.unstack(y_trips[trip]), strict=True):
            total += tf.abs(row[:, None] - column[None, :])
        return trip + 1, total

    zero = tf.zeros([tf.shape(x)[0], tf.shape(y)[0]], x.dtype)
    return tf.while_loop(lambda trip, _: trip < tf.shape(x_trips)[0], accumulate, [0, zero])[1]


def _l1_plan_gradient(x, y, plan):
    """sum_j plan_ij sign(x_i - y_j), [n, d], accumulated over the points y."""
    y_trips, plan_trips = _in_trips(y), _in_trips(tf.transpose(plan))

    def accumulate(trip, total):
        ends = tf.unstack(y_trips[trip]), tf.unstack(plan_trips[trip])
        for point, mass in zip(*ends, strict=True):
            total += mass[:, None] * tf.sign(x - point[None, :])
        return trip + 1, total

    zero = tf.zeros_like(x)
    return tf.while_loop(lambda trip, _: trip < tf.shape(y_trips)[0], accumulate, [0, zero])[1]


def _in_trips(rows):
    """[trips, _A_TRIP, columns]: the rows of a matrix, padded with zeros at the end."""
    count, columns = tf.unstack(tf.shape(rows))
    trips = (count + _A_TRIP - 1) // _A_TRIP
    rows = tf.pad(rows, [[0, trips * _A_TRIP - count], [0, 0]])
    return tf.reshape(rows, [trips, _A_TRIP, columns])
