"""Images and answers in batches, as classifiers are trained and tested on them."""

import tensorflow as tf


def batches(images, answers, size, *, shuffle_seed=None, passes=1):
    """Returns a tf.data.Dataset of (images, answers), which leaves TensorFlow's global seed alone.

    Args:
      images: uint8 [n, H, W, C].
      answers: [n, ...]: class numbers, or what else a loss compares with.
      size: of a batch, at least 1; the last one may be smaller.
      shuffle_seed: of the order, another one in each pass; None: as they come.
      passes: how often all of them come in an epoch.
    """
    images, answers = tf.convert_to_tensor(images), tf.convert_to_tensor(answers)
    order = tf.data.Dataset.range(len(images))
    if shuffle_seed is not None:
        order = order.shuffle(len(images), seed=shuffle_seed)
    return (
        order.repeat(passes)
        .batch(size)
        .map(lambda i: (tf.gather(images, i), tf.gather(answers, i)))
        .prefetch(2)
    )
