"""Entropic optimal transport between two clouds of points, and the Sinkhorn losses built on it.

W(A, B) is the dual value <a, f> + <b, g> of entropic transport with regularisation lambda
(absolute, in units of the cost). Its gradient comes from the envelope theorem: the plan is held
fixed and only the cost is differentiated, so the potentials are never differentiated through.
Sources: Cao et al., NeurIPS 2021, arXiv 2111.01177, eq. 5-8; Feydy et al., AISTATS 2019.

All functions run eagerly, inside `tf.function` and with `jit_compile=True`, in float32 and float64. XLA
compiles each once for a shape, whatever lambda and the tolerance are.
How long a solve takes depends on the points: never log iteration counts or marginal errors of a
private batch.
"""

import typing

import keras
import tensorflow as tf

from tfdps import costs, kernel_solver, reference_solver
from tfdps.transport_problem import SCHEDULES as SCHEDULES
from tfdps.transport_problem import Settings, Solution, cooling_schedule, normalized_weights


class TransportResult(typing.NamedTuple):
    """A transport value together with the evidence that it was solved.

    Attributes:
      value: scalar, the dual value <a, f> + <b, g>; differentiable in x and y (envelope theorem).
      potentials: (f [n], g [m]).
      marginal_error: scalar, the L1 distance between the plan's row sums and the weights a.
      num_iterations: int32 scalar, updates of the potentials, annealing included.
      converged: bool scalar, marginal_error <= tolerance. Always what was measured, also for the
        reference schedule, which does not test it.
    """

    value: tf.Tensor
    potentials: tuple
    marginal_error: tf.Tensor
    num_iterations: tf.Tensor
    converged: tf.Tensor


def transport_cost(x, y, *, x_weights=None, y_weights=None, **settings):
    """Returns W(x, y) as a TransportResult.

    Args:
      x: points, float32 or float64 [n, d].
      y: points of the same dtype, [m, d].
      x_weights: weights >= 0, [n], normalised to sum 1 here; None: uniform. Points of weight 0 (the
        padding of a batch) change neither value nor gradient. All zero: value 0, gradient 0.
      y_weights: likewise, [m].
      **settings: how the problem is posed and solved:
        cost: "l2" (default) or "l1+l2"; cost_l1_weight: m of the latter, default 1.
        regularization: lambda > 0, in units of the cost.
        schedule: "converged" (default): annealed from the largest cost, stopped when the marginal
          error is at most `tolerance` (1e-3) or after `max_iterations` (2000) updates.
          "reference": the published schedule, a fixed number of averaged updates that halve the
          length scale from the clouds' diameter down to `blur`; lambda = blur^exponent.
        blur, exponent: of the reference schedule; exponent 2 by default.

    Raises:
      UsageError: on an unknown cost or schedule, or a setting out of range.
    """
    settings = Settings(**settings)
    x = tf.convert_to_tensor(x)
    y = tf.convert_to_tensor(y, x.dtype)
    [cross] = _solve(x, y, x_weights, y_weights, settings, terms=("cross",))
    value = _cross_value(cross, settings, x, y)
    return _result([cross], value, cross.solution.potentials, settings)


def sinkhorn_divergence(x, y, *, x_weights=None, y_weights=None, y_self_term=True, **settings):
    """Returns S(x, y) = W(x, y) - 1/2 W(x, x) - 1/2 W(y, y), differentiable in x.

    Args:
      x, y, x_weights, y_weights, settings: as for `transport_cost`.
      y_self_term: False leaves out the last term, which has no gradient in x (for training).

    Returns:
      A TransportResult: the divergence; potentials (f of W(x,y) less that of W(x,x), and g less
      that of W(y,y) if asked for); the largest marginal error and most iterations of its terms.
    """
    settings = Settings(**settings)
    x = tf.convert_to_tensor(x)
    y = tf.stop_gradient(tf.convert_to_tensor(y, x.dtype))
    terms = ("cross", "x_self", "y_self") if y_self_term else ("cross", "x_self")
    solved = _solve(x, y, x_weights, y_weights, settings, terms=terms)
    cross, x_self = solved[:2]
    value = _cross_value(cross, settings, x, y) - _self_value(x_self, settings, x) / 2
    f, g = cross.solution.potentials
    f -= x_self.solution.potentials[0]
    if y_self_term:
        value -= _self_value(solved[2], settings, y) / 2
        g -= solved[2].solution.potentials[0]
    # An empty cloud has no divergence to speak of: no value, and no pull from the self terms.
    value = tf.where(cross.nonempty, value, tf.zeros_like(value))
    return _result(solved, value, (f, g), settings)


def semi_debiased_loss(x, x_fresh, y, *, y_weights=None, **settings):
    """Returns the scalar 2 W(x, y) - W(x, x'), x' = concat(x_fresh, x[n':]) (the paper's eq. 8).

    Differentiable in x and x_fresh: the gradient flows through both arguments of the second term.
    Only the first term reads y.

    Args:
      x: generated points [n, d].
      x_fresh: fresh generated points [n', d], 0 <= n' <= n, that replace the first points of x in
        x'. n' = 0: the debiasing term is W(x, x).
      y: private points [m, d].
      y_weights, settings: as for `transport_cost`. When all y_weights are zero the loss is 0, and so
        is its gradient in x; that in x_fresh never depends on y.
    """
    x, x_fresh, y = (tf.convert_to_tensor(points) for points in (x, x_fresh, y))
    num_fresh = tf.shape(x_fresh)[0]
    cross = transport_cost(x, tf.stop_gradient(y), y_weights=y_weights, **settings).value
    # The gradient of x_fresh is public: it must be the same whether or not anything was drawn.
    drawn = normalized_weights(y_weights, y).any
    own = tf.where(drawn, x, tf.stop_gradient(x))
    debias = transport_cost(own, tf.concat([x_fresh, own[num_fresh:]], axis=0), **settings).value
    empty_value = tf.where(drawn, tf.zeros_like(debias), tf.stop_gradient(debias))
    return 2 * cross - debias + empty_value


@keras.saving.register_keras_serializable(package="tfdps")
class SinkhornDivergence(keras.losses.Loss):
    """S(y_pred, y_true) as a Keras loss: a batch as a cloud of equally heavy points.

        model.compile("adam", loss=SinkhornDivergence(regularization=1.0))

    One number for a batch, no matter which prediction stands beside which target; all axes but the
    first are a point's coordinates, and the two batches may differ in size. What it is differentiated
    by is y_pred.

    Args:
      regularization: lambda > 0, in units of the cost.
      cost, cost_l1_weight, tolerance, max_iterations: as for `transport_cost`.
      reduction, name, dtype: as for every Keras loss.
    """

    def __init__(
        self,
        regularization,
        *,
        cost="l2",
        cost_l1_weight=1.0,
        tolerance=1e-3,
        max_iterations=2000,
        reduction="sum_over_batch_size",
        name="sinkhorn_divergence",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._settings = {
            "regularization": regularization,
            "cost": cost,
            "cost_l1_weight": cost_l1_weight,
            "tolerance": tolerance,
            "max_iterations": max_iterations,
        }
        Settings(**self._settings)  # refuses what is out of range now, not in the first batch

    def call(self, y_true, y_pred):
        x, y = (tf.reshape(points, [tf.shape(points)[0], -1]) for points in (y_pred, y_true))
        return sinkhorn_divergence(x, y, **self._settings).value

    def get_config(self):
        return super().get_config() | self._settings


class _Term(typing.NamedTuple):
    """One transport value, solved; of no value where a cloud is empty."""

    solution: Solution
    nonempty: tf.Tensor


def _solve(x, y, x_weights, y_weights, settings, *, terms):
    """[the _Term of each name: "cross", "x_self", "y_self"]; no gradient passes."""
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
    settings = Settings(**static, **numbers)
    solver = reference_solver if settings.schedule == "reference" else kernel_solver
    a, b = normalized_weights(x_weights, x), normalized_weights(y_weights, y)
    cost = settings.costs(x, y)
    cooling = cooling_schedule(settings, [(x, a), (y, b)], cost)

    def solved(name):
        if name == "cross":
            nonempty = tf.logical_and(a.any, b.any)
            return _Term(solver.solve(cost, a, b, cooling, settings), nonempty)
        points, weights = (x, a) if name == "x_self" else (y, b)
        own = settings.costs(points, points)
        own = tf.linalg.set_diag(own, tf.zeros_like(points[:, 0]))
        return _Term(solver.solve_symmetric(own, weights, cooling, settings), weights.any)

    return [solved(name) for name in terms]


def _cross_value(term, settings, x, y):
    """W(x, y) as a function of its points, by the envelope theorem."""
    fixed_x, fixed_y = tf.stop_gradient(x), tf.stop_gradient(y)

    def x_gradient():
        return settings.plan_gradient(fixed_x, fixed_y, term.solution.row_plan)

    def y_gradient():
        plan = tf.transpose(term.solution.column_plan)
        return settings.plan_gradient(fixed_y, fixed_x, plan)

    slopes = _slope(x, x_gradient, term.nonempty) + _slope(y, y_gradient, term.nonempty)
    return _only_if(term.nonempty, term.solution.value) + slopes


def _self_value(term, settings, x):
    """W(x, x) likewise; both arguments move."""
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


def _result(terms, value, potentials, settings):
    solutions = [term.solution for term in terms]
    error = tf.reduce_max(tf.stack([solution.marginal_error for solution in solutions]))
    return TransportResult(
        value=value,
        potentials=potentials,
        marginal_error=error,
        num_iterations=tf.reduce_max(tf.stack([s.num_iterations for s in solutions])),
        converged=error <= costs.scalar(settings.tolerance, value.dtype),
    )
