"""Tables of numbers kept in a byte each: a generator with many atoms stays small enough to send."""

import keras
import numpy as np

_LARGEST_CODE = 255


class ByteTable(keras.layers.Layer):
    """A table of float32 numbers, each rounded to one of 256 evenly spaced in a range of its own.

        number = low + step * code,  or sinh(low + step * code) where `bent`

    All numbers along one axis share a range, from the smallest to the largest of them. Bent tables
    are for numbers that reach far beyond 1: rounded by half a step below 1, by a part of themselves
    above.

    Weights, none trainable: codes, uint8, of the table's shape; low, step, float32, of that shape
    without the axis. ONNX and SavedModel hold the same bytes.

    Guarantee: a function of the numbers assigned, all of which ship. Assign released numbers only.

    Args:
      shape: of the table.
      axis: the one along which numbers share a range.
      initial: numbers that broadcast to the shape.
      bent: as above.
    """

    def __init__(self, shape, *, axis, initial=0.0, bent=False, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.axis, self.bent = tuple(shape), axis, bent
        for name, value in self._encoded(np.broadcast_to(initial, self.shape)).items():
            weight = self.add_weight(
                name=name,
                shape=value.shape,
                dtype=value.dtype.name,
                initializer=fixed(value),
                trainable=False,
            )
            setattr(self, name, weight)
        self.built = True

    def assign(self, values):
        """Rounds and keeps the numbers, finite and of the table's shape; returns None."""
        for name, value in self._encoded(values).items():
            getattr(self, name).assign(value)

    def values(self):
        """Returns all numbers as kept, a float32 tensor of the table's shape."""
        low, step = (keras.ops.expand_dims(each, self.axis) for each in (self.low, self.step))
        return self._decoded(self.codes, low, step)

    def entries(self, first, second):
        """Returns the rows [first, second] of a table [L, K, d] with axis 1: float32 [n, d].

        Args:
          first, second: int32 [n], in [0, L) and [0, K).
        """
        count, width = self.shape[1:]
        codes = keras.ops.reshape(self.codes, (-1, width))
        codes = keras.ops.take(codes, first * count + second, axis=0)
        low, step = (keras.ops.take(each, first, axis=0) for each in (self.low, self.step))
        return self._decoded(codes, low, step)

    def _decoded(self, codes, low, step):
        values = low + step * keras.ops.cast(codes, "float32")
        if not self.bent:
            return values
        rising = keras.ops.exp(values)  # sinh by exp, which ONNX runtimes have made fast
        return 0.5 * (rising - 1.0 / rising)

    def _encoded(self, values):
        values = np.asarray(values, np.float64)
        values = np.arcsinh(values) if self.bent else values
        low = values.min(axis=self.axis).astype(np.float32)
        step = ((values.max(axis=self.axis) - low) / _LARGEST_CODE).astype(np.float32)
        wide = np.expand_dims(np.where(step > 0, step, 1), self.axis)
        codes = np.rint((values - np.expand_dims(low, self.axis)) / wide)
        codes = np.clip(codes, 0, _LARGEST_CODE).astype(np.uint8)
        return {"codes": codes, "low": low, "step": step}


def fixed(value):
    """Returns an initializer that fills a weight with `value`."""
    return lambda shape, dtype: keras.ops.cast(keras.ops.broadcast_to(value, shape), dtype)
