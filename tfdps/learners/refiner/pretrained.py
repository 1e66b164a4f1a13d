"""Denoisers that have learned from procedural images already: files of the package.

What a denoiser learns there is a function of public numbers (see `pretraining`), so it need not be
learned again in every run. `benchmarks/pretrained.py` makes the files, of a few hundred kB each.
"""

import pathlib

import numpy as np

from tfdps.generators import denoiser as denoisers

FAMILY, STEPS, WIDTH = (
    "mixed",
    1500,
    32,
)  # of those that are kept: what a run has where nothing is given
_FOLDER = pathlib.Path(__file__).parent / "pretrained"


def path_of(image_shape):
    """Returns the pathlib.Path of the file for images of a shape, whether or not there is one.

    One network fits all images of as many channels.
    """
    return _FOLDER / f"{FAMILY}_{image_shape[-1]}_channels.npz"


def is_kept(image_shape, *, family, steps, width):
    """Returns whether there is a file for a denoiser of these settings."""
    return (family, steps, width) == (FAMILY, STEPS, WIDTH) and path_of(image_shape).is_file()


def restore(denoiser):
    """Sets a Denoiser to the weights in its file, those of classes to 0; returns None.

    Guarantee: reads no data: the weights in the file were learned from procedural images alone.

    Args:
      denoiser: of a shape for which `is_kept`.
    """
    with np.load(path_of(denoiser.image_shape)) as stored:
        for number, weight in enumerate(denoiser.weights):
            values = np.zeros(weight.shape, np.float32)
            kept = stored[f"weight_{number}"]
            values[: len(kept)] = kept  # of features of the level; classes come after them
            weight.assign(values)


def keep(denoiser):
    """Writes the file of a pretrained Denoiser; returns its path.

    Args:
      denoiser: whose weights of classes are 0, as `pretraining.pretrain` leaves them.
    """
    path = path_of(denoiser.image_shape)
    path.parent.mkdir(exist_ok=True)
    weights = [np.asarray(weight) for weight in denoiser.weights]
    stored = {
        # Two axes: from the features of a level, then those of a class, to channels.
        f"weight_{number}": values[: denoisers.NUM_FEATURES] if values.ndim == 2 else values
        for number, values in enumerate(weights)
    }
    np.savez_compressed(path, **stored)
    return path
