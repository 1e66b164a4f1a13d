"""The solver of entropic transport: potentials of one problem, by either of two schedules.

`reference` repeats the published solver exactly: simultaneous averaged updates, a fixed number of
them. `converged` alternates exact updates with Anderson acceleration, annealed from the largest
cost, until the marginal error is small. Both work on log weights. Letters as in Cao et al., NeurIPS
2021, appendix.
"""

import math
import typing

import tensorflow as tf

from tfdps import anderson, costs
from tfdps.transport_problem import Weights

_STAGE_TOLERANCE = 0.01  # marginal error at which a stage before the last may end
_STAGE_PATIENCE = 50  # updates after which it ends anyway
_RESTART_AT = 2.0  # times the best error: the acceleration's memory misleads, and is dropped


class Solution(typing.NamedTuple):
    """Potentials before (f, g) and after (F, G) the last update."""

    f: tf.Tensor
    g: tf.Tensor
    f_last: tf.Tensor
    g_last: tf.Tensor
    marginal_error: tf.Tensor
    num_iterations: tf.Tensor


def solve(cost, a, b, cooling, settings):
    """Potentials of the two-cloud problem."""
    problem = _Problem(cost, a, b)
    if settings.schedule == "reference":
        return _solve_reference(problem, cooling)
    return _solve_converged(problem, cooling, settings)


class _Problem(typing.NamedTuple):
    """The exact update of either potential, and how far a plan's rows are off."""

    cost: tf.Tensor
    a: Weights
    b: Weights

    def update_f(self, g, eps):
        return _softmin(eps, self.cost, self.b.logs + g / eps)

    def update_g(self, f, eps):
        return _softmin(eps, tf.transpose(self.cost), self.a.logs + f / eps)

    def row_error(self, f, f_next, eps):
        """L1 error of the row sums of the plan of (f, g), f_next being g's answer."""
        return tf.reduce_sum(self.a.values * tf.abs(tf.exp((f - f_next) / eps) - 1))


def _solve_reference(problem, cooling):
    start, final = cooling.at(0), cooling.at(cooling.last)
    f = _softmin(start, problem.cost, problem.b.logs)
    g = _softmin(start, tf.transpose(problem.cost), problem.a.logs)

    def average(step, f, g):
        eps = cooling.at(step)
        f_next, g_next = problem.update_f(g, eps), problem.update_g(f, eps)
        return step + 1, (f + f_next) / 2, (g + g_next) / 2

    steps, f, g = tf.while_loop(lambda step, *_: step <= cooling.last, average, [0, f, g])
    f_last, g_last = problem.update_f(g, final), problem.update_g(f, final)
    return Solution(f, g, f_last, g_last, problem.row_error(f, f_last, final), steps)


class _Progress(typing.NamedTuple):
    """Where a converging solve stands: f, its answer g, and g's answer f_next."""

    step: tf.Tensor
    stage: tf.Tensor
    stage_step: tf.Tensor
    f: tf.Tensor
    g: tf.Tensor
    f_next: tf.Tensor
    error: tf.Tensor
    best_error: tf.Tensor
    history: anderson.History


def _solve_converged(problem, cooling, settings):
    """Anderson-accelerated alternating updates, a stage at each temperature of the cooling.

    A stage ends when the marginal error is small enough to go on from, or its patience is out; the
    last one ends at the tolerance. Good starts matter: at the published lambda of 3e-4 of the mean
    cost 66 updates do what 3000 do not that cool at every update.
    """
    cost, unsolved = problem.cost, tf.constant(math.inf, problem.cost.dtype)
    tolerance = costs.scalar(settings.tolerance, cost.dtype)
    stage_tolerance = tf.maximum(tolerance, costs.scalar(_STAGE_TOLERANCE, cost.dtype))
    root_weights = tf.sqrt(problem.a.values)  # points of no weight have no say

    def going_on(now):
        solved = tf.logical_and(now.stage >= cooling.last, tf.logical_not(now.error > tolerance))
        return tf.logical_and(now.step < settings.max_iterations, tf.logical_not(solved))

    def update(now):
        # The former update's outcome says where this one starts.
        stage_ends = tf.logical_and(
            now.stage < cooling.last,
            tf.logical_or(now.error <= stage_tolerance, now.stage_step >= _STAGE_PATIENCE),
        )
        got_worse = now.error > _RESTART_AT * now.best_error
        fresh = anderson.empty(now.f)
        history = tf.nest.map_structure(
            lambda kept, none: tf.where(tf.logical_or(stage_ends, got_worse), none, kept),
            now.history,
            fresh,
        )
        history = anderson.remember(history, now.f_next, root_weights * (now.f_next - now.f))
        f = tf.where(stage_ends, now.f_next, anderson.mix(history))
        history = tf.nest.map_structure(
            lambda kept, none: tf.where(stage_ends, none, kept), history, fresh
        )
        stage = now.stage + tf.cast(stage_ends, tf.int32)
        eps = cooling.at(stage)
        g = problem.update_g(f, eps)
        f_next = problem.update_f(g, eps)
        error = problem.row_error(f, f_next, eps)
        best = tf.where(stage_ends, error, tf.minimum(now.best_error, error))
        stage_step = tf.where(stage_ends, 0, now.stage_step + 1)
        return [_Progress(now.step + 1, stage, stage_step, f, g, f_next, error, best, history)]

    start = cooling.at(0)
    f = _softmin(start, cost, problem.b.logs)
    g = problem.update_g(f, start)
    f_next = problem.update_f(g, start)
    error = problem.row_error(f, f_next, start)
    begin = _Progress(
        tf.constant(1),
        tf.constant(0),
        tf.constant(0),
        f,
        g,
        f_next,
        error,
        unsolved,
        anderson.empty(f),
    )
    [end] = tf.while_loop(going_on, update, [begin])
    # g is exact for f, and f_next for g: rows of the plan of (f_next, g) and columns of (f, g) are.
    # A solve that ran out of updates in an early stage is judged at the temperature asked for.
    final = cooling.at(cooling.last)
    g = problem.update_g(end.f, final)
    f_next = problem.update_f(g, final)
    return Solution(end.f, g, f_next, g, problem.row_error(end.f, f_next, final), end.step)


def solve_symmetric(cost, a, cooling, settings):
    """The one potential of the problem between a cloud and itself, by averaged updates."""
    temperature = settings.final_temperature(cost.dtype)

    def update(f, eps):
        return _softmin(eps, cost, a.logs + f / eps)

    def error(f, f_next, eps):
        return tf.reduce_sum(a.values * tf.abs(tf.exp((f - f_next) / eps) - 1))

    f = _softmin(cooling.at(0), cost, a.logs)
    if settings.schedule == "reference":

        def average(step, f):
            return step + 1, (f + update(f, cooling.at(step))) / 2

        steps, f = tf.while_loop(lambda step, *_: step <= cooling.last, average, [0, f])
    else:
        unsolved = tf.constant(math.inf, cost.dtype)
        tolerance = costs.scalar(settings.tolerance, cost.dtype)
        limit = settings.max_iterations + cooling.last

        def average_and_test(step, f, _):
            eps = cooling.at(step)
            f_next = update(f, eps)
            row_error = tf.where(step >= cooling.last, error(f, f_next, eps), unsolved)
            return step + 1, tf.where(row_error <= tolerance, f, (f + f_next) / 2), row_error

        steps, f, _ = tf.while_loop(
            lambda step, _, row_error: tf.logical_and(step < limit, row_error > tolerance),
            average_and_test,
            [0, f, unsolved],
        )
    f_last = update(f, temperature)
    return Solution(f, f, f_last, f_last, error(f, f_last, temperature), steps)


def _softmin(eps, cost, h):
    """-eps logsumexp_j(h_j - C_ij / eps), [n]."""
    return -eps * tf.reduce_logsumexp(h[None, :] - cost / eps, axis=1)
