"""A class-conditional denoiser trained by DP-SGD, with several noise levels a record inside one clip.

Sources: Dockhorn et al. 2022, arXiv 2210.09929 (noise multiplicity: the gradient of a record is the
mean over K noise levels, clipped once, so K costs no privacy); Karras et al. 2022, arXiv 2206.00364
(preconditioning of table 1, levels of equation 5, sampler). Averaged weights draw the images.

The network is a small one for CPU cores: patches of 2 x 2 pixels, convolutions on the half and the
quarter of the side, with the noise level and the class as scales and shifts of channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from field import dp_sgd, networks, race

_BATCH = 256
_LEVELS = 2  # K, noise levels a record
_CLIP_NORM = 0.1
_RATE = 2e-3
_FINE, _COARSE = 24, 48  # channels on the half and on the quarter of the side
_SIGMA_DATA = 0.5  # of pixels in [-1, 1]
_LOG_SIGMA = (-0.8, 1.2)  # mean and standard deviation of the levels trained on
_SAMPLED = (20.0, 0.02, 12)  # largest and smallest level, number of them
_FEATURES = 16  # of the noise level


def run(given):
    """Returns the Finish of a Race."""
    shape, batch = given.images.shape[1:], dp_sgd.batch_of(given, _BATCH)
    weights = initial(jax.random.key(given.seed), shape, given.num_classes)
    gradient = dp_sgd.NoisyGradient(loss, _CLIP_NORM)

    @jax.jit
    def update(weights, average, state, released, steps):
        taken = state[2]
        weights, state = networks.adam(
            weights, released, state, _RATE * networks.falling(taken, steps)
        )
        return weights, networks.averaged(average, weights, taken, steps), state

    def step(place, records, random, key, sigma, steps):
        levels = random.standard_normal((len(records[0]), _LEVELS)).astype(np.float32)
        noise = random.standard_normal((len(records[0]), _LEVELS, *shape), np.float32)
        records = (*records, np.exp(_LOG_SIGMA[0] + _LOG_SIGMA[1] * levels), noise)
        released = gradient(place[0], records, key, sigma=sigma, batch=batch)
        return update(*place, released, steps)

    start = weights, weights, networks.adam_state(weights)
    public, random = dp_sgd.random_records(given, batch), np.random.default_rng(given.seed)
    key = jax.random.key(given.seed + 1)
    plan = dp_sgd.planned(
        given,
        batch=batch,
        step=lambda: jax.block_until_ready(step(start, public, random, key, 1.0, 1)),
    )
    place = start
    for number in range(plan.steps):
        drawn = dp_sgd.drawn(random, plan, len(given.labels))
        records = given.images[drawn], given.labels[drawn]
        noise_key = jax.random.fold_in(key, number)
        place = step(place, records, random, noise_key, plan.sigma, plan.steps)
    return race.Finish(
        draw=functools.partial(drawn_images, place[1], shape, given.seed),
        numbers=plan.numbers() | {"levels": _LEVELS},
    )


def initial(key, image_shape, num_classes):
    """Returns the weights for images [H, W, C], sides that 4 divides."""
    channels, keys = image_shape[2], iter(jax.random.split(key, 16))

    def block(width):
        return {
            "conv": networks.conv_weights(next(keys), 3, width, width),
            "tell": networks.dense_weights(next(keys), _COARSE, 2 * width, 0.5),
        }

    return {
        "told": networks.dense_weights(next(keys), _FEATURES + num_classes, _COARSE),
        "in": networks.conv_weights(next(keys), 3, 4 * channels, _FINE),
        "down": networks.dense_weights(next(keys), 4 * _FINE, _COARSE),
        "coarse": [block(_COARSE), block(_COARSE)],
        "up": networks.dense_weights(next(keys), _COARSE, 4 * _FINE),
        "fine": [block(_FINE)],
        "out": networks.conv_weights(next(keys), 3, _FINE, 4 * channels, 0.1),
    }


def network(weights, x, log_sigma, labels):
    """Returns the raw network's output [n, H, W, C] of inputs x, levels [n] and labels [n]."""
    num_classes = weights["told"]["kernel"].shape[0] - _FEATURES
    waves = log_sigma[:, None] * (2.0 ** jnp.arange(_FEATURES // 2) / 4)
    told = [jnp.cos(waves), jnp.sin(waves), jax.nn.one_hot(labels, num_classes)]
    told = jax.nn.silu(networks.dense(weights["told"], jnp.concatenate(told, axis=1)))

    def block(weights, x):
        scale, shift = jnp.split(networks.dense(weights["tell"], told)[:, None, None], 2, axis=-1)
        inside = networks.group_norm(x) * (1 + scale) + shift
        return x + networks.conv(weights["conv"], jax.nn.silu(inside))

    fine = networks.conv(weights["in"], networks.to_patches(x, 2))
    coarse = networks.dense(weights["down"], networks.to_patches(fine, 2))
    for each in weights["coarse"]:
        coarse = block(each, coarse)
    fine = fine + networks.from_patches(networks.dense(weights["up"], coarse), 2)
    for each in weights["fine"]:
        fine = block(each, fine)
    return networks.from_patches(networks.conv(weights["out"], jax.nn.silu(fine)), 2)


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
