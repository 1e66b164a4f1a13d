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

from __future__ import annotations

import typing

import tensorflow as tf

from tfdps.sinkhorn import costs, envelope
from tfdps.sinkhorn.problem import (
    Scalar,
    SolverSettings,
    normalized_weights,
)


class TransportResult(typing.NamedTuple):
    """A transport value together with the evidence that it was solved.

    Attributes:
      value: scalar, the dual value <a, f> + <b, g>; differentiable in x and y (envelope theorem).
      potentials: (f [n], g [m]).
      marginal_error: scalar, the L1 distance between the plan's row sums and the weights a.
      num_iterations: int32 scalar, updates of the potentials, annealing included.
      converged: bool scalar, marginal_error <= tolerance. Always what was measured, also for the
        reference schedule, which does not test it.

    Examples:
      >>> import tensorflow as tf, tfdps
      >>> result = tfdps.sinkhorn.transport_cost(tf.zeros([3, 1]), tf.ones([2, 1]), regularization=1.0)
      >>> float(result.value), [len(f) for f in result.potentials], bool(result.converged)
      (1.0, [3, 2], True)
    """

    value: tf.Tensor
    potentials: tuple[tf.Tensor, tf.Tensor]
    marginal_error: tf.Tensor
    num_iterations: tf.Tensor
    converged: tf.Tensor


def transport_cost(
    x: tf.Tensor,
    y: tf.Tensor,
    *,
    x_weights: tf.Tensor | None = None,
    y_weights: tf.Tensor | None = None,
    cost: str = "l2",
    cost_l1_weight: Scalar = 1.0,
    regularization: Scalar | None = None,
    schedule: str = "converged",
    blur: Scalar | None = None,
    exponent: Scalar = 2.0,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> TransportResult:
    """Returns W(x, y) as a TransportResult.

    Args:
      x: points, float32 or float64 [n, d].
      y: points of the same dtype, [m, d].
      x_weights: weights >= 0, [n], normalised to sum 1 here; None: uniform. Points of weight 0 (the
        padding of a batch) change neither value nor gradient. All zero: value 0, gradient 0.
      y_weights: likewise, [m].
      cost: "l2", the squared distance, or "l1+l2", to which it adds cost_l1_weight times the L1
        distance.
      cost_l1_weight: of "l1+l2", >= 0.
      regularization: lambda > 0, in units of the cost.
      schedule: "converged": annealed from the largest cost, stopped when the marginal error is at
        most `tolerance` or after `max_iterations` updates. "reference": the published schedule, a
        fixed number of averaged updates that halve the length scale from the clouds' diameter down
        to `blur`; lambda = blur^exponent.
      blur: of the reference schedule, > 0, in units of the points; in place of regularization.
      exponent: of the reference schedule, > 0.
      tolerance: largest L1 error of the marginals, > 0.
      max_iterations: most updates of the converged schedule, an integer.

    Raises:
      UsageError: on an unknown cost or schedule, or a setting out of range.

    Examples:
      >>> import tensorflow as tf, tfdps
      >>> x, y = tf.constant([[0.0], [1.0]]), tf.constant([[2.0], [3.0]])
      >>> result = tfdps.sinkhorn.transport_cost(x, y, regularization=0.01)
      >>> round(float(result.value), 1), bool(result.converged)  # both points move by 2
      (4.0, True)
    """
    settings = SolverSettings(
        cost=cost,
        cost_l1_weight=cost_l1_weight,
        regularization=regularization,
        schedule=schedule,
        blur=blur,
        exponent=exponent,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    return _transport(x, y, x_weights, y_weights, settings)


def sinkhorn_divergence(
    x: tf.Tensor,
    y: tf.Tensor,
    *,
    x_weights: tf.Tensor | None = None,
    y_weights: tf.Tensor | None = None,
    y_self_term: bool = True,
    cost: str = "l2",
    cost_l1_weight: Scalar = 1.0,
    regularization: Scalar | None = None,
    schedule: str = "converged",
    blur: Scalar | None = None,
    exponent: Scalar = 2.0,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> TransportResult:
    """Returns S(x, y) = W(x, y) - 1/2 W(x, x) - 1/2 W(y, y), differentiable in x.

    Args:
      x, y, x_weights, y_weights: as for `transport_cost`.
      y_self_term: False leaves out the last term, which has no gradient in x (for training).
      cost, cost_l1_weight, regularization, schedule, blur, exponent, tolerance, max_iterations: as for
        `transport_cost`.

    Returns:
      A TransportResult: the divergence; potentials (f of W(x,y) less that of W(x,x), and g less
      that of W(y,y) if asked for); the largest marginal error and most iterations of its terms.

    Raises:
      UsageError: on an unknown cost or schedule, or a setting out of range.

    Examples:
      >>> import tensorflow as tf, tfdps
      >>> x = tf.constant([[0.0, 0.0], [1.0, 0.0]])
      >>> result = tfdps.sinkhorn_divergence(x, x + 2.0, regularization=0.1)
      >>> round(float(result.value), 2)  # a cloud and itself, shifted: the squared distance
      8.0
    """
    settings = SolverSettings(
        cost=cost,
        cost_l1_weight=cost_l1_weight,
        regularization=regularization,
        schedule=schedule,
        blur=blur,
        exponent=exponent,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    x = tf.convert_to_tensor(x)
    y = tf.stop_gradient(tf.convert_to_tensor(y, x.dtype))
    terms = ("cross", "x_self", "y_self") if y_self_term else ("cross", "x_self")
    solved = envelope.solve(x, y, x_weights, y_weights, settings, terms=terms)
    cross, x_self = solved[:2]
    value = (
        envelope.cross_value(cross, settings, x, y) - envelope.self_value(x_self, settings, x) / 2
    )
    f, g = cross.solution.potentials
    f -= x_self.solution.potentials[0]
    if y_self_term:
        value -= envelope.self_value(solved[2], settings, y) / 2
        g -= solved[2].solution.potentials[0]
    # An empty cloud has no divergence to speak of: no value, and no pull from the self terms.
    value = tf.where(cross.nonempty, value, tf.zeros_like(value))
    return _result(solved, value, (f, g), settings)


def semi_debiased_loss(
    x: tf.Tensor,
    x_fresh: tf.Tensor,
    y: tf.Tensor,
    *,
    y_weights: tf.Tensor | None = None,
    cost: str = "l2",
    cost_l1_weight: Scalar = 1.0,
    regularization: Scalar | None = None,
    schedule: str = "converged",
    blur: Scalar | None = None,
    exponent: Scalar = 2.0,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> tf.Tensor:
    """Returns the scalar 2 W(x, y) - W(x, x'), x' = concat(x_fresh, x[n':]) (the paper's eq. 8).

    Differentiable in x and x_fresh: the gradient flows through both arguments of the second term.
    Only the first term reads y.

    Args:
      x: generated points, float32 or float64 [n, d].
      x_fresh: fresh generated points [n', d], 0 <= n' <= n, that replace the first points of x in
        x'. n' = 0: the debiasing term is W(x, x).
      y: private points [m, d].
      y_weights: as for `transport_cost`. When all are zero the loss is 0, and so is its gradient in
        x; that in x_fresh never depends on y.
      cost, cost_l1_weight, regularization, schedule, blur, exponent, tolerance, max_iterations: as for
        `transport_cost`.

    Raises:
      UsageError: on an unknown cost or schedule, or a setting out of range.

    Examples:
      >>> import tensorflow as tf, tfdps
      >>> x = tf.constant([[0.0, 0.0], [1.0, 0.0]])
      >>> loss = tfdps.sinkhorn.semi_debiased_loss(x, x[:0], x + 2.0, regularization=0.01)
      >>> round(float(loss), 1)
      16.0
    """
    settings = SolverSettings(
        cost=cost,
        cost_l1_weight=cost_l1_weight,
        regularization=regularization,
        schedule=schedule,
        blur=blur,
        exponent=exponent,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    x, x_fresh, y = (tf.convert_to_tensor(points) for points in (x, x_fresh, y))
    cross = _transport(x, tf.stop_gradient(y), None, y_weights, settings).value
    # The gradient of x_fresh is public: it must be the same whether or not anything was drawn.
    drawn = normalized_weights(y_weights, y).any
    own = tf.where(drawn, x, tf.stop_gradient(x))
    debias = _transport(own, partly_fresh(own, x_fresh), None, None, settings).value
    empty_value = tf.where(drawn, tf.zeros_like(debias), tf.stop_gradient(debias))
    return 2 * cross - debias + empty_value


def partly_fresh(x: tf.Tensor, x_fresh: tf.Tensor) -> tf.Tensor:
    """Returns the x' of eq. 8, [n, d]: x with its first n' points replaced by x_fresh, [n', d].

    W(x, x') is the debiasing term of `semi_debiased_loss`.
    """
    return tf.concat([x_fresh, x[tf.shape(x_fresh)[0] :]], axis=0)


def _transport(x, y, x_weights, y_weights, settings):
    """W(x, y) as a TransportResult, by the SolverSettings."""
    x = tf.convert_to_tensor(x)
    y = tf.convert_to_tensor(y, x.dtype)
    [cross] = envelope.solve(x, y, x_weights, y_weights, settings, terms=("cross",))
    value = envelope.cross_value(cross, settings, x, y)
    return _result([cross], value, cross.solution.potentials, settings)


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
