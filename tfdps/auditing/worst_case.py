"""Neighbouring private batches, and a public state, for which a step's release moves the most."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.config import mechanism_registry


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """One public state and two private batches that differ in one record.

    name: what the pair is.
    state: what the learner's `release` starts from.
    without: the parts of a draw without the record, a list of padded batches (images uint8
      [P,H,W,C], labels [P], weights [P]).
    having: the same with it.
    expected: (without, having): what the release of each should be, noise aside; arrays.
    sensitivity: the most that any neighbours' releases may differ by, noise aside, in L2.
    noise_multiplier: of the step that has this state: noise standard deviation over sensitivity.
    quiet_state: the same state with next to no noise, or None where the noise is no part of it.
    """

    name: str
    state: tuple
    without: list
    having: list
    expected: tuple
    sensitivity: float
    noise_multiplier: float
    quiet_state: tuple | None = None

    @property
    def difference(self):
        """What the record should add to the release, noise aside; an array of the release's shape."""
        return self.expected[1] - self.expected[0]

    @property
    def without_is_empty(self):
        """Whether the draw without the record has no record at all."""
        return not any(np.any(weights) for _, _, weights in self.without)

    @property
    def distance(self):
        """How far apart the two un-noised releases should be, in L2."""
        return float(np.linalg.norm(self.difference))

    @property
    def noise_stddev(self):
        """The standard deviation that the noise on every element should have."""
        return self.noise_multiplier * self.sensitivity


def padded_batch(images, labels, shape, padded_size):
    """Returns a padded batch of records: their images, their labels, weights of 1 and then 0."""
    units = [[record] for record in zip(images, labels, strict=True)]
    return batch_of_units(units, shape, padded_size, 1)


def batch_of_units(units, shape, padded_size, images_per_unit):
    """Returns a padded batch of persons, each a list of its records (image, label).

    Args:
      units: the persons, at most `padded_size`, each of at most `images_per_unit` records.
      shape: of an image.
      padded_size: how many persons the batch has room for.
      images_per_unit: how many places a person has.
    """
    places = padded_size, images_per_unit
    padded = np.zeros([*places, *shape], np.uint8)
    labels, weights = np.zeros(places, np.int32), np.zeros(places, np.float32)
    for number, unit in enumerate(units):
        for place, (image, label) in enumerate(unit):
            padded[number, place], labels[number, place] = image, label
            weights[number, place] = 1
    flat = padded.reshape(-1, *shape), labels.ravel(), weights.ravel()
    return tuple(map(tf.constant, flat))


def module_of(plan):
    """Returns the module that audits a plan's mechanism: `worst_neighbours` and what `shadow` names.

    Raises:
      UsageError: for a mechanism that no worst case is known of.
    """
    entry = mechanism_registry.entry(plan.mechanism)
    if entry.audit is None:
        known = [name for name in mechanism_registry.NAMES if mechanism_registry.entry(name).audit]
        raise checks.UsageError(
            f"no worst case is known for --mechanism={plan.mechanism}: audit a run of "
            f"{' or '.join(known)}, or leave the mechanism out of --audit_parts."
        )
    return mechanism_registry.load(entry.audit)
