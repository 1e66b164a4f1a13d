"""Settings that are chosen where they are not given, from what is public of a run alone.

The rules were fitted to settings that were tuned by hand on the training splits of MNIST,
Fashion-MNIST and CIFAR-10 at epsilon 10, 1 and 0.2: benchmarks/recipe.md has what they reach.
"""

import dataclasses
import math
import typing

from tfdps import checks

if typing.TYPE_CHECKING:
    from tfdps.config.run_config import RunConfig

_RECORDS_AN_ATOM = 185.0  # of a class, at epsilon 1
_OF_EPSILON = 0.6  # how fast fewer records do as epsilon grows
_MOST_ATOMS = 128
_DIMENSIONS, _OF_RECORDS = 100.0, 0.25  # of the subspace, at 60,000 records and epsilon 1
_FEWEST_DIMENSIONS, _MOST_DIMENSIONS = 10, 200
_SMALLEST_REFINED = 16  # pixels of a side: below it there is no detail to make up
_ROUNDS = 5  # about as many share the noise of a run whose noise is given


class Choice(typing.NamedTuple):
    """A setting that was chosen: its name, its value, and why, in words."""

    name: str
    value: typing.Any
    why: str


def settled(
    config: "RunConfig",
    units: int,
    *,
    num_classes: int,
    image_shape: typing.Sequence[int] | None = None,
) -> tuple["RunConfig", list[Choice]]:
    """Returns (`config` with the settings that it leaves open, what was chosen).

    Guarantee: the choice is a function of its arguments, which are declared and public: settings, N,
    the number of classes and the images' shape. No record is read.

    Args:
      config: a RunConfig.
      units: N, the number of records, or of persons where they are the units.
      num_classes: L.
      image_shape: (height, width, channels); None: unknown, then only what a plan rests on is chosen,
        num_atoms.

    Raises:
      UsageError: for numbers below 1.

    Examples:
      >>> import tfdps
      >>> from tfdps.config import automatic
      >>> config = tfdps.RunConfig(target_epsilon=1.0)
      >>> config, _ = automatic.settled(config, 60000, num_classes=10, image_shape=(28, 28, 1))
      >>> config.num_atoms, config.latent_dim, config.grain
      (32, 101, 1.0)
    """
    checks.at_least("units", units, 1)
    checks.at_least("num_classes", num_classes, 1)
    chosen = [
        choice
        for choice in _choices(config, units, num_classes, image_shape)
        if choice.name in config.chosen_where_open and getattr(config, choice.name) is None
    ]
    return dataclasses.replace(config, **{each.name: each.value for each in chosen}), chosen


def line(choices: typing.Sequence[Choice]) -> str:
    """Returns the Choices as one line."""
    each = (f"--{choice.name}={choice.value} ({choice.why})" for choice in choices)
    return f"Chosen, where nothing was given: {', '.join(each)}."


def of_run(config: "RunConfig") -> dict[str, typing.Any]:
    """Returns what a RunConfig has of the settings that may be left open, {name: value or None}."""
    return {name: getattr(config, name) for name in config.chosen_where_open}


def kept(config: "RunConfig", chosen: dict[str, typing.Any]) -> "RunConfig":
    """Returns `config` with what it leaves open as it was `chosen` before, {name: value}."""
    still = {name: chosen[name] for name in chosen if getattr(config, name) is None}
    return dataclasses.replace(config, **still)


def _choices(config, units, num_classes, image_shape):
    """Yields a Choice for each setting that has a rule."""
    epsilon = _epsilon(config)
    # Where a person is clipped as one, m images tell as much as the square root of m persons do.
    images = units * math.sqrt(config.images_per_person if config.person else 1)
    of_class = images / num_classes
    atoms = of_class * epsilon**_OF_EPSILON / _RECORDS_AN_ATOM
    atoms = 2 ** int(math.log2(min(_MOST_ATOMS, max(1.0, atoms))))
    counted = (
        f"{of_class:,.0f} records a class"
        if not config.person
        else (f"{units:,} persons in {num_classes} classes")
    )
    yield Choice("num_atoms", atoms, f"{counted} at epsilon {epsilon:.3g}")
    if image_shape is None:
        return
    pixels, channels = math.prod(image_shape), image_shape[-1]
    dimensions = _DIMENSIONS * (images * epsilon / 60_000) ** _OF_RECORDS
    dimensions = min(_MOST_DIMENSIONS, max(_FEWEST_DIMENSIONS, round(dimensions, -1)))
    dimensions = max(1, min(int(dimensions), pixels // 3))
    yield Choice(
        "latent_dim",
        1 + dimensions,
        f"{dimensions} dimensions, by N and epsilon, at most a third of {pixels} pixels",
    )
    grain, of_what = (2.0, "colour") if channels == 3 else (1.0, "grey")
    yield Choice("grain", grain, of_what)
    side = min(image_shape[:2])
    refined = side >= _SMALLEST_REFINED
    why = (
        "for images that look real, whatever they show" if refined else f"{side} pixels are too few"
    )
    yield Choice("refiner", "mixed" if refined else "none", why)


def _epsilon(config):
    """The run's epsilon; where the noise is given alone, about what it comes to."""
    if config.target_epsilon is not None:
        return config.target_epsilon
    if config.noise_multiplier is None:
        return math.inf
    mean = math.sqrt(_ROUNDS) / config.noise_multiplier
    return mean**2 / 2 + mean * math.sqrt(2 * math.log(1 / config.delta))
