"""All waves of an image at once: products with the basis of cosines, without the basis.

The waves of H x W x C pixels are products of a cosine down, one across and a mix of channels, so a
product with all of them goes through rows, then columns, then channels. A matrix of the waves would
have (H W C)^2 numbers: 19 GB for 128 x 128 pixels in colour, and a thousandth of that is left.

Waves are on a grid here, [H, W, C] flattened: frequencies down, frequencies across, (opponent) colours.
Nothing here reads data.
"""

import numpy as np
from scipy import fft

# Lightness, red against blue, green against both: the channels of natural images, decorrelated.
_OPPONENT_COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def to_waves(images, image_shape):
    """Returns what images have of every wave, float64 [..., d], of images [..., d].

    Args:
      images: float [..., d].
      image_shape: (height, width, channels); d is their product.

    Examples:
      >>> from tfdps.learners.per_record import cosine_transform
      >>> grey = cosine_transform.to_waves([1.0, 1.0, 1.0, 1.0], (2, 2, 1))
      >>> bool(abs(grey - [2, 0, 0, 0]).max() < 1e-12)
      True
    """
    grid = np.reshape(np.asarray(images, np.float64), (-1, *image_shape))
    grid = fft.dctn(grid, axes=(1, 2), norm="ortho") @ colours(image_shape[2]).T
    return grid.reshape(np.shape(images))


def to_images(waves, image_shape):
    """Returns the images float64 [..., d] that have this of every wave, [..., d]: the way back."""
    grid = np.reshape(np.asarray(waves, np.float64), (-1, *image_shape)) @ colours(image_shape[2])
    return fft.idctn(grid, axes=(1, 2), norm="ortho", overwrite_x=True).reshape(np.shape(waves))


def frequencies(image_shape):
    """Returns (frequency, colour) of every wave, float64 and int [d].

    A frequency is a distance from 0, in half periods along the longer side.
    """
    height, width, channels = image_shape
    down, across = np.arange(height)[:, None, None], np.arange(width)[:, None]
    frequency = np.hypot(down / height, across / width) * max(height, width)
    of_waves = np.broadcast_to(frequency, image_shape).ravel()
    return of_waves, np.tile(np.arange(channels), height * width)


def rings(image_shape):
    """Returns the ring of every wave, int [d]: those of like frequency and the same colour."""
    frequency, colour = frequencies(image_shape)
    return np.round(frequency).astype(int) * image_shape[2] + colour


def colours(channels):
    """Returns the mixes of channels that waves have, orthonormal rows, float64 [C, C]."""
    return _OPPONENT_COLOURS if channels == 3 else np.eye(channels)
