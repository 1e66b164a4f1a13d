"""The published schedule of entropic transport, exactly: a fixed number of averaged updates.

On log weights, at a temperature that halves the length scale from the clouds' diameter down to the
blur. Letters as in Cao et al., NeurIPS 2021, appendix.
"""

import tensorflow as tf

from tfdps.sinkhorn.problem import Solution, softmin


def solve(cost, a, b, cooling, settings):
    """Returns the Solution of the problem between two clouds.

    Args:
      cost: [n, m].
      a, b: the clouds' Weights.
      cooling: the temperatures; an update at each.
      settings: nothing of them, this schedule tests nothing.
    """
    del settings
    start, final = cooling.at(0), cooling.at(cooling.last)
    across = tf.transpose(cost)

    def update_f(g, eps):
        return softmin(eps, cost, b.logs + g / eps)

    def update_g(f, eps):
        return softmin(eps, across, a.logs + f / eps)

    def average(step, f, g):
        eps = cooling.at(step)
        return step + 1, (f + update_f(g, eps)) / 2, (g + update_g(f, eps)) / 2

    begin = [0, softmin(start, cost, b.logs), softmin(start, across, a.logs)]
    steps, f, g = tf.while_loop(lambda step, *_: step <= cooling.last, average, begin)
    f_last, g_last = update_f(g, final), update_g(f, final)
    return Solution(
        potentials=(f_last, g_last),
        value=tf.reduce_sum(a.values * f_last) + tf.reduce_sum(b.values * g_last),
        row_plan=_plan(cost, a, b, f_last, g, final),
        column_plan=_plan(cost, a, b, f, g_last, final),
        marginal_error=_row_error(a, f, f_last, final),
        num_iterations=steps,
    )


def solve_symmetric(cost, a, cooling, settings):
    """Returns the Solution of the problem between a cloud and itself: one potential."""
    del settings
    final = cooling.at(cooling.last)

    def update(f, eps):
        return softmin(eps, cost, a.logs + f / eps)

    def average(step, f):
        return step + 1, (f + update(f, cooling.at(step))) / 2

    begin = [0, softmin(cooling.at(0), cost, a.logs)]
    steps, f = tf.while_loop(lambda step, *_: step <= cooling.last, average, begin)
    f_last = update(f, final)
    return Solution(
        potentials=(f_last, f_last),
        value=2 * tf.reduce_sum(a.values * f_last),
        row_plan=_plan(cost, a, a, f_last, f, final),
        column_plan=None,
        marginal_error=_row_error(a, f, f_last, final),
        num_iterations=steps,
    )


def _row_error(a, f, f_next, eps):
    """L1 error of the row sums of the plan of (f, g), f_next being g's answer."""
    return tf.reduce_sum(a.values * tf.abs(tf.exp((f - f_next) / eps) - 1))


def _plan(cost, a, b, f, g, eps):
    """The plan a_i b_j exp((f_i + g_j - C_ij) / eps), [n, m]."""
    exponent = (f[:, None] + g[None, :] - cost) / eps
    return a.values[:, None] * b.values[None, :] * tf.exp(exponent)
