"""Entropic optimal transport between two clouds of points, and the Sinkhorn losses built on it.

W(A, B) is the dual value <a, f> + <b, g> of entropic transport with regularisation lambda
(absolute, in units of the cost). Its gradient comes from the envelope theorem: the plan is held
fixed and only the cost is differentiated, so the potentials are never differentiated through.
Sources: Cao et al., NeurIPS 2021, arXiv 2111.01177, eq. 5-8; Feydy et al., AISTATS 2019.

All functions run eagerly, inside `tf.function` and with `jit_compile=True`, in float32 and float64.
How long a solve takes depends on the points: never log iteration counts or marginal errors of a
private batch.
"""

import typing

import tensorflow as tf

from tfdps import costs, transport_solver
from tfdps.transport_problem import SCHEDULES as SCHEDULES
from tfdps.transport_problem import Settings, cooling_schedule, normalized_weights


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
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    fixed_x, fixed_y = tf.stop_gradient(x), tf.stop_gradient(y)
    a, b = normalized_weights(x_weights, fixed_x), normalized_weights(y_weights, fixed_y)
    cost = settings.costs(fixed_x, fixed_y)
    cooling = cooling_schedule(settings, [(fixed_x, a), (fixed_y, b)], cost)
    return _transport(x, y, a, b, cost, cooling, settings)


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
    x, y = tf.convert_to_tensor(x), tf.stop_gradient(tf.convert_to_tensor(y))
    fixed_x = tf.stop_gradient(x)
    a, b = normalized_weights(x_weights, fixed_x), normalized_weights(y_weights, y)
    cost = settings.costs(fixed_x, y)
    cooling = cooling_schedule(settings, [(fixed_x, a), (y, b)], cost)
    cross = _transport(x, y, a, b, cost, cooling, settings)
    x_self = _self_transport(x, a, cooling, settings)
    terms, g = [cross, x_self], cross.potentials[1]
    value = cross.value - x_self.value / 2
    if y_self_term:
        y_self = _self_transport(y, b, cooling, settings)
        terms.append(y_self)
        value, g = value - y_self.value / 2, g - y_self.potentials[0]
    # An empty cloud has no divergence to speak of: no value, and no pull from the self terms.
    both = tf.logical_and(a.any, b.any)
    error = tf.reduce_max(tf.stack([t.marginal_error for t in terms]))
    return TransportResult(
        value=tf.where(both, value, tf.zeros_like(value)),
        potentials=(cross.potentials[0] - x_self.potentials[0], g),
        marginal_error=error,
        num_iterations=tf.reduce_max(tf.stack([t.num_iterations for t in terms])),
        converged=error <= settings.tolerance,
    )


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


def _transport(x, y, a, b, cost, cooling, settings):
    """W(x, y) with the gradient in x and y attached."""
    solution = transport_solver.solve(cost, a, b, cooling, settings)
    temperature = settings.final_temperature(x.dtype)
    nonempty = tf.logical_and(a.any, b.any)
    value = tf.reduce_sum(a.values * solution.f_last) + tf.reduce_sum(b.values * solution.g_last)

    def plan(f, g):
        exponent = (f[:, None] + g[None, :] - cost) / temperature
        return a.values[:, None] * b.values[None, :] * tf.exp(exponent)

    def gradients():
        x_plan, y_plan = plan(solution.f_last, solution.g), plan(solution.f, solution.g_last)
        fixed_x, fixed_y = tf.stop_gradient(x), tf.stop_gradient(y)
        return (
            settings.plan_gradient(fixed_x, fixed_y, x_plan),
            settings.plan_gradient(fixed_y, fixed_x, tf.transpose(y_plan)),
        )

    return TransportResult(
        value=_attach_gradients(value, [x, y], gradients, nonempty),
        potentials=(solution.f_last, solution.g_last),
        marginal_error=solution.marginal_error,
        num_iterations=solution.num_iterations,
        converged=solution.marginal_error <= costs.scalar(settings.tolerance, x.dtype),
    )


def _self_transport(x, a, cooling, settings):
    """W(x, x) by its one symmetric potential, with the gradient in x attached."""
    fixed_x = tf.stop_gradient(x)
    cost = settings.costs(fixed_x, fixed_x)
    cost = tf.linalg.set_diag(cost, tf.zeros_like(fixed_x[:, 0]))
    solution = transport_solver.solve_symmetric(cost, a, cooling, settings)
    temperature = settings.final_temperature(x.dtype)
    value = 2 * tf.reduce_sum(a.values * solution.f_last)

    def gradients():
        exponent = (solution.f_last[:, None] + solution.f[None, :] - cost) / temperature
        plan = a.values[:, None] * a.values[None, :] * tf.exp(exponent)
        return (2 * settings.plan_gradient(fixed_x, fixed_x, plan),)  # both arguments are x

    return TransportResult(
        value=_attach_gradients(value, [x], gradients, a.any),
        potentials=(solution.f_last, solution.f_last),
        marginal_error=solution.marginal_error,
        num_iterations=solution.num_iterations,
        converged=solution.marginal_error <= costs.scalar(settings.tolerance, x.dtype),
    )


def _attach_gradients(value, points, gradients, nonempty):
    """`value` as a function of `points` whose gradient is what `gradients()` says (0 if empty)."""

    def only_if(nonempty, tensor):
        return tf.where(nonempty, tensor, tf.zeros_like(tensor))

    @tf.custom_gradient
    def attached(*points):
        del points

        def backward(upstream):
            return [upstream * only_if(nonempty, gradient) for gradient in gradients()]

        return only_if(nonempty, value), backward

    return attached(*points)
