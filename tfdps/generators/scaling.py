"""The size that a refiner works at: images of more than 40 pixels a side are made smaller for it.

A mixture of large images knows their slow waves; what it has of single pixels is noise. A denoiser of
few channels cannot take noise out of every pixel of a large image, and can of a small one. So squares
of f x f pixels become one, their mean, and the finished image is enlarged between the middles of the
squares. Each image is treated by itself.
"""

import math
from collections.abc import Sequence

import keras

LARGEST_SIDE = 40  # pixels, that are not made fewer


def factor(image_shape: Sequence[int]) -> int:
    """Returns f, the side of a square of pixels that becomes one: 1, 2, 4, ...

    Args:
      image_shape: (height, width, channels).

    Examples:
      >>> from tfdps.generators import scaling
      >>> [scaling.factor((side, side, 1)) for side in (28, 64, 128)]
      [1, 2, 4]
    """
    return 2 ** max(0, math.ceil(math.log2(max(image_shape[:2]) / LARGEST_SIDE)))


def refined_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns (height, width, channels) of the images that a refiner of `image_shape` works on."""
    height, width, channels = image_shape
    side = factor(image_shape)
    return math.ceil(height / side), math.ceil(width / side), channels


def shrunk(images):
    """Returns the means of squares of f x f pixels: float [n, h, w, C], of `refined_shape`.

    Below and to the right images are continued by their last pixels to whole squares. A mean moves by
    no more than the pixels of its own image do.

    Args:
      images: float [n, H, W, C], of a known shape but for n.
    """
    height, width, channels = image_shape = tuple(images.shape[1:])
    side = factor(image_shape)
    if side == 1:
        return images
    rows, columns, _ = refined_shape(image_shape)
    images = _continued(images, 1, rows * side - height)
    images = _continued(images, 2, columns * side - width)
    # Rows first: two means of at most five axes, which every ONNX runtime has.
    images = keras.ops.reshape(images, (-1, rows, side, columns * side * channels))
    images = keras.ops.reshape(keras.ops.mean(images, axis=2), (-1, columns, side, channels))
    return keras.ops.reshape(keras.ops.mean(images, axis=2), (-1, rows, columns, channels))


def enlarged(images, image_shape):
    """Returns images of `image_shape`, between whose squares' middles values change in even steps.

    Args:
      images: float [n, h, w, C], of `refined_shape`.
      image_shape: (H, W, C) of what is returned.
    """
    side = factor(image_shape)
    if side == 1:
        return images
    rows, columns, _ = refined_shape(image_shape)
    size = (rows * side, columns * side)
    images = keras.ops.image.resize(images, size, interpolation="bilinear")
    return images[:, : image_shape[0], : image_shape[1]]


def _continued(images, axis, count):
    """The images with their last row (axis 1) or column (axis 2) repeated `count` times more."""
    if not count:
        return images
    last = images[:, -1:] if axis == 1 else images[:, :, -1:]
    return keras.ops.concatenate([images, *[last] * count], axis=axis)
