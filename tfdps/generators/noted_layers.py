"""Layers that note what goes through them: each image's own gradient follows from it.

For one image the gradient of a convolution's kernel is the sum over positions of (patch of the input)^T
(gradient of the output): one product of matrices an image, where a loss of the whole batch has one for
all. So one pass backwards to the layers' outputs serves all images, and no layer is run again for each.

Source: Goodfellow 2015 (arXiv 1510.01799) for dense layers; Rochette, Manoel & Tramel 2019 (arXiv
1912.06015) for convolutions.
"""

import contextlib
import contextvars

import keras
import tensorflow as tf

_notes: contextvars.ContextVar = contextvars.ContextVar("notes", default=None)


@contextlib.contextmanager
def noting():
    """Yields a list that gets (layer, inputs, outputs) for each call of a layer of this module."""
    notes: list = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def _note(layer, inputs, outputs):
    if (notes := _notes.get()) is not None:
        notes.append((layer, inputs, outputs))
    return outputs


@keras.saving.register_keras_serializable(package="tfdps")
class NotedConv2D(keras.layers.Conv2D):
    """A Conv2D without bias, padding "same"."""

    def call(self, inputs):
        return _note(self, inputs, super().call(inputs))

    def gradients(self, inputs, output_gradients, rows):
        """Returns the kernel's gradient of each row, float32 [rows, weights]: see `gradients`."""
        size, strides = self.kernel_size[0], self.strides[0]
        return _products(patches(inputs, size, strides), output_gradients, rows)


@keras.saving.register_keras_serializable(package="tfdps")
class NotedDense(keras.layers.Dense):
    """A Dense layer without bias, for inputs [n, p]."""

    def call(self, inputs):
        return _note(self, inputs, super().call(inputs))

    def gradients(self, inputs, output_gradients, rows):
        """Returns the kernel's gradient of each row, float32 [rows, weights]: see `gradients`."""
        return _products(inputs, output_gradients, rows)


def patches(images, size, strides):
    """Returns what each place of a kernel sees, padding "same": [n, h, w, size^2 C] of [n, H, W, C].

    Slices next to one another. XLA makes `tf.image.extract_patches` a convolution with ones and zeros,
    which takes three times as long as all the rest of a gradient.
    """
    padding, ends = [[0, 0]], []
    for length in images.shape[1:3]:
        end = (-(-length // strides) - 1) * strides + 1  # behind the last place
        missing = max(end - 1 + size - length, 0)
        padding.append([missing // 2, missing - missing // 2])
        ends.append(end)
    padded = tf.pad(images, [*padding, [0, 0]])
    slices = [
        padded[:, row : row + ends[0] : strides, column : column + ends[1] : strides]
        for row in range(size)
        for column in range(size)
    ]
    return tf.concat(slices, axis=3)


def _products(inputs, outputs, rows):
    """inputs^T outputs, summed over all that belongs to a row: float32 [rows, p q]."""
    inputs = tf.reshape(inputs, [rows, -1, inputs.shape[-1]])
    outputs = tf.reshape(outputs, [rows, -1, outputs.shape[-1]])
    return tf.reshape(tf.matmul(inputs, outputs, transpose_a=True), [rows, -1])


def gradients(losses, weights, rows):
    """Returns the gradient of each row's summed loss, float32 [rows, D], in the order of the weights.

    Args:
      losses: () -> float32 [rows k], the losses of k inputs of a row, row after row; every weight must
        be the kernel of a layer of this module that runs once in it, and no input's loss may depend on
        another input.
      weights: the Keras variables, of D numbers together.
      rows: how many.
    """
    with noting() as notes, tf.GradientTape() as tape:
        tape.watch([weight.value for weight in weights])  # tensors, or not trainable: not by itself
        total = tf.reduce_sum(losses())
    outputs = [output for _, _, output in notes]
    of_outputs = tape.gradient(total, outputs)
    found = {
        layer.kernel.path: layer.gradients(inputs, gradient, rows)
        for (layer, inputs, _), gradient in zip(notes, of_outputs, strict=True)
    }
    return tf.concat([found[weight.path] for weight in weights], axis=1)
