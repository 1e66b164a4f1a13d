"""A sum over private records that lie in several parts and on several replicas, noised once."""

import tensorflow as tf

from tfdps.mechanisms import tf_privacy


class NoisySum:
    """Adds up the contributions of a draw's records, wherever they are, and one Gaussian noise.

    Guarantee:
      Mechanism: sum over replicas of sum over parts of contributions(part), plus N(0, stddev^2) on
        every element, once: the first replica adds the noise to its own sum before the sums of the
        replicas are added (one all-reduce), and no other replica adds any. So the un-noised total
        exists nowhere; the sums of the other replicas cross the network inside the all-reduce, which
        has to be the user's own, as the records are.
      Sensitivity: a record lies in one part of one replica's shard. If one record moves
        contributions(part) by at most C in L2, then it moves the total by at most C, however many
        parts and replicas there are: the noise is not to grow with their number, and does not.
      May be released: the return value, which is the same on every worker.
      What breaks it: a record in two shards or two parts (workers with other copies of the data, so
        a run compares their files); a number of parts or a shape that follows
        the draw; noise of one stream in two releases.

    Args:
      replicas: the Replicas of the run.
    """

    def __init__(self, replicas):
        self._replicas = replicas
        with replicas.scope():
            self._gaussian = tf_privacy.GaussianSum()

    @tf.autograph.experimental.do_not_convert
    def of(self, draw, contributions, *, clip_norm, stddev):
        """Returns the noisy total, float64, of the shape of a part's contributions.

        Args:
          draw: the parts of a draw on this worker, an iterable of per-replica batches, private.
          contributions: batch -> float64 tensor of a shape that does not depend on private data.
          clip_norm: L2 norm that bounds what one record contributes, > 0.
          stddev: standard deviation of the noise on every element, > 0.
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

        def reduce(total):
            return self._reduce(total, clip_norm=clip_norm, stddev=stddev)

        return self._replicas.first(self._replicas.compiled(reduce, total)(total))

    def sample(self, size):
        """Returns the next numbers of this replica's noise, float64 [size], which no release has."""
        return self._gaussian.sample(size)

    def _reduce(self, total, *, clip_norm, stddev):
        noisy = self._gaussian.add_noise(total, clip_norm=clip_norm, stddev=stddev)
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group, 0)
        return context.all_reduce("SUM", tf.where(first, noisy, total))
