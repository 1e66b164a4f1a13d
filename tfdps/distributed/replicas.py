"""Replicas: the devices that a run computes on, and what its workers tell one another.

A worker is a process; a replica is one of its devices. All of it is tf.distribute's: this is the part
of it that a run uses. What is sent between workers here is public, but for the fingerprint of their
data, which no line shows; private sums go through `mechanisms/noisy_sum.py` alone.
"""

import contextlib
import logging

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.config import mechanism_registry
from tfdps.distributed import cluster

_logger = logging.getLogger(__name__)


class WorkerLostError(Exception):
    """Another worker of the run is gone: this one cannot go on without it."""


class Replicas:
    """The replicas of a run: `count` in all, `local_count` of them in this worker.

    Args:
      strategy: a tf.distribute.Strategy; None: the one device that TensorFlow takes by itself.
      worker, num_workers: this process and how many there are; worker 0 is the chief, which holds
        model_dir, the ledger and the noise of sums.
    """

    def __init__(self, strategy=None, *, worker=0, num_workers=1):
        self._default = strategy is None
        self.strategy = tf.distribute.get_strategy() if self._default else strategy
        self.worker, self.num_workers = worker, num_workers
        self.count = self.strategy.num_replicas_in_sync
        self.local_count = self.count // num_workers
        self._summed = tf.function(
            self._sum, autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)]
        )

    @property
    def is_chief(self):
        """Whether this process is worker 0."""
        return self.worker == 0

    def scope(self):
        """Returns the context in which variables of all replicas are made."""
        return contextlib.nullcontext() if self._default else self.strategy.scope()

    def run(self, function, args=()):
        """Runs a function once on every replica; returns its results as per-replica values."""
        return function(*args) if self._default else self.strategy.run(function, args=args)

    def compiled(self, function, *args):
        """Returns what runs a function on every replica for arguments like these; one is not compiled.

        tf.distribute wants a graph. It is a concrete one, since these are called once or twice each.
        """

        def on_replicas(*args):
            return self.run(function, args)

        if self.count == 1:
            return on_replicas
        return tf.function(on_replicas, autograph=False).get_concrete_function(*args)

    def first(self, values):
        """Returns what this worker's first replica has of per-replica values."""
        return self.strategy.experimental_local_results(values)[0]

    def distribute(self, dataset_of_worker):
        """Returns the dataset whose elements are per-replica values of a dataset's successive ones.

        Args:
          dataset_of_worker: a tf.data.Dataset, of local_count elements for each of the result.
        """
        if self._default:
            return dataset_of_worker
        # Of a data set that could end tf.distribute makes batches whose shape is not fixed.
        endless = dataset_of_worker.repeat()
        return self.strategy.distribute_datasets_from_function(lambda context: endless)

    def broadcast(self, public):
        """Returns the chief's bytes on every worker; what the others give is not read."""
        if self.num_workers == 1:
            return public
        public = public if self.is_chief else b""
        [length] = self._sum_of_chief(np.array([len(public)], np.int32))
        padded = np.zeros(
            4 * (int(length) // 4 + 1), np.uint8
        )  # never empty: TensorFlow would crash
        padded[: len(public)] = np.frombuffer(public, np.uint8)
        return self._sum_of_chief(padded.view(np.int32)).tobytes()[:length]

    def broadcast_number(self, number):
        """Returns the chief's integer on every worker."""
        return int(self.broadcast(str(number).encode()))

    def broadcast_variables(self, variables):
        """Gives tf.Variables of public values what the chief's have, on every worker."""
        for variable in variables if self.num_workers > 1 else ():
            value = variable.numpy()
            sent = self.broadcast(value.tobytes())
            variable.assign(np.frombuffer(sent, value.dtype).reshape(value.shape))

    def any(self, flag):
        """Returns whether the flag of any worker is true, the same on all."""
        if self.num_workers == 1:
            return bool(flag)
        return bool(self._sum_of_all(np.array([bool(flag)], np.int32))[0])

    def same_on_all(self, text):
        """Raises UsageError, on every worker, unless each has the chief's text, lines of flags."""
        chief = self.broadcast(text.encode()).decode()
        differs = set(chief.splitlines()) ^ set(text.splitlines())
        if self.any(differs):
            lines = ", ".join(sorted(differs)) or "see the other workers' messages"
            raise checks.UsageError(
                f"the workers of a run must have the same flags and data; they differ: {lines}."
            )

    def same_data(self, fingerprint):
        """Raises UsageError, on every worker, unless each has the chief's fingerprint, a text."""
        if self.any(self.broadcast(fingerprint.encode()) != fingerprint.encode()):
            raise checks.UsageError(
                "the workers of a run must have the same flags and data; the data differ."
            )

    def on_chief(self, function):
        """Runs a function on the chief alone while the others wait; its UsageError is raised on all.

        Returns its result, and None on the others.
        """
        result, error = None, None
        if self.is_chief:
            try:
                result = function()
            except checks.UsageError as failure:
                error = failure
        message = self.broadcast(str(error or "").encode()).decode()
        if error is not None:
            raise error
        if message:
            raise checks.UsageError(f"worker 0 says: {message}")
        return result

    @contextlib.contextmanager
    def noticing_losses(self):
        """Raises WorkerLostError for the errors that TensorFlow has where a worker is gone."""
        try:
            yield
        except _LOST as error:
            if self.num_workers == 1:
                raise
            raise WorkerLostError(type(error).__name__) from error

    def _sum_of_chief(self, values):
        return self._sum_of_all(values if self.is_chief else np.zeros_like(values))

    def _sum_of_all(self, values):
        return self.first(self._summed(tf.constant(values))).numpy()

    def _sum(self, values):
        def on_replica(values):
            context = tf.distribute.get_replica_context()
            first_of_worker = context.replica_id_in_sync_group % self.local_count == 0
            own = tf.where(first_of_worker, values, tf.zeros_like(values))
            return context.all_reduce("SUM", own)

        return self.strategy.run(on_replica, args=(values,))


# What TensorFlow raises where another process does not answer, or answers as one that is new.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def of_config(config):
    """Returns the Replicas that a RunConfig asks for; before anything else uses TensorFlow.

    Raises:
      UsageError: when there is no such device, cluster or TPU.
    """
    if config.strategy == "one":
        return Replicas()
    if config.strategy == "mirrored":
        replicas = _mirrored()
    elif config.strategy == "multiworker":
        task = cluster.read()
        replicas = _multi_worker(task) if task.num_workers > 1 else _mirrored()
    else:
        replicas = Replicas(_tpu(config.tpu))
    _check_share(config, replicas.count)
    return replicas


def _mirrored():
    """All GPUs of this machine, or all CPUs that it was cut into; one of them needs no strategy."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        return Replicas()
    return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _multi_worker(task):
    others = ", ".join(a for i, a in enumerate(task.addresses) if i != task.index) or "none"
    _logger.info(f"Worker {task.index} of {task.num_workers}; waiting for the others: {others}.")
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except _LOST as error:
        raise WorkerLostError(type(error).__name__) from error
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise checks.UsageError(
            f"cannot start worker {task.index} at {task.addresses[task.index]}: "
            f"{str(error).splitlines()[0][:200]}"
        ) from error
    return Replicas(strategy, worker=task.index, num_workers=task.num_workers)


def _tpu(name):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise checks.UsageError(
            f"no TPU at --tpu={name or 'local'}: {str(error).split('. ')[0][:200]}."
        ) from error


def _check_share(config, count):
    if (
        mechanism_registry.entry(config.mechanism).replicas_share_batch
        and config.batch_size % count
    ):
        raise checks.UsageError(
            f"batch_size must be a multiple of the {count} replicas, each of which takes its share; "
            f"received {config.batch_size}."
        )
