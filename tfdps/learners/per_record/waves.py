"""Images as waves: the slowest of an orthonormal basis of cosines, sorted into rings of frequency.

Natural images have most of their energy in slow waves, and noise has the same in every wave. So a
ring of waves tells signal from noise better than single pixels do. Nothing here reads data.
"""

import functools

import numpy as np
from scipy import fft

from tfdps.learners.per_record import cosine_transform

_AT_ONCE = 2**22  # numbers of the images that `SlowWaves` makes at a time: 32 MiB


class SlowWaves:
    """The m slowest waves of an image, slowest first; m images are never all held.

    Attributes:
      image_shape: (height, width, channels), of d numbers.
      places: int [m], where each is on the grid of `cosine_transform`.
      rings: int [m], its ring. Rings are counted by distance from frequency zero, apart for each
        (opponent) colour.

    Args:
      image_shape: as above.
      most: how many waves, the slowest ones; default all d. Ties at the end are cut.
    """

    def __init__(self, image_shape, most=None):
        self.image_shape = tuple(image_shape)
        frequency, _ = cosine_transform.frequencies(image_shape)
        self.places = np.argsort(frequency, kind="stable")[:most]
        self.rings = cosine_transform.rings(image_shape)[self.places]

    def to_images(self, coefficients):
        """Returns the images float64 [..., d] of coefficients [..., m]."""
        coefficients = np.asarray(coefficients)
        grid = np.zeros([*coefficients.shape[:-1], int(np.prod(self.image_shape))])
        grid[..., self.places] = coefficients
        return cosine_transform.to_images(grid, self.image_shape)

    def of_images(self, images):
        """Returns what images [..., d] have of these waves, float64 [..., m]."""
        return cosine_transform.to_waves(images, self.image_shape)[..., self.places]

    def pixel_variances(self, covariance):
        """Returns the variances of pixels [d] of images whose coefficients have this covariance.

        Args:
          covariance: float [m, m], symmetric.
        """
        return sum(
            np.sum(images * self.to_images(covariance[rows]), axis=0)
            for rows, images in self._in_blocks()
        )

    def products(self, factors):
        """Returns the inner products [m, m] of the waves, each pixel times its own of `factors` [d]."""
        return np.concatenate([self.of_images(images * factors) for _, images in self._in_blocks()])

    def _in_blocks(self):
        """Yields the waves as images, a block at a time: (a slice of numbers, float64 [rows, d])."""
        rows = max(1, _AT_ONCE // int(np.prod(self.image_shape)))
        for first in range(0, len(self.places), rows):
            block = slice(first, min(first + rows, len(self.places)))
            yield block, _rows(self.image_shape, self.places[block])


@functools.lru_cache(maxsize=1)
def _sides(image_shape):
    """The cosines down [H, H] and across [W, W], a frequency a row, and the mixes of channels."""
    height, width, channels = image_shape
    down, across = (fft.dct(np.eye(side), axis=0, norm="ortho") for side in (height, width))
    return down, across, cosine_transform.colours(channels)


def _rows(image_shape, places):
    """The waves at `places` of the grid as images, float64 [n, d]."""
    down, across, colours = _sides(image_shape)
    v, u, k = np.unravel_index(places, image_shape)
    waves = np.einsum("ni,nj,nk->nijk", down[v], across[u], colours[k], optimize=True)
    return waves.reshape(len(places), -1)


def cosine_basis(image_shape, most=None):
    """Returns (basis float32 [m, d], rings int [m]): orthonormal waves in rows, and each one's ring.

    For what must have the waves as a matrix: a query of second moments. It has m d numbers.

    Args:
      image_shape: (height, width, channels); d is their product.
      most: how many waves to return, the slowest ones; default all d. Ties at the end are cut.
    """
    waves = SlowWaves(image_shape, most)
    basis = np.empty([len(waves.places), int(np.prod(image_shape))], np.float32)
    for block, rows in waves._in_blocks():
        basis[block] = rows
    return basis, waves.rings


def image_blocks(image_shape, side):
    """Returns the number of each pixel's block, int [d], from 0 on: squares, all channels together.

    Args:
      image_shape: (height, width, channels); d is their product.
      side: of a block, in pixels; those at the right and lower end may be smaller.
    """
    height, width, channels = image_shape
    across = -(-width // side)
    blocks = np.arange(height)[:, None] // side * across + np.arange(width) // side
    return np.repeat(blocks.ravel(), channels)
