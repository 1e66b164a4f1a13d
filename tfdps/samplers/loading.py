"""Loads what a path holds to draw images from, in whichever of the two formats it is."""

import os

from tfdps.artefacts import layout
from tfdps.samplers import onnx_sampler, saved_model_sampler
from tfdps.samplers.base import Sampler


def load_sampler(path: str | os.PathLike[str]) -> Sampler:
    """Returns the Sampler of the generator at `path`.

    A SavedModel is run by TensorFlow, and so is a model_dir or an export, which has one. An ONNX file
    is run by ONNX Runtime, which needs no TensorFlow. The formats draw other latents for a seed.

    Args:
      path: a model_dir, an export, a SavedModel's folder or a generator.onnx; "~" is the user's home.

    Returns:
      A SavedModelSampler or an OnnxSampler.

    Raises:
      UsageError: there is no generator, it is damaged or has no model card, or TensorFlow is not
        installed and the path holds a SavedModel.

    Examples:
      >>> import tfdps
      >>> sampler = tfdps.load_sampler("saved_models/mnist_eps1/generator.onnx")
      >>> images = sampler.sample([3, 3, 7], seed=1)
      >>> images.shape, images.dtype
      ((3, 28, 28, 1), dtype('uint8'))
      >>> sampler.card.epsilon <= 1
      True
    """
    if layout.locate(path).part == layout.ONNX:
        return onnx_sampler.load(path)
    return saved_model_sampler.load(path)
