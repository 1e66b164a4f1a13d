"""The size that a refiner works at: means of squares, each image by itself, and the way back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdps.generators import networks, scaling
from tfdps.generators.refinement import RefinerShape

SHAPES = [(64, 64, 1), (45, 50, 3), (100, 41, 1), (128, 128, 3), (120, 170, 1)]


def images_of(shape, count=3):
    return np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)


def test_up_to_forty_pixels_a_side_nothing_is_changed():
    for shape in ((8, 8, 1), (40, 40, 3), (16, 40, 1)):
        assert (scaling.factor(shape), scaling.refined_shape(shape)) == (1, shape)
        images = images_of(shape)
        assert scaling.shrunk(images) is images
        assert scaling.enlarged(images, shape) is images


@pytest.mark.parametrize(
    ("side", "factor"), [(41, 2), (80, 2), (81, 4), (160, 4), (161, 8), (256, 8), (512, 16)]
)
def test_larger_ones_are_halved_until_they_have_forty_at_most(side, factor):
    assert scaling.factor((side, 5, 1)) == scaling.factor((5, side, 3)) == factor
    assert max(scaling.refined_shape((side, 5, 1))) <= 40


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pixel_is_the_mean_of_its_square_and_what_is_missing_is_as_the_edge(shape):
    side, images = scaling.factor(shape), images_of(shape)
    missing = [(0, -length % side) for length in shape[:2]]
    whole = np.pad(images, [(0, 0), *missing, (0, 0)], mode="edge")
    expected = np.mean(
        [whole[:, i::side, j::side] for i in range(side) for j in range(side)], axis=0
    )
    found = scaling.shrunk(images).numpy()
    assert found.shape == (3, *scaling.refined_shape(shape))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_enlarged_has_the_shape_and_the_slow_waves(shape):
    height, width, channels = shape
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    image = (0.5 * np.cos(2 * rows) + 0.3 * np.sin(2 * columns))[None, :, :, None]
    image = np.repeat(image, channels, axis=3).astype(np.float32)
    found = scaling.enlarged(scaling.shrunk(image), shape).numpy()
    assert found.shape == (1, *shape)
    assert np.abs(found - image).max() < 0.1
    assert np.abs(found - image).mean() < 0.01


def test_an_image_is_shrunk_by_itself_bit_for_bit():
    shape = (128, 100, 3)
    shrink = tf.function(lambda images: scaling.shrunk(images), jit_compile=True)
    images = images_of(shape, 9)
    whole = shrink(images).numpy()
    for row in (0, 4, 8):
        others = np.full_like(images, np.nan)
        others[row] = images[row]
        np.testing.assert_array_equal(shrink(others).numpy()[row], whole[row])


def test_a_refined_generator_of_large_images_has_a_denoiser_of_small_ones_and_smooth_pixels():
    shape, refiner = (100, 70, 3), RefinerShape(width=8, start=0.4, levels=2)
    model = networks.build(
        "mixture", image_shape=shape, num_classes=2, latent_dim=4, num_atoms=1, refiner=refiner
    )
    random, pixels = np.random.default_rng(0), int(np.prod(shape))
    model.get_layer("images").set_atoms(
        weights=np.ones((2, 1)),
        means=random.uniform(-0.5, 0.5, (2, 1, pixels)),
        factors=0.1 * random.normal(size=(2, 3, 3)),
        basis=np.linalg.qr(random.normal(size=(pixels, 3)))[0].T,
        gains=np.ones((2, 1, pixels)),
        grain=np.zeros(pixels),
    )
    assert model.get_layer("refined").denoiser.image_shape == (25, 18, 3)
    z, labels = random.random((5, 4), np.float32), np.array([0, 1, 0, 1, 0], np.int32)
    images = model([z, labels]).numpy()
    assert images.shape == (5, *shape)
    assert np.abs(images).max() <= 1
    bare = keras.Model(model.inputs, model.get_layer("images").output)([z, labels]).numpy()
    steps = [np.abs(np.diff(values, axis=1)).mean() for values in (images, bare)]
    assert steps[0] < 0.5 * steps[1]
