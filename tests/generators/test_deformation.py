"""Bends and mirrored images: exact where they can be, of the stated size, and off until asked for."""

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from tfdps.checks import UsageError
from tfdps.generators import networks
from tfdps.generators.deformation import Deformation

SHAPE = (20, 16, 3)
NEITHER = np.zeros(40, bool)


def layer_of(warp=0.0, mirror=False):
    layer = Deformation(SHAPE)
    layer([tf.zeros([1, *SHAPE]), tf.zeros([1, 30]), tf.constant([False])])
    layer.set(warp=warp, mirror=mirror)
    return layer


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(40, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def normals():
    return np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32)


def fields(layer, normals):
    """How far each pixel moves, [n, 2, H, W]: columns, then rows."""
    amplitudes = layer.amplitudes(normals).numpy().reshape(len(normals), 2, -1)
    moved = float(layer.warp) * amplitudes @ layer.bumps.values().numpy()[:, :: SHAPE[2]]
    return moved.reshape(len(normals), 2, *SHAPE[:2])


def test_without_warp_and_mirror_images_are_untouched(images, normals):
    received = layer_of()([images, normals, ~NEITHER])
    np.testing.assert_array_equal(received, images)


def test_those_and_only_those_in_the_mirror_are_mirrored(images, normals):
    which = np.arange(40) % 3 == 0
    received = layer_of(mirror=True)([images, normals, which]).numpy()
    np.testing.assert_array_equal(received[which], images[which][:, :, ::-1])
    np.testing.assert_array_equal(received[~which], images[~which])


def test_bends_are_scipys_along_the_rows_and_then_the_columns(images, normals):
    layer = layer_of(warp=0.8)
    received = layer([images, normals, NEITHER]).numpy()
    rows, columns = np.meshgrid(*map(np.arange, SHAPE[:2]), indexing="ij")

    def moved(image, places):
        return scipy.ndimage.map_coordinates(image, places, order=1, mode="nearest")

    for image, other, (right, down) in zip(images, received, fields(layer, normals), strict=True):
        for channel in range(SHAPE[2]):
            expected = moved(image[..., channel], [rows, columns + right])
            expected = moved(expected, [rows + down, columns])
            np.testing.assert_allclose(other[..., channel], expected, atol=2e-5)


def test_pixels_move_as_far_as_stated_everywhere_and_neighbours_alike():
    layer = layer_of(warp=0.7)
    normals = np.random.default_rng(2).normal(size=(20_000, 30)).astype(np.float32)
    moved = fields(layer, normals)
    # Amplitudes are cosines along 50 directions in 30 dimensions: not quite independent.
    np.testing.assert_allclose(moved.std(axis=0), 0.7, rtol=0.08)
    assert np.abs(moved.mean(axis=0)).max() < 5 * 0.7 / np.sqrt(len(normals)) + 1e-3
    assert np.abs(moved).max() < 3.5  # five deviations
    assert np.corrcoef(moved[:, 0, 10, 7], moved[:, 0, 10, 8])[0, 1] > 0.9
    assert abs(np.corrcoef(moved[:, 0, 10, 7], moved[:, 1, 10, 7])[0, 1]) < 0.15
    assert abs(np.corrcoef(moved[:, 0, 2, 2], moved[:, 0, 17, 13])[0, 1]) < 0.15


def test_a_grey_image_stays_grey_and_nothing_leaves_the_range_of_its_pixels(images, normals):
    layer = layer_of(warp=1.0)
    grey = layer([np.full([40, *SHAPE], 0.3, np.float32), normals, NEITHER])
    np.testing.assert_allclose(grey, 0.3, atol=1e-6)
    bent = layer([images, normals, NEITHER]).numpy()
    assert bent.min() >= images.min()
    assert bent.max() <= images.max()


@pytest.mark.parametrize("warp", [-0.1, 1.01, np.nan])
def test_a_warp_out_of_range_is_refused_and_nothing_set(warp):
    layer = layer_of(warp=0.4)
    with pytest.raises(UsageError, match=r"warp must be in \[0, 1\], received"):
        layer.set(warp=warp, mirror=True)
    assert float(layer.warp) == pytest.approx(0.4)
    assert not float(layer.mirror)


class TestInTheMixture:
    """Of three atoms of unequal weights, one of them never picked."""

    WEIGHTS = np.array([[0.3, 0.0, 0.7], [0.0, 1.0, 0.0]])

    def model(self, mirror):
        model = networks.build(
            "mixture", image_shape=SHAPE, num_classes=2, latent_dim=9, num_atoms=3
        )
        pixels, layer = int(np.prod(SHAPE)), model.get_layer("images")
        layer.set_atoms(
            weights=self.WEIGHTS,
            means=np.random.default_rng(3).uniform(-0.5, 0.5, (2, 3, pixels)),
            factors=np.zeros((2, 8, 8)),
            basis=np.eye(8, pixels),
            gains=np.ones((2, 3, pixels)),
            grain=np.zeros(pixels),
        )
        layer.deformation.set(warp=0.0, mirror=mirror)
        return model

    def test_the_second_half_of_an_atoms_z_is_mirrored(self):
        z = np.full((8, 9), 0.5, np.float32)
        # Of class 0 an atom's z go from 0 to 0.3 and to 1, of class 1 there is one atom.
        z[:, 0] = [0.0, 0.149, 0.151, 0.299, 0.301, 0.649, 0.651, 1.0]
        mirrored = np.array([False, False, True, True, False, False, True, True])
        labels = np.zeros(8, np.int32)
        plain, received = (self.model(mirror)([z, labels]).numpy() for mirror in (False, True))
        np.testing.assert_array_equal(received[mirrored], plain[mirrored][:, :, ::-1])
        np.testing.assert_array_equal(received[~mirrored], plain[~mirrored])
        one = self.model(True)([z[[1, 6]], labels[:2] + 1]).numpy()
        np.testing.assert_array_equal(one[0], one[1][:, ::-1])

    def test_half_of_the_images_of_each_atom_are_mirrored(self):
        z = np.random.default_rng(4).random((4000, 9), np.float32)
        layer = self.model(True).get_layer("images")
        atoms, mirrored = (
            part.numpy() for part in layer.place_of(z[:, 0], np.zeros(4000, np.int32))
        )
        for atom in (0, 2):
            share = mirrored[atoms == atom]
            assert abs(share.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(share))


def test_it_is_saved_with_what_was_set(tmp_path, images, normals):
    inputs = [keras.Input(SHAPE), keras.Input((30,)), keras.Input((), dtype="bool")]
    layer = Deformation(SHAPE)
    model = keras.Model(inputs, layer(inputs))
    layer.set(warp=0.6, mirror=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    given = [images, normals, ~NEITHER]
    np.testing.assert_allclose(loaded(given), model(given), atol=1e-6)
