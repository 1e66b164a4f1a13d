"""Loads an export's SavedModel to draw images from. TensorFlow is imported when one is loaded."""

import os
import typing

from tfdps import checks
from tfdps.artefacts import layout
from tfdps.artefacts.card import ModelCard
from tfdps.distributed import startup
from tfdps.samplers.base import Sampler

_SIGNATURES = ("sample", "decode")


class SavedModelSampler(Sampler):
    """The SavedModel of an export, loaded; z is drawn inside it.

    Examples:
      >>> import tfdps
      >>> tfdps.load_sampler("saved_models/mnist_eps1").sample([7], seed=0).shape
      (1, 28, 28, 1)
    """

    def __init__(self, model: typing.Any, card: ModelCard) -> None:
        super().__init__(card)
        self._model = model  # kept: the function alone holds no weights
        self._sample, self._decode = (model.signatures[name] for name in _SIGNATURES)

    def _sample_chunk(self, labels, seed, chunk):
        import tensorflow as tf

        seed = tf.constant([seed, chunk], tf.int32)
        return self._sample(labels=tf.constant(labels, tf.int32), seed=seed)["images"].numpy()

    def _decode_chunk(self, z, labels):
        import tensorflow as tf

        labels = tf.constant(labels, tf.int32)
        return self._decode(z=tf.constant(z), labels=labels)["images"].numpy()


def load(path: str | os.PathLike[str]) -> SavedModelSampler:
    """Returns the SavedModelSampler of the export at `path`.

    Args:
      path: a model_dir, an export folder, its saved_model folder, or one version in that, see
        `layout.locate`. Of several versions the highest is loaded.

    Raises:
      UsageError: if there is nothing, or no SavedModel with its model card in it, or no TensorFlow.
    """
    located = layout.locate(path)
    if located.saved_model is None or located.card is None:
        raise checks.UsageError(
            f"{located.path} holds no export (no export/saved_model/1/saved_model.pb). A run writes "
            "one at its end; --mode=export writes one from its last checkpoint."
        )
    try:
        with open(located.card, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise checks.UsageError(f"{located.card} is missing or no model card: {error}.") from error
    return SavedModelSampler(_loaded(located), ModelCard.from_json(text, located.card))


def _loaded(located):
    """The SavedModel, with all signatures."""
    try:
        startup.load_tensorflow(keras=False)
    except ModuleNotFoundError as error:
        raise checks.UsageError(
            f"{error.name} is missing, which runs the SavedModel at {located.path}: pip install "
            f'"tfdps[train]", or draw from a {layout.ONNX}, which needs none.'
        ) from error
    import tensorflow as tf

    try:
        model = tf.saved_model.load(located.saved_model)
        for name in _SIGNATURES:
            model.signatures[name]  # one that is not there is a KeyError
        return model
    except (tf.errors.OpError, OSError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise checks.UsageError(
            f"the export at {located.path} is damaged or lacks files ({reason}). "
            "--mode=export writes it again from the run's last checkpoint."
        ) from error
