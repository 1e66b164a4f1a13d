"""The image generator of dp_merf: latents and a class in, an image out.

Two convolutions on a map of a quarter of the side, as in the generator of Harder et al. 2021 (table of
appendix D), with batch normalisation by the batch at hand: batches hold the classes in turn.
"""

import jax
import jax.numpy as jnp
import numpy as np

from field import networks, race

LATENTS = 32
_HIDDEN, _WIDE, _NARROW = 256, 32, 16


def initial(key, image_shape, num_classes):
    """Returns the weights for images [H, W, C], sides that 4 divides."""
    height, width, channels = image_shape
    area = (height // 4) * (width // 4)
    keys = jax.random.split(key, 4)
    return {
        "first": networks.dense_weights(keys[0], LATENTS + num_classes, _HIDDEN),
        "first_norm": networks.batch_norm_weights(_HIDDEN),
        "second": networks.dense_weights(keys[1], _HIDDEN, area * _WIDE),
        "second_norm": networks.batch_norm_weights(_WIDE),
        "third": networks.conv_weights(keys[2], 3, _WIDE, 4 * _NARROW),
        "third_norm": networks.batch_norm_weights(_NARROW),
        "last": networks.conv_weights(keys[3], 5, _NARROW, 4 * channels),
    }


def images(weights, z, labels, image_shape):
    """Returns images [n, H, W, C] in [-1, 1] of latents z [n, LATENTS] and labels [n]."""
    height, width, _ = image_shape
    num_classes = weights["first"]["kernel"].shape[0] - LATENTS
    # As long as the latents are: of length 1 a class would be a thirtieth of what the layer sees.
    classes = LATENTS**0.5 * jax.nn.one_hot(labels, num_classes)
    x = jnp.concatenate([z, classes], axis=1)
    x = networks.batch_norm(weights["first_norm"], networks.dense(weights["first"], x))
    x = networks.dense(weights["second"], jax.nn.relu(x))
    x = x.reshape(len(x), height // 4, width // 4, _WIDE)
    x = jax.nn.relu(networks.batch_norm(weights["second_norm"], x))
    x = networks.from_patches(networks.conv(weights["third"], x), 2)
    x = jax.nn.relu(networks.batch_norm(weights["third_norm"], x))
    return jnp.tanh(networks.from_patches(networks.conv(weights["last"], x, side=5), 2))


def drawing(weights, image_shape, seed):
    """Returns a function of labels [n]: images uint8 [n, H, W, C]; another each time it is called."""
    made = jax.jit(lambda z, labels: images(weights, z, labels, image_shape))

    def part(labels, number):
        z = np.random.default_rng([seed, number]).standard_normal((len(labels), LATENTS))
        return race.to_bytes(made(z.astype(np.float32), labels))

    return lambda labels: race.by_parts(part, labels)
