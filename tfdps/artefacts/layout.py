"""The files of an export: where they are, their hashes, and where the model card stands among them.

    saved_model/1/  generator.onnx  samples.png  run.flags  model_card.json

A run has its export in its sub-folder export, beside ledger.jsonl.

The card is in three places, the same to the byte: model_card.json, the metadata of generator.onnx and
saved_model/1/assets/. It holds a hash of every other file, so that each of the artefacts can be checked
where it is alone. Of generator.onnx it is the hash without the metadata.
"""

import dataclasses
import hashlib
import os

from tfdps import checks
from tfdps.artefacts import onnx_metadata

EXPORT = "export"
LEDGER = "ledger.jsonl"
CARD = "model_card.json"
ONNX = "generator.onnx"
SAVED_MODEL = "saved_model/1"
CARD_IN_SAVED_MODEL = f"{SAVED_MODEL}/assets/{CARD}"
_GRAPH = "saved_model.pb"  # what makes a folder a SavedModel


@dataclasses.dataclass(frozen=True)
class Located:
    """What there is at a path: a whole export, or a SavedModel or an ONNX file that is alone.

    Attributes:
      path: the path, "~" expanded.
      export: the folder of the whole export; None where an artefact is alone.
      saved_model: the folder of the SavedModel, of several versions the highest; None without one.
      onnx: the ONNX file; None without one.
      ledger: the ledger of the run that has the export; None without one.
    """

    path: str
    export: str | None = None
    saved_model: str | None = None
    onnx: str | None = None
    ledger: str | None = None

    @property
    def part(self) -> str:
        """Which part of an export there is: "" for all of it, SAVED_MODEL or ONNX."""
        if self.export:
            return ""
        return SAVED_MODEL if self.saved_model else ONNX

    @property
    def card(self) -> str | None:
        """The path of the model card as a file; None where an ONNX file, which holds it, is alone."""
        if self.export:
            return os.path.join(self.export, CARD)
        return self.saved_model and os.path.join(self.saved_model, "assets", CARD)

    def files(self) -> dict[str, str]:
        """Returns {name: path} of the files that there are, names as in a whole export."""
        if self.part == ONNX and self.onnx:
            return {ONNX: self.onnx}
        return files(self.export or self.saved_model, self.part)


def locate(path: str | os.PathLike[str]) -> Located:
    """Returns the Located of a path, whichever of the things below it names.

    Args:
      path: a model_dir, an export, its model_card.json, a SavedModel's folder, a folder of its
        versions, or an ONNX file; "~" is the user's home.

    Raises:
      UsageError: there is nothing at the path.
    """
    path = os.path.expanduser(path)
    if os.path.isfile(path) and os.path.basename(path) != CARD:
        return Located(path, onnx=path)
    folder = os.path.dirname(path) or "." if os.path.isfile(path) else path
    if not os.path.isdir(folder):
        raise checks.UsageError(
            f"there is nothing at {path}: name a model_dir, an export, a SavedModel's folder or a "
            f"{ONNX}."
        )
    saved_model = _saved_model(folder)
    if saved_model:
        return Located(path, saved_model=saved_model)
    export, ledger = (os.path.join(folder, name) for name in (EXPORT, LEDGER))
    if not os.path.isdir(export):
        export, ledger = folder, ""
    onnx = os.path.join(export, ONNX)
    return Located(
        path,
        export=export,
        saved_model=_saved_model(os.path.join(export, os.path.dirname(SAVED_MODEL))),
        onnx=onnx if os.path.isfile(onnx) else None,
        ledger=ledger if os.path.isfile(ledger) else None,
    )


def _saved_model(folder):
    """The SavedModel that a folder is, or the highest version that it holds, or None."""
    if os.path.isfile(os.path.join(folder, _GRAPH)):
        return folder
    versions = [
        name
        for name in (os.listdir(folder) if os.path.isdir(folder) else ())
        if name.isdecimal() and os.path.isfile(os.path.join(folder, name, _GRAPH))
    ]
    return os.path.join(folder, max(versions, key=int)) if versions else None


def files(folder, place=""):
    """Returns {name: path} of the files below a folder, names relative to the export, with "/".

    Args:
      folder: an export, or a part of one.
      place: which part, "" or SAVED_MODEL.
    """
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            found[f"{place}/{relative}" if place else relative] = path
    return dict(sorted(found.items()))


def hashes(folder):
    """Returns {name: SHA-256} of the files of an export but for the cards, hex digits."""
    return {
        name: sha256(name, path)
        for name, path in files(folder).items()
        if name not in (CARD, CARD_IN_SAVED_MODEL)
    }


def sha256(name, path):
    """Returns the hash that the card has of a file, hex digits.

    Args:
      name: as `files` has it: ONNX alone is hashed without its metadata.
      path: where the file is.

    Raises:
      ValueError: the ONNX file is none.
    """
    if name == ONNX:
        return onnx_metadata.sha256_without_metadata(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def card_text(name, path):
    """Returns the model card that a file is (a card's name) or holds (ONNX), or None."""
    if name == ONNX:
        try:
            return onnx_metadata.read(path).get(onnx_metadata.MODEL_CARD)
        except ValueError:
            return None
    with open(path, encoding="utf-8", newline="", errors="replace") as file:
        return file.read()
