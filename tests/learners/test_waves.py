"""The basis of waves: orthonormal, slowest first, colours apart."""

import numpy as np
import pytest

from tfdps.learners.per_record.waves import cosine_basis, image_blocks


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3), (4, 4, 2)])
def test_all_waves_are_an_orthonormal_basis(shape):
    basis, rings = cosine_basis(shape)
    size = np.prod(shape)
    assert basis.shape == (size, size)
    assert rings.shape == (size,)
    np.testing.assert_allclose(basis @ basis.T, np.eye(size), atol=1e-6)  # float32


def test_the_first_waves_are_the_slowest():
    basis, rings = cosine_basis((12, 12, 1), 30)
    assert basis.shape == (30, 144)
    assert list(rings) == sorted(rings)
    assert rings[0] == 0
    every, _ = cosine_basis((12, 12, 1))
    np.testing.assert_array_equal(basis, every[:30])
    np.testing.assert_allclose(basis[0], np.full(144, 1 / 12), atol=1e-7)


def test_a_smooth_image_is_in_the_first_waves():
    down, across = np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-1, 1, 16), indexing="ij")
    image = np.exp(-3 * (down**2 + across**2)).ravel()
    basis, _ = cosine_basis((16, 16, 1), 40)
    assert np.linalg.norm(basis @ image) > 0.999 * np.linalg.norm(image)


def test_a_grey_image_has_no_colour():
    basis, rings = cosine_basis((6, 6, 3))
    grey = np.repeat(np.random.default_rng(0).normal(size=[36, 1]), 3, axis=1).ravel()
    coefficients = basis @ grey
    np.testing.assert_allclose(coefficients[rings % 3 != 0], 0, atol=1e-6)


def test_blocks_are_squares_numbered_row_by_row_with_all_channels_in_one():
    blocks = image_blocks((5, 7, 3), 4).reshape(5, 7, 3)
    assert (blocks == blocks[..., :1]).all()
    np.testing.assert_array_equal(blocks[0, :, 0], [0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(blocks[:, 0, 0], [0, 0, 0, 0, 2])
    assert sorted(set(blocks.ravel())) == [0, 1, 2, 3]
