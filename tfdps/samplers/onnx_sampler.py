"""Draws images from generator.onnx: ONNX Runtime, NumPy and Pillow, and no TensorFlow.

from tfdps.samplers import onnx_sampler

sampler = onnx_sampler.load("generator.onnx")
images = sampler.sample([0, 1, 2], seed=7)  # uint8 [3, H, W, C]
print(sampler.card.epsilon)
"""

import os

import numpy as np
import onnxruntime

from tfdps import checks
from tfdps.artefacts import layout, onnx_metadata
from tfdps.artefacts.card import ModelCard
from tfdps.generators import pixels
from tfdps.samplers.base import Sampler

_ERRORS_ONLY = 3


class OnnxSampler(Sampler):
    """A generator.onnx, loaded. Its own seeds: those of the SavedModel mean other images.

    Examples:
      >>> import tfdps
      >>> tfdps.load_sampler("saved_models/mnist_eps1/generator.onnx").sample([7], seed=0).shape
      (1, 28, 28, 1)
    """

    def __init__(self, session: onnxruntime.InferenceSession, card: ModelCard) -> None:
        super().__init__(card)
        self._session = session

    def _sample_chunk(self, labels, seed, chunk):
        z = np.random.default_rng([seed, chunk]).random((len(labels), self.latent_dim), np.float32)
        return pixels.to_uint8(self._decoded(z, labels))

    def _decode_chunk(self, z, labels):
        (images,) = self._session.run(["images"], {"z": z, "labels": labels})
        return images


def load(path: str | os.PathLike[str]) -> OnnxSampler:
    """Returns the OnnxSampler of the file at `path`, or of the export or model_dir there.

    Raises:
      UsageError: if there is none, or it is no ONNX model, or none that tfdps exported.
    """
    path = onnx_path(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's have no common class but this
        raise checks.UsageError(
            f"{path} is no ONNX model that ONNX Runtime can load: {str(error).splitlines()[0]}"
        ) from error
    text = session.get_modelmeta().custom_metadata_map.get(onnx_metadata.MODEL_CARD)
    if text is None:
        raise checks.UsageError(
            f"{path} holds no model card ({onnx_metadata.MODEL_CARD}) in its metadata: tfdps did not "
            "export it, or it was changed since."
        )
    return OnnxSampler(session, ModelCard.from_json(text, f"the metadata of {path}"))


def onnx_path(path):
    """Returns the ONNX file that `path` is, or that the export or model_dir there holds.

    Raises:
      UsageError: if there is none.
    """
    located = layout.locate(path)
    if located.onnx is None:
        raise checks.UsageError(
            f"{located.path} holds no {layout.ONNX}: name one that tfdps exported, or the export or "
            "model_dir that holds it."
        )
    return located.onnx
