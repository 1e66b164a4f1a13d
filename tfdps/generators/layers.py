"""Layers of the convolutional generators: spectral normalisation, batch statistics of each class."""

import keras

# The weight of the past in the moving statistics. At Keras' 0.99 they lag behind the weights of a
# generator that still learns fast, and the sample grids of a young run show it.
MOMENTUM = 0.9
EPSILON = 1e-5


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
            momentum=MOMENTUM, epsilon=EPSILON, center=False, scale=False
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
