"""The private batches of a run, as a tf.data.Dataset of padded Poisson draws."""

import itertools

import numpy as np
import tensorflow as tf

from tfdps.sampling import PoissonSampler

_PREFETCHED_BYTES = 2**26  # of batches that wait; one at least
_PART_BYTES = 2**28  # of images in a part of a draw
_BLOCK_BYTES = 2**28  # of images that one pass over records on disk collects for later steps


class PoissonBatches:
    """Poisson draws of the records of this worker, in padded batches of a shape that never changes.

    A batch is (images uint8 [P,H,W,C], labels int32 [P], weights float32 [P]); padding has weight 0 and
    is all zeros, so that a record which was not drawn cannot matter.

    Guarantee: in every step every record is drawn independently with probability q, with entropy of
    the operating system (`sampling.py`). Record i of the worker is in shard i mod `shards`, and there
    in one part, so it is in at most one batch of a step. Workers hold different records, so all shards
    of all workers together are one Poisson draw of the whole data set. How records are read, and how
    far ahead, follows the draws and changes none.

    Attributes:
      padded_size: P; the same on all workers.
      parts_per_step: how many batches a shard's draw is in: one, unless it is not truncated and large.

    Args:
      dataset: a data.Dataset, or a streamed one.
      sampling_probability: q in (0, 1].
      truncated: see PoissonSampler: False for a mechanism that bounds neighbouring batches only.
      shards: how many replicas this worker has.
      num_workers: how many workers there are.
    """

    def __init__(self, dataset, sampling_probability, *, truncated=True, shards=1, num_workers=1):
        self._dataset, self._q = dataset, sampling_probability
        self._truncated, self._shards = truncated, shards
        largest = -(-dataset.size // (num_workers * shards))
        record_bytes = int(np.prod(dataset.spec.image_shape))
        part = largest if truncated else max(1, min(largest, _PART_BYTES // record_bytes))
        self.parts_per_step = -(-largest // part)
        self._part = -(-largest // self.parts_per_step)
        self.padded_size = self._sampler(self._part).padded_size
        self._batch_bytes = self.padded_size * record_bytes
        self._block = 1  # batches whose records are read together
        if not dataset.in_memory and truncated:
            self._block = max(1, _BLOCK_BYTES // self._batch_bytes)

    def dataset(self, num_steps):
        """Returns a tf.data.Dataset of the batches of `num_steps` steps.

        Of a step come the parts one after the other, and of a part the shards. Draws are made while
        training runs.
        """
        size = self.padded_size
        signature = (
            tf.TensorSpec([size, *self._dataset.spec.image_shape], tf.uint8),
            tf.TensorSpec([size], tf.int32),
            tf.TensorSpec([size], tf.float32),
        )
        waiting = min(16, max(1, _PREFETCHED_BYTES // self._batch_bytes))
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
            draws = [self._draw(part, shard) for _, part, shard in block]
            wanted = np.unique(np.concatenate(draws))
            images = self._dataset.gather(wanted)
            for draw in draws:
                yield self._padded(draw, images, np.searchsorted(wanted, draw))

    def _draw(self, part, shard):
        """The records of one batch, int64 [k]: drawn from a part of a shard."""
        in_shard = len(range(shard, len(self._dataset), self._shards))
        first = part * self._part
        size = min(self._part, in_shard - first)
        if size <= 0:
            return np.empty(0, np.int64)
        drawn = self._sampler(size).draw_truncated()
        return shard + self._shards * (first + drawn)

    def _sampler(self, size):
        return PoissonSampler(size, self._q, truncated=self._truncated)

    def _padded(self, draw, images, places):
        # Padding holds a public constant: a real record there would be in every batch.
        shape = self._dataset.spec.image_shape
        batch_images = np.zeros([self.padded_size, *shape], np.uint8)
        labels = np.zeros(self.padded_size, np.int32)
        weights = np.zeros(self.padded_size, np.float32)
        batch_images[: len(draw)] = images[places]
        labels[: len(draw)] = self._dataset.labels[draw]
        weights[: len(draw)] = 1
        return batch_images, labels, weights
