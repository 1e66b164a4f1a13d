"""What the rounds of a per-record run have in common: their settings, and how they read an answer."""

import dataclasses

import numpy as np

from tfdps.learners.per_record import cosine_transform, shrinkage

MASS = 0.7  # scale of the masses, over the root mean square distance of a record from its atom
_BAND = 8  # coordinates of like variance that shrink together


@dataclasses.dataclass(frozen=True)
class RoundSettings:
    """What the rounds need to know of the run; all of it public.

    image_shape: (height, width, channels).
    num_classes: L.
    class_size: N m / L, the public stand-in for the size of a class: m is the most images of a unit.
    rank: p, the dimension of the subspace.
    clip_norm: the clip, over the root mean square of a record's contribution as the model expects it.
    regularization: lambda of the atoms' softmax.
    """

    image_shape: tuple
    num_classes: int
    class_size: float
    rank: int
    clip_norm: float
    regularization: float


def bands(model):
    """Returns int [p]: coordinates of the basis in bands of like variance, for shrinkage."""
    return np.arange(len(model.basis)) // _BAND


def counts(moments, expected, mass=None):
    """Returns the masses to divide by: never so small that noise would be blown up.

    Args:
      moments: the released Moments.
      expected: the expected masses, [L, K] or one for all.
      mass: an estimate of the masses; default: the released ones.
    """
    mass = moments.mass if mass is None else mass
    return np.maximum(mass, np.maximum(0.3 * expected, 2 * moments.mass_stddev))


def smooth(images, image_shape, noise):
    """Returns noisy images as their waves suggest, shrunk ring by ring: see `shrinkage.rings`.

    Args:
      images: float [..., d].
      image_shape: (height, width, channels).
      noise: standard deviation on every pixel, broadcasts against [...].
    """
    waves = cosine_transform.to_waves(images, image_shape)
    noise = np.asarray(noise)[..., None]
    waves = shrinkage.rings(waves, cosine_transform.rings(image_shape), noise)
    return cosine_transform.to_images(waves, image_shape)
