"""The families of procedural images, by name: "strokes", "shapes", "scenes", "mixed"."""

import typing
from collections.abc import Sequence

import numpy as np

from tfdps import checks
from tfdps.config.refiners import FAMILIES
from tfdps.data.procedural import scenes, shapes, strokes


def _draw_any(rng, *image_shape):
    """An image of any other family."""
    draw = (strokes.draw, shapes.draw, scenes.draw)[rng.integers(3)]
    return draw(rng, *image_shape)


_DRAWN_BY: dict[str, typing.Callable] = {
    "strokes": strokes.draw,
    "shapes": shapes.draw,
    "scenes": scenes.draw,
    "mixed": _draw_any,
}


def images(family: str, num: int, *, image_shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Returns `num` images of a family, uint8 [num, H, W, C]; the same for the same seed.

    Guarantee: no data are read. The images are functions of the arguments alone, so whatever is trained
    on them costs no privacy.

    Args:
      family: "strokes": lines of a pen on black, as of handwriting; "shapes": things on black, many of
        them symmetric, shaded, striped or rough; "scenes": things of a few colours before a
        background, as in photographs; "mixed": a third of each.
      num: how many, at least 1.
      image_shape: (height, width, channels), channels 1 or 3.
      seed: an integer >= 0.

    Raises:
      UsageError: for an unknown family, or arguments outside these ranges.

    Source: Lee, Mumford & Huang 2001 (dead leaves); Baradad et al., NeurIPS 2021 (arXiv 2106.05963),
    who train networks for photographs on such images.

    Examples:
      >>> from tfdps.data import procedural
      >>> procedural.images("scenes", 3, image_shape=(32, 32, 3)).shape
      (3, 32, 32, 3)
    """
    checks.one_of("family", family, FAMILIES)
    checks.at_least("num", num, 1)
    checks.at_least("seed", seed, 0)
    height, width, channels = image_shape
    checks.one_of("channels", channels, (1, 3))
    rng = np.random.default_rng(seed)
    return np.stack([_DRAWN_BY[family](rng, height, width, channels) for _ in range(num)])
