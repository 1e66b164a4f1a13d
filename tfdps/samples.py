"""Loads an export's SavedModel to draw images from."""

import json
import os

import tensorflow as tf

from tfdps import checks
from tfdps.sampler import Sampler


class SavedModelSampler(Sampler):
    """The SavedModel of an export, loaded; z is drawn inside it."""

    def __init__(self, saved_model, card):
        super().__init__(card)
        self._model = tf.saved_model.load(saved_model)  # kept: the function alone holds no weights
        self._sample = self._model.signatures["sample"]
        self._decode = self._model.signatures["decode"]

    def _sample_chunk(self, labels, seed, chunk):
        seed = tf.constant([seed, chunk], tf.int32)
        return self._sample(labels=tf.constant(labels, tf.int32), seed=seed)["images"].numpy()

    def _decode_chunk(self, z, labels):
        labels = tf.constant(labels, tf.int32)
        return self._decode(z=tf.constant(z), labels=labels)["images"].numpy()


def load_sampler(path):
    """Returns the SavedModelSampler of the export at `path`.

    Args:
      path: a model_dir, an export folder, its saved_model folder, or one version in that. Of
        several versions the highest is loaded.

    Raises:
      UsageError: if there is no such folder, or no SavedModel with its model card in it.
    """
    root = os.path.abspath(path)
    if not os.path.isdir(root):
        raise checks.UsageError(f"{path} is no folder. Expected a model_dir or an export folder.")
    saved_model = _saved_model(root)
    if saved_model is None:
        raise checks.UsageError(
            f"{path} holds no export (no export/saved_model/1/saved_model.pb). A run writes one "
            "at its end; --mode=export writes one from its last checkpoint."
        )
    card_path = os.path.join(os.path.dirname(os.path.dirname(saved_model)), "model_card.json")
    try:
        with open(card_path, encoding="utf-8") as file:
            card = json.load(file)
    except (OSError, json.JSONDecodeError) as error:
        raise checks.UsageError(f"{card_path} is missing or no model card: {error}.") from error
    try:
        return SavedModelSampler(saved_model, card)
    except (tf.errors.OpError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise checks.UsageError(
            f"the export at {path} is damaged or lacks files ({type(error).__name__}: {reason}). "
            "--mode=export writes it again from the run's last checkpoint."
        ) from error


def _saved_model(root):
    """Returns the folder of the SavedModel that `root` names or holds, or None."""
    if os.path.isfile(os.path.join(root, "saved_model.pb")):
        return root
    for parts in ((), ("saved_model",), ("export", "saved_model")):
        folder = os.path.join(root, *parts)
        versions = [
            name
            for name in (os.listdir(folder) if os.path.isdir(folder) else ())
            if name.isdigit() and os.path.isfile(os.path.join(folder, name, "saved_model.pb"))
        ]
        if versions:
            return os.path.join(folder, max(versions, key=int))
    return None
