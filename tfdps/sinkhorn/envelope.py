"""Transport values as functions of their points, by the envelope theorem.

The plan is held fixed and only the cost is differentiated, so the potentials are never differentiated
through: a solve has no gradient, and its value is given one.
"""

import typing

import tensorflow as tf

from tfdps.sinkhorn import kernel_solver, published_solver
from tfdps.sinkhorn.problem import (
    Solution,
    SolverSettings,
    cooling_schedule,
    normalized_weights,
)


class Term(typing.NamedTuple):
    """One transport value, solved; of no value where a cloud is empty."""

    solution: Solution
    nonempty: tf.Tensor


def solve(x, y, x_weights, y_weights, settings, *, terms):
    """Returns the list of Terms that are named; no gradient passes.

    Args:
      x, y, x_weights, y_weights: as for `divergence.transport_cost`.
      settings: the SolverSettings.
      terms: of "cross", W(x, y), "x_self", W(x, x), and "y_self".
    """
    return _compiled_solve(
        tf.stop_gradient(x),
        tf.stop_gradient(y),
        None if x_weights is None else tf.convert_to_tensor(x_weights),
        None if y_weights is None else tf.convert_to_tensor(y_weights),
        settings.numbers(x.dtype),
        terms=terms,
        **settings.static,
    )


@tf.function(jit_compile=True, autograph=False)
def _compiled_solve(x, y, x_weights, y_weights, numbers, *, terms, **static):
    settings = SolverSettings(**static, **numbers)
    solver = published_solver if settings.schedule == "reference" else kernel_solver
    a, b = normalized_weights(x_weights, x), normalized_weights(y_weights, y)
    cost = settings.costs(x, y)
    cooling = cooling_schedule(settings, [(x, a), (y, b)], cost)

    def solved(name):
        if name == "cross":
            nonempty = tf.logical_and(a.any, b.any)
            return Term(solver.solve(cost, a, b, cooling, settings), nonempty)
        points, weights = (x, a) if name == "x_self" else (y, b)
        own = settings.costs(points, points)
        own = tf.linalg.set_diag(own, tf.zeros_like(points[:, 0]))
        return Term(solver.solve_symmetric(own, weights, cooling, settings), weights.any)

    return [solved(name) for name in terms]


def cross_value(term, settings, x, y):
    """Returns W(x, y), a scalar, as a function of its points. `term`: the Term "cross"."""
    fixed_x, fixed_y = tf.stop_gradient(x), tf.stop_gradient(y)

    def x_gradient():
        return settings.plan_gradient(fixed_x, fixed_y, term.solution.row_plan)

    def y_gradient():
        plan = tf.transpose(term.solution.column_plan)
        return settings.plan_gradient(fixed_y, fixed_x, plan)

    slopes = _slope(x, x_gradient, term.nonempty) + _slope(y, y_gradient, term.nonempty)
    return _only_if(term.nonempty, term.solution.value) + slopes


def self_value(term, settings, x):
    """Returns W(x, x) likewise; both arguments move. `term`: the Term of x and itself."""
    fixed_x = tf.stop_gradient(x)

    def gradient():
        return 2 * settings.plan_gradient(fixed_x, fixed_x, term.solution.row_plan)

    return _only_if(term.nonempty, term.solution.value) + _slope(x, gradient, term.nonempty)


def _slope(points, gradient, nonempty):
    """Zero, as a function of `points` whose gradient is what `gradient()` says (0 if empty)."""

    @tf.custom_gradient
    def attached(points):
        def backward(upstream):
            return upstream * _only_if(nonempty, gradient())

        return tf.zeros([], points.dtype), backward

    return attached(points)


def _only_if(nonempty, tensor):
    return tf.where(nonempty, tensor, tf.zeros_like(tensor))
