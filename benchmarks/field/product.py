"""This project: its flags, trained on the records, exported, and images drawn from the ONNX file."""

import sys

import accuracy

from field import race


def run(given, extra=()):
    """Returns the Finish of a Race.

    Args:
      given: the Race; its flags say the settings. The budget is the flags' own.
      extra: further flags.
    """
    from tfdps.config import flags
    from tfdps.data.dataset import Dataset, DatasetSpec

    spec = DatasetSpec("arrays:race", given.images.shape[1:], given.class_names)
    _, config = flags.parse([sys.argv[0], *given.flags, *extra])
    sampler = accuracy.trained(config, Dataset(given.images, given.labels, spec))
    card = sampler.card
    numbers = {
        "epsilon": round(card.epsilon, 4),
        "steps": card.steps,
        "sigma": round(card.noise_multiplier, 4),
    }
    return race.Finish(draw=lambda labels: sampler.sample(labels, seed=given.seed), numbers=numbers)


def run_mixture(given):
    """Returns the Finish of a Race without the refiner."""
    return run(given, ["--refiner=none"])
