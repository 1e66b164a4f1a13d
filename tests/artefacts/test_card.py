"""The model card as a value: its text to the byte, its parts, and one clear error for a damaged one."""

import copy
import json
import math

import pytest

import tfdps
from conftest import ROOT
from tfdps.accounting import accountants
from tfdps.accounting.events import NoiseEvent
from tfdps.artefacts.card import ModelCard, _Part
from tfdps.checks import UsageError
from tfdps.config import flags

SHIPPED = sorted((ROOT / "saved_models").glob("*/model_card.json"))
CONTENT = json.loads(SHIPPED[0].read_text(encoding="utf-8"))


def changed(path, value):
    """The card with another value at a path; without the part where that is ... (Ellipsis)."""
    content = copy.deepcopy(CONTENT)
    *outer, last = path.split(".")
    block = content
    for name in outer:
        block = block[name]
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return ModelCard(content, "model_card.json of x")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_card_survives_to_the_byte(path):
    text = path.read_bytes().decode()
    card = ModelCard.from_json(text)
    assert card.to_json() == text
    assert card.content == json.loads(text)


def test_the_parts_are_those_of_the_text():
    card, privacy = ModelCard(CONTENT), CONTENT["privacy"]
    same = {
        "generator_name": CONTENT["generator"]["name"],
        "dataset": CONTENT["generator"]["dataset"],
        "latent_dim": CONTENT["generator"]["latent_dim"],
        "class_names": CONTENT["generator"]["class_names"],
        "image_shape": CONTENT["generator"]["image_shape"],
        "flags": CONTENT["training"]["flags"],
        "events": [NoiseEvent(**event) for event in privacy["events"]],
        "epsilons": {name: privacy[f"epsilon_{name}"] for name in ("rdp", "pld")},
        "files": CONTENT["files"],
        "created": CONTENT["created"],
    }
    same |= {
        name: privacy[name]
        for name in ("private", "epsilon", "delta", "mechanism", "steps", "dataset_size", "caveats")
    }
    for name, value in same.items():
        assert getattr(card, name) == value, name
    assert vars(card.declared) == privacy["declared"]


def test_every_property_says_what_it_is():
    for name, value in vars(ModelCard).items():
        if isinstance(value, property | _Part):
            assert value.__doc__, name


def test_a_card_is_extended_at_its_end_and_itself_stays():
    card = ModelCard({"created": "today"})
    assert list(card.extended(parity=1, files={}).content) == ["created", "parity", "files"]
    assert card.content == {"created": "today"}


def test_a_card_without_a_guarantee_has_no_delta_and_an_infinite_epsilon():
    card = changed("privacy.private", False).content["privacy"]
    card |= {"epsilon": "infinity", "epsilon_rdp": "infinity", "epsilon_pld": "infinity"}
    card = ModelCard({"privacy": card | {"delta": None}})
    assert (card.epsilon, card.delta) == (math.inf, None)
    assert card.epsilons == {"rdp": math.inf, "pld": math.inf}


def test_what_a_card_of_0_1_lacks_is_none():
    assert changed("privacy.noise", ...).noise is None
    assert list(changed("privacy.caveats", ...).caveats) == []


@pytest.mark.parametrize("text", ["", "no json", "[]", "3", "null", '"card"'])
def test_a_text_that_is_no_object_is_refused_by_its_source(text):
    with pytest.raises(
        UsageError, match="^here is no model card, or is damaged: it (is no|must be)"
    ):
        ModelCard.from_json(text, "here")


@pytest.mark.parametrize(
    ("path", "value", "name", "message"),
    [
        ("privacy", ..., "epsilon", "privacy is missing."),
        ("privacy", 1, "epsilon", "privacy must be an object, received 1."),
        ("privacy.events", ..., "events", "privacy.events is missing."),
        ("privacy.declared", ..., "declared", "privacy.declared is missing."),
        ("privacy.private", 1, "private", "privacy.private must be true or false, received 1."),
        (
            "privacy.delta",
            None,
            "delta",
            "privacy.delta must be a number in (0, 1), received None.",
        ),
        ("privacy.delta", 2, "delta", "privacy.delta must be a number in (0, 1), received 2."),
        (
            "privacy.epsilon",
            "1",
            "epsilon",
            "privacy.epsilon must be a number or \"infinity\", received '1'.",
        ),
        (
            "privacy.epsilon_pld",
            True,
            "epsilons",
            'privacy.epsilon_pld must be a number or "infinity", received True.',
        ),
        ("privacy.steps", 1.5, "steps", "privacy.steps must be an integer >= 0, received 1.5."),
        (
            "privacy.dataset_size",
            0,
            "dataset_size",
            "privacy.dataset_size must be an integer >= 1, received 0.",
        ),
        (
            "privacy.accountant",
            "mine",
            "accountant",
            "privacy.accountant must be one of rdp, pld, received 'mine'.",
        ),
        (
            "privacy.events",
            [{"steps": 1}],
            "events",
            "privacy.events must be a list of noisy steps, received [{'steps': 1}].",
        ),
        (
            "privacy.events",
            [{"noise_multiplier": -1.0, "sampling_probability": 1.0, "steps": 1}],
            "events",
            "privacy.events must be a list of noisy steps, received [{",
        ),
        (
            "privacy.events",
            [{"noise_multiplier": 1e300, "sampling_probability": 1.0, "steps": 1}],
            "events",
            "privacy.events must be a list of noisy steps, received [{",
        ),
        (
            "generator.image_shape",
            [28, 28],
            "image_shape",
            "generator.image_shape must be a list of three integers >= 1, received [28, 28].",
        ),
        (
            "generator.class_names",
            "0123",
            "class_names",
            "generator.class_names must be a list of texts, received '0123'.",
        ),
        ("training.flags", [1], "flags", "training.flags must be a list of texts, received [1]."),
        ("files", {"x": 1}, "files", "files must be an object of texts, received {'x': 1}."),
    ],
)
def test_a_part_that_is_damaged_is_named_with_what_it_has_to_be(path, value, name, message):
    card = changed(path, value)
    with pytest.raises(UsageError) as error:
        getattr(card, name)
    said = str(error.value)
    assert said.startswith(f"model_card.json of x is no model card, or is damaged: {message}")
    assert "\n" not in said


def test_the_flags_of_a_card_are_parsed_as_a_command_line_is():
    given = ModelCard(CONTENT).flags
    assert flags.recorded(given) == flags.parse(["tfdps", *given])[1]
    with pytest.raises(
        UsageError, match="must name no flagfile, received '--flagfile=/etc/hostname'"
    ):
        flags.recorded(["--flagfile=/etc/hostname"])


def test_events_are_what_the_accountants_take():
    card = ModelCard(CONTENT)
    spent = accountants.epsilon_of(card.events, delta=card.delta, accountant=card.accountant)
    assert spent == pytest.approx(card.epsilon, rel=1e-6)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("9.1", "received 'new'. tfdps 9.1 wrote it, this is "),
        (tfdps.__version__, "received 'new'."),
        (3, "received 'new'."),
    ],
)
def test_a_part_that_a_newer_version_wrote_is_said_to_be(version, said):
    card = ModelCard({"tfdps_version": version, "privacy": {"accountant": "new"}})
    with pytest.raises(UsageError) as error:
        _ = card.accountant
    assert said in str(error.value)
    assert ("wrote it" in str(error.value)) == ("wrote it" in said)
