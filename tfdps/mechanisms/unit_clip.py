"""One clip for all images of a person: by how much each person's contributions are scaled.

All arrays are integers, so that a person's factor is the same wherever it stands in a batch.
"""

import tensorflow as tf

from tfdps import checks
from tfdps.config.run_checks import (
    MOST_IMAGES,
)  # the squares of their lengths' sums stay below 2^63


def checked(images_per_unit):
    """Returns how many images a person may have, if it is from 1 to MOST_IMAGES; else UsageError."""
    if checks.at_least("images_per_unit", images_per_unit, 1) > MOST_IMAGES:
        raise checks.UsageError(
            f"images_per_unit must be at most {MOST_IMAGES}, received {images_per_unit}."
        )
    return images_per_unit


def factors(lengths, labels, images_per_unit, limit):
    """Returns what each record's contribution is scaled by, float64 [n], in (0, 1]: PRIVATE.

    Guarantee: with l_i(y) >= 0 at least the length of what record y adds to atom i of its class, and u
    the records of one person,
        N(u)^2 = sum over classes c and atoms i of (sum of l_i(y) over y in u of class c)^2
    is at least ||sum over y in u of h(y)||^2: the blocks of a release that belong to different atoms
    lie apart, and within a block the triangle inequality holds. Second moments that all classes
    share are one block of theirs, whose lengths are summed over all classes. The factor is
    min(1, sqrt(limit) / N(u)), one for all records of the person; it depends on them alone. Whoever
    rounds what is scaled down only makes lengths smaller, so that the person's sum stays within limit.

    Args:
      lengths: int32 [n, K, 1 or 2], of `piece_sums.lengths`: the records of a person one after the
        other, as many places for each, 0 where there is none; [..., 1]: of shared second moments.
      labels: int [n].
      images_per_unit: how many places a person has, at most MOST_IMAGES.
      limit: the squared clip in the units of the lengths' squares, float64.
    """
    lengths = tf.cast(lengths, tf.int64)
    units = tf.reshape(lengths, [-1, images_per_unit, *lengths.shape[1:]])
    labels = tf.reshape(labels, [-1, images_per_unit])
    together = tf.cast(labels[:, :, None] == labels[:, None, :], tf.int64)
    own = units[..., 0]
    norms = tf.reduce_sum(tf.matmul(own, own, transpose_b=True) * together, axis=[1, 2])
    if units.shape[3] == 2:
        norms += tf.reduce_sum(tf.reduce_sum(units[..., 1], axis=1) ** 2, axis=1)
    # An int64 above 2^53 may become a float64 below it, by less than the clip's margin has room for.
    norms = tf.cast(norms, tf.float64)
    scaled = tf.where(norms > limit, tf.sqrt(limit / norms), 1)
    return tf.repeat(scaled, images_per_unit)
