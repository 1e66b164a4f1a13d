"""Entropic transport by alternating updates in the kernel domain, until they agree.

An update of the potentials is a matrix-vector product with the kernel K = exp((f + g - C) / lambda),
five to twenty times faster than a logsumexp. What a product cannot hold is *absorbed*: when a scaling
factor grows too large, it moves into the potentials and the kernel is computed anew (Schmitzer, SIAM
J. Sci. Comput. 2019). Anderson acceleration saves most of the updates; where lambda is far below the
mean cost, a few stages of a higher temperature come first.

Matrix products, elementwise functions and loops of static shapes alone, for XLA on a CPU, a GPU or a
TPU. On a CPU its sums over the minor axis run scalar: here they are products with vectors.
"""

import math
import typing

import tensorflow as tf

from tfdps.sinkhorn import anderson, costs
from tfdps.sinkhorn.problem import Solution, Weights, softmin

_STAGE_TOLERANCE = 0.01  # marginal error at which a stage before the last may end
_STAGE_PATIENCE = 50  # updates after which it ends anyway
_RESTART_AT = 2.0  # times the best error: the acceleration's memory misleads, and is dropped
_RANGE = 12.0  # of the logarithm of a scaling factor, beyond which it is absorbed
_FARTHEST = 30.0  # that an update may take it
_SMALLEST = {tf.float32: 1e-37, tf.float64: 1e-300}  # what counts as 0


def solve(cost, a, b, cooling, settings):
    """Returns the Solution of the problem between two clouds.

    Args:
      cost: [n, m].
      a, b: the clouds' Weights.
      cooling: the temperatures; a stage at each, the last until the tolerance is met.
      settings: the SolverSettings, for tolerance and max_iterations.
    """
    dtype, limit, last = cost.dtype, settings.max_iterations, cooling.last
    tolerance = costs.scalar(settings.tolerance, dtype)
    stage_tolerance = tf.maximum(tolerance, costs.scalar(_STAGE_TOLERANCE, dtype))

    def unfinished(now):
        in_time = tf.logical_and(now.step < limit, now.point.error > tolerance)
        return tf.logical_or(now.stage < last, in_time)

    def absorb_and_update(now):
        ready = now.point.error <= stage_tolerance
        ends = tf.logical_or(ready, now.stage_step >= _STAGE_PATIENCE)
        stage = tf.minimum(now.stage + tf.cast(ends, tf.int32), last)
        # Out of updates in an early stage: what there is is judged at the temperature asked for.
        stage = tf.where(now.step >= limit, last, stage)
        stage_step = tf.where(stage > now.stage, 0, now.stage_step)
        eps = cooling.at(stage)
        problem, g = _absorbed(cost, a, b, now.f, eps)
        goal = tf.where(stage >= last, tolerance, stage_tolerance)
        budget = tf.where(stage >= last, limit - now.step, _STAGE_PATIENCE - stage_step)
        steps, point = _scalings(problem, goal, tf.minimum(budget, limit - now.step))
        return [
            _Progress(
                step=now.step + steps,
                stage=stage,
                stage_step=stage_step + steps,
                f=now.f + eps * point.answer,
                g=g + eps * tf.math.log(point.v),
                kernel=problem.kernel,
                point=point,
            )
        ]

    rows, columns = tf.zeros_like(cost[:, 0]), tf.zeros_like(cost[0])
    nowhere = _Point(rows, columns, rows, tf.constant(math.inf, dtype))
    zero = tf.constant(0)
    begin = _Progress(zero, zero, zero, rows, columns, tf.zeros_like(cost), nowhere)
    [end] = tf.while_loop(unfinished, absorb_and_update, [begin])
    final = cooling.at(last)

    def plan(log_u):
        columns = b.values * end.point.v
        return tf.exp(log_u)[:, None] * end.kernel * columns[None, :]

    return Solution(
        value=tf.reduce_sum(a.values * end.f) + tf.reduce_sum(b.values * end.g),
        # f answers g, of points without weight too.
        potentials=(softmin(final, cost, b.logs + end.g / final), end.g),
        row_plan=plan(end.point.answer),
        column_plan=plan(end.point.log_u),
        marginal_error=end.point.error,
        num_iterations=end.step,
    )


def solve_symmetric(cost, a, cooling, settings):
    """Returns the Solution of the problem between a cloud and itself: one potential.

    By averaged updates, which need a handful of products from where half of the first answer is.

    Args:
      cost: [n, n], symmetric, of diagonal 0.
      a, cooling, settings: as for `solve`; of the temperatures the last alone.
    """
    dtype, eps = cost.dtype, cooling.at(cooling.last)
    tolerance = costs.scalar(settings.tolerance, dtype)
    # At most log(1 / a_i) / 2 at a point of weight, so that no entry of the kernel is above 1 / a.
    f = tf.where(a.values > 0, softmin(eps, cost, a.logs) / 2, 0)
    kernel = tf.exp((f[:, None] + f[None, :] - cost) / eps)

    def answer(s):
        return 1 / tf.maximum(tf.linalg.matvec(kernel, a.values * s), _SMALLEST[dtype])

    def error_of(s, answered):
        return tf.reduce_sum(a.values * tf.abs(s / answered - 1))

    def average(step, s, answered, _):
        s = tf.sqrt(s * answered)
        answered = answer(s)
        return step + 1, s, answered, error_of(s, answered)

    s = tf.ones_like(f)
    answered = answer(s)
    steps, s, answered, error = tf.while_loop(
        lambda step, _, __, error: tf.logical_and(
            step < settings.max_iterations, error > tolerance
        ),
        average,
        [tf.constant(1), s, answered, error_of(s, answered)],
    )
    f_last = f + eps * tf.math.log(answered)
    potential = softmin(eps, cost, a.logs + f / eps + tf.math.log(s))
    return Solution(
        value=2 * tf.reduce_sum(a.values * f_last),
        potentials=(potential, potential),
        row_plan=(a.values * answered)[:, None] * kernel * (a.values * s)[None, :],
        column_plan=None,
        marginal_error=error,
        num_iterations=steps,
    )


class _Point(typing.NamedTuple):
    """Scaling factors of a kernel's rows: log_u [n], v [m] that answers u, and v's answer [n].

    The answer is a logarithm too; rows are off by error, L1, under (u, v).
    """

    log_u: tf.Tensor
    v: tf.Tensor
    answer: tf.Tensor
    error: tf.Tensor


class _Progress(typing.NamedTuple):
    """Where a solve stands: updates, temperature, potentials, and the point of the last kernel."""

    step: tf.Tensor
    stage: tf.Tensor
    stage_step: tf.Tensor
    f: tf.Tensor
    g: tf.Tensor
    kernel: tf.Tensor
    point: _Point


class _Scaled(typing.NamedTuple):
    """A kernel [n, m] of column sums 1, with the rows' weights in it, and the clouds' weights."""

    kernel: tf.Tensor
    a: Weights
    b: Weights

    def at(self, log_u):
        """The _Point of log_u: two products with the kernel."""
        smallest = _SMALLEST[self.kernel.dtype]
        sums = tf.linalg.matvec(self.kernel, tf.exp(log_u), transpose_a=True)
        v = 1 / tf.maximum(sums, smallest)
        rows = tf.maximum(tf.linalg.matvec(self.kernel, self.b.values * v), smallest)
        answer = tf.where(self.a.values > 0, self.a.logs - tf.math.log(rows), 0)
        error = tf.reduce_sum(self.a.values * tf.abs(tf.exp(log_u - answer) - 1))
        return _Point(log_u, v, answer, error)


def _absorbed(cost, a, b, f, eps):
    """(the _Scaled kernel of f and its answer g, g)."""
    exponent = a.logs[:, None] + (f[:, None] - cost) / eps
    top = tf.reduce_max(exponent, axis=0)
    kernel = tf.exp(exponent - top)
    sums = tf.linalg.matvec(kernel, tf.ones_like(f), transpose_a=True)
    return _Scaled(kernel / sums, a, b), -eps * (top + tf.math.log(sums))


def _scalings(problem, goal, budget):
    """(updates, the _Point they end at): the goal, the budget or the range was met."""
    root_weights = tf.sqrt(problem.a.values)  # points of no weight have no say

    def goes_on(step, point, best, history):
        del best, history
        within = tf.reduce_max(tf.abs(point.log_u)) < _RANGE
        unsolved = tf.logical_and(point.error > goal, step < budget)
        return tf.logical_and(unsolved, within)

    def update(step, point, best, history):
        misled = point.error > _RESTART_AT * best
        history = tf.nest.map_structure(
            lambda kept, none: tf.where(misled, none, kept), history, anderson.empty(point.log_u)
        )
        residual = root_weights * (point.answer - point.log_u)
        history = anderson.remember(history, point.answer, residual)
        log_u = tf.clip_by_value(anderson.mix(history), -_FARTHEST, _FARTHEST)
        point, best = problem.at(log_u), tf.minimum(best, point.error)
        return step + 1, point, best, history

    start = problem.at(tf.zeros_like(problem.a.values))
    begin = [tf.constant(1), start, tf.constant(math.inf, goal.dtype), anderson.empty(start.log_u)]
    steps, point, *_ = tf.while_loop(goes_on, update, begin)
    return steps, point
