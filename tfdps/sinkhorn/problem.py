"""What a transport problem is made of, and its solution: settings, clouds' weights, temperatures."""

import dataclasses
import math
import typing

import tensorflow as tf

from tfdps import checks
from tfdps.sinkhorn import costs

SCHEDULES = ("converged", "reference")
Scalar = typing.Union[float, tf.Tensor]
_ANNEALING_FACTOR = 4.0  # by which the temperature falls from one stage to the next
_COOL_BELOW = 16.0  # the mean cost over the first temperature, where lambda is lower than that


@dataclasses.dataclass(frozen=True)
class SolverSettings:
    """What a solve is asked to do; checked once, shared by the terms of a divergence.

    Fields are arguments of `divergence.transport_cost`; numbers may be scalar tensors.

    Raises:
      UsageError: from the constructor, on an unknown cost or schedule, or a number out of range.
    """

    cost: str = "l2"
    cost_l1_weight: Scalar = 1.0
    regularization: Scalar | None = None
    schedule: str = "converged"
    blur: Scalar | None = None
    exponent: Scalar = 2.0
    tolerance: float = 1e-3
    max_iterations: int = 2000

    def __post_init__(self):
        checks.one_of("cost", self.cost, costs.COSTS)
        checks.one_of("schedule", self.schedule, SCHEDULES)
        for name in ("regularization", "blur", "exponent", "tolerance"):
            if isinstance(getattr(self, name), (int, float)):
                checks.positive(name, getattr(self, name))
        if self.schedule == "converged":
            if self.regularization is None or self.blur is not None:
                raise checks.UsageError(
                    "schedule='converged' takes regularization and no blur, received "
                    f"regularization={self.regularization!r}, blur={self.blur!r}."
                )
        elif self.regularization is None and self.blur is None:
            raise checks.UsageError(
                "schedule='reference' needs blur or regularization (= blur^exponent)."
            )
        elif self.regularization is not None and self.blur is not None:
            expected = self.blur**self.exponent
            if not math.isclose(self.regularization, expected, rel_tol=1e-6):
                raise checks.UsageError(
                    "regularization must equal blur^exponent under schedule='reference', received "
                    f"{self.regularization} and {expected}. Leave one out."
                )

    @property
    def static(self):
        """What a compiled program depends on; `numbers` may change from one call to the next."""
        return {"cost": self.cost, "schedule": self.schedule}

    def numbers(self, dtype):
        """The rest as scalar tensors, by name."""
        names = ("cost_l1_weight", "exponent", "tolerance")
        return {name: costs.scalar(getattr(self, name), dtype) for name in names} | {
            "regularization": self.final_temperature(dtype),
            "max_iterations": tf.cast(self.max_iterations, tf.int32),
        }

    def final_temperature(self, dtype):
        """lambda, a scalar tensor."""
        if self.regularization is not None:
            return costs.scalar(self.regularization, dtype)
        return costs.scalar(self.blur, dtype) ** costs.scalar(self.exponent, dtype)

    def costs(self, x, y):
        """Returns the ground costs of points [n, d] and [m, d], [n, m]."""
        return costs.cost_matrix(x, y, cost=self.cost, cost_l1_weight=self.cost_l1_weight)

    def plan_gradient(self, x, y, plan):
        """Returns the gradient in x, [n, d], of the cost of a plan [n, m] that is held fixed."""
        return costs.plan_gradient(x, y, plan, cost=self.cost, cost_l1_weight=self.cost_l1_weight)


class Weights(typing.NamedTuple):
    """Normalised weights of a cloud; `any` is false when all of them are zero."""

    values: tf.Tensor
    logs: tf.Tensor
    any: tf.Tensor


class Cooling(typing.NamedTuple):
    """A falling sequence of temperatures: `at(step)` for step = 0, 1, ..., last, then constant."""

    at: typing.Callable
    last: tf.Tensor


class Solution(typing.NamedTuple):
    """What either solver returns.

    Attributes:
      value: scalar, <a, f> + <b, g>.
      potentials: (f [n], g [m]), of points of weight 0 too.
      row_plan, column_plan: the plan [n, m], with exact row sums (for the gradient in x), and with
        exact column sums (for that in y; None of a cloud and itself, whose plan is symmetric).
      marginal_error: scalar, the L1 error of the row sums before the last update.
      num_iterations: int32 scalar.
    """

    value: tf.Tensor
    potentials: tuple
    row_plan: tf.Tensor
    column_plan: typing.Optional[tf.Tensor]
    marginal_error: tf.Tensor
    num_iterations: tf.Tensor


def softmin(eps, cost, h):
    """-eps logsumexp_j(h_j - C_ij / eps), [n]."""
    return -eps * tf.reduce_logsumexp(h[None, :] - cost / eps, axis=1)


def normalized_weights(weights, points):
    """Normalised weights; an all-zero cloud is solved as a uniform one and masked by its caller."""
    count = tf.shape(points)[0]
    uniform = tf.ones([count], points.dtype) / tf.cast(count, points.dtype)
    if weights is None:
        return Weights(uniform, tf.math.log(uniform), count > 0)
    weights = tf.cast(weights, points.dtype)
    total = tf.reduce_sum(weights)
    any_mass = total > 0
    values = tf.where(any_mass, weights / tf.where(any_mass, total, 1), uniform)
    # A finite stand-in for log 0: far below every real log weight, and still free of inf - inf.
    logs = tf.where(values > 0, tf.math.log(tf.where(values > 0, values, 1)), -1e30)
    return Weights(values, tf.cast(logs, points.dtype), any_mass)


def cooling_schedule(settings, clouds, cost):
    """The temperatures of a solve: from the mean cost, or the clouds' extent for "reference"."""
    dtype = cost.dtype
    final = settings.final_temperature(dtype)
    if settings.schedule == "converged":
        factor = costs.scalar(_ANNEALING_FACTOR, dtype)
        (_, a), (_, b) = clouds
        mean = tf.reduce_sum(a.values * tf.linalg.matvec(cost, b.values))
        start = tf.maximum(mean / _COOL_BELOW, final)
        stages = tf.math.log(start / final) / tf.math.log(factor)
        last = tf.cast(tf.math.ceil(stages), tf.int32)
        return Cooling(lambda step: tf.maximum(start / factor ** tf.cast(step, dtype), final), last)
    exponent = costs.scalar(settings.exponent, dtype)
    blur = final ** (1 / exponent)
    diameter = _diameter(clouds)
    diameter = tf.where(diameter > 0, diameter, blur)
    log_start, log_half = (
        exponent * tf.math.log(diameter),
        exponent * tf.math.log(costs.scalar(0.5, dtype)),
    )
    # E = [diam^r] + [exp(e) for e in arange(r ln diam, r ln blur, r ln 0.5)] + [blur^r]
    count = tf.math.ceil((exponent * tf.math.log(blur) - log_start) / log_half)
    last = tf.maximum(tf.cast(count, tf.int32), 0) + 1

    def at(step):
        halvings = tf.cast(tf.maximum(step - 1, 0), dtype)
        return tf.where(step < last, tf.exp(log_start + halvings * log_half), final)

    return Cooling(at, last)


def _diameter(clouds):
    """The diagonal of the box around all points of positive weight."""
    highest = [tf.where(w.values[:, None] > 0, p, p.dtype.min) for p, w in clouds]
    lowest = [tf.where(w.values[:, None] > 0, p, p.dtype.max) for p, w in clouds]
    sides = tf.reduce_max(tf.concat(highest, 0), 0) - tf.reduce_min(tf.concat(lowest, 0), 0)
    return tf.sqrt(tf.reduce_sum(sides**2))
