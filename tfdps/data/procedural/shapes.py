"""Things on black: one to four shapes that fill the image, shaded, striped or rough, with lines."""

import numpy as np
from PIL import Image, ImageDraw

from tfdps.data.procedural import canvas

_SCALE = 4  # of the canvas over the image
_BACKGROUND = 8  # grey levels: what is darker counts as background


def draw(rng, height, width, channels):
    """Returns an image of one thing, uint8 [H, W, C]. Seven in ten are symmetric."""
    symmetric = rng.random() < 0.7
    page = _thing(rng, _SCALE * height, _SCALE * width, symmetric)
    page = _filling(page)
    tint = np.ones(1) if channels == 1 else 1 + rng.uniform(-0.35, 0.35, channels)
    return canvas.shrunk(page[..., None] * tint, height, width, blur=rng.uniform(0.5, 2.0))


def _thing(rng, height, width, symmetric):
    """Grey levels float [height, width]; 0 outside of the thing."""
    page, base = np.zeros((height, width)), rng.uniform(30, 255)
    for number in range(rng.integers(1, 5)):
        covered = canvas.blob(rng, height, width, symmetric=symmetric)
        level = base + 25 * rng.normal() if rng.random() < 0.8 else rng.uniform(0, 255)
        shade = canvas.smooth_noise(rng, height, width, waves=rng.uniform(1.5, 5))
        value = np.clip(level, 10, 255) + rng.uniform(0, 30) * shade
        if rng.random() < 0.8:
            value = value + canvas.texture(rng, height, width)
        if number and rng.random() < 0.3:  # a part of what is there
            covered = covered & (page > 0)
        page = np.where(covered, np.maximum(value, 1), page)
    return _with_lines(rng, page, symmetric)


def _with_lines(rng, page, symmetric):
    image = Image.fromarray(np.clip(page, 0, 255).astype(np.uint8))
    pencil, (height, width) = ImageDraw.Draw(image), page.shape
    for _ in range(rng.integers(0, 4)):
        x0, x1 = width * rng.uniform(0.2, 0.8, 2)
        y0, y1 = height * rng.uniform(0.2, 0.8, 2)
        line = {"fill": int(rng.uniform(0, 255)), "width": int(rng.uniform(1, 7))}
        pencil.line([x0, y0, x1, y1], **line)
        if symmetric:
            pencil.line([width - x0, y0, width - x1, y1], **line)
    return np.asarray(image)


def _filling(page):
    """The page cut and enlarged so that the thing reaches two opposite edges."""
    rows, columns = np.nonzero(page > _BACKGROUND)
    if not len(rows):
        return page
    height, width = page.shape
    share = max(np.ptp(rows) / height, np.ptp(columns) / width, 0.1)
    middle = np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
    half = share * np.array([width, height]) / 2
    box = (*map(float, middle - half), *map(float, middle + half))
    image = Image.fromarray(page)
    cut = image.transform(image.size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return np.asarray(cut, np.float32)
