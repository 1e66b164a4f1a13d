"""The dcgan generator of the product, in JAX, as matrix products that a stack of runs shares.

A transposed convolution is one product and a sum of shifted parts: with `jax.vmap` over runs that
stays one batched product, where a convolution would become a slow grouped one.
"""

import math

import jax
import jax.numpy as jnp

EPSILON = 1e-5  # of batch normalisation
SLOPE = 0.2
# In the order of the product's trainable weights.
NAMES = (
    "embedding",
    *(f"{kind}{stage}" for stage in (1, 2, 3) for kind in ("kernel", "gamma", "beta")),
    "last_kernel",
    "last_bias",
)


def initial(key, *, widths=(256, 128, 64), side=28, latent_dim=16, num_classes=10):
    """Returns the weights, a dict by NAMES, initialised as Keras does."""
    keys = jax.random.split(key, 5)
    first, second, third = widths
    shapes = {
        "kernel1": (side // 4, side // 4, first, latent_dim + 8),
        "kernel2": (4, 4, second, first),
        "kernel3": (4, 4, third, second),
        "last_kernel": (3, 3, third, 1),
    }
    weights = {"embedding": jax.random.normal(keys[0], (num_classes, 8))}
    for name, subkey in zip(shapes, keys[1:], strict=True):
        weights[name] = _glorot(subkey, shapes[name])
    for stage, width in enumerate(widths, 1):
        weights[f"gamma{stage}"], weights[f"beta{stage}"] = jnp.ones(width), jnp.zeros(width)
    weights["last_bias"] = jnp.zeros(1)
    return {name: weights[name] for name in NAMES}


def images(weights, z, labels, *, statistics=None, dtype=jnp.float32):
    """Returns (images [n, side, side] in [-1, 1], the batch's statistics).

    Args:
      weights: of `initial`.
      z: [n, latent_dim].
      labels: int [n].
      statistics: of another call, to normalise with; default: the batch's own, as in training.
      dtype: what products are computed in.
    """
    hidden = jnp.concatenate([z, weights["embedding"][labels]], axis=1).astype(dtype)
    kernel = weights["kernel1"].astype(dtype)
    side, _, width, _ = kernel.shape
    hidden = hidden @ jnp.moveaxis(kernel, 3, 0).reshape(kernel.shape[3], -1)
    hidden = hidden.reshape(-1, side, side, width)
    found = []
    for stage in (1, 2, 3):
        if stage > 1:
            hidden = _doubled(hidden, weights[f"kernel{stage}"].astype(dtype))
        given = None if statistics is None else statistics[stage - 1]
        hidden, used = _normalised(hidden, weights, stage, given)
        found.append(used)
        hidden = jnp.where(hidden > 0, hidden, SLOPE * hidden)
    kernel = weights["last_kernel"].astype(dtype)
    parts = hidden @ kernel.reshape(9, -1).T
    total = sum(
        _shifted(parts[..., 3 * row + column], row - 1, column - 1)
        for row in range(3)
        for column in range(3)
    )
    return jnp.tanh(total.astype(jnp.float32) + weights["last_bias"]), found


def _doubled(hidden, kernel):
    """The transposed convolution of kernel 4, stride 2, padding "same": [n, 2h, 2w, filters]."""
    count, height, width, channels = hidden.shape
    filters = kernel.shape[2]
    matrix = jnp.moveaxis(kernel, 3, 0).reshape(channels, -1)
    parts = (hidden.reshape(-1, channels) @ matrix).reshape(count, height, width, 4, 4, filters)
    # Output row 2 i + a - 1 gets part a of input row i; columns likewise.
    rows = [_interleaved(parts, axis=1, kernel_axis=3)]
    return _interleaved(rows[0], axis=2, kernel_axis=3)


def _interleaved(parts, *, axis, kernel_axis):
    """Sums the four parts of a kernel's axis into twice as many rows; the kernel's axis is gone."""
    first, second, third, fourth = (jnp.take(parts, a, axis=kernel_axis) for a in range(4))
    even = second + _moved(fourth, axis, 1)
    odd = third + _moved(first, axis, -1)
    both = jnp.stack([even, odd], axis=axis + 1)
    shape = list(even.shape)
    shape[axis] *= 2
    return both.reshape(shape)


def _moved(array, axis, by):
    """The array, moved along an axis by 1 or -1, with a zero where nothing came from."""
    padding = [(0, 0)] * array.ndim
    padding[axis] = (1, 0) if by > 0 else (0, 1)
    length = array.shape[axis]
    start = 0 if by > 0 else 1
    return jax.lax.slice_in_dim(jnp.pad(array, padding), start, start + length, axis=axis)


def _shifted(plane, row, column):
    """plane[i + row, j + column], zero outside."""
    for axis, by in ((1, row), (2, column)):
        if by:
            plane = _moved(plane, axis, -by)
    return plane


def _normalised(hidden, weights, stage, given):
    wide = hidden.astype(jnp.float32)
    if given is None:
        mean = wide.mean((0, 1, 2))
        given = mean, jnp.square(wide - mean).mean((0, 1, 2))
    mean, variance = given
    scale = weights[f"gamma{stage}"] / jnp.sqrt(variance + EPSILON)
    return ((wide - mean) * scale + weights[f"beta{stage}"]).astype(hidden.dtype), given


def _glorot(key, shape):
    field = math.prod(shape[:2])
    limit = math.sqrt(6 / (field * (shape[2] + shape[3])))
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
