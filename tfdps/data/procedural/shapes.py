"""Things on black: one to five shapes that fill the image, of cloth, with rims, prints and lines."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tfdps.data.procedural import canvas

_SCALE = 4  # of the canvas over the image
_BACKGROUND = 8  # grey levels: what is darker counts as background
_DARKEST = 1  # of a thing


def draw(rng, height, width, channels):
    """Returns an image of one thing, uint8 [H, W, C]. Seven in ten are symmetric."""
    symmetric = rng.random() < 0.7
    page = _thing(rng, _SCALE * height, _SCALE * width, symmetric)
    page = _filling(page)
    tint = np.ones(1) if channels == 1 else 1 + rng.uniform(-0.35, 0.35, channels)
    image = canvas.shrunk(page[..., None] * tint, height, width, blur=rng.uniform(0.3, 1.3))
    return _sharpened(image, percent=rng.uniform(0, 120)) if rng.random() < 0.7 else image


def _thing(rng, height, width, symmetric):
    """Grey levels uint8 [height, width]; 0 outside of the thing."""
    page, base = np.zeros((height, width)), max(25, 255 * rng.beta(1.6, 1.0))
    for number in range(rng.integers(1, 6)):
        covered = canvas.blob(rng, height, width, symmetric=symmetric)
        level = base + 25 * rng.normal() if rng.random() < 0.8 else rng.uniform(0, 255)
        shade = canvas.smooth_noise(rng, height, width, waves=rng.uniform(1.5, 6))
        value = np.clip(level, 10, 255) + rng.uniform(0, 30) * shade
        if rng.random() < 0.85:
            value = value + _cloth(rng, height, width)
        if number and rng.random() < 0.4:  # a part of what is there
            covered = covered & (page > 0)
        page = np.where(covered, np.maximum(value, _DARKEST), page)
        if rng.random() < 0.6:
            rim = _rim(covered, width=rng.integers(1, 5))
            page = np.where(rim, np.clip(page + 60 * rng.normal(), _DARKEST, 255), page)
    if rng.random() < 0.2:
        _print_on(rng, page)
    return _with_lines(rng, page, symmetric)


def _cloth(rng, height, width):
    """What a texture adds, in grey levels: stripes, roughness from single pixels on, or nothing."""
    kind, strength = rng.random(), rng.uniform(0, 60)
    if kind < 0.25:
        angle = rng.choice([0, np.pi / 2, np.pi / 2, rng.uniform(0, np.pi)])
        wave = canvas.stripes(rng, height, width, angle=angle)
        if rng.random() < 0.3:  # thin ones, far apart
            wave = np.clip(3 * wave - 2, -1, 1)
        return strength * (np.sign(wave) if rng.random() < 0.5 else wave)
    if kind < 0.85:
        pixels = rng.normal(size=(height // _SCALE, width // _SCALE))
        smooth = canvas.fractal_noise(rng, height, width, slope=rng.uniform(0.3, 1.5))
        share = rng.uniform(0, 1)
        return strength * (0.6 * share * _enlarged(pixels, _SCALE) + (1 - share) * smooth)
    return 0.0


def _rim(covered, *, width):
    """Which of the covered pixels are that near to one that is not, bool [H, W]."""
    mask = Image.fromarray((255 * covered).astype(np.uint8))
    inside = np.asarray(mask.filter(ImageFilter.MinFilter(2 * int(width) + 1))) > 0
    return covered & ~inside


def _print_on(rng, page):
    """Squares of random grey on a rectangle of the thing; changes the page."""
    height, width = page.shape
    top, left = rng.integers(height // 5, height // 2), rng.integers(width // 4, width // 2)
    rows, columns = rng.integers(height // 10, height // 3), rng.integers(width // 10, width // 3)
    side = _SCALE + 1
    squares = rng.uniform(0, 255, (rows // side + 1, columns // side + 1))
    region = page[top : top + rows, left : left + columns]
    printed = 0.4 * region + 0.6 * _enlarged(squares, side)[: len(region), : region.shape[1]]
    region[:] = np.where(region > 0, np.maximum(printed, _DARKEST), region)


def _enlarged(values, side):
    """Each value as a square of side x side."""
    return np.kron(values, np.ones((side, side)))


def _with_lines(rng, page, symmetric):
    """The page with up to four lines, uint8; three in ten upright, and half as many level."""
    image = Image.fromarray(np.clip(page, 0, 255).astype(np.uint8))
    pencil, (height, width) = ImageDraw.Draw(image), page.shape
    for _ in range(rng.integers(0, 5)):
        x0, x1 = width * rng.uniform(0.2, 0.8, 2)
        y0, y1 = height * rng.uniform(0.1, 0.9, 2)
        kind = rng.random()
        if kind < 0.3:
            x1 = x0
        elif kind < 0.45:
            y1 = y0
        line = {"fill": int(rng.uniform(0, 255)), "width": int(rng.uniform(2, 7))}
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


def _sharpened(image, *, percent):
    """The image with its edges sharpened, as photographs for a shop are."""
    filtered = ImageFilter.UnsharpMask(radius=1, percent=int(percent), threshold=0)
    channels = [
        Image.fromarray(np.ascontiguousarray(c)).filter(filtered) for c in np.moveaxis(image, 2, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)
