"""Images as pictures inside the page: a strip of PNG a class, real ones as large as generated ones."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from tfdps.generators import pixels
from tfdps.training.nonprivate import PICTURED_CLASSES, PICTURES_A_CLASS

INTERPOLATED_CLASSES = 10
_CELL = 56  # pixels of the page that an image is about as wide as
_LARGEST_CRISP = 64  # sides beyond it look better smoothed than as squares


@dataclasses.dataclass(frozen=True)
class Strip:
    """Ten images of one class: its name, a PNG data URI, its width on the page, crisp or not."""

    name: str
    uri: str
    width: int
    crisp: bool


def sample_strips(sampler):
    """Returns a Strip of 10 samples for each of the first 20 classes, with seed 0.

    They are the images of the export's samples.png.
    """
    names = sampler.class_names[:PICTURED_CLASSES]
    images = sampler.sample(np.repeat(np.arange(len(names)), PICTURES_A_CLASS), 0)
    return _strips(names, images)


def real_strips(sampler, images, labels):
    """Returns a Strip of the real images of each class that `sample_strips` shows, as large as its own.

    Where a class has fewer than 10, the rest of its strip is empty.

    Args:
      sampler: the export's.
      images: uint8 [n, H, W, C], of the sampler's shape.
      labels: int [n].
    """
    names = sampler.class_names[:PICTURED_CLASSES]
    return [
        _strip(name, images[labels == label][:PICTURES_A_CLASS]) for label, name in enumerate(names)
    ]


def interpolation_strips(sampler):
    """Returns a Strip for each of the first 10 classes: 10 images on a line between two latents.

    Both ends are drawn like the generator's latents, uniform on [0, 1], a pair a class, from seed
    0; every point between them lies in the cube that the generator was trained on.
    """
    names = sampler.class_names[:INTERPOLATED_CLASSES]
    latent_dim = sampler.latent_dim
    first, last = np.random.default_rng(0).random((2, len(names), 1, latent_dim), np.float32)
    share = np.linspace(0, 1, PICTURES_A_CLASS, dtype=np.float32)[:, np.newaxis]
    z = (1 - share) * first + share * last
    labels = np.repeat(np.arange(len(names)), PICTURES_A_CLASS)
    return _strips(names, pixels.to_uint8(sampler.decode(z.reshape(-1, latent_dim), labels)))


def _strips(names, images):
    rows = images.reshape(len(names), PICTURES_A_CLASS, *images.shape[1:])
    return [_strip(name, row) for name, row in zip(names, rows, strict=True)]


def _strip(name, images):
    count, height, width, channels = images.shape
    gap, missing = max(1, width // 14), PICTURES_A_CLASS - count
    opaque = np.full((count, height, width, 1), 255, np.uint8)
    pixels = np.concatenate([images, opaque], axis=3)
    # transparent: any page's colour
    pixels = np.pad(pixels, ((0, missing), (0, 0), (0, gap), (0, 0)))
    strip = np.concatenate(list(pixels), axis=1)[:, :-gap]
    file = io.BytesIO()
    Image.fromarray(strip, {1: "LA", 3: "RGBA"}[channels]).save(file, format="PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    scale = max(1, round(_CELL / width))
    return Strip(name, uri, strip.shape[1] * scale, max(height, width) <= _LARGEST_CRISP)
