"""A classifier trained on the records by DP-SGD: accuracy alone, there are no images.

The network is the small convolutional one with tanh of Papernot et al., AAAI 2021, arXiv 2007.14191,
table 1, without its poolings; averaged weights answer (De et al. 2022, arXiv 2204.13650).
"""

import jax
import jax.numpy as jnp
import numpy as np

from field import dp_sgd, networks, race

_STEPS = 1000
_CLIP_NORM = 0.1  # nearly every gradient is longer: what is learned from is their direction
_RATE = 2e-3


def run(given):
    """Returns the Finish of a Race: `predict` alone."""
    weights = initial(jax.random.key(given.seed), given.images.shape[1:], given.num_classes)
    gradient, update = dp_sgd.NoisyGradient(loss, _CLIP_NORM), networks.averaging_adam(_RATE)

    def step(place, records, key, plan):
        released = gradient(place[0], records, key, plan)
        return update(*place, released, plan.steps)

    place, key = (weights, weights, networks.adam_state(weights)), jax.random.key(given.seed + 1)
    plan = dp_sgd.planned(
        given,
        steps=_STEPS,
        step=lambda public: jax.block_until_ready(step(place, public, key, dp_sgd.A_PLAN)),
    )
    random = np.random.default_rng(given.seed)
    for number in range(plan.steps):
        drawn = dp_sgd.drawn(random, plan, len(given.labels))
        records = given.images[drawn], given.labels[drawn]
        place = step(place, records, jax.random.fold_in(key, number), plan)
    answers = jax.jit(lambda images: logits(place[1], images).argmax(1))
    return race.Finish(
        predict=lambda images: race.by_parts(lambda part, _: np.asarray(answers(part)), images),
        numbers=plan.numbers(),
    )


def initial(key, image_shape, num_classes):
    """Returns the weights for images [H, W, C], sides that 4 divides."""
    height, width, channels = image_shape
    keys = jax.random.split(key, 4)
    return {
        "first": networks.conv_weights(keys[0], 6, channels, 16),
        "second": networks.conv_weights(keys[1], 4, 16, 32),
        "hidden": networks.dense_weights(keys[2], (height // 4) * (width // 4) * 32, 32),
        "last": networks.dense_weights(keys[3], 32, num_classes),
    }


def logits(weights, images):
    """Returns [n, L] of images uint8 [n, H, W, C]."""
    x = images.astype(jnp.float32) / 127.5 - 1
    x = jnp.tanh(networks.conv(weights["first"], x, side=6, stride=2))
    x = jnp.tanh(networks.conv(weights["second"], x, side=4, stride=2))
    x = jnp.tanh(networks.dense(weights["hidden"], x.reshape(len(x), -1)))
    return networks.dense(weights["last"], x)


def loss(weights, record):
    """Returns the cross-entropy of one record."""
    image, label = record
    return -jax.nn.log_softmax(logits(weights, image[None])[0])[label]
