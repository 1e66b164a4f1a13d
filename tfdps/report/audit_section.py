"""The audit section: what audit.json found, claim against lower bound."""

import dataclasses
import math
import typing

from tfdps.report import wording

NO_VIOLATION = "no violation found"
VIOLATION = "violation found"
_DIGITS = 3


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The epsilon claimed for what was attacked, and the largest shown, as texts, with their ratio.

    Attributes:
      claim: from above, rounded up. It is of the attacked steps, not of the audited run.
      lower: from below, rounded down.
      share: lower / claim in per cent, at most 100; None where no such ratio is defined.
      largest: what guesses would show if all of them were right, rounded down; None in older files.
    """

    claim: str
    lower: str
    share: typing.Optional[float]
    largest: typing.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class AttackSection:
    """One attack: its title, what it means, Bounds or None, facts [(name, text)], and tables.

    Attributes:
      violation: whether it contradicts the claim; None for an attack that tests no epsilon.
      checks: [(name, passed, detail)].
      columns, rows: a table of what it measured, rows of texts.
    """

    title: str
    meaning: str
    violation: typing.Optional[bool] = None
    bounds: typing.Optional[Bounds] = None
    facts: tuple = ()
    checks: tuple = ()
    columns: tuple = ()
    rows: tuple = ()


def violated(audit):
    """Returns whether audit.json, a dict or None, says that the claim does not hold.

    Raises:
      ValueError: for a verdict that is none.
    """
    if audit is None:
        return False
    if audit.get("verdict") not in (NO_VIOLATION, VIOLATION):
        raise ValueError(
            f'verdict must be "{NO_VIOLATION}" or "{VIOLATION}", received {audit.get("verdict")!r}'
        )
    return audit["verdict"] == VIOLATION


def measured(audit):
    """Returns the section as a dict: verdict, violated, meaning, created, parts, left_out.

    `parts` is a list of AttackSection, `left_out` names the attacks that the audit did not make.

    Args:
      audit: audit.json, a dict; parts may be absent.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: for values of another kind than the format's.
    """
    makers = {
        "mechanism": _mechanism,
        "canaries": _canaries,
        "membership": _membership,
        "memorisation": _memorisation,
    }
    return {
        "left_out": [name for name in makers if not audit.get(name)],
        "violated": violated(audit),
        "verdict": audit["verdict"],
        "meaning": audit.get("meaning", ""),
        "created": audit.get("created"),
        "parts": [make(audit[name]) for name, make in makers.items() if audit.get(name)],
    }


def _bounds(part):
    claim, lower = part.get("claim") or {}, part.get("lower_bound") or {}
    if claim.get("epsilon") is None or lower.get("epsilon") is None:
        return None
    claimed, shown = wording.number(claim["epsilon"]), wording.number(lower["epsilon"])
    share = None
    if math.isfinite(claimed) and claimed > 0 and not math.isnan(shown):
        share = 100 * min(1.0, max(0.0, shown / claimed))
    return Bounds(
        wording.upper_bound(claimed, _DIGITS),
        wording.lower_bound(shown, _DIGITS),
        share,
        _largest(part),
    )


def _largest(attacked):
    """What an attack, or that on a pair, shows where every guess is right; None in older files."""
    epsilon = (attacked.get("largest") or {}).get("epsilon")
    return None if epsilon is None else wording.lower_bound(epsilon, _DIGITS)


def _claimed(pair):
    epsilon = (pair.get("claim") or {}).get("epsilon")
    return wording.ABSENT if epsilon is None else wording.upper_bound(epsilon, _DIGITS)


def _facts(part, names):
    """[(title, text)] for the keys of `part` that are there; `names` maps key -> (title, show)."""
    return tuple(
        (title, show(part[key]))
        for key, (title, show) in names.items()
        if part.get(key) is not None
    )


def _mechanism(part):
    claim, lower = part.get("claim") or {}, part.get("lower_bound") or {}
    facts = []
    if claim.get("mu") is not None and lower.get("mu") is not None:
        facts.append(
            (
                "mu, how far a record moves a release, in noise standard deviations",
                f"claimed at most {wording.upper_bound(claim['mu'], _DIGITS)}, "
                f"shown at least {wording.lower_bound(lower['mu'], _DIGITS)}",
            )
        )
    facts += _facts(
        part,
        {
            "trials": ("Trials", wording.count),
            "confidence": ("Confidence", wording.confidence),
        },
    )
    return AttackSection(
        title="The mechanism, attacked from inside",
        meaning=part.get("meaning", ""),
        violation=bool(part["violation"]),
        bounds=_bounds(part),
        facts=tuple(facts),
        checks=tuple(
            (check["name"], bool(check["passed"]), check.get("detail", ""))
            for check in part.get("checks") or ()
        ),
        columns=(
            "Pair of data sets",
            "mu at least",
            "epsilon at least",
            "epsilon claimed",
            "epsilon if all guesses were right",
        ),
        rows=tuple(
            (
                pair["name"],
                wording.lower_bound(pair["mu_lower_bound"], _DIGITS),
                wording.lower_bound(pair["epsilon_lower_bound"], _DIGITS),
                _claimed(pair),
                _largest(pair) or wording.ABSENT,
            )
            for pair in part.get("pairs") or ()
        ),
    )


def _canaries(part):
    facts = list(
        _facts(
            part,
            {
                "num_canaries": ("Planted records", wording.count),
                "num_steps": ("Steps trained with them", wording.count),
                "confidence": ("Confidence", wording.confidence),
            },
        )
    )
    if part.get("num_guesses") is not None and part.get("num_correct") is not None:
        correct, guesses = (wording.count(part[key]) for key in ("num_correct", "num_guesses"))
        facts.append(("Guesses", f"{correct} of {guesses} correct"))
    return AttackSection(
        title="Planted records (canaries)",
        meaning=part.get("meaning", ""),
        violation=bool(part["violation"]),
        bounds=_bounds(part),
        facts=tuple(facts),
    )


def _membership(part):
    return AttackSection(
        title="Membership: was this record in the training data?",
        meaning=part.get("meaning", ""),
        facts=_facts(part, {"num_records": ("Records tried", wording.count)}),
        **_table(
            part,
            {
                "auc": ("AUC", wording.interval),
                "auc_without_leak": ("AUC without a leak", wording.interval),
                "tpr_at_1_percent_fpr": ("Recognised at 1 % false alarms", _share),
            },
        ),
    )


def _memorisation(part):
    return AttackSection(
        title="Memorisation: are training records copied?",
        meaning=part.get("meaning", ""),
        facts=_facts(part, {"num_samples": ("Generated images", wording.count)}),
        **_table(
            part,
            {
                "nearer_to_training": ("Nearer to training records", _share),
                "nearer_to_training_without_leak": ("The same without a leak", _share),
                "copies": ("Copies", _share),
            },
        ),
    )


def _share(entry):
    return wording.interval(entry, digits=2, in_percent=True)


def _table(part, names):
    """{"columns", "rows"} of a black-box attack, a row a space; `names` as for `_facts`."""
    spaces = [space for space in ("pixels", "features") if part.get(space)]
    names = {key: how for key, how in names.items() if any(key in part[s] for s in spaces)}
    return {
        "columns": ("Compared by", *(title for title, _ in names.values())),
        "rows": tuple(
            (space, *(show(part[space].get(key)) for key, (_, show) in names.items()))
            for space in spaces
        ),
    }
