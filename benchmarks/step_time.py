"""How a joint step's time splits: generator, transport, mechanism, weights' update, next batch.

    python benchmarks/step_time.py --flagfile=mnist_paper.flags --data_dir=DATA

For the per-record mechanism see `benchmarks/per_record.py`.

Medians of repeated calls in one process; compare them as shares of the step, machines differ.
"""

import statistics
import sys
import time

from tfdps import flags, startup

WARM_UP = (
    500  # transport takes its time by the clouds: ask on a generator that has learnt something
)
REPEATS = 40


def main():
    startup.load_tensorflow()
    import tensorflow as tf

    from tfdps import batches, data, train
    from tfdps.plan import make_plan

    _, config = flags.parse(sys.argv)
    if config.mechanism == "per_record":
        sys.exit("step_time.py is of --mechanism=joint or none: give mnist_paper.flags, say.")
    dataset = data.load_of(config)
    plan = make_plan(config, len(dataset))
    model = train.build_model(config, dataset.spec, plan)
    model.authorize(10**9)
    draws = iter(batches.poisson_batches(dataset, plan.sampling_probability, 10**6))
    step = tf.function(model.train_step)
    for _ in range(WARM_UP):
        step(next(draws))
    batch, (z, labels) = next(draws), model.learner.latents()
    num_images = config.batch_size

    @tf.function
    def generator():
        with tf.GradientTape() as tape:
            images = model.generator([z, labels], training=True)
        variables = model.generator.trainable_variables
        return images, tape.gradient(images, variables, output_gradients=tf.ones_like(images))

    images, gradients = generator()
    release = tf.function(model.mechanism.release)
    parts = {
        "generator, forward and back": generator,
        "transport": lambda: model.learner.image_gradients(images, labels, *batch),
        "mechanism": lambda: release(images[:num_images]),
        "weights' update": lambda: model.learner._update_weights(gradients),
        "next batch": lambda: next(draws),
        "whole step": lambda: step(batch),
    }
    times = {name: milliseconds(call, tf) for name, call in parts.items()}
    for name, value in times.items():
        print(f"{name:30s} {value:8.2f} ms {100 * value / times['whole step']:5.0f} %")
    print(f"{'':30s} {1000 / times['whole step']:8.1f} steps/s")


def milliseconds(call, tf):
    """Median wall time of a call, its result waited for."""

    def once():
        start = time.perf_counter()
        for tensor in tf.nest.flatten(call()):
            if tensor is not None:
                tensor.numpy()
        return 1000 * (time.perf_counter() - start)

    for _ in range(3):
        once()
    return statistics.median(once() for _ in range(REPEATS))


if __name__ == "__main__":
    main()
