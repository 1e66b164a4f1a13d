"""A small U-net that takes Gaussian noise out of images: the network of the refiner.

D(x, s) is the denoised image of x = image + s noise, preconditioned as by Karras et al., NeurIPS 2022
(arXiv 2206.00364), table 1, with F the network and sigma_data the spread of images' pixels:

    D(x, s) = clip(c_skip(s) x + c_out(s) F(c_in(s) x, s), -1, 1)

The clip is part of it: it lets the network push a background beyond black, where errors do not show.
Normalisation is by group and image, never by batch: what is done to an image depends on no other.
"""

import itertools
import math
import typing
from collections.abc import Sequence

import keras

from tfdps.generators.noted_layers import NotedConv2D, NotedDense

SIGMA_DATA = 0.6  # standard deviation of a pixel in [-1, 1], about
SMALLEST_LEVEL, LARGEST_LEVEL = 0.03, 1.0  # of noise, in pixel units, that it is trained for
_LEAK = 0.05  # slope of the clip outside [-1, 1] while it is trained
_GROUPS = 8
_PATCH_SIDE = 2  # pixels, of the squares that the network sees as channels
NUM_FEATURES = 4  # of a noise level


@keras.saving.register_keras_serializable(package="tfdps")
class Denoiser(keras.layers.Layer):
    """D of the module's text, for images of one shape; call([images, levels, labels]).

    Args:
      image_shape: (height, width, channels).
      num_classes: L; labels in [0, L), and L where the class is not to matter.
      width: channels at the finer of two scales, a multiple of 8; half as many more at the coarser,
        rounded up to a multiple of 8.

    Examples:
      >>> import numpy as np, tfdps
      >>> denoiser = tfdps.generators.Denoiser((28, 28, 1), num_classes=10, width=16)
      >>> images = np.zeros([2, 28, 28, 1], np.float32)
      >>> denoiser([images, np.array([0.5, 0.1], np.float32), np.array([3, 10])]).shape
      TensorShape([2, 28, 28, 1])
    """

    def __init__(
        self, image_shape: Sequence[int], *, num_classes: int, width: int, **kwargs: typing.Any
    ) -> None:
        super().__init__(**kwargs)
        self.image_shape, self.num_classes, self.width = tuple(image_shape), num_classes, width
        self.network = _network(self.image_shape, num_classes, width)

    def build(self, input_shape: typing.Any = None) -> None:
        self.built = True

    def call(self, inputs: typing.Any, training: bool = False) -> typing.Any:
        """The denoised images float32 [n, H, W, C] in [-1, 1]; training: beyond it, by `_LEAK`.

        Args:
          inputs: [images with noise [n, H, W, C], levels [n], labels int32 [n]].
          training: whether the clip leaks, so that what is beyond it has a gradient.
        """
        images, levels, labels = inputs
        levels = keras.ops.reshape(levels, (-1, 1, 1, 1))
        spread = keras.ops.sqrt(levels**2 + SIGMA_DATA**2)
        features = keras.ops.concatenate(
            [_features(levels[:, 0, 0]), keras.ops.one_hot(labels, self.num_classes)], axis=1
        )
        found = self.network([images / spread, features])
        images = (SIGMA_DATA / spread) ** 2 * images + levels * SIGMA_DATA / spread * found
        clipped = keras.ops.clip(images, -1.0, 1.0)
        return clipped + _LEAK * (images - clipped) if training else clipped

    def loss(
        self, images: typing.Any, noise: typing.Any, levels: typing.Any, labels: typing.Any
    ) -> typing.Any:
        """Returns each denoised image's mean squared error, float32 [n], weighted alike for all levels.

        Args:
          images: clean, float32 [n, H, W, C] in [-1, 1].
          noise: standard normal, of the same shape.
          levels: float32 [n], of the noise.
          labels: int32 [n].
        """
        noisy = images + keras.ops.reshape(levels, (-1, 1, 1, 1)) * noise
        error = self([noisy, levels, labels], training=True) - images
        weights = (levels**2 + SIGMA_DATA**2) / (levels * SIGMA_DATA) ** 2
        return weights * keras.ops.mean(error**2, axis=(1, 2, 3))

    def compute_output_shape(self, input_shape: typing.Any) -> typing.Any:
        return input_shape[0]

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {
            "image_shape": self.image_shape,
            "num_classes": self.num_classes,
            "width": self.width,
        }


def _features(levels):
    """[n, 4]: of noise levels [n, 1]."""
    logarithm = keras.ops.log(levels / 0.3)
    return keras.ops.concatenate(
        [
            keras.ops.ones_like(levels),
            logarithm,
            keras.ops.sin(1.5 * logarithm),
            keras.ops.cos(1.5 * logarithm),
        ],
        axis=1,
    )


def _network(image_shape, num_classes, width):
    """F: (images, features of level and class) -> images; its last layer starts small."""
    images = keras.Input(image_shape, dtype="float32")
    features = keras.Input((NUM_FEATURES + num_classes,), dtype="float32")
    patches = Patches(image_shape, _PATCH_SIDE)
    seeds = itertools.count()  # the same weights in every new denoiser

    def convolution(filters, *, size=3, strides=1, scale=1.0):
        return NotedConv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(scale**2, seed=next(seeds)),
        )

    def residual(x):
        """x and what two convolutions, each after a modulated normalisation, add to it."""
        y = x
        for scale in (1.0, 0.1):
            y = keras.layers.Activation("silu")(_modulated(y, features))
            y = convolution(x.shape[-1], scale=scale)(y)
        return keras.layers.Add()([x, y])

    x = fine = residual(convolution(width)(patches(images)))
    coarser = _GROUPS * math.ceil(1.5 * width / _GROUPS)
    x = residual(convolution(coarser, strides=2)(x))
    x = keras.layers.UpSampling2D(2)(convolution(width, size=1)(x))
    x = residual(keras.layers.Add()([x, fine]))
    x = keras.layers.Activation("silu")(_modulated(x, features))
    x = convolution(image_shape[2] * _PATCH_SIDE**2, scale=0.1)(x)
    return keras.Model([images, features], Unpatched(image_shape, _PATCH_SIDE)(x), name="denoiser")


def _modulated(x, features):
    """x, normalised, with a scale and a shift of each channel that follow the features: FiLM."""
    dense = NotedDense(2 * x.shape[-1], use_bias=False, kernel_initializer="zeros")
    return Modulation()([x, dense(features)])


@keras.saving.register_keras_serializable(package="tfdps")
class Modulation(keras.layers.Layer):
    """Group normalisation (Wu & He 2018) of each image, scaled and shifted: [x, [scale, shift]] -> y.

    y = (x - mean) / sqrt(variance + 1e-5) * (1 + scale) + shift, with mean and variance of an image's
    group of channels, as one factor and one summand a channel: ONNX runtimes go over x once.
    """

    def call(self, inputs):
        x, film = inputs
        channels = x.shape[-1]
        means, squares = (self._of_groups(values) for values in (x, x * x))
        variances = keras.ops.maximum(squares - means**2, 0.0)
        scale, shift = film[:, :channels], film[:, channels:]
        factor = (1.0 + scale) * keras.ops.rsqrt(variances + 1e-5)
        summand = shift - means * factor
        return x * factor[:, None, None, :] + summand[:, None, None, :]

    def _of_groups(self, values):
        """[n, c]: the mean over positions and the channels of a group, for each of its channels."""
        channels = values.shape[-1]
        means = keras.ops.reshape(
            keras.ops.mean(values, axis=(1, 2)), (-1, _GROUPS, channels // _GROUPS)
        )
        return keras.ops.repeat(keras.ops.mean(means, axis=2), channels // _GROUPS, axis=1)

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable(package="tfdps")
class Patches(keras.layers.Layer):
    """Squares of side x side pixels as channels: [n, H, W, C] -> [n, h, w, side^2 C].

    Images are continued by zeros, grey, below and to the right, to an even number of squares.

    Args:
      image_shape: (H, W, C).
      side: of a square.
    """

    def __init__(self, image_shape, side, **kwargs):
        super().__init__(**kwargs)
        self.image_shape, self.side = tuple(image_shape), side
        height, width, _ = self.image_shape
        self.rows, self.columns = (2 * math.ceil(length / (2 * side)) for length in (height, width))

    def call(self, images):
        height, width, channels = self.image_shape
        below, right = self.rows * self.side - height, self.columns * self.side - width
        if below or right:
            images = keras.ops.pad(images, [(0, 0), (0, below), (0, right), (0, 0)])
        x = keras.ops.reshape(
            images, (-1, self.rows, self.side, self.columns * self.side * channels)
        )
        x = keras.ops.reshape(x, (-1, self.rows, self.side, self.columns, self.side * channels))
        x = keras.ops.transpose(x, (0, 1, 3, 2, 4))
        return keras.ops.reshape(x, (-1, self.rows, self.columns, self.side**2 * channels))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.rows, self.columns, self.side**2 * self.image_shape[2])

    def get_config(self):
        return super().get_config() | {"image_shape": self.image_shape, "side": self.side}


@keras.saving.register_keras_serializable(package="tfdps")
class Unpatched(Patches):
    """The way back from `Patches` of the same arguments, without what continued the images."""

    def call(self, x):
        height, width, channels = self.image_shape
        x = keras.ops.reshape(x, (-1, self.rows, self.columns, self.side, self.side * channels))
        x = keras.ops.transpose(x, (0, 1, 3, 2, 4))
        x = keras.ops.reshape(x, (-1, self.rows * self.side, self.columns * self.side, channels))
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.image_shape)


def levels_of(uniform: typing.Any) -> typing.Any:
    """Returns noise levels to train for, as many of each octave, of numbers uniform in [0, 1)."""
    return SMALLEST_LEVEL * (LARGEST_LEVEL / SMALLEST_LEVEL) ** uniform
