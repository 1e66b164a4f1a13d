"""What the debias ratio p does to what a joint run learns, at equal steps and equal noise.

    python benchmarks/debias.py --flagfile=mnist_joint.flags --num_steps=6000 --data_dir=DATA

Source of the claim: Cao et al., NeurIPS 2021, arXiv 2111.01177: the loss with p = 0 is biased, and
pulls images towards their mean; with p = 1 it is not, and its gradient varies more; a small p is
best. For each p of --ratios and each of --runs a generator is trained on nine tenths of the
training split, and judged on the tenth that is held out: the accuracy of a CNN trained on --samples
generated images, and the variance of images within a class, over that of real ones. --private=no
takes the noise out. Any flag of a run may follow. Each finished run is a line of --log, and the
same command started again goes on; --plot draws the file. Accuracies are of real records without
noise.
"""

import argparse
import dataclasses
import pathlib
import sys
import time

import accuracy
import numpy as np

from tfdps.config import flags
from tfdps.distributed import startup
from tfdps.samplers import class_labels


def main():
    settings, rest = parse()
    _, config = flags.parse([sys.argv[0], *rest])
    if settings.private == "no":
        config = dataclasses.replace(
            config, mechanism="none", noise_multiplier=None, target_epsilon=None, fresh_clip=1.0
        )
    startup.load_tensorflow()
    training, test = accuracy.datasets(config, heldout=True)
    done = accuracy.lines_of(settings.log)
    for run in range(settings.runs):
        for ratio in map(float, settings.ratios.split(",")):
            wanted = {
                "flags": accuracy.named(rest),
                "private": settings.private,
                "samples": settings.samples,
                "ratio": ratio,
                "run": run,
            }
            if any(wanted.items() <= line.items() for line in done):
                continue
            of_ratio = dataclasses.replace(config, debias_ratio=ratio)
            done.append(wanted | one_run(of_ratio, training, test, settings.samples, run))
            accuracy.add_line(settings.log, done[-1])
    if settings.plot:
        plot(done, settings.plot)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--ratios", default="0,0.2,0.5,1")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--private", choices=("yes", "no"), default="yes")
    parser.add_argument("--log", type=pathlib.Path, default=pathlib.Path("benchmarks/debias.jsonl"))
    parser.add_argument("--plot", type=pathlib.Path, help="a PNG file to draw")
    return parser.parse_known_args()


def one_run(config, training, test, samples, seed):
    """{epsilon, seconds, cnn in %, variance within a class over that of real images} of a run."""
    started, classes = time.perf_counter(), training.spec.num_classes
    sampler = accuracy.trained(config, training)
    seconds = time.perf_counter() - started
    labels = class_labels.in_turn(range(classes), 0, samples)
    images = sampler.sample(labels, seed=seed)
    variance = within_classes(images, labels) / within_classes(test.images, test.labels)
    return {
        "epsilon": round(sampler.card.epsilon, 4) if config.private else None,
        "train_s": round(seconds, 1),
        "variance": round(float(variance), 4),
        **accuracy.accuracies(images, labels, test=test, names=["cnn"], seed=seed),
    }


def within_classes(images, labels):
    """The variance of a pixel within a class, mean over pixels and classes."""
    return np.mean(
        [images[labels == label].astype(np.float32).var(axis=0).mean() for label in set(labels)]
    )


def plot(lines, path):
    """Draws accuracy and variance against p, a curve with the noise and one without."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    names = {"cnn": "accuracy of a CNN in %", "variance": "variance within a class, real = 1"}
    for panel, (name, title) in zip(panels, names.items(), strict=True):
        for private, label in (("yes", "epsilon 10"), ("no", "no noise, no clip")):
            own = [line for line in lines if line["private"] == private]
            ratios = sorted({line["ratio"] for line in own})
            values = [[line[name] for line in own if line["ratio"] == p] for p in ratios]
            if not ratios:
                continue
            panel.plot(ratios, [np.mean(v) for v in values], marker="o", label=label)
            for ratio, value in zip(ratios, values, strict=True):
                panel.plot([ratio] * len(value), value, ".", color="grey", markersize=4)
        panel.set(xlabel="debias ratio p", title=title)
        panel.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
