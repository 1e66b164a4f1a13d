"""What the refiner makes of one mixture: classifiers on its images with and without it.

    python benchmarks/beside_mixture.py --starts=none,0.4 --flagfile=mnist.flags --data_dir=DATA

Mixtures of a flag file differ, since each has noise of its own: two runs say little of the refiner
where their mixtures are a point apart. Here one run is trained, and images of the same latents are
drawn from it for each of --starts: the mixture's own (none), and those that its denoiser makes from
that --refiner_start. Private steps of a flag file's refiner are in the run, also for `none`. With
--heldout the classifiers are tested on a tenth of the training split, which the run does not see.
What is measured is of real records without noise.
"""

import argparse
import dataclasses
import sys
import tempfile

import accuracy
import numpy as np

from tfdps.config import flags
from tfdps.distributed import startup
from tfdps.samplers import class_labels

_AT_A_TIME = 500  # images


def main():
    settings, rest = parse()
    _, config = flags.parse([sys.argv[0], *rest])
    startup.load_tensorflow()
    training, test = accuracy.datasets(config, settings.heldout)
    generator, config, spec = trained(config, training)
    labels = class_labels.in_turn(range(spec.num_classes), 0, settings.samples)
    z = np.random.default_rng(0).random((settings.samples, config.latent_dim), np.float32)
    for start in settings.starts.split(","):
        images = drawn(with_start(generator, config, spec, start), z, labels)
        found = accuracy.accuracies(
            images, labels, test=test, names=settings.classifiers.split(","), seed=0
        )
        line = {"flags": " ".join(f for f in rest if not f.startswith("--data_dir"))}
        line |= {"samples": settings.samples, "heldout": settings.heldout, "start": start}
        accuracy.add_line(settings.log, line | found)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--starts", default="none,0.4")
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--classifiers", default="logreg,mlp,cnn")
    parser.add_argument("--heldout", action="store_true", help="do not touch the test split")
    parser.add_argument("--log", help="file of results, a line a start")
    return parser.parse_known_args()


def trained(config, dataset):
    """(the generator of a run of its own, its settled RunConfig, its DatasetSpec)."""
    import tfdps
    from tfdps.data.dataset import Dataset
    from tfdps.generators import networks
    from tfdps.training import builders
    from tfdps.training.run_dir import RunDir

    spec = dataclasses.replace(dataset.spec, name="arrays:benchmark")
    built, build = [], builders.build_model
    builders.build_model = lambda *args, **on: built.append(build(*args, **on)) or built[-1]
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
        config, _, _ = RunDir(folder).read()
    generator = networks.of_run(config, spec)
    generator.set_weights(built[0].averaged_generator.get_weights())
    return generator, config, spec


def with_start(generator, config, spec, start):
    """A Keras model of (z, labels): the generator from another refiner_start, or its mixture alone."""
    import keras

    from tfdps.generators import networks

    if start == "none":
        return keras.Model(generator.inputs, generator.get_layer("images").output)
    other = networks.of_run(dataclasses.replace(config, refiner_start=float(start)), spec)
    other.set_weights(generator.get_weights())
    return other


def drawn(generator, z, labels):
    """uint8 images of a Keras model for latents and labels."""
    import tensorflow as tf

    of_part = tf.function(lambda z, labels: generator([z, labels]), reduce_retracing=True)
    parts = [slice(n, n + _AT_A_TIME) for n in range(0, len(z), _AT_A_TIME)]
    images = np.concatenate([of_part(z[part], labels[part]).numpy() for part in parts])
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
