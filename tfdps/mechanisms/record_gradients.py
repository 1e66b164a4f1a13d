"""The mechanism of the refiner: clipped gradients of records or persons, summed, and noise.

Source: Abadi et al., CCS 2016 (arXiv 1607.00133), with automatic clipping (arXiv 2206.07136).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.distributed import replicas
from tfdps.mechanisms import exact_gaussian, gradient_grid, unit_clip
from tfdps.mechanisms.noisy_sum import NoisySum


@dataclasses.dataclass(frozen=True, eq=False)
class GradientRelease:
    """What a step released: the sum of a draw's clipped gradients, with its noise.

    Attributes:
      vector: float32 [D], each gradient of norm at most 1.
    """

    vector: np.ndarray


class RecordGradientMechanism:
    """Releases sums over records of gradients, each clipped to norm 1.

    Guarantee:
      Adjacency: zero-out: one record of the private data set counts or does not, its place stays. With
        images_per_unit m > 1 it is a person, who has m places of a batch, one after the other: all that
        is said here of a record holds for a person, whose gradient is one, that of the mean loss over
        the person's own records.
      Mechanism: release = (sum over records of k(g) + round(N)) / 2^20. g is the gradient of one
        record at public weights; k(g) is g / (||g|| + `SOFTENING`) in steps of 2^-20, less a
        millionth, rounded towards 0; a g that is not finite counts as 0. N is Gaussian of standard
        deviation at least sigma 2^20 (`exact_gaussian`).
      Sensitivity: the squares of k(g) sum to at most 2^40, which integers are compared by, else k is
        0. g is a function of its own record, of public weights, of the place in the batch and of what
        is drawn for that place alone: no operation of the network looks at two records. A record's
        place in the batch follows the draw, which is one of places and the same for both neighbours;
        so zeroing one record out changes its own k(g) to 0 and no bit of another's. Integers add up
        alike in any order. So the sum moves by at most 1 in L2, and a release is a Gaussian mechanism
        of noise multiplier sigma, rounded, subsampled by the step's Poisson draw.
      Counts as no record: a weight of 0.
      May be released: the return value of `release`, and everything computed from it and from public
        values alone.
      What breaks it: statistics over a batch in the network; weights, noise levels or sigma that
        follow records; a shape or number of parts that follows the draw; a record in two parts; draws
        that are cut short oftener than `overflow` accounts for; gradients used elsewhere.

    Args:
      gradients: (images uint8 [n m, H, W, C], labels int32 [n m], weights float32 [n m], *what
        `numbers` returns, *public) -> float32 [n, D], of each its own; records of weight 0 are not
        there. It is compiled, and reads no variable: those lie on one device.
      numbers: (places int32 [n m]: rows of the batch, *public) -> tensors, drawn for these alone.
      size: D, at most gradient_grid.MOST_ELEMENTS.
      chunk_size: units whose gradients are held at a time, at least 1. It bounds memory.
      images_per_unit: m, see above.
      public: () -> the tensors that both follow: weights, a seed; default: none.
      on: the Replicas that the records lie on; default: one device.

    Raises:
      UsageError: on a setting out of range.
    """

    private = True
    sensitivity = 1.0  # in L2, of a sum
    SOFTENING = 0.02  # added to a norm that a gradient is divided by: what is tiny stays small

    def __init__(
        self,
        gradients: Callable[..., tf.Tensor],
        numbers: Callable[..., tuple[tf.Tensor, ...]],
        *,
        size: int,
        chunk_size: int = 64,
        images_per_unit: int = 1,
        public: Callable[[], Sequence[tf.Tensor]] = tuple,
        on: replicas.Replicas | None = None,
    ) -> None:
        self.chunk_size = checks.at_least("chunk_size", chunk_size, 1)
        self.images_per_unit = unit_clip.checked(images_per_unit)
        if checks.at_least("size", size, 1) > gradient_grid.MOST_ELEMENTS:
            raise checks.UsageError(
                f"size must be at most {gradient_grid.MOST_ELEMENTS}, received {size}: int64 has no "
                "room for the squares of more. Take a smaller refiner_width."
            )
        self._gradients, self._numbers, self._size = gradients, numbers, size
        self._public = public
        self._clipped_sum = tf.function(self._clipped_sum_of, jit_compile=True)
        self._replicas = on or replicas.Replicas()
        self._noisy_sum = NoisySum(self._replicas)

    def release(
        self, draw: Iterable[tuple[tf.Tensor, ...]], *, noise_multiplier: float
    ) -> GradientRelease:
        """Returns the GradientRelease of a draw. See the class's guarantee.

        Args:
          draw: its parts, an iterable of batches (images uint8 [P, H, W, C], labels int32 [P], weights
            float32 [P] of 0 or 1), the private records.
          noise_multiplier: sigma > 0.

        Raises:
          UsageError: on a noise multiplier out of range.
        """
        checks.positive("noise_multiplier", noise_multiplier)
        stddev = noise_multiplier * gradient_grid.STEPS
        noise = exact_gaussian.draw(self._size, stddev) if self._replicas.is_chief else None
        noisy = self._noisy_sum.add_up(draw, self._sum, noise=noise)
        return GradientRelease((noisy.numpy() / gradient_grid.STEPS).astype(np.float32))

    def _sum(self, batch):
        """Returns the sum of a batch's clipped gradients, int64 [D], un-noised: PRIVATE."""
        images, labels, weights = (tf.convert_to_tensor(array) for array in batch)
        rows = min(self.chunk_size * self.images_per_unit, images.shape[0])
        chunks = -(-images.shape[0] // rows)
        missing = chunks * rows - images.shape[0]
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        labels, weights = (tf.pad(array, [[0, missing]]) for array in (labels, weights))
        # Chunks by number, not slices: these have no static shape in a graph, which replicas run.
        images, labels, weights = (
            tf.reshape(array, [chunks, rows, *array.shape[1:]])
            for array in (images, labels, weights)
        )
        public = [tf.convert_to_tensor(value) for value in self._public()]

        def add(chunk, total):
            # Outside of what is compiled: XLA has random numbers of its own, which nobody else draws.
            numbers = self._numbers(chunk * rows + tf.range(rows), *public)
            records = images[chunk], labels[chunk], weights[chunk]
            return chunk + 1, total + self._clipped_sum(*records, *numbers, *public)

        start = [tf.constant(0), tf.zeros([self._size], tf.int64)]
        return tf.while_loop(lambda chunk, _: chunk < chunks, add, start)[1]

    def _clipped_sum_of(self, images, labels, weights, *public):
        gradients = self._gradients(images, labels, weights, *public)
        counted = tf.reduce_any(tf.reshape(weights > 0, [-1, self.images_per_unit]), axis=1)
        clipped = gradient_grid.clip_rows(gradients, counted, softening=self.SOFTENING)
        return tf.reduce_sum(clipped, axis=0)
