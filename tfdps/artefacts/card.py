"""The model card: what was done to private data to make a generator, what it cost, and what it is."""

import dataclasses
import json
import math
import reprlib
import typing
from collections.abc import Callable

import tfdps
from tfdps import checks
from tfdps.accounting.events import NoiseEvent
from tfdps.config.run_config import ACCOUNTANTS

_T = typing.TypeVar("_T")
_Convert = Callable[[typing.Any], _T]


def _exactly(kind: type[_T]) -> _Convert[_T]:
    def convert(value):
        if type(value) is not kind:  # to JSON a truth value is no number
            raise TypeError
        return value

    return convert


def _integer(smallest: int) -> _Convert[int]:
    def convert(value):
        if _exactly(int)(value) < smallest:
            raise ValueError
        return value

    return convert


def _list(convert: _Convert[_T]) -> _Convert[list[_T]]:
    return lambda values: [convert(value) for value in _exactly(list)(values)]


def _number(value: typing.Any) -> float:
    if value == "infinity":  # JSON has no number for it
        return math.inf
    return float(value if type(value) is int else _exactly(float)(value))


def _fraction(value: typing.Any) -> float:
    return checks.fraction("a fraction", _number(value))


def _shape(value: typing.Any) -> list[int]:
    height, width, channels = _list(_integer(1))(value)
    return [height, width, channels]


def _accountant(value: typing.Any) -> str:
    return checks.one_of("accountant", value, ACCOUNTANTS)


def _hashes(value: typing.Any) -> dict[str, str]:
    return {name: _exactly(str)(digest) for name, digest in _exactly(dict)(value).items()}


def _event(value: typing.Any) -> NoiseEvent:
    charge = NoiseEvent(**value)
    # Accountants square the one and multiply the other with float64 numbers.
    if not (1e-100 < charge.noise_multiplier < 1e100 and charge.steps < 2**53):
        raise ValueError
    return charge


# What a part has to be, in words, and the function that returns it or raises.
_TEXT = ("a text", _exactly(str))
# For a part that a card need not have.
_TEXT_OR_NONE: tuple[str, _Convert[str | None]] = _TEXT
_TEXTS = ("a list of texts", _list(_exactly(str)))
_NUMBER = ('a number or "infinity"', _number)
_FRACTION = ("a number in (0, 1)", _fraction)
_COUNT = ("an integer >= 0", _integer(0))
_SIZE = ("an integer >= 1", _integer(1))
_SHAPE = ("a list of three integers >= 1", _shape)


class _Part(typing.Generic[_T]):
    """A property of a card: the part at a path of names. `default`: what it is where there is none."""

    def __init__(self, kind: tuple[str, _Convert[_T]], *path: str, doc: str, **absent: typing.Any):
        self._kind, self._path, self._absent, self.__doc__ = kind, path, absent, doc

    def __get__(self, card: "ModelCard | None", owner: typing.Any = None) -> _T:
        if card is None:  # of the class, not of a card
            return typing.cast(_T, self)
        return card._read(self._kind, self._path, **self._absent)


@dataclasses.dataclass(frozen=True)
class Declared:
    """What the proof takes as given: public, and no property that private records are asked for.

    Attributes:
      num_records: N.
      image_shape: [H, W, C].
      num_classes: an integer >= 1.
      class_names: a list of texts.
    """

    num_records: int
    image_shape: list[int]
    num_classes: int
    class_names: list[str]


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """A model card. Its parts are properties, each checked when it is asked for.

    Attributes:
      content: the JSON object, a dict, as model_card.json has it.
      source: what errors call the card: "model_card.json of runs/mnist".

    Raises:
      UsageError: from a property, where the card lacks the part or has it in another form.

    Examples:
      >>> import tfdps
      >>> card = tfdps.verify("saved_models/mnist_eps1").card
      >>> card.dataset, card.dataset_size, card.image_shape, card.epsilon <= 1
      ('mnist', 60000, [28, 28, 1], True)
    """

    content: dict[str, typing.Any]
    source: str = dataclasses.field(default="the model card", compare=False)

    @classmethod
    def from_json(cls, text: str, source: str = "the model card") -> "ModelCard":
        """Returns the ModelCard of a JSON text.

        Raises:
          UsageError: the text is no JSON object.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise _damaged(source, f"it is no JSON: {error}.") from error
        if not isinstance(content, dict):
            raise _damaged(source, f"it must be an object, received {reprlib.repr(content)}.")
        return cls(content, source)

    def to_json(self) -> str:
        """Returns the card as the text of model_card.json.

        Raises:
          ValueError: it holds NaN or infinity, which are no JSON.
        """
        return json.dumps(self.content, indent=2, allow_nan=False) + "\n"

    def extended(self, **parts: typing.Any) -> "ModelCard":
        """Returns the card with more parts at its end, each a value that JSON has."""
        return dataclasses.replace(self, content={**self.content, **parts})

    tfdps_version = _Part(_TEXT, "tfdps_version", doc="The version that exported the generator.")
    created = _Part(_TEXT, "created", doc="When it was exported, ISO 8601.")
    files = _Part(
        ("an object of texts", _hashes), "files", doc="{name: SHA-256} of the export's other files."
    )

    generator_name = _Part(_TEXT, "generator", "name", doc="The generator's architecture.")
    latent_dim = _Part(_SIZE, "generator", "latent_dim", doc="Numbers of a latent z.")
    num_classes = _Part(_SIZE, "generator", "num_classes", doc="How many classes there are.")
    class_names = _Part(_TEXTS, "generator", "class_names", doc="The name of each class, a list.")
    image_shape = _Part(_SHAPE, "generator", "image_shape", doc="[H, W, C].")
    dataset = _Part(_TEXT, "generator", "dataset", doc="The data set's name, without a path.")

    flags = _Part(_TEXTS, "training", "flags", doc="The run's flags, lines; without paths.")
    generator_updates = _Part(
        _COUNT, "training", "generator_updates", doc="How often training changed the generator."
    )

    private = _Part(
        ("true or false", _exactly(bool)), "privacy", "private", doc="Whether there is a guarantee."
    )
    epsilon = _Part(
        _NUMBER, "privacy", "epsilon", doc="The epsilon that is claimed; infinity without noise."
    )
    accountant = _Part(
        (f"one of {', '.join(ACCOUNTANTS)}", _accountant),
        "privacy",
        "accountant",
        doc="Whose epsilon is claimed.",
    )
    unit = _Part(_TEXT, "privacy", "unit", doc="Whose privacy it is: one image's, one person's.")
    images_per_person = _Part(
        _SIZE,
        "privacy",
        "images_per_person",
        default=None,
        doc="The most images of a person, where the unit is a person; else None.",
    )
    adjacency = _Part(_TEXT, "privacy", "adjacency", doc="Which data sets are neighbours, a name.")
    adjacency_meaning = _Part(_TEXT, "privacy", "adjacency_meaning", doc="The same in words.")
    mechanism = _Part(_TEXT, "privacy", "mechanism", doc="The mechanism's name.")
    noise = _Part(
        _TEXT_OR_NONE, "privacy", "noise", default=None, doc="The noise's name; None of tfdps 0.1."
    )
    sensitivity = _Part(_NUMBER, "privacy", "sensitivity", doc="The most that a record changes.")
    sensitivity_meaning = _Part(_TEXT, "privacy", "sensitivity_meaning", doc="Of what, in words.")
    clip_norm = _Part(_NUMBER, "privacy", "clip_norm", doc="The bound of the plan.")
    noise_multiplier = _Part(_NUMBER, "privacy", "noise_multiplier", doc="The plan's, see there.")
    sampling_probability = _Part(
        _NUMBER, "privacy", "sampling_probability", doc="Of a record in a step."
    )
    steps = _Part(_COUNT, "privacy", "steps", doc="How many noisy steps the ledger covers.")
    events = _Part(
        ("a list of noisy steps", _list(_event)),
        "privacy",
        "events",
        doc="What was done, a list of NoiseEvent in their order.",
    )
    dataset_size = _Part(_SIZE, "privacy", "dataset_size", doc="N, the number of units.")
    caveats = _Part(_TEXTS, "privacy", "caveats", default=(), doc="What to keep in mind, lines.")

    @property
    def delta(self) -> float | None:
        """The delta that is claimed, in (0, 1); None without a guarantee."""
        return self._read(_FRACTION, ("privacy", "delta")) if self.private else None

    @property
    def epsilons(self) -> dict[str, float]:
        """{accountant: the epsilon that is claimed by it}."""
        return {name: self._read(_NUMBER, ("privacy", f"epsilon_{name}")) for name in ACCOUNTANTS}

    @property
    def declared(self) -> Declared:
        """The Declared; cards of tfdps 0.1 have none."""
        kinds = {
            "num_records": _SIZE,
            "image_shape": _SHAPE,
            "num_classes": _SIZE,
            "class_names": _TEXTS,
        }
        return Declared(
            **{
                name: self._read(kind, ("privacy", "declared", name))
                for name, kind in kinds.items()
            }
        )

    def _read(self, kind, path, **absent):
        value = self.content
        for depth, name in enumerate(path, start=1):
            if not isinstance(value, dict):
                outer = ".".join(path[: depth - 1])
                raise self._damaged(f"{outer} must be an object, received {reprlib.repr(value)}.")
            if name not in value:
                if "default" in absent:
                    return absent["default"]
                raise self._damaged(f"{'.'.join(path[:depth])} is missing.")
            value = value[name]
        what, convert = kind
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._damaged(
                f"{'.'.join(path)} must be {what}, received {reprlib.repr(value)}."
            ) from error

    def _damaged(self, reason):
        """The UsageError for a part that is not as this version has it."""
        version = self.content.get("tfdps_version")
        if isinstance(version, str) and version != tfdps.__version__:
            reason = f"{reason} tfdps {version} wrote it, this is {tfdps.__version__}."
        return _damaged(self.source, reason)


def _damaged(source, reason):
    return checks.UsageError(f"{source} is no model card, or is damaged: {reason}")
