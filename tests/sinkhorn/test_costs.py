"""Ground costs and plan gradients against sums written out in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from clouds import close, cloud, numpy_cost

from tfdps.sinkhorn import costs


@pytest.mark.parametrize("dimension", [1, 16, 17])
@pytest.mark.parametrize("cost", costs.COSTS)
def test_cost_and_plan_gradient_equal_the_written_out_sums(cost, dimension):
    x, y = np.round(cloud(0, 5, dimension), 1), np.round(cloud(1, 7, dimension), 1)  # has ties
    plan = np.random.default_rng(2).random((5, 7))
    settings = {"cost": cost, "cost_l1_weight": 3.0}
    difference = x[:, None] - y[None]
    slope = 2 * difference + (3.0 * np.sign(difference) if cost == "l1+l2" else 0)
    expected = (plan[:, :, None] * slope).sum(1)
    assert close(costs.cost_matrix(x, y, **settings), numpy_cost(x, y, cost, 3.0), 1e-12)
    x, y = tf.constant(x), tf.constant(y)
    assert close(costs.plan_gradient(x, y, plan, **settings), expected, 1e-12)


def test_tied_pixels_have_no_l1_gradient():
    point = tf.ones([1, 4], tf.float64)
    gradient = costs.plan_gradient(point, point, tf.ones([1, 1], tf.float64), cost="l1+l2")
    assert not gradient.numpy().any()
