"""DP-MERF: the mean embedding of the records, released once, and a generator that matches it.

Source: Harder, Adamczewski and Park, AISTATS 2021, arXiv 2002.11603: random Fourier features of the
image (Rahimi and Recht 2007) times the one-hot label, one Gaussian mechanism, then a generator trained
on the released vector alone. Beyond the paper the number of records of each class is released with it.

Guarantee, but for the random numbers: the features of an image have norm 1 (each frequency's cosine
and sine), a record adds them and its count, each times the root of its share, in the columns of its
class: a vector of norm 1. All that follows sees the sums with noise.
"""

import jax
import jax.numpy as jnp
import numpy as np

from field import dp_sgd, generator, networks, race

_FREQUENCIES = 2500  # each gives two features
_WIDTH_OF_KERNEL = 0.134  # squared, over the number of pixels, which lie in [0, 1]: 105 for MNIST
_PARTS = (0.98**0.5, 0.02**0.5)  # of a record's norm: features, count
_BATCH, _RATE = 200, 5e-3
_ENOUGH_STEPS = 3000


def run(given):
    """Returns the Finish of a Race."""
    plan = dp_sgd.plan_of(given, batch=len(given.labels), steps=1)
    shape = given.images.shape[1:]
    pixels = int(np.prod(shape))
    random = np.random.default_rng(given.seed)
    spread = (_WIDTH_OF_KERNEL * pixels) ** -0.5
    frequencies = (spread * random.standard_normal((pixels, _FREQUENCIES))).astype(np.float32)
    target = released(given, frequencies, plan.sigma, random)
    weights = generator.initial(jax.random.key(given.seed), shape, given.num_classes)
    labels = np.arange(_BATCH, dtype=np.int32) % given.num_classes

    def loss(weights, z):
        made = generator.images(weights, z, labels, shape)
        found = embedded(made.reshape(_BATCH, -1) / 2 + 0.5, frequencies)
        found = jax.nn.one_hot(labels, given.num_classes).T @ found
        return jnp.square(found * given.num_classes / _BATCH - target).sum()

    @jax.jit
    def step(place, key, steps):
        weights, state = place
        z = jax.random.normal(key, (_BATCH, generator.LATENTS))
        gradients = jax.grad(loss)(weights, z)
        rate = _RATE * networks.falling(state[2], steps)
        return networks.adam(weights, gradients, state, rate)

    key, place = jax.random.key(given.seed + 1), (weights, networks.adam_state(weights))
    seconds = dp_sgd.seconds_of(lambda: jax.block_until_ready(step(place, key, 1)))
    steps = int(min(_ENOUGH_STEPS, max(1, 60 * given.minutes / seconds)))
    for number in range(steps):
        place = step(place, jax.random.fold_in(key, number), steps)
    numbers = plan.numbers() | {"generator_steps": steps, "step_ms": round(1e3 * seconds, 1)}
    return race.Finish(draw=generator.drawing(place[0], shape, given.seed), numbers=numbers)


def embedded(pixels, frequencies):
    """Returns the features [n, 2 F], of norm 1, of pixels [n, d] in [0, 1]."""
    angles = pixels @ frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1) / len(frequencies.T) ** 0.5


def released(given, frequencies, sigma, random):
    """Returns the noisy mean features of each class, float32 [L, 2 F]."""
    sums = statistics(given, frequencies)
    sums += sigma * random.standard_normal(sums.shape)
    features, counts = sums[:, :-1] / _PARTS[0], sums[:, -1:] / _PARTS[1]
    return (features / np.maximum(counts, 1.0)).astype(np.float32)


def statistics(given, frequencies):
    """Returns the sums of the records' vectors, each of norm 1: float64 [L, 2 F + 1]."""
    images = given.images.reshape(len(given.labels), -1)

    @jax.jit
    def summed(pixels, labels):
        columns = jax.nn.one_hot(labels, given.num_classes)  # of label -1: zeros
        return columns.T @ embedded(pixels / jnp.float32(255), frequencies)

    size, sums = 1000, 0.0
    for start in range(0, len(images), size):
        part, labels = images[start : start + size], given.labels[start : start + size]
        missing = size - len(labels)  # one compiled shape
        part = np.pad(part, ((0, missing), (0, 0)))
        labels = np.pad(labels, (0, missing), constant_values=-1)
        sums = sums + np.asarray(summed(part, labels), np.float64)
    counts = np.bincount(given.labels, minlength=given.num_classes)
    return np.concatenate([_PARTS[0] * sums, _PARTS[1] * counts[:, None]], axis=1)
