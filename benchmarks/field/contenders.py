"""The methods by name, in the order of the table. Each is loaded when it is run."""

import importlib

from field import race


def real(given):
    """Returns the Finish of the private records themselves, in their order: the ceiling."""
    count = min(given.samples, len(given.labels))
    return race.Finish(
        draw=lambda labels: given.images[: len(labels)],
        labels=given.labels[:count],
        numbers={"epsilon": None},
    )


_PLACES = {
    "ours": "product.run",
    "ours_mixture": "product.run_mixture",
    "class_means": "class_means.run",
    "dp_merf": "dp_merf.run",
    "dp_diffusion": "dp_diffusion.run",
    "dp_classifier": "dp_classifier.run",
    "real": "contenders.real",
}
NAMES = tuple(_PLACES)


def load(name):
    """Returns the method: a function of a Race that returns its Finish."""
    module, function = _PLACES[name].split(".")
    return getattr(importlib.import_module(f"field.{module}"), function)
