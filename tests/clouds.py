"""Small clouds of points for the tests of transport, and what NumPy says of them."""

import numpy as np
import tensorflow as tf

TOLERANCE = 1e-9  # relative, float64; the stored exponents amplify rounding by cost/lambda = 2e4


def close(actual, expected, tolerance=TOLERANCE):
    actual, expected = np.asarray(actual), np.asarray(expected)
    scale = max(np.abs(expected).max(), 1e-300)
    return np.abs(actual - expected).max() <= tolerance * scale


def cloud(seed, count, dimension=6, dtype=np.float64):
    return tf.constant(np.random.default_rng(seed).normal(size=(count, dimension)).astype(dtype))


def numpy_cost(x, y, cost="l2", weight=1.0):
    difference = np.asarray(x)[:, None] - np.asarray(y)[None]
    squares = (difference**2).sum(-1)
    return squares if cost == "l2" else squares + weight * np.abs(difference).sum(-1)
