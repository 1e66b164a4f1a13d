"""The private batches of a run, as a tf.data.Dataset of padded Poisson draws."""

from __future__ import annotations

import itertools
import math
import typing

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.accounting import overflow
from tfdps.data.dataset import units_of
from tfdps.mechanisms.poisson import OVERFLOW_PROBABILITY, PoissonSampler

if typing.TYPE_CHECKING:
    from tfdps.accounting.plan import Stage
    from tfdps.data.dataset import Dataset, StreamedDataset
    from tfdps.distributed.replicas import Replicas
    from tfdps.mechanisms.joint import StepNoise


_PREFETCHED_BYTES = 2**26  # of batches that wait; one at least
_PART_BYTES = 2**28  # of images in a part of a draw
_BLOCK_BYTES = 2**28  # of images that one pass over records on disk collects for later steps


class PoissonBatches:
    """Poisson draws of the units of this worker, in padded batches of a shape that never changes.

    A unit is a record, or a person with places for m records, one after the other. A batch is (images
    uint8 [P m,H,W,C], labels int32 [P m], weights float32 [P m]); padding has weight 0 and is all
    zeros, so that a record which was not drawn cannot matter. Where a mechanism takes its noise
    with the batch there is a fourth, int64 of the release's shape, drawn for this batch alone.

    Guarantee: in every step every unit is drawn independently with probability q, with entropy of
    the operating system (`poisson.py`), and with it all of its records. Unit i of the worker is in
    shard i mod `shards`, and there in one part, so it is in at most one batch of a step. Which that is
    follows its place alone: under zero-out adjacency, where a unit counts or does not and N is fixed,
    no unit's shard or part depends on another unit. Workers hold different units, so all shards
    of all workers together are one Poisson draw of the whole data set. How records are read, and how
    far ahead, follows the draws and changes none.

    Attributes:
      sampling_probability: q.
      padded_size: P, in units; the same on all workers.
      images_per_unit: m.
      parts_per_step: how many batches a shard's draw is in: one, unless it may be in parts.

    Args:
      dataset: a data.Dataset, or a streamed one.
      sampling_probability: q in (0, 1].
      overflow_probability: that a batch has no room for all that was drawn, see PoissonSampler.
      in_parts: whether a draw may be in several batches.
      shards: how many replicas this worker has.
      num_workers: how many workers there are.
      noise: what the noise of a batch is drawn from, with `shape` and `draw()`; None: there is none.
      part_bytes: of images in a part of a draw that is in parts; default: 256 MiB.

    Examples:
      >>> import tfdps
      >>> batches = tfdps.mechanisms.PoissonBatches(tfdps.load_dataset("digits"), 0.01)
      >>> for images, labels, weights in batches.dataset(num_steps=2):
      ...     print(images.shape == (batches.padded_size, 8, 8, 1))
      True
      True
    """

    def __init__(
        self,
        dataset: Dataset | StreamedDataset,
        sampling_probability: float,
        *,
        overflow_probability: float = OVERFLOW_PROBABILITY,
        in_parts: bool = False,
        shards: int = 1,
        num_workers: int = 1,
        noise: StepNoise | None = None,
        part_bytes: int | None = None,
    ) -> None:
        self._noise = noise
        self._dataset, self.sampling_probability = dataset, sampling_probability
        self._overflow, self._shards = overflow_probability, shards
        self._units = units_of(dataset)
        self.images_per_unit = self._units.shape[1]
        largest = -(-dataset.size // (num_workers * shards))
        unit_bytes = self.images_per_unit * int(np.prod(dataset.spec.image_shape))
        self.parts_per_step = 1
        if in_parts:
            whole = self._sampler(largest).padded_size * unit_bytes
            self.parts_per_step = min(largest, -(-whole // (part_bytes or _PART_BYTES)))
        if self.parts_per_step * shards * num_workers > overflow.MOST_PARTS:
            raise checks.UsageError(
                f"a draw must be in at most {overflow.MOST_PARTS} parts, received "
                f"{self.parts_per_step} of each of {shards * num_workers} replicas. Take a smaller "
                "image_size, or a smaller batch."
            )
        self._part = -(-largest // self.parts_per_step)
        self.padded_size = self._sampler(self._part).padded_size
        self._batch_bytes = self.padded_size * unit_bytes
        if noise is not None:
            self._batch_bytes += 8 * math.prod(noise.shape)
        self.failure: checks.UsageError | None = None  # of reading records, in mid-run
        self._block = 1  # batches whose records are read together
        if not dataset.in_memory and not in_parts:
            self._block = max(1, _BLOCK_BYTES // self._batch_bytes)

    @classmethod
    def of_run(
        cls,
        dataset: Dataset | StreamedDataset,
        learner: typing.Any,
        *,
        on: Replicas,
        stage: Stage,
        part_bytes: int | None = None,
    ) -> PoissonBatches:
        """Returns the batches of a stage's steps: what training draws, and what an audit attacks.

        Args:
          dataset: this worker's records.
          learner: for how its mechanism draws, and the noise that goes with a batch.
          on: the Replicas of the run.
          stage: of the plan's, for the sampling probability.
          part_bytes: of images in a part of a draw that is in parts; default: 256 MiB.
        """
        return cls(
            dataset,
            stage.sampling_probability,
            overflow_probability=learner.mechanism.overflow_probability,
            in_parts=learner.mechanism.draws_in_parts,
            shards=on.local_count,
            num_workers=on.num_workers,
            noise=learner.noise,
            part_bytes=part_bytes,
        )

    def dataset(self, num_steps: int) -> tf.data.Dataset:
        """Returns a tf.data.Dataset of the batches of `num_steps` steps.

        Of a step come the parts one after the other, and of a part the shards. Draws are made while
        training runs.
        """
        size = self.padded_size * self.images_per_unit
        signature: tuple[tf.TensorSpec, ...] = (
            tf.TensorSpec([size, *self._dataset.spec.image_shape], tf.uint8),
            tf.TensorSpec([size], tf.int32),
            tf.TensorSpec([size], tf.float32),
        )
        if self._noise is not None:
            signature += (tf.TensorSpec(self._noise.shape, tf.int64),)
        waiting = min(16, max(1, _PREFETCHED_BYTES // self._batch_bytes))
        if self._noise is not None:  # a copy of the process's memory has what waits: little of it
            waiting = min(2, waiting)
        batches = tf.data.Dataset.from_generator(
            lambda: self._batches(num_steps), output_signature=signature
        )
        return batches.prefetch(waiting)

    def _batches(self, num_steps):
        """Yields the batches, after one read of their records for each block of them."""
        places = itertools.product(
            range(num_steps), range(self.parts_per_step), range(self._shards)
        )
        while block := list(itertools.islice(places, self._block)):
            draws = [self._units[self._draw(part, shard)].ravel() for _, part, shard in block]
            wanted = np.unique(np.concatenate(draws))
            wanted = wanted[wanted >= 0]
            try:
                images = self._dataset.gather(wanted)
            except checks.UsageError as error:
                self.failure = error
                raise
            for draw in draws:
                noise = () if self._noise is None else (self._noise.draw(),)
                yield *self._padded(draw, images, np.searchsorted(wanted, draw)), *noise

    def _draw(self, part, shard):
        """The units of one batch, int64 [k]: drawn from a part of a shard."""
        in_shard = len(range(shard, len(self._units), self._shards))
        first = part * self._part
        size = min(self._part, in_shard - first)
        if size <= 0:
            return np.empty(0, np.int64)
        drawn = self._sampler(size).draw_truncated()
        return shard + self._shards * (first + drawn)

    def _sampler(self, size):
        return PoissonSampler(size, self.sampling_probability, overflow_probability=self._overflow)

    def _padded(self, draw, images, places):
        # Padding holds a public constant: a real record there would be in every batch.
        rows, (held,) = self.padded_size * self.images_per_unit, np.nonzero(draw >= 0)
        batch_images = np.zeros([rows, *self._dataset.spec.image_shape], np.uint8)
        labels, weights = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
        batch_images[held] = images[places[held]]
        labels[held] = self._dataset.labels[draw[held]]
        weights[held] = 1
        return batch_images, labels, weights
