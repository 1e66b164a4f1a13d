"""The product's joint step in JAX, for a stack of runs at a time, many steps a call."""

import functools
import typing

import generator
import jax
import jax.numpy as jnp
import transport


class Shapes(typing.NamedTuple):
    """What a compiled program depends on; the same for all runs of a stack."""

    num_images: int = 50  # n
    num_fresh: int = 10  # n'
    batch: int = 50  # B, the expected number of private records
    slots: int = 120  # most records of a draw
    widths: tuple = (256, 128, 64)
    latent_dim: int = 16
    temperatures: int = 13
    dtype: str = "float32"
    balanced: bool = False  # the generated labels are balanced, not drawn
    by_class: bool = False  # see transport.image_gradients


class Settings(typing.NamedTuple):
    """Numbers that may differ from run to run of a stack."""

    learning_rate: typing.Any = 1e-5
    clip_norm: typing.Any = 0.5
    noise_multiplier: typing.Any = 1.1
    weight_decay: typing.Any = 1e-5
    ema_decay: typing.Any = 0.999
    label_scale: typing.Any = 15.0
    l1_weight: typing.Any = 1.0
    regularization: typing.Any = 0.05
    beta1: typing.Any = 0.9
    beta2: typing.Any = 0.999
    anneal: typing.Any = 0.0  # 1: the learning rate falls to 0 by a cosine
    fresh_clip: typing.Any = 1.0  # the clip of the fresh images' gradient, over clip_norm


class State(typing.NamedTuple):
    """Of a run: weights, Adam's moments, averaged weights, steps taken."""

    weights: dict
    first: dict
    second: dict
    average: dict
    taken: jnp.ndarray


class Draw(typing.NamedTuple):
    """What a step is given: latents and noise, and a private batch as bytes with 0/1 weights."""

    z: jnp.ndarray
    labels: jnp.ndarray
    records: jnp.ndarray
    record_labels: jnp.ndarray
    record_weights: jnp.ndarray
    noise: jnp.ndarray  # standard normal, [n, d]


def initial_state(key, shapes):
    """Returns the State of a new run."""
    weights = generator.initial(key, widths=shapes.widths, latent_dim=shapes.latent_dim)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return State(weights, zeros, zeros, weights, jnp.zeros((), jnp.int32))


def releases(images, labels, draw, settings, shapes):
    """Returns (released dL/dX [n, d], clipped dL/dX_fresh [n', d], un-noised dL/dX)."""
    x, fresh = images[: shapes.num_images], images[shapes.num_images :]
    gradient, fresh_gradient = transport.image_gradients(
        x,
        labels[: shapes.num_images],
        fresh,
        _scaled(draw.records),
        draw.record_labels,
        draw.record_weights,
        transport.Transport(settings.l1_weight, settings.regularization, settings.label_scale),
        temperatures=shapes.temperatures,
        by_class=shapes.by_class,
    )
    clipped = _clipped(gradient, settings.clip_norm)
    # Two clipped gradients are at most 2 C apart: the noise is sigma times that.
    released = clipped + 2 * settings.clip_norm * settings.noise_multiplier * draw.noise
    return released, _clipped(fresh_gradient, settings.clip_norm * settings.fresh_clip), gradient


def _scaled(records):
    """Bytes as float32 in [-1, 1]; others are taken as they are."""
    return records.astype(jnp.float32) / 127.5 - 1 if records.dtype == jnp.uint8 else records


def _clipped(gradient, clip_norm):
    norm = jnp.sqrt(jnp.square(gradient).sum())
    finite = jnp.isfinite(norm)
    return jnp.where(finite, gradient * jnp.minimum(1, clip_norm / jnp.maximum(norm, 1e-30)), 0)


def step(state, draw, settings, progress, shapes):
    """Returns the State after one step of one run. progress: of the run, in [0, 1]."""

    def forward(weights):
        images, _ = generator.images(weights, draw.z, draw.labels, dtype=shapes.dtype)
        return images.reshape(images.shape[0], -1)

    images, backward = jax.vjp(forward, state.weights)
    released, fresh, _ = releases(images, draw.labels, draw, settings, shapes)
    [gradients] = backward(jnp.concatenate([released, fresh]))
    return updated(state, gradients, settings, progress)


def updated(state, gradients, settings, progress):
    """Adam with the L2 term, then the moving average of the weights, as in the product."""
    taken = state.taken + 1
    time = taken.astype(jnp.float32)
    beta1, beta2 = settings.beta1, settings.beta2
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    rate = settings.learning_rate * (1 - settings.anneal * (1 - cosine))
    rate *= jnp.sqrt(1 - beta2**time) / (1 - beta1**time)
    memory = jnp.minimum(settings.ema_decay, (1 + time) / (10 + time))
    gradients = jax.tree.map(lambda g, w: g + settings.weight_decay * w, gradients, state.weights)
    first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.first, gradients)
    second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.second, gradients)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), state.weights, first, second
    )
    average = jax.tree.map(lambda a, w: memory * a + (1 - memory) * w, state.average, weights)
    return State(weights, first, second, average, taken)


def drawn(key, runs, images, labels, shapes):
    """Returns a Draw for each of `runs` runs; every record takes part with probability B / N.

    The gaps between the records of a Poisson sample are geometric, so it is drawn without a number
    for each record. Slots beyond the sample have weight 0.
    """
    keys = jax.random.split(key, 4)
    count, fresh = shapes.num_images, shapes.num_fresh
    z = jax.random.uniform(keys[0], (runs, count + fresh, shapes.latent_dim))
    own = jax.random.randint(keys[1], (runs, count), 0, 10)
    if shapes.balanced:
        own = jnp.broadcast_to(jnp.arange(count) % 10, (runs, count))
    total = images.shape[0]
    chance = shapes.batch / total
    uniform = jax.random.uniform(keys[2], (runs, shapes.slots), minval=1e-7)
    gaps = 1 + jnp.floor(jnp.log(uniform) / jnp.log1p(-chance)).astype(jnp.int32)
    places = jnp.cumsum(gaps, axis=1) - 1
    taken = places < total
    places = jnp.where(taken, places, 0)
    noise = jax.random.normal(keys[3], (runs, count, images.shape[1]))
    return Draw(
        z,
        jnp.concatenate([own, own[:, :fresh]], axis=1),
        images[places],
        labels[places],
        taken.astype(jnp.float32),
        noise,
    )


@functools.partial(jax.jit, static_argnames=("steps", "shapes"), donate_argnums=0)
def train(states, settings, key, images, labels, start, end, *, steps, shapes):
    """Returns the stack of States after `steps` further steps.

    Args:
      states, settings: a State and a Settings with a leading axis of runs.
      key: of all that is random.
      images: uint8 [N, d]; labels: int32 [N].
      start, end: the number of steps before, and of the whole run (for the learning rate).
    """
    runs = states.taken.shape[0]
    stacked = jax.vmap(
        functools.partial(step, shapes=shapes), in_axes=(0, 0, 0, None), axis_size=runs
    )

    def one(states, number):
        draw = drawn(jax.random.fold_in(key, number), runs, images, labels, shapes)
        return stacked(states, draw, settings, number / end), None

    return jax.lax.scan(one, states, start + jnp.arange(steps))[0]
