"""What a process of a test of replicas does: python replica_job.py KIND FOLDER [arguments].

On the workers of TF_CONFIG, or on two devices that a CPU is cut into.
"""

import hashlib
import os
import pathlib
import sys

import numpy as np
import tensorflow as tf

SIGMA, CLIP_NORM = 1.3, 0.5
RELEASES = 60


def strategy():
    """The flag's value; cuts the CPU in two where there is one process."""
    if "TF_CONFIG" in os.environ:
        return "multiworker"
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return "mirrored"


def opened(folder, **settings):
    """(RunConfig, Replicas) of the process."""
    from tfdps import replicas
    from tfdps.config import RunConfig

    config = RunConfig(model_dir=str(folder / "run"), strategy=strategy(), **settings)
    return config, replicas.of(config, say=print)


def releases(folder):
    """Saves many releases of both mechanisms."""
    config, on = opened(folder, mechanism="joint", batch_size=12)
    joint_releases(folder, on)
    per_record_releases(folder, config, on)


def joint_releases(folder, on):
    """Saves many releases of every replica, [R, T, n], of a constant gradient."""
    from tfdps.mechanisms.joint import JointMechanism

    with on.scope():
        mechanism = JointMechanism(clip_norm=CLIP_NORM, noise_multiplier=SIGMA)

    def many():
        context = tf.distribute.get_replica_context()
        gradient = tf.fill(
            [6, 10, 10, 1], tf.cast(1 + context.replica_id_in_sync_group, tf.float32)
        )
        releases = tf.map_fn(lambda _: mechanism.release(gradient), tf.zeros([RELEASES]))
        return context.all_gather(tf.reshape(releases, [1, RELEASES, -1]), axis=0)

    save(folder / "joint", on, on.first(on.compiled(many)()))


def per_record_releases(folder, config, on):
    """Saves many releases, [T, n], of all digits, in two parts a draw or more."""
    from tfdps import batches, data
    from tfdps.mechanisms.per_record import PerRecordMechanism

    batches._PART_BYTES = 64 * 300
    digits = data.load_of(config, part=(on.worker, on.num_workers))
    mechanism = PerRecordMechanism(on=on)
    draws = batches.PoissonBatches(
        digits, 1.0, truncated=False, shards=on.local_count, num_workers=on.num_workers
    )
    assert draws.parts_per_step > 1
    elements = iter(on.distribute(draws.dataset(RELEASES // 2)))
    releases = [
        mechanism.release(
            (next(elements) for _ in range(draws.parts_per_step)),
            *question(),
            noise_multiplier=SIGMA,
        )
        for _ in range(RELEASES // 2)
    ]
    save(folder / "per_record", on, tf.stack(releases))


def question():
    """(Atoms, Scales): two atoms a class."""
    from tfdps.mechanisms.per_record import Atoms, Scales

    positions = np.stack([np.full([10, 64], level) for level in (-1.0, 0.0)], axis=1)
    return Atoms(positions, np.zeros([10, 2]), 1.0), Scales(3.0, 1.0)


def save(folder, on, releases):
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{on.worker}.npy", releases.numpy())


def train(folder, *flags):
    """Trains by flags, and says the hash of all weights that this worker has at the end."""
    from tfdps import flags as command_line
    from tfdps import models
    from tfdps import train as training

    built, build = [], models.build_model
    models.build_model = lambda *args, **on: built.append(build(*args, **on)) or built[-1]
    arguments = [f"--strategy={strategy()}", f"--model_dir={folder / 'run'}", *flags]
    _, config = command_line.parse(["tfdps", *arguments])
    training.train(config)
    [model] = built
    weights = [*model.generator.weights, *model.averaged_generator.weights]
    digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in weights))
    print("weights", digest.hexdigest())


def same_noise(folder):
    """Starts to train with a generator that forgets which replica it is on; says what comes of it."""
    from tensorflow.python.ops import stateful_random_ops

    from tfdps import checks
    from tfdps import train as training

    stateful_random_ops.Generator._preprocess_key = lambda self, key: key
    from tfdps.config import RunConfig

    config = RunConfig(
        mechanism="joint", strategy=strategy(), model_dir=str(folder / "run"), num_steps=20
    )
    try:
        training.train(config)
    except checks.UsageError as error:
        print("refused:", error)


if __name__ == "__main__":
    kind, folder, *arguments = sys.argv[1:]
    globals()[kind](pathlib.Path(folder), *arguments)
