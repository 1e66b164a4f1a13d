"""Keeps the byte tables of a generator as bytes in its ONNX file, and out of what is converted."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from onnx import numpy_helper

from tfdps.generators.byte_table import ByteTable

_FEWEST = 4096  # numbers of a weight that is worth it


class TablesApart:
    """The large byte tables of a generator, as further inputs of what is converted.

    What follows from constants alone is computed when a graph is frozen: a table would be in the file
    as float32, four times as large, and tf2onnx copies constants for every pass over the graph, 2 GB
    of them at 128 x 128 pixels in colour. As inputs they are left alone. When the model is made they
    become constants of it again, with the cast, product and sum that decode them; runtimes do these
    once, when they load the file.

    Attributes:
      signature: tf.TensorSpecs of the inputs, a list.

    Args:
      generator: the Keras model.
    """

    def __init__(self, generator):
        layers = generator._flatten_layers()
        weights = [w for table in layers if isinstance(table, ByteTable) for w in table.weights]
        self._weights = [weight for weight in weights if np.prod(weight.shape) >= _FEWEST]
        self.signature = [
            tf.TensorSpec(weight.shape, weight.dtype, name=f"table_{number}")
            for number, weight in enumerate(self._weights)
        ]

    @contextlib.contextmanager
    def taken_from(self, inputs):
        """In the block the generator has its tables from `inputs`, tensors of the signature."""
        with keras.StatelessScope(list(zip(self._weights, inputs, strict=True))):
            yield

    def put_back(self, model):
        """Makes constants of the inputs of `model`, an onnx.ModelProto; returns None."""
        graph, numbers = model.graph, {spec.name: n for n, spec in enumerate(self.signature)}
        for value in [value for value in graph.input if value.name in numbers]:
            weight = self._weights[numbers[value.name]].numpy()
            graph.initializer.append(numpy_helper.from_array(weight, value.name))
            graph.input.remove(value)
