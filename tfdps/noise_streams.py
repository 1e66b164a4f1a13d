"""The start-up check that no two replicas have the same noise."""

import numpy as np
import tensorflow as tf

from tfdps import checks

_SIZE = 16  # numbers of each stream; two 53-bit numbers are equal by chance once in 1e16


def check(on, mechanism):
    """Refuses to train, on every worker, if the noise of two replicas has a number in common.

    What is compared are the next numbers of the very streams that releases take theirs from; no
    release has them, since a stream goes on behind them.

    Guarantee: reads no private record. What it prevents: two releases with one noise, whose
    difference would be free of it.

    Args:
      on: the Replicas.
      mechanism: with noise_sample(size), to be called on a replica; one without noise is not checked.

    Raises:
      UsageError: naming the replicas.
    """
    if on.count == 1 or not mechanism.private:
        return

    def gathered():
        context = tf.distribute.get_replica_context()
        return context.all_gather(mechanism.noise_sample(_SIZE)[None], axis=0)

    samples = on.first(on.compiled(gathered)()).numpy()
    for replica in range(on.count):
        for other in range(replica):
            if np.intersect1d(samples[replica], samples[other]).size:
                raise checks.UsageError(
                    f"replicas {other} and {replica} draw the same noise, so the difference of what "
                    "they release would be free of it. Nothing was trained. Do not seed TensorFlow's "
                    "generators or copy a running process; if you do not, report this."
                )
