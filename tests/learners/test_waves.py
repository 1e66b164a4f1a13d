"""The basis of waves: orthonormal, slowest first, colours apart."""

import numpy as np
import pytest

from tfdps.learners.per_record import class_rounds, cosine_transform
from tfdps.learners.per_record.waves import SlowWaves, cosine_basis, image_blocks

SHAPES = [(8, 8, 1), (5, 7, 3), (4, 4, 2)]
# The matrix is of float32 numbers.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


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


class TestWithoutTheMatrix:
    """Rows, then columns, then colours give what the matrix of all waves gives."""

    @pytest.mark.parametrize("shape", SHAPES)
    def test_all_waves_of_images(self, shape):
        basis, rings = cosine_basis(shape)
        places = SlowWaves(shape).places
        images = np.random.default_rng(0).normal(size=(2, 3, np.prod(shape)))
        found = cosine_transform.to_waves(images, shape)
        np.testing.assert_allclose(found[..., places], images @ basis.T, **CLOSE)
        np.testing.assert_allclose(cosine_transform.to_images(found, shape), images, atol=1e-12)
        np.testing.assert_array_equal(cosine_transform.rings(shape)[places], rings)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_slowest_waves(self, shape, monkeypatch):
        monkeypatch.setattr("tfdps.learners.per_record.waves._AT_ONCE", 300)  # several blocks
        waves, random = SlowWaves(shape, 20), np.random.default_rng(1)
        basis, rings = cosine_basis(shape, 20)
        np.testing.assert_array_equal(waves.rings, rings)
        images = random.normal(size=(4, np.prod(shape)))
        np.testing.assert_allclose(waves.of_images(images), images @ basis.T, **CLOSE)
        coefficients = random.normal(size=(4, len(basis)))
        np.testing.assert_allclose(waves.to_images(coefficients), coefficients @ basis, **CLOSE)
        root = random.normal(size=(len(basis), len(basis)))
        covariance = root @ root.T
        np.testing.assert_allclose(
            waves.pixel_variances(covariance), np.diag(basis.T @ covariance @ basis), rtol=1e-4
        )
        factors = random.uniform(size=np.prod(shape))
        np.testing.assert_allclose(waves.products(factors), basis * factors @ basis.T, **CLOSE)

    @pytest.mark.parametrize("rank", [1, 6, 20])
    def test_the_principal_directions_are_the_singular_vectors(self, rank):
        """Of a matrix of rank 6: the further directions are orthonormal, of no variance."""
        shape, random = (6, 5, 3), np.random.default_rng(2)
        waves, (rows, _) = SlowWaves(shape, 30), cosine_basis(shape, 30)
        root = random.normal(size=(30, 6)) @ random.normal(size=(6, 30))
        factors = random.uniform(0.5, 2, 90)
        basis, variances = class_rounds._principal(waves, root, factors, rank)
        vectors, scales, _ = np.linalg.svd(factors[:, None] * (rows.T @ root), full_matrices=False)
        np.testing.assert_allclose(variances, scales[:rank] ** 2, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(basis @ basis.T, np.eye(rank), atol=1e-10)
        cosines = np.abs(np.sum(basis.T * vectors[:, :rank], axis=0))
        np.testing.assert_allclose(cosines[: min(rank, 6)], 1, atol=1e-6)
