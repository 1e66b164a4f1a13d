"""Layers, Adam and averaged weights in plain JAX: weights are dicts, layers functions.

Convolutions are matrix products of shifted copies: the gradient of each record of a batch is then one
batched product. XLA's own convolutions become slow grouped ones there.
"""

import math

import jax
import jax.numpy as jnp


def dense_weights(key, inputs, outputs, scale=1.0):
    """Returns the weights of a dense layer: Glorot's uniform ones, times `scale`."""
    limit = scale * math.sqrt(6 / (inputs + outputs))
    kernel = jax.random.uniform(key, (inputs, outputs), minval=-limit, maxval=limit)
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def dense(weights, x):
    """Returns x [..., inputs] @ kernel + bias."""
    return x @ weights["kernel"] + weights["bias"]


def conv_weights(key, side, inputs, outputs, scale=1.0):
    """Returns the weights of a convolution with a side x side kernel."""
    return dense_weights(key, side * side * inputs, outputs, scale)


def conv(weights, x, side=3, stride=1):
    """Returns the convolution of x [n, H, W, C], padding "same".

    H, W and the side of the kernel are multiples of the stride: with patches of the stride for pixels
    its stride is 1, and there are few copies to shift.
    """
    around = ((side - stride) // 2, (side - stride) // 2)
    x = to_patches(jnp.pad(x, ((0, 0), around, around, (0, 0))), stride)
    shifts = side // stride
    height, width = x.shape[1] - shifts + 1, x.shape[2] - shifts + 1
    shifted = [x[:, i : i + height, j : j + width] for i in range(shifts) for j in range(shifts)]
    return dense(weights, jnp.concatenate(shifted, axis=-1))


def to_patches(x, size):
    """Returns [n, H / size, W / size, size * size * C] of x [n, H, W, C]."""
    if size == 1:
        return x
    n, height, width, channels = x.shape
    x = x.reshape(n, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // size, width // size, -1)


def from_patches(x, size):
    """Returns the inverse of `to_patches`."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, size, size, channels // size**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, height * size, width * size, -1)


def layer_norm(x):
    """Returns x [..., C], each position's channels at mean 0 and variance 1."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


def two_layers(weights, x):
    """Returns two dense layers of x [..., C], with SiLU between them."""
    return dense(weights[1], jax.nn.silu(dense(weights[0], x)))


def batch_norm(weights, x):
    """Returns x [n, ..., C], each channel at the mean and deviation that the weights say."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    variance = jnp.square(x - mean).mean(axes)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * weights["gamma"] + weights["beta"]


def batch_norm_weights(channels):
    """Returns the weights of `batch_norm`."""
    return {"gamma": jnp.ones(channels), "beta": jnp.zeros(channels)}


def adam_state(weights):
    """Returns the state of `adam`: moments and the number of steps."""
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return zeros, zeros, jnp.zeros((), jnp.int32)


def adam(weights, gradients, state, rate, beta1=0.9, beta2=0.999):
    """Returns (weights, state) after a step of Adam (Kingma and Ba 2015, algorithm 1)."""
    first, second, taken = state
    taken = taken + 1
    first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradients)
    second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, gradients)
    rate = rate * jnp.sqrt(1 - beta2**taken) / (1 - beta1**taken)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-8), weights, first, second
    )
    return weights, (first, second, taken)


def averaged(average, weights, taken, steps, share=0.1):
    """Returns the moving average of the weights after step `taken` of `steps`.

    Its memory is `share` of the steps at the end, and shorter before: a tenth of those taken.
    """
    memory = jnp.maximum(1.0, share * jnp.minimum(taken, steps))
    return jax.tree.map(lambda a, w: a + (w - a) / memory, average, weights)


def falling(taken, steps, warm=0.05):
    """Returns the learning rate's factor: up to 1 over `warm` of the steps, down to 0 by a cosine."""
    progress = taken / steps
    return jnp.minimum(progress / warm + 1 / steps, 0.5 * (1 + jnp.cos(jnp.pi * progress)))


def averaging_adam(rate):
    """Returns the compiled (weights, average, state, gradients, steps) -> the first three after a step.

    rate: the learning rate, at its highest: `falling` says the rest.
    """

    @jax.jit
    def update(weights, average, state, gradients, steps):
        taken = state[2]
        weights, state = adam(weights, gradients, state, rate * falling(taken, steps))
        return weights, averaged(average, weights, taken, steps), state

    return update
