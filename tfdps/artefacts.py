"""The files of an export: which there are, their hashes, and where the model card stands among them.

    saved_model/1/  generator.onnx  samples.png  run.flags  model_card.json

The card is in three places, the same to the byte: model_card.json, the metadata of generator.onnx and
saved_model/1/assets/. It holds a hash of every other file, so that each of the artefacts can be checked
where it is alone. Of generator.onnx it is the hash without the metadata.
"""

import hashlib
import os

from tfdps import onnx_metadata

CARD = "model_card.json"
ONNX = "generator.onnx"
SAVED_MODEL = "saved_model/1"
CARD_IN_SAVED_MODEL = f"{SAVED_MODEL}/assets/{CARD}"


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
