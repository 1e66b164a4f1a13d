import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdps.checks import UsageError
from tfdps.generators import pixels


def constant_images(values, shape=(8, 8, 1)):
    return np.stack([np.full(shape, value, np.uint8) for value in values])


def test_to_uint8_maps_the_ends_and_rounds_half_to_even():
    levels = (np.arange(256) / 127.5 - 1).astype(np.float32)
    np.testing.assert_array_equal(pixels.to_uint8(levels), np.arange(256))
    assert pixels.to_uint8([0.0]) == 128  # 127.5
    np.testing.assert_array_equal(pixels.to_uint8([-1.5, 1.5]), [0, 255])


def test_to_uint8_is_the_formula_of_the_export_bit_for_bit():
    x = np.random.default_rng(0).uniform(-1.1, 1.1, 100_000).astype(np.float32)
    x = np.concatenate([x, ((np.arange(510) + 0.5) / 255 - 1).astype(np.float32)])  # near ties
    expected = tf.cast(tf.clip_by_value(tf.round((x + 1.0) * 127.5), 0.0, 255.0), tf.uint8)
    np.testing.assert_array_equal(pixels.to_uint8(x), expected)


def test_small_images_are_enlarged_and_lie_one_grey_pixel_apart():
    grid = pixels.class_grid(constant_images([0, 50, 100, 150, 200]), 3)
    assert grid.shape == (2 * 33 - 1, 3 * 33 - 1, 1)
    assert grid.dtype == np.uint8
    for index, value in enumerate([0, 50, 100, 150, 200]):
        top, left = index // 3 * 33, index % 3 * 33
        assert np.all(grid[top : top + 32, left : left + 32] == value)
    assert np.all(grid[32] == 128)
    assert np.all(grid[:, 32] == 128)
    assert np.all(grid[33:, 66:] == 128)  # the empty cell


@pytest.mark.parametrize(("side", "cell"), [(8, 32), (28, 56), (32, 32), (33, 33), (64, 64)])
def test_the_enlargement_is_the_smallest_whole_number(side, cell):
    assert pixels.class_grid(constant_images([1], (side, side, 3)), 1).shape == (cell, cell, 3)


def test_pixels_keep_their_places_when_enlarged():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 16, 3), np.uint8)
    grid = pixels.class_grid(image, 1)
    np.testing.assert_array_equal(grid[::4, ::4], image[0])


def test_fewer_images_than_columns_make_a_short_row():
    assert pixels.class_grid(constant_images([1, 2]), 10).shape == (32, 65, 1)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_a_saved_grid_reads_back(tmp_path, channels, mode):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), np.uint8)
    path = tmp_path / "new" / "grid.png"
    pixels.save_png(path, images, columns=2)
    picture = Image.open(path)
    assert picture.mode == mode
    expected = pixels.class_grid(images, 2)
    np.testing.assert_array_equal(np.asarray(picture).reshape(expected.shape), expected)
    assert os.listdir(path.parent) == ["grid.png"]


def test_a_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    pixels.save_png(path, constant_images([1]), columns=1)
    before = path.read_bytes()

    def half_written(self, name, format):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        pixels.save_png(path, constant_images([2]), columns=1)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["grid.png"]


@pytest.mark.parametrize(
    ("images", "columns", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), 1, "must be uint8 .* received float32"),
        (np.zeros((8, 8, 1), np.uint8), 1, r"received uint8 \[8, 8, 1\]"),
        (np.zeros((0, 8, 8, 1), np.uint8), 1, r"received uint8 \[0, 8, 8, 1\]"),
        (np.zeros((1, 8, 8, 1), np.uint8), 0, "columns must be >= 1, received 0"),
        (np.zeros((1, 8, 8, 2), np.uint8), 1, "1, 3 or 4 channels, received 2"),
    ],
)
def test_what_is_no_grid_of_images_is_refused(tmp_path, images, columns, message):
    with pytest.raises(UsageError, match=message):
        pixels.save_png(tmp_path / "grid.png", images, columns=columns)
    assert not os.listdir(tmp_path)
