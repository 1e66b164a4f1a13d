"""What a process of a test of replicas does: python replica_job.py KIND FOLDER [arguments].

On the workers of TF_CONFIG, or on two devices that a CPU is cut into.
"""

import hashlib
import importlib.util
import json
import os
import pathlib
import sys

import numpy as np
import tensorflow as tf

SIGMA, CLIP_NORM = 1.3, 0.5
RELEASES, ROUNDS, SHAPE = 60, 4, [6, 10, 10, 1]  # of the joint mechanism, of the others
GRADIENT_SIZE = 8192


def strategy():
    """The flag's value; cuts the CPU in two where there is one process."""
    if "TF_CONFIG" in os.environ:
        return "multiworker"
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return "mirrored"


def opened(folder, **settings):
    """(RunConfig, Replicas) of the process."""
    from tfdps import console
    from tfdps.config.run_config import RunConfig
    from tfdps.distributed import replicas

    config = RunConfig(model_dir=str(folder / "run"), strategy=strategy(), **settings)
    with console.lines_to(print):
        return config, replicas.of_config(config)


def releases(folder):
    """Saves many releases of all mechanisms."""
    config, on = opened(folder, mechanism="joint", batch_size=12)
    joint_releases(folder, on)
    per_record_releases(folder, config, on)
    gradient_releases(folder, config, on)
    if importlib.util.find_spec("tensorflow_privacy"):
        makers(folder, on)


def joint_releases(folder, on):
    """Saves many releases of every replica, [R, T, n], of a constant gradient, and their noise."""
    from tfdps.mechanisms.joint import JointMechanism

    with on.scope():
        mechanism = JointMechanism(clip_norm=CLIP_NORM, noise_multiplier=SIGMA)
    noise = mechanism.step_noise([RELEASES, *SHAPE])
    draws = tf.data.Dataset.from_generator(
        lambda: (noise.draw() for _ in range(on.local_count)),
        output_signature=tf.TensorSpec(noise.shape, tf.int64),
    )

    def many(noise):
        context = tf.distribute.get_replica_context()
        gradient = tf.fill(SHAPE, tf.cast(1 + context.replica_id_in_sync_group, tf.float32))
        releases = tf.map_fn(
            lambda noise: mechanism.release(gradient, noise),
            noise,
            fn_output_signature=tf.TensorSpec(SHAPE, tf.float32),
        )
        return [
            context.all_gather(tf.reshape(values, [1, RELEASES, -1]), axis=0)
            for values in (releases, noise)
        ]

    noise = next(iter(on.distribute(draws)))
    for name, values in zip(("joint", "joint_noise"), on.compiled(many, noise)(noise), strict=True):
        save(folder / name, on, on.first(values))


def makers(folder, on):
    """Saves the weights after each of 5 steps, and what this worker released, of both `dp_adam`s."""
    from tfdps.mechanisms import gradient_grid, keras_privacy, tf_privacy

    noise = np.random.default_rng(0).normal(0, gradient_grid.STEPS, [5, *SHAPE])
    noise, starts = tf.constant(np.rint(noise), tf.int64), tf.linspace(-1.0, 1.0, 3)
    for name, maker in (("tf_privacy", tf_privacy), ("keras_privacy", keras_privacy)):
        with on.scope():
            optimizer = maker.gaussian_adam(clip_norm=CLIP_NORM, noise_stddev=1, learning_rate=0.05)
            weights = tf.Variable(starts)
            optimizer.build([weights])

        def step(noise, maker=maker, optimizer=optimizer, weights=weights):
            context = tf.distribute.get_replica_context()
            replica = tf.cast(1 + context.replica_id_in_sync_group, tf.int64)
            gradient = 1e-3 * weights[0] * tf.fill(SHAPE, tf.cast(replica, tf.float32))
            released = maker.clip_and_noise(optimizer, gradient, noise * replica)
            pulled = tf.cast(tf.reduce_sum(released) * gradient_grid.STEPS**-2, tf.float32)
            optimizer.apply_gradients([(pulled * (1 + starts), weights)])
            sums = context.all_gather(tf.reshape(released, [1, -1]), axis=0)
            return tf.concat([tf.reshape(sums, [-1]), tf.cast(weights, tf.float64)], axis=0)

        step = on.compiled(step, noise[0])
        save(folder / name, on, tf.stack([on.first(step(noise[k])) for k in range(len(noise))]))


def per_record_releases(folder, config, on):
    """Saves many releases, [T, n], of all digits, in two parts a draw or more; and their integers.

    These are [2, n]: without noise, and with noise that is the element's number.
    """
    from tfdps.mechanisms import exactness
    from tfdps.mechanisms.per_record import PerRecordMechanism

    exactness.check(on)
    parts = draws_in_parts(config, on)
    mechanism = PerRecordMechanism(on=on)
    releases = [
        mechanism.release(parts(), query(), noise_multiplier=SIGMA).vector for _ in range(ROUNDS)
    ]
    save(folder / "per_record", on, tf.stack(releases))

    def integers(noise):
        return mechanism._noisy_sum.add_up(
            parts(), lambda batch: mechanism._contributions(batch, query()), noise=noise
        )

    size = releases[0].shape[0]
    sums = [integers(None), integers(np.arange(size) if on.is_chief else None)]
    save(folder / "integers", on, tf.stack(sums))


def gradient_releases(folder, config, on):
    """Saves releases of the refiner's mechanism, and its sums: without noise, and with a known one."""
    parts = draws_in_parts(config, on)
    mechanism = gradient_mechanism(on)
    releases = [mechanism.release(parts(), noise_multiplier=SIGMA).vector for _ in range(ROUNDS)]
    save(folder / "gradients", on, tf.stack(releases))

    def integers(noise):
        return mechanism._noisy_sum.add_up(parts(), mechanism._sum, noise=noise)

    sums = [integers(None), integers(np.arange(GRADIENT_SIZE) if on.is_chief else None)]
    save(folder / "gradient_integers", on, tf.stack(sums))


def draws_in_parts(config, on):
    """A function that returns the parts of the next draw of all digits, two or more, an iterator."""
    from tfdps.data import loading
    from tfdps.mechanisms import batches

    draws = batches.PoissonBatches(
        loading.load_of(config, part=(on.worker, on.num_workers)),
        1.0,
        overflow_probability=1e-30,
        in_parts=True,
        shards=on.local_count,
        num_workers=on.num_workers,
        part_bytes=64 * 300,
    )
    assert draws.parts_per_step > 1
    elements = iter(on.distribute(draws.dataset(ROUNDS + 2)))
    return lambda: (next(elements) for _ in range(draws.parts_per_step))


def gradient_mechanism(on=None):
    """A RecordGradientMechanism of gradients that are whole numbers: no order of sums moves them."""
    from tfdps.mechanisms.record_gradients import RecordGradientMechanism

    def gradients(images, labels, weights, places):
        pixels = tf.reshape(tf.cast(images, tf.float32), [images.shape[0], 64])
        rows = pixels * tf.cast(1 + labels[:, None], tf.float32) - 300
        return tf.tile(rows, [1, GRADIENT_SIZE // 64])

    return RecordGradientMechanism(gradients, lambda places: (places,), size=GRADIENT_SIZE, on=on)


def query():
    """A MomentQuery: two atoms a class."""
    from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales

    positions = np.stack([np.full([10, 64], level) for level in (-1.0, 0.0)], axis=1)
    return MomentQuery(Atoms(positions, np.zeros([10, 2]), 1.0), Scales(3.0, 1.0, 0.1, 0.1))


def save(folder, on, releases):
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{on.worker}.npy", releases.numpy())


def train(folder, *flags):
    """Trains by flags, and says the hash of all weights that this worker has at the end."""
    from tfdps import console
    from tfdps.config import flags as command_line
    from tfdps.training import builders
    from tfdps.training import job as training

    built, build = [], builders.build_model
    builders.build_model = lambda *args, **on: built.append(build(*args, **on)) or built[-1]
    arguments = [f"--strategy={strategy()}", f"--model_dir={folder / 'run'}", *flags]
    _, config = command_line.parse(["tfdps", *arguments])
    with console.lines_to(print):
        training.train(config)
    [model] = built
    weights = [*model.generator.weights, *model.averaged_generator.weights]
    digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in weights))
    print("weights", digest.hexdigest())


def denoiser(folder, *flags):
    """Trains by flags, whose last steps are the denoiser's; says of each whether its sum is right.

    That is: without noise, the sum over the replicas is the one of one device, to the bit.
    """
    from tfdps.learners.refiner import private_steps
    from tfdps.training import job as training

    training.export_run = lambda *args: None  # which others test
    release = private_steps.DenoiserSteps.release

    def watched(self, state, draw):
        parts = list(draw)
        released = release(self, state, iter(parts))  # and leaves the weights that it was asked at
        mechanism, strategy = self.mechanism, self._replicas.strategy
        total = mechanism._noisy_sum.add_up(iter(parts), mechanism._sum, noise=None)
        alone = 0
        for part in parts:
            of_replicas = [strategy.experimental_local_results(array) for array in part]
            for batch in zip(*of_replicas, strict=True):
                own = mechanism._sum(batch)
                print("of a replica", int(tf.math.count_nonzero(own)))
                alone += own
        print("sums are alike", bool(tf.reduce_all(total == alone)))
        return released

    private_steps.DenoiserSteps.release = watched
    train(folder, *flags)


def other_data(folder):
    """Starts to train on a folder of images of this worker's own; says what is refused."""
    from tfdps import checks
    from tfdps.config.run_config import RunConfig
    from tfdps.training import job as training

    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    config = RunConfig(
        dataset=f"folder:{folder / str(worker) / 'images'}",
        strategy="multiworker",
        model_dir=str(folder / "run"),
        latent_dim=5,
        image_size=4,
    )
    try:
        training.train(config)
    except checks.UsageError as error:
        print("refused:", error)


if __name__ == "__main__":
    kind, folder, *arguments = sys.argv[1:]
    globals()[kind](pathlib.Path(folder), *arguments)
