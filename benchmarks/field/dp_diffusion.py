"""A class-conditional denoiser trained by DP-SGD, with several noise levels a record inside one clip.

Sources: Dockhorn et al. 2022, arXiv 2210.09929 (noise multiplicity: the gradient of a record is the
mean over K noise levels, clipped once, so K costs no privacy); Karras et al. 2022, arXiv 2206.00364
(preconditioning of table 1, levels of equation 5, sampler). Averaged weights draw the images.

The network is a small one for CPU cores, in place of the papers' U-Nets: an MLP-Mixer (Tolstikhin et
al. 2021, arXiv 2105.01601) on patches of 4 x 4 pixels, a third of the time of convolutions. The noise
level and the class scale and shift its channels; each class has a place embedding of its own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from field import dp_sgd, networks, race

_STEPS = 1000
_LEVELS = 2  # K, noise levels a record
_CLIP_NORM = 0.1
_RATE = 3e-3
_PATCH, _CHANNELS, _HIDDEN, _BLOCKS = 4, 64, (64, 128), 2
_SIGMA_DATA = 0.5  # of pixels in [-1, 1]
_LOG_SIGMA = (-0.8, 1.2)  # mean and standard deviation of the levels trained on
_SAMPLED = (20.0, 0.02, 12)  # largest and smallest level, number of them
_FEATURES = 16  # of the noise level


def run(given):
    """Returns the Finish of a Race."""
    shape = given.images.shape[1:]
    weights = initial(jax.random.key(given.seed), shape, given.num_classes)
    gradient, update = dp_sgd.NoisyGradient(loss, _CLIP_NORM), networks.averaging_adam(_RATE)

    def step(place, records, random, key, plan):
        levels = random.standard_normal((len(records[0]), _LEVELS)).astype(np.float32)
        noise = random.standard_normal((len(records[0]), _LEVELS, *shape), np.float32)
        records = (*records, np.exp(_LOG_SIGMA[0] + _LOG_SIGMA[1] * levels), noise)
        return update(*place, gradient(place[0], records, key, plan), plan.steps)

    place, key = (weights, weights, networks.adam_state(weights)), jax.random.key(given.seed + 1)
    random = np.random.default_rng(given.seed)
    plan = dp_sgd.planned(
        given,
        steps=_STEPS,
        step=lambda public: jax.block_until_ready(step(place, public, random, key, dp_sgd.A_PLAN)),
    )
    for number in range(plan.steps):
        drawn = dp_sgd.drawn(random, plan, len(given.labels))
        records = given.images[drawn], given.labels[drawn]
        place = step(place, records, random, jax.random.fold_in(key, number), plan)
    return race.Finish(
        draw=functools.partial(drawn_images, place[1], shape, given.seed),
        numbers=plan.numbers() | {"levels": _LEVELS},
    )


def initial(key, image_shape, num_classes):
    """Returns the weights for images [H, W, C], sides that the patch's side divides."""
    height, width, channels = image_shape
    places, pixels = (height // _PATCH) * (width // _PATCH), _PATCH**2 * channels
    keys = iter(jax.random.split(key, 4 + 5 * _BLOCKS))

    def pair(inputs, hidden):
        first = networks.dense_weights(next(keys), inputs, hidden)
        return [first, networks.dense_weights(next(keys), hidden, inputs, 0.5)]

    return {
        "told": networks.dense_weights(next(keys), _FEATURES + num_classes, _CHANNELS),
        "in": networks.dense_weights(next(keys), pixels, _CHANNELS),
        "places": 0.02 * jax.random.normal(next(keys), (num_classes, places, _CHANNELS)),
        "blocks": [
            {
                "places": pair(places, _HIDDEN[0]),
                "channels": pair(_CHANNELS, _HIDDEN[1]),
                "tell": networks.dense_weights(next(keys), _CHANNELS, 4 * _CHANNELS, 0.5),
            }
            for _ in range(_BLOCKS)
        ],
        "out": networks.dense_weights(next(keys), _CHANNELS, pixels, 0.1),
    }


def network(weights, x, log_sigma, labels):
    """Returns the raw network's output [n, H, W, C] of inputs x, levels [n] and labels [n]."""
    waves = log_sigma[:, None] * (2.0 ** jnp.arange(_FEATURES // 2) / 4)
    classes = jax.nn.one_hot(labels, len(weights["places"]))
    told = jnp.concatenate([jnp.cos(waves), jnp.sin(waves), classes], axis=1)
    told = jax.nn.silu(networks.dense(weights["told"], told))
    patches = networks.to_patches(x, _PATCH)
    n, rows, columns, pixels = patches.shape
    tokens = networks.dense(weights["in"], patches.reshape(n, rows * columns, pixels))
    tokens += weights["places"][labels]
    for block in weights["blocks"]:
        told_here = jnp.split(networks.dense(block["tell"], told)[:, None], 4, axis=-1)
        inside = networks.layer_norm(tokens) * (1 + told_here[0]) + told_here[1]
        mixed = networks.two_layers(block["places"], inside.swapaxes(1, 2))
        tokens += mixed.swapaxes(1, 2)
        inside = networks.layer_norm(tokens) * (1 + told_here[2]) + told_here[3]
        tokens += networks.two_layers(block["channels"], inside)
    out = networks.dense(weights["out"], networks.layer_norm(tokens))
    return networks.from_patches(out.reshape(n, rows, columns, pixels), _PATCH)


def scales(sigma):
    """Returns c_skip, c_out, c_in of levels [n] (Karras et al. 2022, table 1), as [n, 1, 1, 1]."""
    sigma = sigma[:, None, None, None]
    total = jnp.sqrt(sigma**2 + _SIGMA_DATA**2)
    return _SIGMA_DATA**2 / total**2, sigma * _SIGMA_DATA / total, 1 / total


def denoised(weights, noisy, sigma, labels):
    """Returns what the denoiser takes images [n, H, W, C] with noise of levels [n] for."""
    skip, out, scale = scales(sigma)
    return skip * noisy + out * network(weights, scale * noisy, jnp.log(sigma), labels)


def loss(weights, record):
    """Returns the mean over the levels of one record of the weighted squared error."""
    image, label, sigma, noise = record
    clean = jnp.broadcast_to(image.astype(jnp.float32) / 127.5 - 1, noise.shape)
    noisy = clean + sigma[:, None, None, None] * noise
    found = denoised(weights, noisy, sigma, jnp.broadcast_to(label, sigma.shape))
    return jnp.square((found - clean) / scales(sigma)[1]).mean()


def drawn_images(weights, image_shape, seed, labels):
    """Returns images uint8 [n, H, W, C]: the stochastic sampler of Song et al. 2021 in few steps.

    A step goes to the level that is left of the next after a part of it was replaced by fresh noise
    (ancestral sampling); the last step takes what the denoiser sees.
    """
    largest, smallest, count = _SAMPLED
    ramp = np.linspace(largest ** (1 / 7), smallest ** (1 / 7), count) ** 7  # equation 5, rho = 7
    levels = jnp.asarray(np.append(ramp, 0.0), jnp.float32)

    @jax.jit
    def sampled(key, labels):
        def step(x, now):
            number, key = now
            sigma, following = levels[number], levels[number + 1]
            clean = denoised(weights, x, jnp.full(len(labels), sigma), labels)
            fresh = following * jnp.sqrt(jnp.maximum(1 - (following / sigma) ** 2, 0))
            kept = jnp.sqrt(jnp.maximum(following**2 - fresh**2, 0))
            direction = (x - clean) / sigma
            return clean + kept * direction + fresh * jax.random.normal(key, x.shape), None

        keys = jax.random.split(key, count + 1)
        x = largest * jax.random.normal(keys[0], (len(labels), *image_shape))
        return jax.lax.scan(step, x, (jnp.arange(count), keys[1:]))[0]

    key = jax.random.key(seed + 2)
    return race.by_parts(
        lambda part, number: race.to_bytes(sampled(jax.random.fold_in(key, number), part)), labels
    )
