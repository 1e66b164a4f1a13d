"""Anderson acceleration on maps whose fixed point is known."""

import numpy as np
import pytest
import tensorflow as tf

from tfdps.sinkhorn import anderson


def linear_map(rate, size=4):
    """v -> A v + c with eigenvalues up to `rate`, and its fixed point."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(size, size)))[0]
    matrix = basis @ np.diag(np.linspace(0.1, rate, size)) @ basis.T
    offset = random.normal(size=size)
    return matrix, offset, np.linalg.solve(np.eye(size) - matrix, offset)


def iterate(matrix, offset, steps, accelerated, dtype=np.float64):
    point = tf.constant(np.zeros(len(offset)), dtype)
    history = anderson.empty(point)
    for _ in range(steps):
        image = tf.linalg.matvec(tf.constant(matrix, dtype), point) + tf.constant(offset, dtype)
        history = anderson.remember(history, image, image - point)
        point = anderson.mix(history) if accelerated else image
    return point.numpy()


def test_a_linear_map_is_solved_in_about_as_many_steps_as_it_has_dimensions():
    matrix, offset, fixed = linear_map(0.99)
    assert np.abs(iterate(matrix, offset, 8, accelerated=True) - fixed).max() < 1e-3
    assert np.abs(iterate(matrix, offset, 8, accelerated=False) - fixed).max() > 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_point_that_is_fixed_already_stays(dtype):
    matrix, offset, fixed = linear_map(0.5)
    point = tf.constant(fixed, dtype)
    history = anderson.empty(point)
    for _ in range(7):
        history = anderson.remember(history, point, tf.zeros_like(point))
        np.testing.assert_allclose(anderson.mix(history), point, rtol=1e-5)


def test_one_image_is_returned_as_it_is():
    history = anderson.remember(
        anderson.empty(tf.zeros([3])), tf.constant([1.0, 2.0, 3.0]), tf.constant([9.0, 9.0, 9.0])
    )
    np.testing.assert_allclose(anderson.mix(history), [1.0, 2.0, 3.0], rtol=1e-6)


def test_only_the_last_few_are_remembered():
    history = anderson.empty(tf.zeros([2]))
    for number in range(anderson.MEMORY + 2):
        history = anderson.remember(history, tf.fill([2], float(number)), tf.zeros([2]))
    assert sorted(history.images[:, 0].numpy()) == list(range(2, anderson.MEMORY + 2))
