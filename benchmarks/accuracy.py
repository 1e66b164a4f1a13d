"""Accuracy of the paper's classifiers on what a flag file trains: mean and spread over runs.

    python benchmarks/accuracy.py --runs=3 --flagfile=mnist.flags --data_dir=DATA

Each run trains a generator of its own, with noise of its own; its images train the classifiers of
`tfdps/evaluation/classifiers.py`, which are tested on the real test split. With --heldout they are
tested on a tenth of the training split that the run does not see: choose settings by that, and any
flag of a run may follow for it, as --num_atoms=8. With --log=FILE each finished run is a line of the
file, and the same command started again goes on where it was stopped; benchmarks/accuracy.jsonl has
the runs behind README's table: take those out that a change of the recipe makes void.

    python benchmarks/accuracy.py --export=saved_models/mnist_eps1 --data_dir=DATA

does the same with the images of an export, a generator.onnx, and trains none. With --ruler=FILE.py, see
`ruler.py`, FID, precision and recall of 2,000 images are measured as well; with --classifiers=none
they alone. What is measured is of real records without noise.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time

import numpy as np
from ruler import Ruler

from tfdps.config import flags
from tfdps.distributed import startup
from tfdps.samplers import class_labels, onnx_sampler


def main():
    settings, rest = parse()
    sampler = onnx_sampler.load(settings.export) if settings.export else None
    if sampler:
        rest = [*sampler.card.flags, *rest]
    _, config = flags.parse([sys.argv[0], *rest])
    names = settings.classifiers
    wanted = {
        "flags": settings.export or named(rest),
        "samples": settings.samples,
        "heldout": settings.heldout,
    }
    columns = names + (["fid", "precision", "recall"] if settings.ruler else [])
    done = results_in(settings.log, wanted, columns)
    missing = [run for run in range(settings.runs) if run not in done]
    if missing:
        startup.load_tensorflow()
        training, test = datasets(config, settings.heldout)
        ruler = Ruler(settings.ruler, test) if settings.ruler else None
    for run in missing:
        done[run] = one_run(config, training, test, wanted | {"run": run}, names, sampler, ruler)
        add_line(settings.log, done[run])
    for name in columns:
        values = [done[run][name] for run in range(settings.runs)]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        print(f"{name:9} {statistics.mean(values):6.2f} +- {spread:.2f}", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--export", help="an export to draw from, in place of a run of its own")
    parser.add_argument("--samples", type=int, default=60_000, help="images of a run")
    add_classifiers(parser)
    parser.add_argument("--ruler", help="a Python file that measures FID, precision and recall")
    parser.add_argument("--heldout", action="store_true", help="do not touch the test split")
    parser.add_argument(
        "--log", help="file of results, a line a run; those in it are not run again"
    )
    return parser.parse_known_args()


def add_classifiers(parser):
    """Adds --classifiers to an ArgumentParser; its value is a list of names."""
    parser.add_argument(
        "--classifiers",
        type=lambda text: [] if text == "none" else text.split(","),
        default="logreg,mlp,cnn",
        help="or none",
    )


def named(flags_of_run):
    """The flags of a run as a line of a --log has them: without this machine's folder of data."""
    return " ".join(flag for flag in flags_of_run if not flag.startswith("--data_dir"))


def results_in(path, wanted, columns):
    """{run: its line} of the runs in the file that are of these settings and have these figures."""
    return {
        line["run"]: line
        for line in lines_of(path)
        if wanted.items() <= line.items() and all(name in line for name in columns)
    }


def lines_of(path):
    """The finished runs of a --log, [dict]; [] where it is None or no file yet."""
    if not path or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def add_line(path, line):
    """Prints a finished run, and adds it to the --log if there is one."""
    print(json.dumps(line), flush=True)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def one_run(config, training, test, line, names, sampler, ruler):
    """The line, with what the run found: epsilon, seconds, distances, accuracies in %."""
    started = time.perf_counter()
    if sampler is None:
        sampler = trained(config, training)
        line |= {"train_s": round(time.perf_counter() - started, 1)}
    labels = class_labels.in_turn(range(training.spec.num_classes), 0, line["samples"])
    images = sampler.sample(labels, seed=line["run"])
    line |= {"epsilon": round(sampler.card.epsilon or float("inf"), 4)}
    line |= ruler.measured(images) if ruler else {}
    line |= accuracies(images, labels, test=test, names=names, seed=line["run"])
    return line | {"total_s": round(time.perf_counter() - started)}


def accuracies(images, labels, *, test, names, seed):
    """{classifier: accuracy in % on `test`, a Dataset}, each trained on the images and labels."""
    from tfdps.evaluation import classifiers

    return {
        name: round(
            100
            * classifiers.accuracy(
                name,
                images,
                labels,
                test=(test.images, test.labels),
                num_classes=test.spec.num_classes,
                seed=seed,
            ),
            2,
        )
        for name in names
    }


def datasets(config, heldout):
    """(records to train on, records to test on)."""
    from tfdps.data import loading
    from tfdps.data.dataset import Dataset

    everything = loading.load_of(config)
    if not heldout:
        return everything, loading.load_of(config, split="test")
    order = np.random.default_rng(0).permutation(len(everything))
    parts = np.split(order, [len(order) // 10])
    test, training = (
        Dataset(everything.images[part], everything.labels[part], everything.spec) for part in parts
    )
    return training, test


def trained(config, dataset):
    """The sampler of a run of its own on a Dataset, in a folder that is gone afterwards."""
    with finished_run(config, dataset) as folder:
        return onnx_sampler.load(folder)


@contextlib.contextmanager
def finished_run(config, dataset):
    """The folder of a run of its own on a Dataset, a path; it is gone afterwards."""
    import tfdps
    from tfdps.data.dataset import Dataset

    spec = dataclasses.replace(dataset.spec, name="arrays:benchmark")
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(
            config,
            dataset=spec.name,
            dataset_size=len(dataset),
            class_names=None,  # the spec declares them
            data_dir=None,
            model_dir=folder,
        )
        tfdps.train(config, Dataset(dataset.images, dataset.labels, spec))
        yield folder


if __name__ == "__main__":
    main()
