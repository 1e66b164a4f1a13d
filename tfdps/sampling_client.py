"""Draws images from generator.onnx: ONNX Runtime, NumPy and Pillow, and no TensorFlow.

from tfdps import sampling_client

sampler = sampling_client.load("generator.onnx")
images = sampler.sample([0, 1, 2], seed=7)  # uint8 [3, H, W, C]
print(sampler.card["privacy"]["epsilon"])
"""

import json
import os

import numpy as np
import onnxruntime

from tfdps import artefacts, checks, grids, onnx_metadata
from tfdps.sampler import Sampler

_PLACES = (artefacts.ONNX, os.path.join("export", artefacts.ONNX))
_ERRORS_ONLY = 3


class OnnxSampler(Sampler):
    """A generator.onnx, loaded. Its own seeds: those of the SavedModel mean other images."""

    def __init__(self, session, card):
        super().__init__(card)
        self._session = session

    def _sample_chunk(self, labels, seed, chunk):
        z = np.random.default_rng([seed, chunk]).random((len(labels), self.latent_dim), np.float32)
        return grids.to_uint8(self._decode_chunk(z, labels))

    def _decode_chunk(self, z, labels):
        (images,) = self._session.run(["images"], {"z": z, "labels": labels})
        return images


def load(path):
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
    try:
        card = json.loads(session.get_modelmeta().custom_metadata_map[onnx_metadata.MODEL_CARD])
        return OnnxSampler(session, card)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise checks.UsageError(
            f"{path} holds no model card ({onnx_metadata.MODEL_CARD}) in its metadata: tfdps did not "
            "export it, or it was changed since."
        ) from error


def onnx_path(path):
    """Returns the ONNX file that `path` is, or that the export or model_dir there holds.

    Raises:
      UsageError: if there is none.
    """
    path = os.path.expanduser(path)
    found = [
        p for p in (path, *(os.path.join(path, place) for place in _PLACES)) if os.path.isfile(p)
    ]
    if not found:
        raise checks.UsageError(
            f"{path} is no file, and no folder that holds a generator.onnx: name one that tfdps "
            "exported."
        )
    return found[0]
