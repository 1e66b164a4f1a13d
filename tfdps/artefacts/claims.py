"""What a model card claims of its privacy, and whether what it says was done adds up to that.

Guarantee: reads the card and the ledger, nothing private. A claim that is lower than the cost of the
card's events, events that are not those of a plan made from the card's flags, and noise that is not
what the proof is about are problems.
"""

import math
import pathlib

from tfdps import checks
from tfdps.accounting import accountants, ledger, plan, shown
from tfdps.accounting.events import merged
from tfdps.accounting.statement import ADJACENCY, unit
from tfdps.config import flags

_ROUNDING = 1e-6  # relative, of an epsilon or a noise multiplier computed on another machine


def check(card, ledger_path=None):
    """Returns (statement, problems), two lists of lines.

    Args:
      card: a ModelCard.
      ledger_path: the ledger of the run, to hold the card's events against; or None.

    Raises:
      UsageError: the card lacks something, or has it in another form.
    """
    statement = [
        f"Generator: {card.generator_name} of {'x'.join(map(str, card.image_shape))} images of "
        f"{card.num_classes} classes, trained on {card.dataset_size} {_units(card)} of {card.dataset}."
    ]
    if not card.private:
        return statement, ["NOT PRIVATE: the card claims no guarantee."]
    events = card.events
    # What each field claims is what this accountant says.
    fields = {"epsilon": card.accountant} | {f"epsilon_{name}": name for name in card.epsilons}
    claimed = {"epsilon": card.epsilon}
    claimed |= {f"epsilon_{name}": epsilon for name, epsilon in card.epsilons.items()}
    spent = {
        name: accountants.epsilon_of(events, delta=card.delta, accountant=name)
        for name in accountants.ACCOUNTANTS
    }
    statement += [
        f"Claim: ({shown.up(claimed['epsilon'], 6)}, {card.delta:g})-differential privacy, "
        f"{card.adjacency}, by {card.accountant.upper()}; mechanism {card.mechanism}, "
        f"{card.steps} noisy steps.",
        "Computed from the card's events: "
        + ", ".join(
            f"{name.upper()} {shown.up(cost, 6)} (card: {shown.up(claimed[f'epsilon_{name}'], 6)})"
            for name, cost in spent.items()
        )
        + ".",
    ]
    problems = [
        f"{field}: the card claims {shown.up(claimed[field], 6)}, "
        f"its events cost {shown.up(spent[name], 6)}."
        for field, name in fields.items()
        if not claimed[field] >= spent[name] * (1 - _ROUNDING)  # a NaN fails too
    ]
    if card.noise is None:
        problems.append(_not_gaussian(card))
    else:
        statement += _conditions(card)
        problems += _against_the_proof(card)
    problems += _inconsistencies(card, events)
    problems += _against_flags(card, events)
    if ledger_path:
        statement.append("Ledger: read, and held against the card's events.")
        problems += _against_ledger(ledger_path, card.noise, events)
    return statement, problems


def _not_gaussian(card):
    """What is wrong with every card of tfdps 0.1, which has no field `noise`."""
    return (
        "noise: this card was made by tfdps 0.1, whose noise was not Gaussian (Box-Muller, clamped at "
        "5.678 standard deviations): delta is about 9e-3 for a released vector, not the "
        f"{card.delta:g} claimed. Train again with tfdps 0.2."
    )


def _conditions(card):
    """What the claim is about: whose privacy, against which neighbours, and what is taken as given."""
    declared = card.declared
    yield f"Unit: {card.unit}. {card.adjacency_meaning}"
    yield (
        f"Declared, and taken as given: {declared.num_records} {_units(card)}, images of "
        f"{'x'.join(map(str, declared.image_shape))}, {declared.num_classes} classes: "
        f"{', '.join(declared.class_names)}."
    )
    yield f"Sensitivity {card.sensitivity:g}: {card.sensitivity_meaning}"


def _units(card):
    return "records" if card.images_per_person is None else "persons"


def _against_the_proof(card):
    """A line for all that is proved of other noise, other neighbours or another data set."""
    for name, proved in (("noise", plan.NOISE), ("adjacency", ADJACENCY)):
        if getattr(card, name) != proved:
            yield f"{name}: the card says {getattr(card, name)}, what is proved is of {proved}."
    same = {"num_records": ("dataset_size", card.dataset_size)}
    for name in ("image_shape", "num_classes", "class_names"):
        same[name] = (f"generator's {name}", getattr(card, name))
    for name, (other, value) in same.items():
        declared = getattr(card.declared, name)
        if declared != value:
            yield f"declared: {name} is {declared}, the {other} {value}."
    if len(card.class_names) != card.num_classes:
        yield (
            f"generator: num_classes is {card.num_classes}, but there are {len(card.class_names)} "
            "class_names."
        )


def _against_ledger(path, noise, events):
    try:
        executed = ledger.read_charges(pathlib.Path(path))
        planned = ledger.read_plan(pathlib.Path(path)).noise
    except checks.UsageError as error:
        yield f"ledger: {error}"
        return
    if merged(executed) != merged(events):
        yield "events: are not the steps that the run's ledger has."
    if noise != planned:
        yield f"noise: the card says {noise}, the run's ledger {planned}."


def _inconsistencies(card, events):
    steps = sum(event.steps for event in events)
    if steps != card.steps:
        yield f"steps: the card says {card.steps}, its events are {steps}."
    if events and events[0].sampling_probability != card.sampling_probability:
        yield (
            f"sampling_probability: the card says {card.sampling_probability:.6g}, its first event "
            f"{events[0].sampling_probability:.6g}."
        )
    if not card.delta < 1 / card.dataset_size:
        yield (
            f"delta: {card.delta:g} is not below 1/{card.dataset_size}, so that a whole record may be "
            "published."
        )


def _against_flags(card, events):
    """A line for each way in which the card's numbers are not those of a plan made from its flags."""
    given, size = card.flags, card.dataset_size  # what is damaged is not the flags' fault
    try:
        config = flags.recorded(given)
        expected = plan.make_plan(config, size, num_classes=len(card.class_names))
    except checks.UsageError as error:
        yield f"flags: no run can have had those of the card: {error}"
        return
    if config.dataset_size not in (None, size):
        yield f"dataset_size: the card says {size}, its flags {config.dataset_size}."
    if card.noise is not None and unit(expected) != card.unit:  # tfdps 0.1 had no units
        yield f"unit: the card says {card.unit}, its flags {unit(expected)}."
    if expected.images_per_person != card.images_per_person:
        yield (
            f"images_per_person: the card says {card.images_per_person}, its flags "
            f"{expected.images_per_person}."
        )
    declared = checks.names("class_names", config.class_names)
    if config.channels not in (None, card.image_shape[-1]):
        yield f"channels: the card says {card.image_shape[-1]}, its flags {config.channels}."
    if declared is not None and set(declared) != set(card.class_names):
        yield (
            f"class_names: the card says {checks.listed(card.class_names)}, its flags "
            f"{checks.listed(declared)}."
        )
    for name in ("mechanism", "delta", "clip_norm", "accountant"):
        if getattr(expected, name) != getattr(card, name):
            yield f"{name}: the card says {getattr(card, name)}, its flags {getattr(expected, name)}."
    if not _close(expected.noise_multiplier, card.noise_multiplier):
        yield (
            f"noise_multiplier: the card says {card.noise_multiplier:.6g}, a plan made from its flags "
            f"has {expected.noise_multiplier:.6g}."
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
