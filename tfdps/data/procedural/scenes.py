"""Scenes: things of a few colours, in front of one another and of a background, as in photographs."""

import numpy as np

from tfdps.data.procedural import canvas

_SCALE = 2  # of the canvas over the image
_MOST_THINGS = 40


def draw(rng, height, width, channels):
    """Returns an image of a scene, uint8 [H, W, C]."""
    size, palette = (_SCALE * height, _SCALE * width), _palette(rng, channels)
    page = _colour(rng, palette) + rng.uniform(0, 35) * _grey(
        canvas.smooth_noise(rng, *size, waves=rng.uniform(1.5, 4))
    )
    page = page + rng.uniform(0, 18) * _grey(_fractal(rng, size))
    for _ in range(min(_MOST_THINGS, int(3 * rng.pareto(1.2) + 2)) if rng.random() < 0.95 else 0):
        smooth = rng.random() < 0.6
        covered = canvas.blob(rng, *size, symmetric=False) if smooth else canvas.leaf(rng, *size)
        page = np.where(covered[..., None], _surface(rng, size, palette), page)
    return canvas.shrunk(page, height, width, blur=rng.uniform(0.4, 1.8))


def _palette(rng, channels):
    """A few colours, mostly greyish, float [k, C]."""
    count = rng.integers(2, 6)
    grey = np.repeat(rng.uniform(10, 245, (count, 1)), channels, axis=1)
    chroma = rng.normal(size=(count, channels))
    return grey + rng.uniform(2, 45) * (chroma - chroma.mean(axis=1, keepdims=True))


def _colour(rng, palette):
    return palette[rng.integers(len(palette))] + 8 * rng.normal(size=palette.shape[1])


def _surface(rng, size, palette):
    """A thing's colour, lit from a side, with or without a texture: float [h, w, C]."""
    rows, columns = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None] - 0.5
    light = 40 * (rng.normal() * columns + rng.normal() * rows)
    if rng.random() < 0.6:
        light = light + rng.uniform(0, 25) * _fractal(rng, size)
    elif rng.random() < 0.3:
        light = light + canvas.texture(rng, *size)
    return _colour(rng, palette) + _grey(light)


def _fractal(rng, size):
    return canvas.fractal_noise(rng, *size, slope=rng.uniform(0.8, 2.2))


def _grey(light):
    return light[..., None]
