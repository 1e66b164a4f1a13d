"""What the denoiser learns from procedural images, before a private record: it costs no privacy."""

import logging

import keras
import numpy as np
import tensorflow as tf

from tfdps import console
from tfdps.data.procedural import families
from tfdps.generators import denoiser as denoisers
from tfdps.learners.refiner import pretrained

_logger = logging.getLogger(__name__)

BATCH_SIZE = 64
NUM_IMAGES = 10_000  # made up, each seen about ten times, with noise of its own each time
_CHUNK = 100  # made with one seed
_LEARNING_RATE = 2e-3  # the largest; it rises for the first steps and falls to 0 at the end
_RISING = 100


def prepare(denoiser, family, *, steps):
    """Gives a Denoiser what it learns from procedural images; returns None.

    Guarantee: reads no data.

    Args:
      denoiser, family, steps: as for `pretrain`.
    """
    settings = {"family": family, "steps": steps, "width": denoiser.width}
    if pretrained.is_kept(denoiser.image_shape, **settings):
        _logger.info(
            f"Refiner: its denoiser has learned from procedural images ({family}) before; no record "
            "was read."
        )
        pretrained.restore(denoiser)
        return
    _logger.info(
        f"Refiner: its denoiser learns from procedural images ({family}), for {steps} steps; no record "
        "is read."
    )
    pretrain(denoiser, family, steps=steps)


def pretrain(denoiser, family, *, steps, seed=0):
    """Trains a Denoiser on a family of procedural images; returns None.

    Guarantee: reads no data: what the denoiser learns is a function of public numbers.

    Args:
      denoiser: the Denoiser, with the weights to start from.
      family: one of families.FAMILIES.
      steps: of BATCH_SIZE images each, >= 0.
      seed: of images, noise and their order.
    """
    if not steps:
        return
    random = np.random.default_rng(seed)
    images = _made_up(family, denoiser.image_shape, seed)
    weights = [variable.value for variable in denoiser.weights]
    optimizer = keras.optimizers.Adam(beta_1=0.9, beta_2=0.99)
    optimizer.build(denoiser.weights)

    @tf.function(jit_compile=True)
    def step(images, noise, levels, labels):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_mean(denoiser.loss(images, noise, levels, labels))
        optimizer.apply(tape.gradient(loss, weights), denoiser.weights)

    # The class does not matter: these images have none.
    labels = tf.fill([BATCH_SIZE], denoiser.num_classes)
    with console.Bar(total=steps, unit="step", desc="denoiser", leave=False) as bar:
        for number in range(steps):
            chosen = images[random.integers(0, len(images), BATCH_SIZE)]
            noise = random.normal(size=chosen.shape).astype(np.float32)
            rising, falling = min(1, (number + 1) / _RISING), (1 - number / steps) ** 0.5
            optimizer.learning_rate = _LEARNING_RATE * rising * falling
            levels = denoisers.levels_of(random.random(BATCH_SIZE, np.float32))
            step(chosen.astype(np.float32) / 127.5 - 1, noise, levels, labels)
            bar.update()


def _made_up(family, image_shape, seed):
    """The procedural images, uint8 [n, H, W, C]."""
    found = np.empty([NUM_IMAGES, *image_shape], np.uint8)
    with console.Bar(total=len(found), unit="image", desc=family, leave=False) as bar:
        for first in range(0, len(found), _CHUNK):
            chunk = found[first : first + _CHUNK]
            settings = {"image_shape": image_shape, "seed": seed * NUM_IMAGES + first}
            chunk[:] = families.images(family, len(chunk), **settings)
            bar.update(len(chunk))
    return found
