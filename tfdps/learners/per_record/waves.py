"""Images as waves: a fixed orthonormal basis of cosines, sorted into rings of equal frequency.

Natural images have most of their energy in slow waves, and noise has the same in every wave. So a
ring of waves tells signal from noise better than single pixels do. Nothing here reads data.
"""

import numpy as np
from scipy import fft

# Lightness, red against blue, green against both: the channels of natural images, decorrelated.
_OPPONENT_COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def cosine_basis(image_shape, most=None):
    """Returns (basis float32 [m, d], rings int [m]): orthonormal waves in rows, and each one's ring.

    Rings are counted by distance from frequency zero, apart for each (opponent) colour; waves come
    with the slowest first.

    Args:
      image_shape: (height, width, channels); d is their product.
      most: how many waves to return, the slowest ones; default all d. Ties at the end are cut.
    """
    height, width, channels = image_shape
    down, across = (fft.dct(np.eye(side), axis=0, norm="ortho") for side in (height, width))
    colours = _OPPONENT_COLOURS if channels == 3 else np.eye(channels)
    v, u, k = (
        index.ravel()
        for index in np.meshgrid(*(np.arange(side) for side in image_shape), indexing="ij")
    )
    frequency = np.hypot(v / height, u / width) * max(height, width)
    order = np.argsort(frequency, kind="stable")[:most]
    v, u, k = v[order], u[order], k[order]
    waves = np.einsum("ni,nj,nk->nijk", down[v], across[u], colours[k], optimize=True)
    rings = np.round(frequency[order]).astype(int) * channels + k
    return waves.reshape(len(order), -1).astype(np.float32), rings


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
