"""What is known of images without seeing any: bent a little, or mirrored, they show the same."""

import keras
import numpy as np

from tfdps import checks
from tfdps.generators.byte_table import ByteTable
from tfdps.generators.random_cosines import RandomCosines

# How far a pixel is moved at most: three standard deviations of a warp of 1.
_REACH = 3

# Bends have the size of a fifth of the image: those of strokes and sleeves, not of their edges.
_BUMPS = 5
_WIDTH = 0.7  # a bump's standard deviation, in distances between two of them


@keras.saving.register_keras_serializable(package="tfdps")
class Deformation(keras.layers.Layer):
    """Bends images along smooth random fields and mirrors some of them.

        image[r, c] <- image[r + v[r, c], c + h[r, c]]

    v and h are sums of bumps with random amplitudes from the latent's normals, of a standard
    deviation of `warp` everywhere. Between pixels values are interpolated linearly, first along the
    rows; beyond the image its border goes on. Sums of shifted images alone: no gather with indices
    that a draw decides, which a TPU is slow at.

    Weights, none trainable: warp [], pixels; mirror [], 1 or 0, both 0 until `set`; bumps, a ByteTable.

    Args:
      image_shape: (height, width, channels).
    """

    def __init__(self, image_shape, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.amplitudes = RandomCosines(2 * _BUMPS**2, seed=1, name="amplitudes")

    def build(self, input_shape):
        self.amplitudes.build(input_shape[1])
        self.warp = self.add_weight(name="warp", shape=(), initializer="zeros", trainable=False)
        self.mirror = self.add_weight(name="mirror", shape=(), initializer="zeros", trainable=False)
        bumps = np.repeat(_bumps(*self.image_shape[:2]), self.image_shape[2], axis=1)
        self.bumps = ByteTable(bumps.shape, axis=1, initial=bumps, name="bumps")

    def set(self, *, warp, mirror):
        """Sets how much is bent, and whether images are mirrored; returns None.

        Args:
          warp: standard deviation of how far a pixel moves along each axis, in pixels, 0 to 1.
          mirror: whether images that `call` is told to mirror are mirrored.

        Raises:
          UsageError: for a warp outside of that.

        Guarantee: public settings, no number of them from private records.
        """
        checks.fraction("warp", warp, zero=True, one=True)
        self.warp.assign(warp)
        self.mirror.assign(float(mirror))

    def call(self, inputs):
        """Returns float32 [n, H, W, C].

        Args:
          inputs: (images [n, H, W, C], normals [n, p], which of them to mirror: bool [n]).
        """
        images, normals, mirrored = inputs
        mirrored = keras.ops.logical_and(mirrored, self.mirror > 0.5)
        images = keras.ops.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        height, width, channels = self.image_shape
        # Channels beside columns: an ONNX runtime is slow at an axis of one channel.
        images = keras.ops.reshape(images, (-1, height, width * channels))
        amplitudes = keras.ops.reshape(self.amplitudes(normals), (-1, 2, _BUMPS**2))
        moved = self.warp * keras.ops.matmul(amplitudes, self.bumps.values())
        moved = keras.ops.clip(moved, -float(_REACH), float(_REACH))
        moved = keras.ops.reshape(moved, (-1, 2, height, width * channels))
        images = _moved(images, moved[:, 0], axis=2, stride=channels)
        images = _moved(images, moved[:, 1], axis=1, stride=1)
        return keras.ops.reshape(images, (-1, *self.image_shape))

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], *self.image_shape)

    def get_config(self):
        return super().get_config() | {"image_shape": self.image_shape}


def _moved(images, distance, axis, stride):
    """Each pixel from `distance` pixels further along the axis, interpolated linearly.

    Both [n, H, W * C]; a pixel is `stride` places of the axis long.
    """
    side, before = images.shape[axis], (slice(None),) * axis
    first, last = images[(*before, slice(stride))], images[(*before, slice(-stride, None))]
    wider = keras.ops.concatenate([first] * _REACH + [images] + [last] * _REACH, axis=axis)
    total = 0.0
    for step in range(-_REACH, _REACH + 1):
        start = stride * (_REACH + step)
        share = keras.ops.maximum(1.0 - keras.ops.abs(distance - step), 0.0)
        total += share * wider[(*before, slice(start, start + side))]
    return total


def _bumps(height, width):
    """[B, H * W]: Gaussian bumps on a grid over the image, of sum of squares 1 in each pixel."""

    def along(side):
        centres = (np.arange(_BUMPS) + 0.5) / _BUMPS
        places = (np.arange(side) + 0.5) / side
        return np.exp(-0.5 * ((centres[:, None] - places) * _BUMPS / _WIDTH) ** 2)

    bumps = np.einsum("ih,jw->ijhw", along(height), along(width)).reshape(_BUMPS**2, -1)
    return bumps / np.linalg.norm(bumps, axis=0)
