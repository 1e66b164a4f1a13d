"""The audit of the joint mechanism: its worst neighbours, its steps watched, its canaries."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from tfdps.auditing import shadow
from tfdps.auditing.worst_case import Neighbours, padded_batch

_LEVELS = np.linspace(-1, 1, 5)  # grey levels tried for the generated images
_ENOUGH_NUMBERS = 200_000  # of noise, of steps all alike
_FEWEST_STEPS, _MOST_STEPS = 20, 400
_REPLAYED_STEPS = 5


def worst_neighbours(model, plan, padded_size):
    """Returns two Neighbours: from none to one record, and to two.

    All generated images are one grey, all fresh ones another. The record is black or white, and turns
    the gradient around: to the fresh images' pull in an empty batch, or to the pull of one record of
    the other colour. Where both gradients reach the clip they are then 2 C apart, the most that the
    claim allows; the greys that come closest are found by trying.

    Args:
      model: the DPSinkhorn of the run.
      plan: its PrivacyPlan.
      padded_size: P, the static size of its batches.
    """
    learner = model.learner
    shape = learner.generator.output_shape[1:]

    def plain(*greys):
        images = [np.full(shape, grey, np.uint8) for grey in greys]
        return [padded_batch(images, [0] * len(images), shape, padded_size)]

    return [
        _furthest(learner, plan, "an empty draw, and one record", plain(), plain(255)),
        _furthest(learner, plan, "one record, and a second one", plain(0), plain(0, 255)),
    ]


def _furthest(learner, plan, name, without, having):
    """The Neighbours of these batches in the state that sets their clipped gradients furthest apart."""
    best = None
    for grey, fresh in itertools.product(_LEVELS, _LEVELS):
        state = _plain_images(learner, grey, fresh)
        expected = tuple(
            clipped_gradient(learner, state, batch).astype(np.float32)
            for [batch] in (without, having)
        )
        # Two points of a ball of radius C, by the theorem.
        sensitivity = 2 * plan.clip_norm
        pair = Neighbours(
            name, state, without, having, expected, sensitivity, plan.noise_multiplier
        )
        if best is None or pair.distance > best.distance:
            best = pair
        if best.distance > 1.999 * plan.clip_norm:
            break  # there is nothing further
    return best


def _plain_images(learner, grey, fresh):
    """The joint learner's state with generated images of one grey, and fresh ones of another."""
    num_images, num_fresh = learner.config.batch_size, learner.config.num_fresh
    images = np.full(
        [num_images + num_fresh, *learner.generator.output_shape[1:]], grey, np.float32
    )
    images[num_images:] = fresh
    return images, np.zeros(len(images), np.int32)


class _Images(keras.Model):
    """A generator whose weights are its images: their gradient is the release itself."""

    def __init__(self, images):
        super().__init__()
        self.images = self.add_weight(shape=images.shape, initializer="zeros", name="images")
        self.images.assign(images)

    @property
    def output_shape(self):
        """As of a generator with inputs."""
        return (None, *self.images.shape[1:])

    def call(self, inputs, training=False):
        return tf.identity(self.images.value)


def steps_of(build, plan, dataset):
    """Returns the one Step that all steps of a run together are: of one state, of grey images."""
    model = build(plan)
    learner = model.learner
    shape = learner.generator.output_shape[1:]
    z, labels = learner.latents()
    images = np.full([len(z), *shape], 0.5, np.float32)
    num_images = learner.config.batch_size
    size = num_images * int(np.prod(shape))
    steps = int(np.clip(_ENOUGH_NUMBERS // size, _FEWEST_STEPS, _MOST_STEPS))
    if plan.noise_multiplier == shadow.QUIET:  # each number of a step is right, or not
        steps = _FEWEST_STEPS
    learner.generator, learner.latents = _Images(images), lambda: (z, labels)
    draws = shadow.draws_of(dataset, learner, plan.stages[0])
    released = tf.Variable(tf.zeros([steps, num_images, *shape]), trainable=False)
    rows = draws.padded_size * draws.images_per_unit
    batches = [
        tf.Variable(tf.zeros([steps, rows, *of_record], dtype), trainable=False)
        for of_record, dtype in ((shape, tf.uint8), ((), tf.int32), ((), tf.float32))
    ]
    taken = tf.Variable(0, trainable=False)
    honest = learner.noisy_step

    def record_batch(batch, z, labels):
        for kept, values in zip(batches, batch, strict=False):  # but for the noise
            kept.scatter_nd_update([[taken]], values[None])
        return honest(batch, z, labels)

    def record_gradients(gradients):
        released.scatter_nd_update([[taken]], gradients[0][None, :num_images])
        taken.assign_add(1)

    learner.noisy_step, learner._update_weights = record_batch, record_gradients
    shadow.take(model, plan, dataset, steps)
    # How a transport is solved follows the order that its records come in, a little.
    expected = [
        clipped_gradient(learner, (images, labels), [kept[i] for kept in batches])
        for i in range(steps)
    ]
    residual = (released.numpy() - np.stack(expected)).reshape(steps, -1)
    sensitivity, rounding = 2 * plan.clip_norm, plan.clip_norm / 2**20
    stddev = plan.noise_multiplier * sensitivity
    return [shadow.Step(f"{steps} steps", residual, stddev, sensitivity, rounding)]


def clipped_gradient(learner, state, batch):
    """What the claim says of an un-noised joint release: by the auditor's own clip."""
    gradient = learner.image_gradients(*state, *batch)[1].numpy().astype(np.float64)
    return gradient * min(
        1.0, learner.config.clip_norm / max(float(np.linalg.norm(gradient)), 1e-30)
    )


def differing_replays(build, plan, *datasets):
    """Returns what is not the same where other records give the same releases: see `shadow`."""
    models = []
    for records in datasets:
        keras.utils.set_random_seed(0)
        model = build(plan)
        shape = [model.learner.config.batch_size, *model.generator.output_shape[1:]]
        fixed = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        _answer_always(model.mechanism, fixed)
        shadow.take(model, plan, records, _REPLAYED_STEPS)
        models.append(model)
    tf.random.set_seed(None)
    return shadow.differing_weights(*models)


def _answer_always(mechanism, fixed):
    """Has a mechanism release one value, whatever it is given."""
    honest = mechanism.release

    def release(gradient, noise):
        honest(gradient, noise)  # the optimizer insists on having been asked
        return tf.constant(fixed)

    mechanism.release = release


def canary_scores(model, plan, planted):
    """Returns float [canaries]: how far the releases moved the images of its class towards each."""
    learner, num_classes = model.learner, planted.dataset.spec.num_classes
    shape = learner.generator.output_shape[1:]
    total = tf.Variable(tf.zeros([num_classes, *shape], tf.float64), trainable=False)
    honest = learner.noisy_step

    def record(batch, z, labels):
        loss, released = honest(batch, z, labels)
        of_classes = tf.math.unsorted_segment_sum(
            tf.cast(released, tf.float64), labels[: learner.config.batch_size], num_classes
        )
        total.assign_add(of_classes)
        return loss, released

    learner.noisy_step = record
    shadow.take(model, plan, planted.dataset, plan.steps)
    # The release is a gradient: images move against it.
    pull = -total.numpy().reshape(num_classes, -1)
    of_units = planted.canaries.reshape(len(planted.canaries), -1, pull.shape[1]) / 127.5 - 1
    canaries = of_units.mean(axis=1)  # of a person's images
    return np.einsum("ij,ij->i", canaries, pull[planted.labels])
