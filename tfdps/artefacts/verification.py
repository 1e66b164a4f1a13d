"""Whether an export is what its model card says: epsilon computed again, files against their hashes.

No TensorFlow: dp-accounting composes the card's events, and the plan is made again from its flags.
"""

import dataclasses
import hashlib
import os

from tfdps import checks
from tfdps.artefacts import claims, layout
from tfdps.artefacts.card import ModelCard

_VERSIONS = "saved_model/"  # of a SavedModel: the card lists all that is below


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
      card: the ModelCard.
      statement: lines that say what the card claims, and what was computed and compared.
      problems: lines, one for each thing that is not as the card says; none where all is.
      card_sha256: the hash of the card's text, hex digits.

    Examples:
      >>> import tfdps
      >>> verdict = tfdps.verify("saved_models/mnist_eps1/generator.onnx")
      >>> verdict.problems, len(verdict.card_sha256)
      ([], 64)
    """

    card: ModelCard
    statement: list[str]
    problems: list[str]
    card_sha256: str


def verify(path: str | os.PathLike[str]) -> Verdict:
    """Returns the Verdict on a model_dir, an export, a SavedModel's folder or a generator.onnx.

    Checked are: that all copies of the card are alike; that every file that it lists is there and has
    its hash, and no other file is in the SavedModel; and what `claims` checks: epsilon by RDP and PLD.

    Guarantee: reads no private records. What it cannot see is a card that was changed in all its
    copies, with flags, events and hashes to match: for that compare the card's own hash, which the
    statement has, with the one that its publisher names.

    Args:
      path: a text. An artefact that is alone is checked with the card inside it.

    Raises:
      UsageError: there is no such thing, or no model card in it, or one that is damaged.

    Examples:
      >>> import tfdps
      >>> tfdps.verify("saved_models/mnist_eps1").problems
      []
    """
    located = layout.locate(path)
    found, part = located.files(), located.part
    cards = {name: layout.card_text(name, found[name]) for name in _card_places(found, part)}
    whole = [name for name, text in cards.items() if text]
    if not whole:
        raise checks.UsageError(
            f"{located.path} holds no model card: name an export of tfdps, its saved_model/1, its "
            "generator.onnx, or the model_dir of a run."
        )
    text = cards[whole[0]]
    card = ModelCard.from_json(text, f"{whole[0]} of {located.path}")
    statement, problems = claims.check(card, located.ledger)
    problems += [
        f"{name}: the model card in it is {'missing' if not copy else f'not that of {whole[0]}'}."
        for name, copy in cards.items()
        if copy != text
    ]
    matching, wrong = _compared(found, part, card.files)
    digest = hashlib.sha256(text.encode()).hexdigest()
    statement += [
        f"Files: {matching} of {matching + len(wrong)} are as the card has them.",
        f"SHA-256 of the card: {digest}",
    ]
    return Verdict(card, statement, problems + wrong, digest)


def _card_places(found, part):
    """The names of the files that have to be or hold the card, and are there; of a whole export all."""
    names = (layout.CARD, layout.CARD_IN_SAVED_MODEL, layout.ONNX)
    return [name for name in names if name in found and name.startswith(part)]


def _compared(found, part, listed):
    """(how many files have their hash, a line for each one that has not)."""
    expected = {name: value for name, value in listed.items() if name.startswith(part)}
    wrong = []
    for name, value in expected.items():
        if name not in found:
            wrong.append(f"{name}: is missing.")
            continue
        try:
            if layout.sha256(name, found[name]) != value:
                wrong.append(f"{name}: was changed, its SHA-256 is not the card's.")
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    known = {*expected, layout.CARD_IN_SAVED_MODEL}
    added = [name for name in found if name not in known and name.startswith(_VERSIONS)]
    matching = len(expected) - len(wrong)
    return matching, wrong + [f"{name}: is not in the card." for name in added]
