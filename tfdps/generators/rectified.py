"""Gaussian pixels that have a wanted mean and spread after the clip to [-1, 1].

A rectified Gaussian is clip(N(m, s^2), -1, 1). Clipping moves its mean inwards and shrinks its
spread, most of all near black and white, where most pixels of an image live. These functions find
the (m, s) *before* the clip, the latent moments, for the moments wanted *after* it.

Everything is computed as a distance from the nearer end of the range, y = 1 - |pixel|, clipped to
[0, 2]: a mean of 0.999 would lose its digits otherwise.

Guarantee: pure functions of their arguments. Given released moments they are post-processing and
cost no privacy; they must not be given moments that no mechanism has released.
"""

import functools

import numpy as np
from scipy import ndimage, special

# No clipped pixel of mean m has a standard deviation above sqrt(1 - m^2), the one of a pixel that
# is black or white. Towards that bound the latent spread grows without limit: 20 at these two.
LARGEST_MEAN = 0.999
LARGEST_FRACTION = 0.97

# How much wider or narrower a pixel gets at most: float32 rounding of the sum that makes a pixel
# (1e-7 times its terms, which are of order 1) grows with the gain, and an exported generator has to
# agree with its original to 5e-5.
LARGEST_GAIN = 30.0

_NEVER_CLIPPED = 1e-4  # 10 standard deviations from the end of the range at LARGEST_MEAN
_CONSTANT = 1e-6  # a Gaussian pixel below this spread cannot be widened to anything
_AT_ONCE = 2**17  # pixels that are matched at a time: 1 MiB an array, which a cache holds
_TABLE_SIDE = 128  # errors of 1e-3 by interpolation alone, 1e-8 after two Newton steps


def match(mean, wanted_stddev, gaussian_stddev):
    """Returns (layer_mean, gain): clip(layer_mean + gain * x) has the wanted moments.

    x is the pixel that a Gaussian in a subspace makes, N(0, gaussian_stddev^2). Where x would have
    to be widened by more than LARGEST_GAIN the spread stays below the wanted one, and where x is
    constant the gain is 0; the mean is kept in both.

    Args:
      mean: the wanted means in [-1, 1], an array of one dimension or more.
      wanted_stddev: the wanted standard deviations, >= 0, in pixel units; the same shape.
      gaussian_stddev: the standard deviations of x, >= 0; the same shape.

    Returns:
      Two float64 arrays of that shape.
    """
    mean, wanted_stddev, gaussian_stddev = np.broadcast_arrays(mean, wanted_stddev, gaussian_stddev)
    found = np.empty([2, mean.size])
    for first in range(0, mean.size, _AT_ONCE):  # the work takes room for 30 such arrays
        part = slice(first, first + _AT_ONCE)
        found[:, part] = _match(*(a.flat[part] for a in (mean, wanted_stddev, gaussian_stddev)))
    return found[0].reshape(mean.shape), found[1].reshape(mean.shape)


def _match(mean, wanted_stddev, gaussian_stddev):
    """`match` of arrays of one dimension."""
    mean = np.clip(mean.astype(np.float64), -LARGEST_MEAN, LARGEST_MEAN)
    gaussian_stddev = gaussian_stddev.astype(np.float64)
    layer_mean, latent_stddev = latent_moments(mean, wanted_stddev)
    reach = np.where(gaussian_stddev < _CONSTANT, 0.0, LARGEST_GAIN * gaussian_stddev)
    short = reach < latent_stddev
    layer_mean[short] = _latent_mean(mean[short], reach[short])
    latent_stddev = np.minimum(latent_stddev, reach)
    return layer_mean, latent_stddev / np.maximum(gaussian_stddev, _CONSTANT)


def latent_moments(mean, stddev):
    """Returns (latent_mean, latent_stddev): clip(N(latent_mean, latent_stddev^2)) has the given ones.

    Within 1e-6 of them, unless they are out of reach: |mean| is lowered to LARGEST_MEAN first and
    stddev to LARGEST_FRACTION of sqrt(1 - mean^2).

    Args:
      mean: the clipped pixels' means in [-1, 1], an array of one dimension or more.
      stddev: their standard deviations, >= 0; the same shape.

    Returns:
      Two float64 arrays of that shape. The latent mean may lie outside [-1, 1].
    """
    mean = np.clip(np.asarray(mean, np.float64), -LARGEST_MEAN, LARGEST_MEAN)
    largest = LARGEST_FRACTION * np.sqrt(1 - mean**2)
    stddev = np.minimum(np.asarray(stddev, np.float64), largest)
    target = np.maximum(stddev, _NEVER_CLIPPED)
    distance = 1 - np.abs(mean)
    place = [
        np.sqrt(target / largest) * (_TABLE_SIDE - 1),
        np.arctanh(np.abs(mean)) / np.arctanh(LARGEST_MEAN) * (_TABLE_SIDE - 1),
    ]
    widening, shift = (
        ndimage.map_coordinates(values, place, order=1, mode="nearest") for values in _table()
    )
    scale = target * np.exp(widening)
    location = distance + shift * scale
    for _ in range(2):
        location, scale = _newton_step(location, scale, distance, target)
    clipped = stddev >= _NEVER_CLIPPED
    latent_mean = np.where(clipped, np.copysign(1 - location, mean), mean)
    return latent_mean, np.where(clipped, scale, stddev)


def clipped_moments(latent_mean, latent_stddev):
    """Returns (mean, stddev) of clip(N(latent_mean, latent_stddev^2), -1, 1), in closed form."""
    latent_mean = np.asarray(latent_mean, np.float64)
    scale = np.maximum(latent_stddev, 1e-12)  # a constant has the moments of its limit
    first, second, _ = _raw_moments(1 - np.abs(latent_mean), scale)
    return np.copysign(1 - first, latent_mean), np.sqrt(np.maximum(second - first**2, 0))


def _raw_moments(location, scale):
    """Returns E[y], E[y^2] and their derivatives, y = clip(N(location, scale^2), 0, 2).

    With u+ = max(u, 0): y = u+ - (u-2)+ and y^2 = u+^2 - (u-2)+^2 - 4 (u-2)+. The derivatives are
    dE[y]/dlocation, dE[y]/dscale, dE[y^2]/dlocation, dE[y^2]/dscale.
    """
    above, density, part, square = _positive_part(location, scale)
    above_2, density_2, part_2, square_2 = _positive_part(location - 2, scale)
    first, in_range = part - part_2, above - above_2
    return (
        first,
        square - square_2 - 4 * part_2,
        (
            in_range,
            density - density_2,
            2 * first - 4 * above_2,
            2 * scale * in_range - 4 * density_2,
        ),
    )


def _positive_part(location, scale):
    """Returns P(u > 0), the standard density there, E[u+] and E[u+^2] of u = N(location, scale^2)."""
    t = location / scale
    above = special.ndtr(t)
    density = np.exp(-0.5 * t * t) / np.sqrt(2 * np.pi)
    part = location * above + scale * density
    return above, density, part, location * part + scale * scale * above


def _newton_step(location, scale, distance, stddev):
    """Returns (location, scale), one step closer to clipped moments (distance, stddev)."""
    first, second, (a, b, c, d) = _raw_moments(location, scale)
    c, d = c - 2 * first * a, d - 2 * first * b  # of the variance
    error, variance_error = distance - first, stddev**2 - (second - first**2)
    determinant = a * d - b * c
    return (
        location + (d * error - b * variance_error) / determinant,
        scale + (a * variance_error - c * error) / determinant,
    )


@functools.cache
def _table():
    """Returns log(scale / stddev) and (location - distance) / scale, [2, fraction, mean].

    Over mean = tanh(...) from 0 to LARGEST_MEAN and stddev = LARGEST_FRACTION q^2 sqrt(1 - mean^2),
    q from 0 to 1, both evenly spaced: fine where clipping sets in. A path from spreads too small to
    be clipped, where the answer is known, to the largest: each solution starts the next.
    """
    mean = np.tanh(np.linspace(0, np.arctanh(LARGEST_MEAN), _TABLE_SIDE))
    distance, largest = 1 - mean, LARGEST_FRACTION * np.sqrt(1 - mean**2)
    fractions = np.linspace(0, 1, _TABLE_SIDE)[1:] ** 2
    table = np.zeros((2, _TABLE_SIDE, _TABLE_SIDE))  # 0, 0 for no spread: nothing is clipped
    location, widening = distance, np.ones_like(mean)
    for row, fraction in enumerate(fractions, start=1):
        stddev = fraction * largest
        scale = stddev * widening
        for _ in range(4):
            location, scale = _newton_step(location, scale, distance, stddev)
        widening = scale / stddev
        table[:, row] = np.log(widening), (location - distance) / scale
    return table


def _latent_mean(mean, latent_stddev):
    """Returns the latent mean for a clipped `mean` and a given latent spread, [n].

    E[y] is a rising, convex function of the location up to 1 and at least the location there, so
    Newton's method from `distance` comes down to the solution without overshooting.
    """
    distance = 1 - np.abs(mean)
    scale = np.maximum(latent_stddev, _NEVER_CLIPPED)
    location = distance
    for _ in range(100):  # 11 at most for the spreads that match asks about
        first, _, (slope, *_) = _raw_moments(location, scale)
        step = (first - distance) / slope
        location = location - step
        if np.max(np.abs(step), initial=0.0) < 1e-9:
            break
    return np.copysign(1 - location, mean)
