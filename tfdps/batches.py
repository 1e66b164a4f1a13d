"""The private batches of a run, as a tf.data.Dataset of padded Poisson draws."""

import numpy as np
import tensorflow as tf

from tfdps.sampling import PoissonSampler

_PREFETCHED_BYTES = 2**26  # of batches that wait; one at least


def poisson_batches(dataset, sampling_probability, num_steps, *, truncated=True):
    """Returns a tf.data.Dataset of `num_steps` padded Poisson draws from `dataset`.

    Each element is (images uint8 [P,H,W,C], labels int32 [P], weights float32 [P]), P fixed; padding
    has weight 0 and is all zeros, so that a record which was not drawn cannot matter. Draws are made
    while training runs. See `sampling.py` for the guarantee.

    Args:
      dataset: a data.Dataset of N records.
      sampling_probability: q in (0, 1].
      num_steps: number of draws.
      truncated: see PoissonSampler: False for a mechanism that bounds neighbouring batches only.
    """
    sampler = PoissonSampler(len(dataset), sampling_probability, truncated=truncated)

    def draws():
        for _ in range(num_steps):
            indices, weights = sampler.draw_padded()
            # Padding holds a public constant: a real record there would be in every batch.
            drawn = weights > 0
            images = np.where(drawn[:, None, None, None], dataset.images[indices], np.uint8(0))
            yield images, np.where(drawn, dataset.labels[indices], 0), weights

    size = sampler.padded_size
    signature = (
        tf.TensorSpec([size, *dataset.spec.image_shape], tf.uint8),
        tf.TensorSpec([size], tf.int32),
        tf.TensorSpec([size], tf.float32),
    )
    waiting = min(16, max(1, _PREFETCHED_BYTES // (size * dataset.images[0].nbytes)))
    return tf.data.Dataset.from_generator(draws, output_signature=signature).prefetch(waiting)
