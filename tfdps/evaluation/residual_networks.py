"""The three classifiers of DPImageBench: ResNet-110, WRN-40-4 and ResNeXt-29, 8x64d.

Sources: He et al., CVPR 2016 (arXiv 1512.03385), section 4.2, with projections where the shape changes;
Zagoruyko & Komodakis, BMVC 2016 (arXiv 1605.07146); Xie et al., CVPR 2017 (arXiv 1611.05431), section
5.2. Images are uint8 [n, H, W, C], outputs logits [n, L].
"""

import keras

_DROPOUT = 0.3  # of WRN


class _Builder:
    """Layers whose weights follow a seed."""

    def __init__(self, seed):
        self._seeds = keras.random.SeedGenerator(seed)
        self.seed = seed

    def convolution(self, x, filters, size, strides=1, groups=1):
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            "same",
            groups=groups,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", seed=self._seeds),
        )(x)

    def normal(self, x, rectified=True):
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
        return keras.layers.ReLU()(x) if rectified else x

    def skip(self, x, like, strides):
        """x, or its projection where `like` has another shape."""
        if x.shape == like.shape:
            return x
        return self.normal(self.convolution(x, like.shape[-1], 1, strides), rectified=False)

    def logits(self, x, num_classes):
        initializer = keras.initializers.GlorotUniform(self._seeds)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.layers.Dense(num_classes, kernel_initializer=initializer)(x)


def _staged(x, block, widths, blocks):
    """Stages of `blocks` blocks each, whose first one halves the image from the second stage on."""
    for stage, width in enumerate(widths):
        for number in range(blocks):
            x = block(x, width, 2 if stage and not number else 1)
    return x


def _resnet(build, x, num_classes, blocks=18):
    def block(x, width, strides):
        y = build.normal(build.convolution(x, width, 3, strides))
        y = build.normal(build.convolution(y, width, 3), rectified=False)
        return keras.layers.ReLU()(keras.layers.Add()([y, build.skip(x, y, strides)]))

    x = build.normal(build.convolution(x, 16, 3))
    return build.logits(_staged(x, block, (16, 32, 64), blocks), num_classes)


def _wide_resnet(build, x, num_classes, blocks=6):
    def block(x, width, strides):
        first = build.normal(x)
        y = build.normal(build.convolution(first, width, 3, strides))
        y = keras.layers.Dropout(_DROPOUT, seed=build.seed)(y)
        y = build.convolution(y, width, 3)
        if x.shape != y.shape:
            x = build.convolution(first, width, 1, strides)
        return keras.layers.Add()([x, y])

    x = _staged(build.convolution(x, 16, 3), block, (64, 128, 256), blocks)
    return build.logits(build.normal(x), num_classes)


def _resnext(build, x, num_classes, blocks=3):
    def block(x, width, strides):
        inner = 2 * width  # 8 groups of a quarter of the width
        y = build.normal(build.convolution(x, inner, 1))
        y = build.normal(build.convolution(y, inner, 3, strides, groups=8))
        y = build.normal(build.convolution(y, width, 1), rectified=False)
        return keras.layers.ReLU()(keras.layers.Add()([y, build.skip(x, y, strides)]))

    x = build.normal(build.convolution(x, 64, 3))
    return build.logits(_staged(x, block, (256, 512, 1024), blocks), num_classes)


_NETWORKS = {"resnet110": _resnet, "wrn40_4": _wide_resnet, "resnext29": _resnext}
NAMES = tuple(_NETWORKS)


def build(name, image_shape, num_classes, *, seed=0):
    """Returns the keras.Model of that name, uint8 images -> logits.

    Args:
      name: one of NAMES.
      image_shape: (height, width, channels).
      num_classes: L.
      seed: of the initial weights and the dropout.
    """
    images = keras.Input(image_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    return keras.Model(images, _NETWORKS[name](_Builder(seed), x, num_classes), name=name)
