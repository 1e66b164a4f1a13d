"""The paper's three classifiers in JAX, for a stack of generators at a time.

Shortened against the product's protocol: no early stopping (the last weights count), a learning rate
that falls to 0 by a cosine in all three, and fewer epochs (see `Recipe`).
"""

import functools
import typing

import jax
import jax.numpy as jnp


class Recipe(typing.NamedTuple):
    """How a classifier is trained."""

    name: str = "cnn"
    learning_rate: float = 2e-3
    batch: int = 256
    epochs: int = 6


QUICK = Recipe()
FULL = (
    Recipe("logreg", 1e-3, 512, 30),
    Recipe("mlp", 1e-3, 512, 30),
    Recipe("cnn", 2e-3, 512, 18),
)
_HIDDEN = {"logreg": (784, 10), "mlp": (784, 100, 10)}


@functools.partial(jax.jit, static_argnames=("recipe",))
def trained(key, images, labels, *, recipe):
    """Returns the stack of weights: images uint8 [K, n, 784], labels int32 [n]."""
    count, runs = labels.shape[0], images.shape[0]
    updates = recipe.epochs * (count // recipe.batch)
    weights = jax.vmap(functools.partial(_initial, name=recipe.name))(jax.random.split(key, runs))
    zeros = jax.tree.map(jnp.zeros_like, weights)

    def loss(weights, x, y, key):
        logits = _logits(weights, x, recipe.name, key)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()

    slopes = jax.vmap(jax.grad(loss), in_axes=(0, 0, None, 0))

    def update(carry, number):
        weights, first, second = carry
        own = jax.random.fold_in(key, number)
        chosen = jax.random.randint(own, (recipe.batch,), 0, count)
        x = _scaled(images[:, chosen])
        gradients = slopes(weights, x, labels[chosen], jax.random.split(own, runs))
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        time = number + 1.0
        rate = recipe.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * number / updates))
        rate *= jnp.sqrt(1 - 0.999**time) / (1 - 0.9**time)
        weights = jax.tree.map(
            lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, first, second
        )
        return (weights, first, second), None

    return jax.lax.scan(update, (weights, zeros, zeros), jnp.arange(updates))[0][0]


@functools.partial(jax.jit, static_argnames=("name",))
def accuracies(weights, images, labels, *, name):
    """Returns the accuracy of each classifier of the stack on images uint8 [m, 784], m of 1000s."""

    def hits(part):
        x, y = part
        logits = jax.vmap(lambda w: _logits(w, _scaled(x), name, None))(weights)
        return (logits.argmax(-1) == y).sum(1)

    parts = images.reshape(-1, 1000, images.shape[1]), labels.reshape(-1, 1000)
    return jax.lax.map(hits, parts).sum(0) / labels.shape[0]


def _scaled(images):
    return images.astype(jnp.float32) / 127.5 - 1


def _initial(key, *, name):
    shapes = [(9, 32), (288, 64), (576, 128), (1152, 128), (128, 10)]
    if name != "cnn":
        sizes = _HIDDEN[name]
        shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
    fans = [(a, 9 * b if name == "cnn" and i < 3 else b) for i, (a, b) in enumerate(shapes)]
    keys = jax.random.split(key, len(shapes))
    return [
        (jax.random.uniform(k, shape, minval=-1) * (6 / sum(fan)) ** 0.5, jnp.zeros(shape[1]))
        for k, shape, fan in zip(keys, shapes, fans, strict=True)
    ]


def _logits(weights, x, name, key):
    """key: of the dropout; None: there is none."""
    if name != "cnn":
        for place, (matrix, bias) in enumerate(weights):
            x = (jax.nn.relu(x) if place else x) @ matrix + bias
        return x
    x = x.reshape(-1, 28, 28, 1)
    keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
    for (matrix, bias), subkey in zip(weights[:2], keys, strict=False):
        x = jax.nn.relu(_pooled(_patches(x) @ matrix + bias))
        x = _dropped(x, subkey, (x.shape[0], 1, 1, x.shape[3]))
    matrix, bias = weights[2]
    x = jax.nn.relu(_patches(x) @ matrix + bias).reshape(x.shape[0], -1)
    matrix, bias = weights[3]
    x = jax.nn.relu(x @ matrix + bias)
    x = _dropped(x, keys[2], x.shape)
    matrix, bias = weights[4]
    return x @ matrix + bias


def _patches(x):
    """[n, h - 2, w - 2, 9 c]: the 3x3 surroundings of every pixel that has them."""
    height, width = x.shape[1] - 2, x.shape[2] - 2
    return jnp.concatenate(
        [x[:, a : a + height, b : b + width] for a in range(3) for b in range(3)], axis=-1
    )


def _pooled(x):
    count, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(count, height // 2, 2, width // 2, 2, channels).max((2, 4))


def _dropped(x, key, shape):
    if key is None:
        return x
    return jnp.where(jax.random.bernoulli(key, 0.5, shape), 2 * x, 0)
