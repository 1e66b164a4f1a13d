"""The moving average of a network's weights, which is what ships."""

import tensorflow as tf


def update(averages, weights, *, taken, longest):
    """Moves averages towards weights; returns None.

    Of each, 1 - memory is new; the memory is short over the first steps, so that the first weights are
    soon forgotten.

    Args:
      averages, weights: Keras variables, as many of both, in one order.
      taken: how many updates there were, >= 0; a number or a float32 tensor.
      longest: the memory that is never exceeded, in [0, 1).
    """
    memory = tf.minimum(longest, (1 + taken) / (10 + taken))
    for average, weight in zip(averages, weights, strict=True):
        average.assign(memory * average.value + (1 - memory) * weight.value)
