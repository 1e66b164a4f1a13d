"""Numbers kept in a byte each: how far they may be from the ones given, and what the table holds."""

import numpy as np
import pytest
import tensorflow as tf

from tfdps.generators.byte_table import ByteTable

SHAPE = (3, 40, 7)


def numbers(scale=1.0):
    return scale * np.random.default_rng(0).standard_cauchy(SHAPE)


def test_numbers_are_within_half_a_step_of_the_given_ones():
    given = numbers()
    table = ByteTable(SHAPE, axis=1)
    table.assign(given)
    half_a_step = (given.max(axis=1, keepdims=True) - given.min(axis=1, keepdims=True)) / 510
    # The second term: float32 rounding of low and step.
    assert (np.abs(table.values().numpy() - given) <= half_a_step * 1.001 + 1e-4).all()


def test_bent_numbers_are_within_a_part_of_themselves_and_of_one():
    given = numbers(scale=3.0)
    table = ByteTable(SHAPE, axis=1, bent=True)
    table.assign(given)
    # Steps are even in arcsinh, whose slope is 1 / sqrt(1 + x^2).
    bent = np.arcsinh(given)
    part = np.sinh((bent.max(axis=1, keepdims=True) - bent.min(axis=1, keepdims=True)) / 510)
    allowed = 1.05 * part * np.sqrt(1 + given**2)
    assert (np.abs(table.values().numpy() - given) <= allowed).all()


@pytest.mark.parametrize("bent", [False, True])
def test_the_ends_of_a_range_and_equal_numbers_are_kept(bent):
    given = np.array([[[-66.0], [66.0], [0.3]], [[0.7], [0.7], [0.7]]])
    table = ByteTable(given.shape, axis=1, bent=bent)
    table.assign(given)
    received = table.values().numpy()
    np.testing.assert_allclose(received[0, :2], given[0, :2], rtol=3e-6)  # float32
    np.testing.assert_allclose(received[1], given[1], rtol=3e-6)


@pytest.mark.parametrize("bent", [False, True])
def test_entries_are_the_rows_of_the_whole_table(bent):
    table = ByteTable(SHAPE, axis=1, bent=bent)
    table.assign(numbers())
    first, second = tf.constant([2, 0, 1, 2]), tf.constant([0, 39, 7, 13])
    expected = table.values().numpy()[first, second]
    np.testing.assert_array_equal(table.entries(first, second), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_byte_a_number_and_a_range_for_the_others(axis):
    table = ByteTable(SHAPE, axis=axis, initial=0.25)
    assert (table.codes.shape, table.codes.dtype) == (SHAPE, "uint8")
    rest = tuple(side for place, side in enumerate(SHAPE) if place != axis)
    assert table.low.shape == table.step.shape == rest
    assert not table.trainable_weights
    np.testing.assert_array_equal(table.values(), np.full(SHAPE, 0.25, np.float32))
