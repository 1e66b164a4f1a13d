"""The joint mechanism on a mixture's shoulders: what its private steps add to a warm start.

    python benchmarks/warm_start.py --flagfile=mnist_joint.flags --num_steps=20000 \
        --mixture=mnist_eps1.flags --data_dir=DATA

Three stages. The flag file of --mixture trains a mixture for its own, small epsilon. A generator of
--flagfile learns the mixture's images by --warm_steps steps of the same loss, without noise, with
the debias ratio --warm_ratio: post-processing, so it is free. Then the published steps go on from
its weights, on the private records, with the noise that makes mixture and steps together cost the
epsilon of --flagfile (one PLD over both). Each stage's images are judged: a line of --log for each.

For every learning rate of --learning_rates the third stage is run anew from the same weights. With
--heldout a tenth of the training split is kept from all stages and judges in place of the test
split: choose by that. Steps are those of the product, with its exact noise, but no ledger is kept
and nothing is released: this measures. Accuracies are of real records without noise.
"""

import argparse
import dataclasses
import sys
import time

import accuracy
import numpy as np
from field import judge
from ruler import Ruler

from tfdps.config import flags
from tfdps.distributed import startup
from tfdps.samplers import class_labels


def main():
    settings, rest = parse()
    _, config = flags.parse([sys.argv[0], *rest])
    data_dir = [flag for flag in rest if flag.startswith("--data_dir")]
    _, mixture_config = flags.parse([sys.argv[0], f"--flagfile={settings.mixture}", *data_dir])
    startup.load_tensorflow()
    training, test = accuracy.datasets(config, settings.heldout)
    ruler = Ruler(settings.ruler, test) if settings.ruler else None
    names = settings.classifiers.split(",")
    line = {
        "flags": accuracy.named(rest),
        **{k: v for k, v in vars(settings).items() if k not in ("log", "ruler", "picture")},
    }

    def judged(stage, images, labels, **numbers):
        picture = f"{settings.picture}_{stage}.png" if settings.picture else None
        found = judge.judged(
            {"images": images, "labels": labels},
            test=test,
            names=names,
            seed=0,
            ruler=ruler,
            picture=picture,
        )
        accuracy.add_line(settings.log, line | {"stage": stage} | numbers | found)

    labels = class_labels.in_turn(range(training.spec.num_classes), 0, settings.samples)
    images, charges, epsilon = of_mixture(mixture_config, training, labels)
    epsilon = round(epsilon, 4)
    judged("mixture", images, labels, epsilon=epsilon)

    started = time.perf_counter()
    warm = warmed(config, settings, training.spec, images, labels)
    seconds = round(time.perf_counter() - started)
    judged("warm", drawn(warm, labels), labels, epsilon=epsilon, train_s=seconds)

    for rate in map(float, settings.learning_rates.split(",")):
        started = time.perf_counter()
        numbers, generator = went_on(config, rate, training, warm, charges)
        numbers |= {"learning_rate": rate, "train_s": round(time.perf_counter() - started)}
        judged(f"private_{rate:g}", drawn(generator, labels), labels, **numbers)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--mixture", default="mnist_eps1.flags", help="its flag file")
    parser.add_argument("--warm_steps", type=int, default=10_000)
    parser.add_argument("--warm_ratio", type=float, default=1.0)
    parser.add_argument("--warm_rate", type=float, default=1e-3)
    parser.add_argument("--learning_rates", default="2e-4")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--classifiers", default="cnn")
    parser.add_argument("--heldout", action="store_true", help="do not touch the test split")
    parser.add_argument("--ruler", help="a Python file that measures FID, precision and recall")
    parser.add_argument("--picture", help="how the names of PNG files of each stage begin")
    parser.add_argument("--log", help="file of results, a line a stage")
    return parser.parse_known_args()


def of_mixture(config, training, labels):
    """(its images, the charges of its plan, its epsilon) of a mixture trained on the records."""
    from tfdps.accounting.plan import make_plan

    sampler = accuracy.trained(config, training)
    # Its own steps are those that a plan of the same settings has.
    config = dataclasses.replace(config, dataset_size=len(training))
    plan = make_plan(config, len(training), num_classes=training.spec.num_classes)
    assert abs(plan.epsilon(plan.steps) - sampler.card.epsilon) < 1e-6
    return sampler.sample(labels, seed=0), plan.charges(0, plan.steps), sampler.card.epsilon


def warmed(config, settings, spec, images, labels):
    """The averaged generator of a run without noise on a mixture's images."""
    from tfdps.data.dataset import Dataset

    config = dataclasses.replace(
        config,
        mechanism="none",
        noise_multiplier=None,
        target_epsilon=None,
        fresh_clip=1.0,
        dataset_size=len(images),
        num_steps=settings.warm_steps,
        debias_ratio=settings.warm_ratio,
        learning_rate=settings.warm_rate,
    )
    return trained(config, Dataset(images, labels.astype(np.int32), spec), None)


def went_on(config, rate, training, warm, charges):
    """({epsilon, noise multiplier}, the averaged generator) of private steps that go on from `warm`."""
    from tfdps.accounting import accountants
    from tfdps.accounting.events import NoiseEvent

    event = {"sampling_probability": config.batch_size / len(training), "steps": config.num_steps}
    sigma = accountants.noise_multiplier(
        target_epsilon=config.target_epsilon,
        delta=config.delta,
        accountant="pld",
        beside=charges,
        **event,
    )
    epsilon = accountants.epsilon_of(
        [*charges, NoiseEvent(sigma, **event)], delta=config.delta, accountant="pld"
    )
    config = dataclasses.replace(
        config,
        target_epsilon=None,
        noise_multiplier=sigma,
        learning_rate=rate,
        dataset_size=len(training),
    )
    numbers = {"epsilon": round(epsilon, 4), "noise_multiplier": round(sigma, 4)}
    return numbers, trained(config, training, warm)


def trained(config, dataset, start):
    """The averaged generator of a run on a Dataset, from the weights of `start` unless that is None."""
    from tfdps.accounting.plan import make_plan
    from tfdps.distributed import replicas
    from tfdps.mechanisms.batches import PoissonBatches
    from tfdps.training import builders

    plan, on = make_plan(config, len(dataset)), replicas.Replicas()
    model = builders.build_model(config, dataset.spec, plan, on=on)
    if start is not None:
        for generator in (model.generator, model.averaged_generator):
            generator.set_weights(start.get_weights())
    model.authorize(plan.steps)
    draws = PoissonBatches.of_run(dataset, model.learner, on=on, stage=plan.stages[0])
    model.take_steps(draws, plan.steps, on=on, total=plan.steps, per_execution=20)
    return model.averaged_generator


def drawn(generator, labels):
    """uint8 images of a generator for labels."""
    import keras
    import tensorflow as tf

    from tfdps.generators import networks, pixels

    copy = keras.models.clone_model(generator)
    copy.set_weights(generator.get_weights())
    networks.recalibrate(copy, num_classes=int(max(labels)) + 1)
    z = np.random.default_rng(0).random([len(labels), copy.inputs[0].shape[-1]], dtype=np.float32)
    parts = [
        copy([tf.constant(z[i : i + 500]), tf.constant(labels[i : i + 500])], training=False)
        for i in range(0, len(labels), 500)
    ]
    return pixels.to_uint8(np.concatenate(parts))


if __name__ == "__main__":
    main()
