"""What a model card claims of its privacy, and whether what it says was done adds up to that.

Guarantee: reads the card and the ledger, nothing private. A claim that is lower than the cost of the
card's events, or events that are not those of a plan made from the card's flags, are problems.
"""

import math
import pathlib

from tfdps import accounting, checks, flags, ledger, plan
from tfdps.charges import Charge, merged

_ROUNDING = 1e-6  # relative, of an epsilon or a noise multiplier computed on another machine


def check(card, ledger_path=None):
    """Returns (statement, problems), two lists of lines.

    Args:
      card: a model card.
      ledger_path: the ledger of the run, to hold the card's events against; or None.

    Raises:
      KeyError, TypeError, ValueError: the card lacks something, or has it in another form.
    """
    privacy, generator = card["privacy"], card["generator"]
    statement = [
        f"Generator: {generator['name']} of {'x'.join(map(str, generator['image_shape']))} images of "
        f"{generator['num_classes']} classes, trained on {privacy['dataset_size']} records of "
        f"{generator['dataset']}."
    ]
    if privacy["private"] is not True:
        return statement, ["NOT PRIVATE: the card claims no guarantee."]
    events = [Charge(**event) for event in privacy["events"]]
    # What each field claims is what this accountant says.
    fields = {"epsilon": privacy["accountant"]}
    fields |= {f"epsilon_{name}": name for name in accounting.ACCOUNTANTS}
    claimed = {field: float(privacy[field]) for field in fields}
    spent = {
        name: accounting.epsilon_of(events, delta=privacy["delta"], accountant=name)
        for name in accounting.ACCOUNTANTS
    }
    statement += [
        f"Claim: ({privacy['epsilon']:.6g}, {privacy['delta']:g})-differential privacy, "
        f"{privacy['adjacency']}, by {privacy['accountant'].upper()}; mechanism "
        f"{privacy['mechanism']}, {privacy['steps']} noisy steps.",
        "Computed from the card's events: "
        + ", ".join(
            f"{name.upper()} {spent[name]:.6g} (card: {claimed[f'epsilon_{name}']:.6g})"
            for name in spent
        )
        + ".",
    ]
    problems = [
        f"{field}: the card claims {claimed[field]:.6g}, its events cost {spent[name]:.6g}."
        for field, name in fields.items()
        if not claimed[field] >= spent[name] * (1 - _ROUNDING)  # a NaN fails too
    ]
    problems += _inconsistencies(privacy, events)
    problems += _against_flags(card, events)
    if ledger_path:
        statement.append("Ledger: read, and held against the card's events.")
        problems += _against_ledger(ledger_path, events)
    return statement, problems


def _against_ledger(path, events):
    try:
        executed = ledger.read_charges(pathlib.Path(path))
    except checks.UsageError as error:
        yield f"ledger: {error}"
        return
    if merged(executed) != merged(events):
        yield "events: are not the steps that the run's ledger has."


def _inconsistencies(privacy, events):
    steps = sum(event.steps for event in events)
    if steps != privacy["steps"]:
        yield f"steps: the card says {privacy['steps']}, its events are {steps}."
    if any(event.sampling_probability != privacy["sampling_probability"] for event in events):
        yield (
            f"sampling_probability: the card says {privacy['sampling_probability']:.6g}, not all of "
            "its events do."
        )
    if not privacy["delta"] < 1 / privacy["dataset_size"]:
        yield (
            f"delta: {privacy['delta']:g} is not below 1/{privacy['dataset_size']}, so that a whole "
            "record may be published."
        )


def _against_flags(card, events):
    """A line for each way in which the card's numbers are not those of a plan made from its flags."""
    privacy, given = card["privacy"], card["training"]["flags"]
    if any(flag.lstrip("-").startswith("flagfile") for flag in given):
        yield "flags: those of a card name no flagfile."  # nor is one read on a stranger's word
        return
    try:
        _, config = flags.parse(["tfdps", *given])
        expected = plan.make_plan(config, privacy["dataset_size"])
    except checks.UsageError as error:
        yield f"flags: no run can have had those of the card: {error}"
        return
    if config.dataset_size not in (None, privacy["dataset_size"]):
        yield (
            f"dataset_size: the card says {privacy['dataset_size']}, its flags {config.dataset_size}."
        )
    for name in ("mechanism", "delta", "clip_norm", "accountant"):
        if getattr(expected, name) != privacy[name]:
            yield f"{name}: the card says {privacy[name]}, its flags {getattr(expected, name)}."
    if not _close(expected.noise_multiplier, privacy["noise_multiplier"]):
        yield (
            f"noise_multiplier: the card says {privacy['noise_multiplier']:.6g}, a plan made from its "
            f"flags has {expected.noise_multiplier:.6g}."
        )
    steps = sum(event.steps for event in events)
    planned = expected.charges(0, min(steps, expected.steps))
    if len(planned) != len(events) or not all(map(_alike, planned, events)):
        yield "events: are not those of a plan made from the card's flags."


def _alike(one, other):
    return (
        one.steps == other.steps
        and one.sampling_probability == other.sampling_probability
        and _close(one.noise_multiplier, other.noise_multiplier)
    )


def _close(one, other):
    return math.isclose(one, other, rel_tol=_ROUNDING)
