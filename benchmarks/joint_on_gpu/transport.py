"""The image gradient of the semi-debiased loss by the published schedule, in JAX.

Cao et al., NeurIPS 2021, arXiv 2111.01177: 2 W(x, y) - W(x, x'), potentials never differentiated.
"""

import typing

import jax
import jax.numpy as jnp


class Transport(typing.NamedTuple):
    """Public numbers of the loss; they may differ from run to run of a stack."""

    l1_weight: jnp.ndarray
    regularization: jnp.ndarray
    label_scale: jnp.ndarray


def image_gradients(
    x, x_labels, fresh, y, y_labels, y_weights, transport, *, temperatures=13, by_class=False
):
    """Returns (dL/dx [n, d], dL/dfresh [n', d]) of 2 W(x, y) - W(x, x'), x' = (fresh, x[n':]).

    Args:
      x, fresh, y: pixels in [-1, 1], [n, d], [n', d] and [m, d].
      x_labels, y_labels: int [n], [m]; a fresh image has the label of the image it replaces.
      y_weights: 0 or 1 for each record, [m]; all 0: an empty draw, whose dL/dx is 0.
      transport: a Transport.
      temperatures: most temperatures of the schedule.
      by_class: weigh the records so that each class has the mass that it has among the generated
        images; images of a class without a record then take no part in W(x, y). Not the product's.
    """
    count, num_fresh, pixels = x.shape[0], fresh.shape[0], x.shape[1]
    drawn = y_weights.sum() > 0
    points = _features(x, x_labels, transport)
    target = _features(y, y_labels, transport)
    mixed = jnp.concatenate([_features(fresh, x_labels[:num_fresh], transport), points[num_fresh:]])
    uniform = jnp.full(count, 1 / count)
    weights = jnp.where(drawn, y_weights / jnp.maximum(y_weights.sum(), 1), 1 / y_weights.size)

    cross = by_class_weights(x_labels, y_labels, y_weights) if by_class else (uniform, weights)
    plan, _ = plans(points, cross[0], target, cross[1], transport, temperatures)
    gradient = 2 * plan_gradient(points, target, plan, transport)
    row_plan, column_plan = plans(points, uniform, mixed, uniform, transport, temperatures)
    gradient -= plan_gradient(points, mixed, row_plan, transport)
    other = -plan_gradient(mixed, points, column_plan.T, transport)
    gradient = gradient.at[num_fresh:].add(other[num_fresh:])
    return jnp.where(drawn, gradient, 0)[:, :pixels], other[:num_fresh, :pixels]


def by_class_weights(x_labels, y_labels, y_weights):
    """Returns (a [n], b [m]), each of sum 1: both clouds have the same mass in every class."""
    drawn = jax.nn.one_hot(y_labels, 10) * y_weights[:, None]
    in_class = drawn.sum(0)
    a = (in_class[x_labels] > 0).astype(jnp.float32)
    a /= jnp.maximum(a.sum(), 1)
    mass = (jax.nn.one_hot(x_labels, 10) * a[:, None]).sum(0)
    b = y_weights * (mass / jnp.maximum(in_class, 1))[y_labels]
    # Nothing in common: any normalised weights will do, the plan is then 0.
    return a, jnp.where(b.sum() > 0, b, y_weights)


def plans(x, a, y, b, transport, temperatures):
    """Returns the two plans [n, m] that the gradients in x and in y are taken with."""
    cost = costs(x, y, transport)
    log_a, log_b = _logs(a), _logs(b)
    at, last = _cooling(x, a, y, b, transport.regularization)
    final = at(last)

    def update_f(g, eps):
        return _softmin(eps, cost, log_b + g / eps)

    def update_g(f, eps):
        return _softmin(eps, cost.T, log_a + f / eps)

    def average(step, pair):
        f, g = pair
        eps = at(step)
        new = (f + update_f(g, eps)) / 2, (g + update_g(f, eps)) / 2
        return tuple(jnp.where(step <= last, *both) for both in zip(new, pair, strict=True))

    start = _softmin(at(0), cost, log_b), _softmin(at(0), cost.T, log_a)
    f, g = jax.lax.fori_loop(0, temperatures, average, start)
    last_f, last_g = update_f(g, final), update_g(f, final)
    mass = a[:, None] * b[None, :]
    row_plan = mass * jnp.exp((last_f[:, None] + g[None, :] - cost) / final)
    return row_plan, mass * jnp.exp((f[:, None] + last_g[None, :] - cost) / final)


def costs(x, y, transport):
    """||x_i - y_j||^2 + m ||x_i - y_j||_1, [n, m]; never an array of n m d numbers when compiled."""
    distance = x[:, None, :] - y[None, :, :]
    return (distance * distance + transport.l1_weight * jnp.abs(distance)).sum(-1)


def plan_gradient(x, y, plan, transport):
    """sum_j plan_ij grad_1 c(x_i, y_j), [n, d]; sign(0) = 0."""
    distance = x[:, None, :] - y[None, :, :]
    slope = 2 * distance + transport.l1_weight * jnp.sign(distance)
    return (plan[:, :, None] * slope).sum(1)


def _features(pixels, labels, transport):
    return jnp.concatenate([pixels, transport.label_scale * jax.nn.one_hot(labels, 10)], axis=1)


def _softmin(eps, cost, h):
    return -eps * jax.nn.logsumexp(h[None, :] - cost / eps, axis=1)


def _logs(weights):
    # A finite stand-in for log 0, as in the product.
    return jnp.where(weights > 0, jnp.log(jnp.where(weights > 0, weights, 1)), -1e30)


def _cooling(x, a, y, b, regularization):
    """The temperatures at(0), ..., at(last), of exponent 1: the diameter, halved, down to lambda."""
    highest = [jnp.where(w[:, None] > 0, p, -jnp.inf).max(0) for p, w in ((x, a), (y, b))]
    lowest = [jnp.where(w[:, None] > 0, p, jnp.inf).min(0) for p, w in ((x, a), (y, b))]
    sides = jnp.maximum(*highest) - jnp.minimum(*lowest)
    diameter = jnp.sqrt(jnp.square(sides).sum())
    last = jnp.maximum(jnp.ceil(jnp.log(regularization / diameter) / jnp.log(0.5)), 0) + 1

    def at(step):
        halved = diameter * 0.5 ** jnp.maximum(step - 1, 0)
        return jnp.where(step < last, halved, regularization).astype(diameter.dtype)

    return at, last
