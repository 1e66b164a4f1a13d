"""Conditional Keras generators, from (z, labels) to images in [-1, 1]."""

import contextlib

import keras

from tfdps import checks, mixture

# The distribution of z that every generator is trained with: independent, uniform on [0, 1].
LATENT_DISTRIBUTION = "uniform[0,1]"

# The weight of the past in the moving statistics. At Keras' 0.99 they lag behind the weights of a
# generator that still learns fast, and the sample grids of a young run show it.
_MOMENTUM = 0.9
_EPSILON = 1e-5


def build(name, *, image_shape, num_classes, latent_dim, num_atoms=1, precision="float32"):
    """Returns the built generator `name`: a keras.Model called as model([z, labels], training=...).

    z is float32 [n, latent_dim], labels int32 [n] in [0, num_classes); the images are float32
    [n, *image_shape] in [-1, 1]. With training=False an image depends on its own (z, label) alone:
    batch normalisation then uses its moving statistics.

    Args:
      name: "mlp" (any shape), "dcgan" (sides that are multiples of 4) or "biggan" (square, side
        4 * 2^k with k >= 1), the last two the shapes of Cao et al., NeurIPS 2021; or "mixture" (any
        shape), which is not trained: see mixture.MixtureLayer, get_layer("images") of the model.
      image_shape: (height, width, channels).
      num_classes: the number of labels.
      latent_dim: the dimension of z; 1 + the number of coordinates for "mixture".
      num_atoms: Gaussians in each class, for "mixture" alone.
      precision: "float32", or "bfloat16" to compute in; weights and images are float32 all the same.

    Raises:
      UsageError: for an unknown name, or a shape that the architecture cannot produce.
    """
    checks.one_of("generator", name, tuple(_BODIES))
    if len(image_shape) != 3:
        raise checks.UsageError(
            f"image_shape must be (height, width, channels), received {tuple(image_shape)}."
        )
    for side in image_shape:
        checks.at_least("image_shape", side, 1)
    checks.at_least("num_classes", num_classes, 1)
    checks.at_least("latent_dim", latent_dim, 1)
    z = keras.Input((latent_dim,), dtype="float32", name="z")
    labels = keras.Input((), dtype="int32", name="labels")
    settings = {"num_atoms": num_atoms} if name == "mixture" else {}
    with _computing_in(precision):
        images = _BODIES[name](z, labels, tuple(image_shape), num_classes, **settings)
    if precision != "float32":
        images = keras.layers.Activation("linear", dtype="float32")(images)
    return keras.Model([z, labels], images, name=name)


@contextlib.contextmanager
def _computing_in(precision):
    """Layers that are made in the block compute in a precision, on float32 weights."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def recalibrate(model, *, num_classes, batches=20, batch_size=100, seed=0):
    """Sets the moving statistics of `model` to those of its present weights; returns None.

    They become the plain average over `batches` training-mode batches of fresh z and balanced
    labels, and a spectral layer's u converges on its kernel first. For averaged weights: the
    statistics gathered while training belong to other weights. (600 steps of dcgan on the 8x8
    digits: energy distance to the data 0.056 as gathered, 0.046 recalibrated.) A model with
    trainable=False is recalibrated too; one without batch normalisation is left as it is.

    Guarantee: reads the generator and public numbers only, never a private record, so it is
    post-processing and costs no privacy.
    """
    for layer in _layers_of(model, SpectralConv2D):
        layer.update_u(iterations=50)
    layers = _layers_of(model, keras.layers.BatchNormalization)
    if not layers:
        return
    before = [(layer.momentum, layer.trainable) for layer in layers]
    latent_dim = model.inputs[0].shape[-1]
    labels = keras.ops.arange(batch_size, dtype="int32") % num_classes
    random = keras.random.SeedGenerator(seed)
    try:
        for batch in range(batches):
            for layer in layers:
                layer.trainable = True  # a frozen layer would not update its statistics
                layer.momentum = batch / (batch + 1)
            z = keras.random.uniform((batch_size, latent_dim), seed=random)
            model([z, labels], training=True)
    finally:
        for layer, (momentum, trainable) in zip(layers, before, strict=True):
            layer.momentum, layer.trainable = momentum, trainable


def _layers_of(model, kind):
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def _mlp(z, labels, image_shape, num_classes):
    """Returns images of three Dense layers of 512; about one million weights at 28x28."""
    one_hot = keras.layers.CategoryEncoding(num_classes, output_mode="one_hot")(labels)
    x = keras.layers.Concatenate()([z, one_hot])
    for _ in range(3):
        x = keras.layers.Dense(512, kernel_initializer="he_normal")(x)
        x = keras.layers.LeakyReLU(0.2)(x)
    height, width, channels = image_shape
    x = keras.layers.Dense(height * width * channels, activation="tanh")(x)
    return keras.layers.Reshape(image_shape, name="images")(x)


def _dcgan(z, labels, image_shape, num_classes):
    """Returns images of transposed convolutions; 957,969 trainable weights for 28x28x1."""
    height, width, channels = image_shape
    if height % 4 or width % 4:
        raise checks.UsageError(
            "generator dcgan makes images whose sides are multiples of 4, received "
            f"image_shape={image_shape}. Set another image_size, or generator=mlp."
        )
    # Of the size of z, or larger: at Keras' 0.05 the classes would start out alike.
    embedded = keras.layers.Embedding(
        num_classes, 8, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0)
    )(labels)
    x = keras.layers.Concatenate()([z, embedded])
    x = keras.layers.Reshape((1, 1, x.shape[-1]))(x)
    stages = ((256, (height // 4, width // 4), 1, "valid"), (128, 4, 2, "same"), (64, 4, 2, "same"))
    for filters, kernel_size, strides, padding in stages:
        x = keras.layers.Conv2DTranspose(
            filters, kernel_size, strides=strides, padding=padding, use_bias=False
        )(x)
        x = keras.layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON)(x)
        x = keras.layers.LeakyReLU(0.2)(x)
    return keras.layers.Conv2D(channels, 3, padding="same", activation="tanh", name="images")(x)


def _biggan(z, labels, image_shape, num_classes):
    """Returns images of residual up-blocks; 3,886,595 trainable weights for 32x32x3, 2 classes."""
    height, width, channels = image_shape
    num_blocks = height.bit_length() - 3
    if height != width or num_blocks < 1 or height != 4 * 2**num_blocks:
        raise checks.UsageError(
            "generator biggan makes square images of side 8, 16, 32, 64, ..., received "
            f"image_shape={image_shape}. Set another image_size, or generator=mlp."
        )
    # A 1x1 convolution of a 1x1 image: the first Dense layer, spectrally normalised.
    x = SpectralConv2D(4 * 4 * 256, 1)(keras.layers.Reshape((1, 1, z.shape[-1]))(z))
    x = keras.layers.Reshape((4, 4, 256))(x)
    for _ in range(num_blocks):
        x = _up_block(x, labels, num_classes, filters=256)
    x = keras.layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON)(x)
    x = keras.layers.ReLU()(x)
    return SpectralConv2D(channels, 3, padding="same", activation="tanh", name="images")(x)


def _up_block(x, labels, num_classes, *, filters):
    """Returns x at twice its side: BN, ReLU, up, 3x3, BN, ReLU, 3x3, plus an up-sampled skip."""
    skip = SpectralConv2D(filters, 1)(x)  # before the up-sampling: the same values, a quarter work
    skip = keras.layers.UpSampling2D(2, interpolation="nearest")(skip)
    x = keras.layers.ReLU()(ConditionalBatchNormalization(num_classes)([x, labels]))
    x = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
    x = SpectralConv2D(filters, 3, padding="same")(x)
    x = keras.layers.ReLU()(ConditionalBatchNormalization(num_classes)([x, labels]))
    x = SpectralConv2D(filters, 3, padding="same")(x)
    return keras.layers.Add()([x, skip])


_BODIES = {"mlp": _mlp, "dcgan": _dcgan, "biggan": _biggan, "mixture": mixture.images}


@keras.saving.register_keras_serializable(package="tfdps")
class SpectralConv2D(keras.layers.Conv2D):
    """A Conv2D whose kernel, as a [-1, filters] matrix, is divided by its largest singular value.

    Miyato et al., arXiv 1802.05957: sigma = ||K^T u||, with u from one power iteration per
    training-mode call. Gradients pass through sigma, u held fixed, so they are those of the
    normalised kernel as a function of the kernel.

    keras.layers.SpectralNormalization is not used: in training mode it overwrites the kernel with
    the normalised one and drops sigma's part of the gradient (it keeps a radial component that
    the true gradient does not have). Trainable weights would then change outside the optimizer,
    twice in a step that generates two batches, undo the weight decay, and not be normalised at
    all in inference mode: averaged weights would be exported at another scale than trained.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.u = self.add_weight(
            name="u",
            shape=(self.kernel_size[0] * self.kernel_size[1] * input_shape[-1],),
            initializer=lambda shape, dtype: _unit(keras.random.normal(shape, dtype=dtype)),
            trainable=False,
            aggregation="only_first_replica",  # the same on all: it follows from the kernel
        )

    def call(self, inputs, training=False):
        if training:
            self.update_u()
        u = _unit(keras.ops.convert_to_tensor(self.u))  # an average of unit vectors is shorter
        sigma = keras.ops.norm(keras.ops.matmul(u, self._kernel_matrix()))
        outputs = self.convolution_op(inputs, self.kernel / keras.ops.maximum(sigma, 1e-12))
        return self.activation(outputs + self.bias)

    def update_u(self, iterations=1):
        """Moves u, a unit vector, towards the kernel's first left singular vector."""
        kernel = keras.ops.stop_gradient(self._kernel_matrix())
        u = keras.ops.convert_to_tensor(self.u)
        for _ in range(iterations):
            v = _unit(keras.ops.matmul(u, kernel))
            u = _unit(keras.ops.matmul(kernel, v))
        self.u.assign(u)

    def _kernel_matrix(self):
        return keras.ops.reshape(self.kernel, (-1, self.filters))


@keras.saving.register_keras_serializable(package="tfdps")
class ConditionalBatchNormalization(keras.layers.Layer):
    """Batch normalisation of x with a gain 1 + e(label) and a bias e'(label) of each class."""

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.normalization = keras.layers.BatchNormalization(
            momentum=_MOMENTUM, epsilon=_EPSILON, center=False, scale=False
        )

    def build(self, input_shape):
        features = input_shape[0][-1]
        self.normalization.build(input_shape[0])
        # Small and random, so that the classes differ from the first step on.
        self.gain, self.bias = (
            self.add_weight(
                name=name,
                shape=(self.num_classes, features),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )
            for name in ("gain", "bias")
        )

    def call(self, inputs, training=False):
        x, labels = inputs
        gain, bias = (
            keras.ops.take(table, labels, axis=0)[:, None, None, :]
            for table in (self.gain, self.bias)
        )
        return self.normalization(x, training=training) * (1.0 + gain) + bias

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes}


def _unit(vector):
    return vector / keras.ops.maximum(keras.ops.norm(vector), 1e-12)
