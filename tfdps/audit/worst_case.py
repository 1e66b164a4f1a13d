"""Neighbouring private batches, and a public state, for which a step's release moves the most."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.audit import contributions

_LEVELS = np.linspace(-1, 1, 5)  # grey levels tried for the generated images

# A per-record release is the same whatever the batch is padded to (`test_padding_changes_nothing` of
# tests/test_per_record.py), so its audit need not pad a handful of records to all N.
_PER_RECORD_ROWS = 8
_QUIET = 1e-9  # a noise multiplier: the noise's norm is then below 1e-5 C, with 10^8 numbers even


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """One public state and two private batches that differ in one record.

    name: what the pair is.
    state: what the learner's `release` starts from.
    without: the padded batch (images uint8 [P,H,W,C], labels [P], weights [P]) lacking the record.
    having: the same with it.
    expected: (without, having): what the release of each should be, noise aside; arrays.
    sensitivity: the most that any neighbours' releases may differ by, noise aside, in L2.
    noise_multiplier: of the step that has this state: noise standard deviation over sensitivity.
    quiet_state: the same state with next to no noise, or None where the noise is no part of it.
    """

    name: str
    state: tuple
    without: tuple
    having: tuple
    expected: tuple
    sensitivity: float
    noise_multiplier: float
    quiet_state: tuple | None = None

    @property
    def difference(self):
        """What the record should add to the release, noise aside; an array of the release's shape."""
        return self.expected[1] - self.expected[0]

    @property
    def distance(self):
        """How far apart the two un-noised releases should be, in L2."""
        return float(np.linalg.norm(self.difference))

    @property
    def noise_stddev(self):
        """The standard deviation that the noise on every element should have."""
        return self.noise_multiplier * self.sensitivity


def worst_neighbours(model, plan, padded_size):
    """Returns the Neighbours to audit a run's mechanism with, two for each state.

    Joint: from none to one record, and to two. All generated images are one grey, all fresh ones
    another. The record is black or white, and turns the gradient around: to the fresh images' pull
    in an empty batch, or to the pull of one record of the other colour. Where both gradients reach
    the clip they are then 2 C apart, the most that the claim allows; the greys that come closest
    are found by trying.

    Per record: a state for each kind of round, since their channels differ: the step of that kind
    with the least noise, asked of a model that learned from noise alone. The record is as far from
    the atoms of its class as an image can be, so it is clipped to C, the most that the claim allows.
    It joins an empty batch; or one that would give a leak away, of a record that two atoms share,
    which anything that moves a potential would move, and one whose nearest atom is another class's.

    Args:
      model: the DPSinkhorn of the run.
      plan: its PrivacyPlan.
      padded_size: P, the static size of its batches; per record needs fewer.

    Raises:
      UsageError: for a mechanism that no worst case is known of.
    """
    if model.mechanism.name == "joint":
        return _joint_neighbours(model.learner, plan, padded_size)
    if model.mechanism.name == "per_record":
        return [
            pair
            for name, question, noise_multiplier in _states(model.learner, plan)
            for pair in _record_neighbours(model, name, question, noise_multiplier)
        ]
    raise checks.UsageError(
        f"no worst case is known for --mechanism={model.mechanism.name}: audit a joint or "
        "per_record run, or leave the mechanism out of --audit_parts."
    )


def _joint_neighbours(learner, plan, padded_size):
    shape = learner.generator.output_shape[1:]

    def plain(*greys):
        images = [np.full(shape, grey, np.uint8) for grey in greys]
        return _batch(images, [0] * len(images), shape, padded_size)

    return [
        _furthest(learner, plan, "an empty draw, and one record", plain(), plain(255)),
        _furthest(learner, plan, "one record, and a second one", plain(0), plain(0, 255)),
    ]


def _furthest(learner, plan, name, without, having):
    """The Neighbours of these batches in the state that sets their clipped gradients furthest apart."""
    best = None
    for grey, fresh in itertools.product(_LEVELS, _LEVELS):
        state = _plain_images(learner, grey, fresh)
        expected = tuple(_clipped_gradient(learner, state, batch) for batch in (without, having))
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


def _clipped_gradient(learner, state, batch):
    """What the claim says of the un-noised release: the auditor's own clip, not the mechanism's."""
    gradient = learner.image_gradients(*state, *batch)[1].numpy()
    return gradient * min(
        1.0, learner.config.clip_norm / max(float(np.linalg.norm(gradient)), 1e-30)
    )


def _states(learner, plan):
    """[(name, Question, noise multiplier)]: of each kind of round the step with the least noise.

    The run is one on no records at all, whose answers are drawn here: what a round asks is then
    public, and no part of the mechanism has had a hand in it.
    """
    rng, model, found = np.random.default_rng(0), None, {}
    for asked, noise_multiplier in zip(learner._rounds, plan.noise_multipliers, strict=True):
        question = asked.question(model, rng)
        stddev = noise_multiplier * question.scales.clip_norm
        moments = learner.mechanism.moments(
            stddev * rng.normal(size=contributions.size(question)),
            question.atoms,
            question.scales,
            noise_multiplier=noise_multiplier,
            pooled=question.pooled,
        )
        model = asked.absorb(model, question, moments)
        if asked.name not in found or noise_multiplier < found[asked.name][1]:
            found[asked.name] = question, noise_multiplier
    return [(name, *state) for name, state in found.items()]


def _record_neighbours(model, name, question, noise_multiplier):
    shape = model.generator.output_shape[1:]
    num_classes = len(question.atoms.positions)
    records = [
        (_between(question, shape), 0),
        (_image(question.atoms.positions[0, 0], shape), num_classes - 1),
        (_far(question, shape), 0),
    ]

    def pair(title, *chosen):
        images, labels = ([records[i][field] for i in chosen] for field in (0, 1))
        sums = [
            contributions.total(images[:n], labels[:n], question) for n in range(len(chosen) + 1)
        ]
        return Neighbours(
            name=f"{name}: {title}",
            state=(question, noise_multiplier),
            without=_batch(images[:-1], labels[:-1], shape, _PER_RECORD_ROWS),
            having=_batch(images, labels, shape, _PER_RECORD_ROWS),
            expected=tuple(sums[-2:]),
            # One record more or less moves the sum by its own clipped contribution alone.
            sensitivity=question.scales.clip_norm,
            noise_multiplier=noise_multiplier,
            quiet_state=(question, _QUIET),
        )

    return [pair("an empty draw, and one record", 2), pair("two records, and a third", 0, 1, 2)]


def _far(question, shape):
    """Black where the atoms of class 0 are bright, and white where they are dark."""
    return (
        np.where(question.atoms.positions[0].mean(axis=0) > 0, 0, 255)
        .astype(np.uint8)
        .reshape(shape)
    )


def _between(question, shape):
    """The image, of those between the two nearest atoms of class 0, that is shared most evenly."""
    x = question.atoms.positions[0]
    apart = np.linalg.norm(x[:, None] - x, axis=2) + np.diag(np.full(len(x), np.inf))
    one, other = np.unravel_index(np.argmin(apart), apart.shape)
    images = [_image(x[one] + t * (x[other] - x[one]), shape) for t in np.linspace(0, 1, 101)]
    return min(images, key=lambda image: contributions.shares(image, 0, question).max())


def _image(pixels, shape):
    """The image uint8 [H, W, C] nearest to pixels in [-1, 1]."""
    return np.clip(np.round((pixels + 1) * 127.5), 0, 255).astype(np.uint8).reshape(shape)


def _batch(images, labels, shape, padded_size):
    """A padded batch of these records."""
    count = len(images)
    padded = np.zeros([padded_size, *shape], np.uint8)
    classes = np.zeros([padded_size], np.int32)
    if count:
        padded[:count], classes[:count] = images, labels
    weights = (np.arange(padded_size) < count).astype(np.float32)
    return tf.constant(padded), tf.constant(classes), tf.constant(weights)
