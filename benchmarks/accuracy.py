"""Accuracy of the paper's classifiers on what a flag file trains: mean and spread over runs.

    python benchmarks/accuracy.py --runs=3 --flagfile=mnist.flags --data_dir=DATA

Each run trains a generator of its own, with noise of its own; its images train the classifiers of
`tfdps/evaluation/classifiers.py`, which are tested on the real test split. With --heldout they are
tested on a tenth of the training split that the run does not see: choose settings by that, and any
flag of a run may follow for it, as --num_atoms=8. Accuracies are of real records without noise.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time

import numpy as np

from tfdps import flags, startup


def main():
    settings, rest = parse()
    _, config = flags.parse([sys.argv[0], *rest])
    startup.load_tensorflow()
    from tfdps.evaluation import classifiers

    training, test = datasets(config, settings.heldout)
    results = []
    for run in range(settings.runs):
        started = time.perf_counter()
        generator, epsilon = trained(config, training)
        seconds = time.perf_counter() - started
        images, labels = drawn(generator, settings.samples, training.spec.num_classes, run)
        accuracies = {
            name: 100
            * classifiers.accuracy(
                name,
                images,
                labels,
                test=(test.images, test.labels),
                num_classes=training.spec.num_classes,
                seed=run,
            )
            for name in settings.classifiers.split(",")
        }
        results.append(accuracies)
        rounded = {name: round(value, 2) for name, value in accuracies.items()}
        line = {"epsilon": round(epsilon, 4), "train_s": round(seconds, 1), **rounded}
        print(json.dumps({**line, "total_s": round(time.perf_counter() - started)}), flush=True)
    for name in results[0]:
        values = [accuracies[name] for accuracies in results]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        print(f"{name:8} {statistics.mean(values):5.1f} +- {spread:.1f}", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--samples", type=int, default=60_000, help="images of a run")
    parser.add_argument("--classifiers", default="logreg,mlp,cnn")
    parser.add_argument("--heldout", action="store_true", help="do not touch the test split")
    return parser.parse_known_args()


def datasets(config, heldout):
    """(records to train on, records to test on)."""
    from tfdps import data

    everything = data.load_of(config)
    if not heldout:
        return everything, data.load_of(config, split="test")
    order = np.random.default_rng(0).permutation(len(everything))
    parts = np.split(order, [len(order) // 10])
    test, training = (
        data.Dataset(everything.images[part], everything.labels[part], everything.spec)
        for part in parts
    )
    return training, test


def trained(config, dataset):
    """(the generator of a run in memory, the epsilon it has spent)."""
    from tfdps import batches, train
    from tfdps.plan import make_plan

    if len(dataset) != config.dataset_size:
        config = dataclasses.replace(config, dataset_size=None)
    plan = make_plan(config, len(dataset))
    model = train.build_model(config, dataset.spec, plan)
    model.authorize(plan.steps)
    draws = batches.poisson_batches(
        dataset,
        plan.sampling_probability,
        plan.steps,
        truncated=model.mechanism.bounds_any_batches,
    )
    model.fit(draws, verbose=0, shuffle=False)
    return model.averaged_generator, plan.epsilon(plan.steps)


def drawn(generator, count, num_classes, seed):
    """(images uint8 [count, H, W, C], labels): labels in turn, latents uniform."""
    from tfdps import grids

    labels = np.arange(count, dtype=np.int32) % num_classes
    latents = np.random.default_rng(seed).random([count, generator.input_shape[0][1]], np.float32)
    images = [
        grids.to_uint8(
            generator([latents[i : i + 1000], labels[i : i + 1000]], training=False).numpy()
        )
        for i in range(0, count, 1000)
    ]
    return np.concatenate(images), labels


if __name__ == "__main__":
    main()
