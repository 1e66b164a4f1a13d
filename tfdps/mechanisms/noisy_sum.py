"""A sum of integers over private records that lie in parts and on replicas, noised once."""

import tensorflow as tf


class NoisySum:
    """Adds up the contributions of a draw's records, wherever they are, and one noise.

    Guarantee:
      Mechanism: sum over replicas of sum over parts of contributions(part), integers, plus `noise`,
        once: the first replica of the chief adds it to its own sum before the sums of the replicas are
        added (one all-reduce), and no other replica adds any. So of several replicas none has the
        un-noised total; the sums of the other replicas cross the network inside the all-reduce, which
        has to be the user's own, as the records are.
      Sensitivity: integers add up alike in any order, so the total is the same whatever parts and
        replicas the records lie in: a record that moves its own part by at most C in L2 moves the
        total by at most C. The noise is not to grow with their number, and does not.
      May be released: the return value, which is the same on every worker.
      What breaks it: a record in two shards or two parts (workers with other copies of the data, so
        a run compares their files); a number of parts or a shape that follows the draw; noise that was
        in another release (each is drawn for its own, see `exact_gaussian`).

    Args:
      replicas: the Replicas of the run.
    """

    def __init__(self, replicas):
        self._replicas = replicas

    @tf.autograph.experimental.do_not_convert
    def add_up(self, draw, contributions, *, noise):
        """Returns the noisy total, int64, of the shape of a part's contributions.

        Args:
          draw: the parts of a draw on this worker, an iterable of per-replica batches, private.
          contributions: batch -> int64 tensor of a shape that does not depend on private data.
          noise: int64 of that shape, drawn for this release; None on workers that are not the chief.
        """
        draw = iter(draw)
        part = next(draw)
        total = self._replicas.compiled(contributions, part)(part)

        def add(total, part):
            return total + contributions(part)

        added = None
        for part in draw:
            added = added or self._replicas.compiled(add, total, part)
            total = added(total, part)
        if noise is None:
            noise = tf.zeros(self._replicas.first(total).shape, tf.int64)
        noise = tf.constant(noise, tf.int64)
        reduced = self._replicas.compiled(_reduce, total, noise)(total, noise)
        return self._replicas.first(reduced)


def _reduce(total, noise):
    context = tf.distribute.get_replica_context()
    first = tf.equal(context.replica_id_in_sync_group, 0)
    return context.all_reduce("SUM", tf.where(first, total + noise, total))
