"""Where the time of a step goes, for either mechanism.

    python benchmarks/step.py --flagfile=mnist_paper.flags --data_dir=DATA
    python benchmarks/step.py --flagfile=mnist.flags --data_dir=DATA

Joint (or none): medians of repeated calls, on a generator that has taken a few hundred steps, for
transport takes its time by the clouds. Per record: the rounds of a run, one after the other; a
release is called twice, for the first call compiles. Wall and CPU time, the latter of all threads;
compare them as shares of the step, machines differ. Nothing that is released here is kept.
"""

import argparse
import sys
import time

import numpy as np

from tfdps.config import automatic, flags
from tfdps.distributed import startup


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--warm_up", type=int, default=300, help="steps before, not of per_record")
    parser.add_argument("--repeats", type=int, default=40, help="of a part, not of per_record")
    settings, rest = parser.parse_known_args()
    startup.load_tensorflow()
    from tfdps.accounting.plan import make_plan
    from tfdps.data import loading
    from tfdps.distributed import replicas
    from tfdps.mechanisms.batches import PoissonBatches
    from tfdps.training import builders

    _, config = flags.parse([sys.argv[0], *rest])
    dataset = loading.load_of(config)
    spec = dataset.spec
    config, _ = automatic.settled(
        config, len(dataset), num_classes=spec.num_classes, image_shape=spec.image_shape
    )
    plan = make_plan(config, len(dataset), num_classes=spec.num_classes)
    model = builders.build_model(config, dataset.spec, plan)
    model.authorize(10**9)
    stage, on = plan.stages[0], replicas.Replicas()
    draws = iter(PoissonBatches.of_run(dataset, model.learner, on=on, stage=stage).dataset(10**6))
    if config.mechanism == "per_record":
        of_rounds(model.learner, plan, draws)
    else:
        of_steps(model, config, draws, settings)


def of_steps(model, config, draws, settings):
    """Prints the parts of a step of an ImageGradientLearner."""
    import tensorflow as tf

    learner = model.learner
    step = tf.function(model.train_step)
    for _ in range(settings.warm_up):
        step([next(draws)])
    batch, (z, labels) = next(draws), learner.latents()

    @tf.function
    def generator():
        with tf.GradientTape() as tape:
            images = model.generator([z, labels], training=True)
        variables = model.generator.trainable_variables
        return images, tape.gradient(images, variables, output_gradients=tf.ones_like(images))

    images, gradients = generator()
    release, source = tf.function(model.mechanism.release), learner.noise
    records, noise = batch[:3], batch[3:]
    parts = {
        "generator, forward and back": generator,
        "transport": lambda: learner.image_gradients(images, labels, *records),
        "transport of fresh images": lambda: learner.fresh_gradient(images, labels),
        "mechanism": lambda: release(images[: config.batch_size], *noise),
        "noise": lambda: source and source.draw(),
        "weights' update": lambda: learner._update_weights(gradients),
        "next batch": lambda: next(draws),
        "whole step": lambda: step([batch]),
    }
    took = {name: of_call(call, settings.repeats) for name, call in parts.items()}
    whole, whole_cpu = took["whole step"]
    print(f"{'':30} {'wall ms':>9} {'CPU ms':>9} {'of the CPU time':>16}")
    for name, (wall, cpu) in took.items():
        print(f"{name:30} {wall:9.2f} {cpu:9.2f} {100 * cpu / whole_cpu:15.0f}%")
    print(f"{1000 / whole:.1f} steps/s")


def of_rounds(learner, plan, draws):
    """Prints the parts of each round of a MomentLearner, and of all of them."""
    model, rows = None, []
    for asked, sigma in zip(learner._rounds, plan.noise_multipliers, strict=True):
        model, times = round_taken(learner, asked, model, sigma, draws)
        rows.append((asked.name, times))
    whole = {part: sum(times[part] for _, times in rows) for part in rows[0][1]}
    print(f"{'wall/CPU s':10} " + " ".join(f"{part:>13}" for part in whole))
    for name, times in [*rows, ("all", whole)]:
        columns = (f"{wall:6.2f}/{cpu:6.2f}" for wall, cpu in times.values())
        print(f"{name:10} " + " ".join(columns))
    wall, cpu = sum(whole.values())
    print(f"{wall:.1f} s wall, {cpu:.1f} s CPU: {len(rows) / wall:.2f} rounds/s")


def round_taken(learner, asked, model, sigma, draws):
    """(the model after a round, {part: [wall, CPU] seconds})."""
    from tfdps.learners.per_record.learner import set_generator

    batch, draw = timed(lambda: next(draws))
    (query, expected), ask = timed(lambda: asked.query(model, learner._rng))
    released, first = timed(lambda: learner.release((query, sigma), [batch]))
    _, again = timed(lambda: learner.release((query, sigma), [batch]))

    def learn():
        return asked.update(model, query, expected, released.moments())

    model, learning = timed(learn)
    _, write = timed(lambda: set_generator(learner.generator, model, finish=learner._finish))
    return model, {
        "draw": draw,
        "query": ask,
        "compile": first - again,
        "release": again,
        "learn": learning,
        "generator": write,
    }


def of_call(call, repeats):
    """Median [wall, CPU] milliseconds of a call, its result waited for."""
    import tensorflow as tf

    def once():
        for tensor in tf.nest.flatten(call(), expand_composites=True):
            if tf.is_tensor(tensor):
                tensor.numpy()

    for _ in range(3):
        once()
    return 1000 * np.median([timed(once)[1] for _ in range(repeats)], axis=0)


def timed(call):
    """(what a call returns, [wall, CPU] seconds of it)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, np.array([time.perf_counter() - wall, time.process_time() - cpu])


if __name__ == "__main__":
    main()
