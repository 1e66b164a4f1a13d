"""Strokes of a pen on black: smooth curves and rings of one width."""

import numpy as np
from PIL import Image, ImageDraw

from tfdps.data.procedural import canvas

_SCALE = 4  # of the canvas over the image
_SIDE = 28  # of an image whose pen is 1.3 to 3.6 pixels wide


def draw(rng, height, width, channels):
    """Returns an image of one to three strokes, uint8 [H, W, C]."""
    size = _SCALE * np.array([width, height])
    unit = _SCALE * min(height, width) / _SIDE
    page = Image.new("L", tuple(map(int, size)))
    pencil, pen = ImageDraw.Draw(page), rng.uniform(1.3, 3.6) * unit
    for _ in range(rng.integers(1, 4)):
        points = size * (_ring(rng) if rng.random() < 0.25 else _curve(rng))
        pencil.line([tuple(point) for point in points], fill=255, width=max(1, int(pen)))
        for x, y in points[::3]:  # round ends and corners
            pencil.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill=255)
    ink = np.asarray(page, np.float32)[..., None] * _colour(rng, channels)
    image = canvas.shrunk(ink, height, width, blur=rng.uniform(0.5, 2.5) * unit / _SCALE)
    return np.clip(image * rng.uniform(1, 1.3), 0, 255).astype(np.uint8)


def _curve(rng):
    """Points of a quadratic B-spline through a few random places, [n, 2] in the unit square."""
    places = rng.uniform(0.2, 0.8, (rng.integers(3, 6), 2))
    t, pieces = np.linspace(0, 1, 40)[:, None], []
    for first in range(len(places) - 2):
        start, middle, end = places[first : first + 3]
        start = (start + middle) / 2 if first else start
        end = (middle + end) / 2 if first < len(places) - 3 else end
        pieces.append((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)
    return np.concatenate(pieces)


def _ring(rng):
    """Points of an ellipse, or of the most of one, [60, 2]."""
    centre, radii = rng.uniform(0.35, 0.65, 2), rng.uniform(0.08, 0.25, 2)
    angle = np.linspace(0, 2 * np.pi * rng.uniform(0.6, 1.05), 60) + rng.uniform(0, 2 * np.pi)
    return centre + radii * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _colour(rng, channels):
    return np.ones(1) if channels == 1 else rng.uniform(0.4, 1, channels)
