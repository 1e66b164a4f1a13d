"""What the refiner makes of one mixture: its images with and without it, from several starts.

    python benchmarks/beside_mixture.py --starts=none,0.4 --flagfile=mnist.flags --data_dir=DATA

Mixtures of a flag file differ, since each has noise of its own: two runs say little of the refiner
where their mixtures are a point apart. Here one run is trained, and images of the same latents are
drawn from it for each of --starts: the mixture's own (none), and those that its denoiser makes from
that --refiner_start. Private steps of a flag file's refiner are in the run, also for `none`. They
train classifiers, and with --ruler=FILE.py, see `ruler.py`, FID, precision and recall of 2,000 of
them are measured; with --classifiers=none they alone. With --heldout the real images are a tenth of
the training split, which the run does not see. What is measured is of real records without noise.
"""

import argparse
import dataclasses
import sys
from unittest import mock

import accuracy
import warm_start
from ruler import Ruler

from tfdps.config import flags
from tfdps.distributed import startup
from tfdps.samplers import class_labels


def main():
    settings, rest = parse()
    _, config = flags.parse([sys.argv[0], *rest])
    startup.load_tensorflow()
    training, test = accuracy.datasets(config, settings.heldout)
    ruler = Ruler(settings.ruler, test) if settings.ruler else None
    generator, config, spec = trained(config, training)
    labels = class_labels.in_turn(range(spec.num_classes), 0, settings.samples)
    for start in settings.starts.split(","):
        images = warm_start.drawn(with_start(generator, config, spec, start), labels)
        found = ruler.measured(images) if ruler else {}
        found |= accuracy.accuracies(images, labels, test=test, names=settings.classifiers, seed=0)
        line = {"flags": accuracy.named(rest), "samples": settings.samples}
        line |= {"heldout": settings.heldout, "start": start}
        accuracy.add_line(settings.log, line | found)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--starts", default="none,0.4")
    parser.add_argument("--samples", type=int, default=60_000)
    accuracy.add_classifiers(parser)
    parser.add_argument("--ruler", help="a Python file that measures FID, precision and recall")
    parser.add_argument("--heldout", action="store_true", help="do not touch the test split")
    parser.add_argument("--log", help="file of results, a line a start")
    return parser.parse_known_args()


def trained(config, dataset):
    """(the generator of a run of its own, its settled RunConfig, its DatasetSpec)."""
    from tfdps.training import builders
    from tfdps.training.run_dir import RunDir

    built, build = [], builders.build_model

    def kept(*args, **options):
        built.append(build(*args, **options))
        return built[-1]

    with (
        mock.patch.object(builders, "build_model", kept),
        accuracy.finished_run(config, dataset) as folder,
    ):
        config, spec, _ = RunDir(folder).read()
    return built[0].averaged_generator, config, spec


def with_start(generator, config, spec, start):
    """A Keras model of (z, labels): the generator from another refiner_start, or its mixture alone."""
    import keras

    from tfdps.generators import networks

    if start == "none":
        return keras.Model(generator.inputs, generator.get_layer("images").output)
    other = networks.of_run(dataclasses.replace(config, refiner_start=float(start)), spec)
    other.set_weights(generator.get_weights())
    return other


if __name__ == "__main__":
    main()
