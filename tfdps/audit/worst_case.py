"""Neighbouring private batches, and a public state, for which a step's release moves the most."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from tfdps import checks

_LEVELS = np.linspace(-1, 1, 5)  # grey levels tried for the generated images


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """One state and two private batches that differ in one record.

    name: what the pair is.
    images: float32 [n + n', H, W, C], the generated images of the state, the fresh ones last.
    labels: int32 [n + n'].
    without: the padded batch (images uint8 [P,H,W,C], labels [P], weights [P]) lacking the record.
    having: the same with it.
    difference: float32 [n, H, W, C], what the record should add to the release, noise aside.
    sensitivity: the most that any neighbours' releases may differ by, noise aside, in L2.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    without: tuple
    having: tuple
    difference: np.ndarray
    sensitivity: float

    @property
    def distance(self):
        """How far apart the two un-noised releases should be, in L2."""
        return float(np.linalg.norm(self.difference))


def worst_neighbours(model, padded_size):
    """Returns the Neighbours to audit the joint mechanism with: from none to one record, and to two.

    All generated images are one grey, all fresh ones another. The record is black or white, and
    turns the gradient around: to the fresh images' pull in an empty batch, or to the pull of one
    record of the other colour. Where both gradients reach the clip they are then 2 C apart, the
    most that the claim allows; the greys that come closest are found by trying.

    Args:
      model: the DPSinkhorn of the run.
      padded_size: P, the static size of its batches.

    Raises:
      UsageError: for a mechanism that no worst case is known of.
    """
    if model.mechanism.name != "joint":
        raise checks.UsageError(
            f"no worst case is known for --mechanism={model.mechanism.name}: audit a joint run, or "
            "leave the mechanism out of --audit_parts."
        )
    shape = tuple(model.generator.output_shape[1:])
    empty, white = _batch([], shape, padded_size), _batch([255], shape, padded_size)
    black, both = _batch([0], shape, padded_size), _batch([0, 255], shape, padded_size)
    return [
        _furthest(model, "an empty draw, and one record", empty, white),
        _furthest(model, "one record, and a second one", black, both),
    ]


def _furthest(model, name, without, having):
    """The Neighbours of these batches in the state that sets their clipped gradients furthest apart."""
    best = None
    for grey, fresh in itertools.product(_LEVELS, _LEVELS):
        pair = _neighbours(model, name, grey, fresh, without, having)
        if best is None or pair.distance > best.distance:
            best = pair
        if best.distance > 1.999 * model.config.clip_norm:
            break  # there is nothing further
    return best


def _neighbours(model, name, grey, fresh, without, having):
    num_images, num_fresh = model.config.batch_size, model.config.num_fresh
    shape = model.generator.output_shape[1:]
    images = np.full([num_images + num_fresh, *shape], grey, np.float32)
    images[num_images:] = fresh
    labels = np.zeros(len(images), np.int32)
    clipped = [
        _clipped(model._image_gradients(images, labels, *batch)[1].numpy(), model.config.clip_norm)
        for batch in (without, having)
    ]
    sensitivity = 2 * model.config.clip_norm  # two points of a ball of radius C, by the theorem
    return Neighbours(name, images, labels, without, having, clipped[1] - clipped[0], sensitivity)


def _clipped(gradient, clip_norm):
    """What the claim says of the un-noised release: the auditor's own clip, not the mechanism's."""
    return gradient * min(1.0, clip_norm / max(float(np.linalg.norm(gradient)), 1e-30))


def _batch(greys, shape, padded_size):
    """A padded batch of plain images of class 0, one for each grey level given."""
    images = np.zeros([padded_size, *shape], np.uint8)
    images[: len(greys)] = np.reshape(greys, [-1, 1, 1, 1])
    weights = (np.arange(padded_size) < len(greys)).astype(np.float32)
    return tf.constant(images), tf.zeros([padded_size], tf.int32), tf.constant(weights)
