"""What procedural images are drawn with: noise, outlines and textures on a canvas that is larger."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_CORNERS = 96  # of an outline


def smooth_noise(rng, height, width, *, waves):
    """Returns noise of standard deviation about 1 that varies `waves` times across, float32 [H, W]."""
    count = max(2, round(waves))
    coarse = Image.fromarray(rng.normal(size=(count, count)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def fractal_noise(rng, height, width, *, slope):
    """Returns noise of standard deviation 1, its amplitudes as frequency^-slope, float64 [H, W]."""
    rows, columns = np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width
    frequency = np.hypot(rows[:, None], columns)
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(height, width))) * frequency**-slope
    noise = np.fft.ifft2(spectrum).real
    return noise / noise.std()


def stripes(rng, height, width, *, angle):
    """Returns 4 to 16 waves across, as sin, float64 [H, W]; upright ones where the angle is 0."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    across = columns * np.cos(angle) + rows * np.sin(angle)
    return np.sin(2 * np.pi * rng.uniform(4, 16) * across + rng.uniform(0, 6))


def texture(rng, height, width):
    """Returns stripes, cloth or nothing, in grey levels, [H, W] or a number."""
    kind, strength = rng.random(), rng.uniform(0, 45)
    if kind < 0.25:
        angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
        wave = stripes(rng, height, width, angle=angle)
        return strength * (np.sign(wave) if rng.random() < 0.5 else wave)
    if kind < 0.6:
        return strength * fractal_noise(rng, height, width, slope=rng.uniform(0.3, 1.5))
    return 0.0


def outline(rng, *, upright):
    """Returns the corners of a random closed shape around (0, 0), of radius about 1: (x, y), [96] each.

    Smooth, or square with round corners; `upright` ones are not turned.
    """
    angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radius = np.ones_like(angle)
    for wave in range(1, 7):
        radius += rng.normal() * 0.35 / wave**1.1 * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    radius = np.maximum(radius, 0.15)
    if rng.random() < 0.35:
        power = rng.uniform(3, 10)
        radius /= (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (1 / power)
    stretch, turn = rng.uniform(0.08, 0.42, 2), 0 if upright else rng.normal() * 0.5
    x, y = stretch[:, None] * radius * np.stack([np.cos(angle), np.sin(angle)])
    return x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)


def blob(rng, height, width, *, symmetric):
    """Returns which pixels a random shape covers, bool [H, W]; symmetric: to the upright middle."""
    x, y = outline(rng, upright=symmetric)
    centre_x, centre_y = (0.5, rng.uniform(0.3, 0.7)) if symmetric else rng.uniform(0.25, 0.75, 2)
    if symmetric and rng.random() < 0.5:  # two of them, side by side
        centre_x = rng.uniform(0.2, 0.5)
    x, y = width * (centre_x + x), height * (centre_y + y)
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    draw.polygon(list(zip(x, y, strict=True)), fill=255)
    if symmetric:
        draw.polygon(list(zip(width - x, y, strict=True)), fill=255)
    return np.asarray(mask) > 0


def leaf(rng, height, width):
    """Returns which pixels an ellipse or a rectangle covers, bool [H, W]: small ones are common."""
    radius = np.clip(0.054 * (rng.pareto(1.5) + 0.3), 0.02, 0.6)
    centre, angle, ratio = rng.uniform(0, 1, 2), rng.uniform(0, np.pi), rng.uniform(0.1, 1)
    rows, columns = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    rows, columns = rows - centre[0], columns - centre[1]
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / radius
    across = (rows * np.cos(angle) - columns * np.sin(angle)) / (radius * ratio)
    if rng.random() < 0.6:
        return along**2 + across**2 < 1
    return (np.abs(along) < 1) & (np.abs(across) < 1)


def shrunk(canvas, height, width, *, blur):
    """Returns a canvas as an image, uint8 [H, W, C]: blurred by `blur` of its pixels, then averaged.

    Args:
      canvas: float [h, w, C] in grey levels; clipped to 0 to 255.
    """
    canvas = np.clip(canvas, 0, 255).astype(np.uint8)
    channels = [
        Image.fromarray(np.ascontiguousarray(canvas[..., channel]))
        .filter(ImageFilter.GaussianBlur(blur))
        .resize((width, height), Image.Resampling.BOX)
        for channel in range(canvas.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)
