"""The Sinkhorn divergence as a Keras loss."""

from __future__ import annotations

import typing

import keras
import tensorflow as tf

from tfdps.sinkhorn.divergence import sinkhorn_divergence
from tfdps.sinkhorn.problem import Scalar, SolverSettings


@keras.saving.register_keras_serializable(package="tfdps")
class SinkhornDivergence(keras.losses.Loss):
    """S(y_pred, y_true) as a Keras loss: a batch as a cloud of equally heavy points.

    One number for a batch, no matter which prediction stands beside which target; all axes but the
    first are a point's coordinates, and the two batches may differ in size. What it is differentiated
    by is y_pred.

    Args:
      regularization: lambda > 0, in units of the cost.
      cost, cost_l1_weight, tolerance, max_iterations: as for `transport_cost`.
      reduction, name, dtype: as for every Keras loss.

    Raises:
      UsageError: on an unknown cost or a setting out of range.

    Examples:
      >>> import keras, numpy as np, tfdps
      >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dense(2)])
      >>> model.compile("sgd", loss=tfdps.SinkhornDivergence(regularization=1.0))
      >>> history = model.fit(np.zeros([8, 2]), np.ones([8, 2]), verbose=0)
      >>> round(history.history["loss"][0], 3)  # every point is (1, 1) away: 1^2 + 1^2
      2.0
    """

    def __init__(
        self,
        regularization: Scalar,
        *,
        cost: str = "l2",
        cost_l1_weight: Scalar = 1.0,
        tolerance: float = 1e-3,
        max_iterations: int = 2000,
        reduction: str = "sum_over_batch_size",
        name: str = "sinkhorn_divergence",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._settings: dict[str, typing.Any] = {
            "regularization": regularization,
            "cost": cost,
            "cost_l1_weight": cost_l1_weight,
            "tolerance": tolerance,
            "max_iterations": max_iterations,
        }
        SolverSettings(**self._settings)  # refuses what is out of range now, not in the first batch

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the divergence of the two batches, a scalar."""
        x, y = (tf.reshape(points, [tf.shape(points)[0], -1]) for points in (y_pred, y_true))
        return sinkhorn_divergence(x, y, **self._settings).value

    def get_config(self) -> dict[str, typing.Any]:
        """Returns the arguments, for Keras to save."""
        return super().get_config() | self._settings
