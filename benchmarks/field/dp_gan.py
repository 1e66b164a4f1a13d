"""A conditional GAN whose discriminator is trained by DP-SGD; the generator sees its weights alone.

Sources: Xie et al. 2018, arXiv 1802.06739; Bie, Kamath and Zhang, TMLR 2023, arXiv 2302.00936: several
discriminator steps a generator step and large batches are what makes it work. The discriminator's
gradient of a record is that of the record and of one generated image, clipped together. Conditioning
by projection (Miyato and Koyama 2018), the non-saturating loss.

Guarantee: that of `dp_sgd`. Generated images come from a pool of a fixed size, made without a look at
the draw (the generator normalises by its batch); each record gets one of them by lot, on its own.
"""

import jax
import jax.numpy as jnp
import numpy as np

from field import dp_sgd, generator, networks, race

_STEPS = 2000  # of the discriminator
_CLIP_NORM = 0.5
_DISCRIMINATOR_STEPS = 4  # of a generator step
_GENERATED = 200  # images of a generator step, and of a pool for the discriminator's
_RATES = {"discriminator": 2e-3, "generator": 1e-3}
_BETA1 = 0.5
_FILTERS, _HIDDEN = (16, 32), 32


def run(given):
    """Returns the Finish of a Race."""
    shape = given.images.shape[1:]
    keys = jax.random.split(jax.random.key(given.seed), 3)
    made = generator.initial(keys[0], shape, given.num_classes)
    judged = initial(keys[1], shape, given.num_classes)
    gradient = dp_sgd.NoisyGradient(loss, _CLIP_NORM)
    labels = np.arange(_GENERATED, dtype=np.int32) % given.num_classes

    @jax.jit
    def update(judged, released, state):
        return networks.adam(judged, released, state, _RATES["discriminator"], _BETA1)

    @jax.jit
    def generated(made, key):
        z = jax.random.normal(key, (_GENERATED, generator.LATENTS))
        return generator.images(made, z, labels, shape)

    @jax.jit
    def generator_step(made, average, state, judged, key, steps):
        def fooled(made):
            z = jax.random.normal(key, (_GENERATED, generator.LATENTS))
            pictures = generator.images(made, z, labels, shape)
            return jax.nn.softplus(-logits(judged, pictures, labels)).mean()

        made, state = networks.adam(
            made, jax.grad(fooled)(made), state, _RATES["generator"], _BETA1
        )
        return made, networks.averaged(average, made, state[2], steps), state

    def step(place, records, random, key, plan, *, number):
        """One of the discriminator, and after every few of them one of the generator."""
        made, average, made_state, judged, judged_state = place
        pool_key, noise_key, made_key = jax.random.split(key, 3)
        lots = random.integers(0, _GENERATED, len(records[0]))
        pool = np.asarray(generated(made, pool_key))
        records = (*records, pool[lots], labels[lots])
        released = gradient(judged, records, noise_key, plan)
        judged, judged_state = update(judged, released, judged_state)
        if number % _DISCRIMINATOR_STEPS == 0:
            of_generator = made, average, made_state
            made, average, made_state = generator_step(
                *of_generator, judged, made_key, plan.steps // _DISCRIMINATOR_STEPS
            )
        return made, average, made_state, judged, judged_state

    place = made, made, networks.adam_state(made), judged, networks.adam_state(judged)
    random = np.random.default_rng(given.seed)

    def timed(public):
        for number in range(_DISCRIMINATOR_STEPS):
            found = step(place, public, random, keys[2], dp_sgd.A_PLAN, number=number)
        jax.block_until_ready(found)

    plan = dp_sgd.planned(given, steps=_STEPS, step=timed, steps_in_it=_DISCRIMINATOR_STEPS)
    for number in range(plan.steps):
        drawn = dp_sgd.drawn(random, plan, len(given.labels))
        records = given.images[drawn], given.labels[drawn]
        key = jax.random.fold_in(keys[2], number)
        place = step(place, records, random, key, plan, number=number)
    return race.Finish(
        draw=generator.drawing(place[1], shape, given.seed),
        numbers=plan.numbers() | {"generator_steps": int(place[2][2])},
    )


def initial(key, image_shape, num_classes):
    """Returns the discriminator's weights for images [H, W, C], sides that 4 divides."""
    height, width, channels = image_shape
    first, second = _FILTERS
    keys = jax.random.split(key, 5)
    area = (height // 4) * (width // 4)
    return {
        "first": networks.conv_weights(keys[0], 4, channels, first),
        "second": networks.conv_weights(keys[1], 4, first, second),
        "hidden": networks.dense_weights(keys[2], area * second, _HIDDEN),
        "last": networks.dense_weights(keys[3], _HIDDEN, 1),
        "classes": 0.5 * jax.random.normal(keys[4], (num_classes, _HIDDEN)),
    }


def logits(weights, images, labels):
    """Returns how real images [n, H, W, C] in [-1, 1] look for their labels [n]: numbers [n]."""
    x = networks.leaky(networks.conv(weights["first"], images, side=4, stride=2))
    x = networks.leaky(networks.conv(weights["second"], x, side=4, stride=2))
    x = networks.leaky(networks.dense(weights["hidden"], x.reshape(len(x), -1)))
    return networks.dense(weights["last"], x)[:, 0] + (x * weights["classes"][labels]).sum(1)


def loss(weights, record):
    """Returns the loss on one record, uint8, and one generated image."""
    image, label, fake, fake_label = record
    both = jnp.stack([image.astype(jnp.float32) / 127.5 - 1, fake])
    real, made = logits(weights, both, jnp.stack([label, fake_label]))
    return jax.nn.softplus(-real) + jax.nn.softplus(made)
