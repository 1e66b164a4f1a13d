"""The start-up check that a run's devices add up integers without rounding."""

import numpy as np
import tensorflow as tf

from tfdps import checks

# Of the largest product that float64 must have exactly: sums of ROWS terms of up to 2^42, up to 2^53.
_SIZE, _ROWS, _DIGITS = 64, 2048, 21
_BEYOND = 2**54  # what a replica adds to a sum of int64: float64 has no odd number up here


def check(on):
    """Refuses to train, on every worker, if float64 or int64 of a replica or their sum is not exact.

    A product of matrices of integers, its sums just below 2^53, and an addition of int64 beyond 2^53
    are computed on each replica, compiled as a release is, and added up over all; NumPy's int64 says
    what they must be.

    Guarantee: reads no private record. What it prevents: contributions that depend on what else is in
    the batch, where a device emulates float64 by less, as TPUs do.

    Args:
      on: the Replicas.

    Raises:
      UsageError: saying how many of the sums were wrong.
    """
    wrong = mistakes(on)
    if wrong:
        raise checks.UsageError(
            "the devices of mechanism=per_record must add up integers exactly, in float64 up to 2^53 "
            f"and in int64; received {wrong} wrong sums of {on.count * _SIZE**2 + 1}: its guarantee "
            "would not hold. Nothing was trained. Take CPUs or GPUs, not a TPU, or --mechanism=joint."
        )


def mistakes(on):
    """Returns how many of the check's sums are wrong on all replicas, the same on every worker."""
    left, right, expected = _problem()
    arguments = (
        tf.constant(left, tf.float64),
        tf.constant(right, tf.float64),
        tf.constant(expected, tf.int64),
        tf.constant(_BEYOND, tf.int64),
    )

    def on_replica(*arguments):
        context = tf.distribute.get_replica_context()
        own = tf.cast(context.replica_id_in_sync_group, tf.int64)
        wrong, part = _on_device.get_concrete_function(*arguments, own)(*arguments, own)
        return context.all_reduce("SUM", [wrong, part])

    wrong, total = map(on.first, on.compiled(on_replica, *arguments)(*arguments))
    sum_of_parts = sum(_BEYOND + 1 + 2 * replica for replica in range(on.count))
    return int(wrong.numpy()) + (int(total.numpy()) != sum_of_parts)


def _problem():
    """(int64 [n, rows], int64 [rows, n], their product): near 2^21, so that every digit counts."""
    random = np.random.default_rng(0)
    left, right = 2**_DIGITS - random.integers(0, 2**10, (2, _SIZE, _ROWS))
    return left, right.T, left @ right.T


# Everything is an argument: XLA would compute with constants itself, not on the device.
@tf.function(jit_compile=True, autograph=False)
def _on_device(left, right, expected, beyond, own):
    """(how many sums are wrong here, this replica's part of the sum over all)."""
    products = tf.cast(tf.matmul(left, right), tf.int64)
    wrong = tf.reduce_sum(tf.cast(products != expected, tf.int64))
    return wrong, beyond + 1 + 2 * own
