"""Grids of images as PNG files, and the one way from float images to bytes."""

import math

import numpy as np
from PIL import Image

from tfdps import checks, files

_SMALLEST_CELL = 32  # pixels: 8x8 digits are shown at 4 times their size
_NUMBERS_AT_A_TIME = 2**22  # of images that are generated
_GAP_VALUE = 128  # grey, seen beside black and white images alike


def to_uint8(images):
    """Returns uint8 images from floats in [-1, 1]: round((x + 1) * 127.5), clipped to [0, 255].

    Half-way cases go to the even neighbour, in NumPy as in TensorFlow; the exported SavedModel
    computes the same formula in float32.
    """
    images = np.asarray(images, np.float32)
    return np.clip(np.round((images + np.float32(1)) * np.float32(127.5)), 0, 255).astype(np.uint8)


def parts(count, image_shape, *, most):
    """Returns slices that cut `count` images into parts of bounded memory, a list.

    Args:
      count: at least 0.
      image_shape: (height, width, channels).
      most: images of a part; fewer where they are large, 21 of 256 x 256 pixels in colour.
    """
    size = max(1, min(most, _NUMBERS_AT_A_TIME // math.prod(image_shape)))
    return [slice(first, first + size) for first in range(0, count, size)]


def class_grid(images, columns):
    """Returns one uint8 image [height, width, C]: the images row by row, `columns` to a row.

    Cells are enlarged by the smallest whole number that makes their sides at least 32 pixels
    (nearest neighbour) and lie one grey pixel apart. With images sorted by label and `columns`
    images of each, a row is a class.

    Args:
      images: uint8 [n, H, W, C], n >= 1.
      columns: images to a row, at least 1.

    Raises:
      UsageError: for another dtype or rank, or no image.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise checks.UsageError(
            "images must be uint8 [n, H, W, C] with n >= 1, "
            f"received {images.dtype} {list(images.shape)}."
        )
    columns = min(checks.at_least("columns", columns, 1), len(images))
    scale = -(-_SMALLEST_CELL // min(_SMALLEST_CELL, *images.shape[1:3]))
    cells = images.repeat(scale, axis=1).repeat(scale, axis=2)
    rows = -(-len(cells) // columns)
    height, width, channels = cells.shape[1:]
    grid = np.full(
        (rows * (height + 1) - 1, columns * (width + 1) - 1, channels), _GAP_VALUE, np.uint8
    )
    for index, cell in enumerate(cells):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        grid[top : top + height, left : left + width] = cell
    return grid


def save_png(path, images, *, columns):
    """Writes `class_grid(images, columns)` to `path`, whole or not at all; see there for errors.

    Missing parent folders are made. Images have 1 (grey), 3 (RGB) or 4 (RGBA) channels.
    """
    picture = as_picture(class_grid(images, columns))
    with files.replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def as_picture(image):
    """Returns a uint8 image [H, W, C] as Pillow takes it: grey ones without their axis of channels.

    Raises:
      UsageError: unless it has 1 (grey), 3 (RGB) or 4 (RGBA) channels.
    """
    channels = image.shape[-1]
    if channels not in (1, 3, 4):
        raise checks.UsageError(f"a PNG file holds 1, 3 or 4 channels, received {channels}.")
    return image[..., 0] if channels == 1 else image
