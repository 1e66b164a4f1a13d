"""The audit of the refiner's steps: their worst neighbours, and what runs of them learned from.

What a record should add is computed by the auditor's own hand: its gradient alone, by a plain tape,
with the public noise of its place, clipped in float64 as `mechanisms/record_gradients.py` says.
"""

import numpy as np
import tensorflow as tf

from tfdps.auditing import shadow
from tfdps.auditing.worst_case import Neighbours, batch_of_units
from tfdps.generators import denoiser as denoisers
from tfdps.generators import pixels, scaling

NAME = "refiner"
_ROWS = 8  # of a batch that an auditor makes up
_STEPS = 2.0**20  # of the grid, from 0 to the clip
_SOFTENING = 0.02
_ROUNDING = 2.0**-20  # of a number: gradients are of float32, and come by other ways


class Contributions:
    """What each unit adds to a release of DenoiserSteps: a record, or the records of a person.

    Args:
      steps: the DenoiserSteps.
      state: (weights, seed), as of `DenoiserSteps.release`; public.
      rows: how many units a batch has room for.
    """

    def __init__(self, steps, state, rows):
        self._steps = steps
        self._chunk = min(rows, steps.mechanism.chunk_size)
        self._denoiser = denoisers.Denoiser.from_config(steps.trained.get_config())
        self._gradient = tf.function(self._gradient_of)
        self.begin(state)

    def begin(self, state):
        """Goes on from another state, of the same network."""
        weights, self._seed = state
        self._denoiser.set_weights(weights)
        self._numbers = {}  # of each chunk, the step's public ones

    def of(self, records, place):
        """Returns what a unit adds, float64 [D].

        Args:
          records: [(image, label), or None where a person has none in that place].
          place: the unit's, in its batch.
        """
        gradient = self._gradient(*self._views(records, place)).numpy().astype(np.float64)
        scaled = gradient * ((1 - 1e-6) * _STEPS / (np.linalg.norm(gradient) + _SOFTENING))
        return np.trunc(scaled) / _STEPS

    def total(self, units):
        """Returns the sum of what the units of a batch add, from its first place on, float64 [D]."""
        found = np.zeros(sum(int(np.prod(w.shape)) for w in self._denoiser.weights))
        for place, records in enumerate(units):
            if any(record is not None for record in records):
                found += self.of(records, place)
        return found

    def _views(self, records, place):
        steps, views, most = self._steps, self._steps._views, self._steps.mechanism.images_per_unit
        chunk, row = divmod(place, self._chunk)
        if chunk not in self._numbers:
            in_chunk, seed = self._chunk * most, tf.constant(self._seed, tf.int32)
            drawn = steps.numbers(chunk * in_chunk + tf.range(in_chunk), seed)
            self._numbers[chunk] = [tensor.numpy() for tensor in drawn]
        seen = []
        for number, record in enumerate(records):
            if record is None:
                continue
            image, label = record
            own = slice((row * most + number) * views, (row * most + number + 1) * views)
            noise, levels, mirrored = (array[own] for array in self._numbers[chunk])
            clean = _shrunk(np.asarray(image, np.float32) / 127.5 - 1)
            clean = np.stack([clean[:, ::-1] if turned else clean for turned in mirrored])
            seen.append((clean, noise, levels, np.full(views, label, np.int32)))
        return tuple(tf.constant(np.concatenate(each)) for each in zip(*seen, strict=True))

    def _gradient_of(self, *views):
        weights = [weight.value for weight in self._denoiser.weights]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_mean(self._denoiser.loss(*views))
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, weights)], 0)


def _shrunk(image):
    """An image as the refiner sees it: large ones as means of squares, by the auditor's own hand."""
    side = scaling.factor(image.shape)
    missing = [(0, -length % side) for length in image.shape[:2]]
    image = np.pad(image, [*missing, (0, 0)], mode="edge")
    parts = [image[i::side, j::side] for i in range(side) for j in range(side)]
    return np.mean(parts, axis=0, dtype=np.float64).astype(np.float32)


def worst_neighbours(steps, plan, image_shape):
    """Returns two Neighbours, a list: an image of noise joins an empty draw, or a second part.

    The weights are those of a new denoiser, whose gradients are large: next to nothing is lost to the
    softening of the clip.

    Args:
      steps: the DenoiserSteps of the run.
      plan: its PrivacyPlan.
      image_shape: of a record.
    """
    state = steps.trained.get_weights(), np.array([1, 2])
    own = Contributions(steps, state, _ROWS)
    rng, dark = np.random.default_rng(0), np.zeros(image_shape, np.uint8)
    noise = rng.choice(np.array([0, 255], np.uint8), size=image_shape)
    most = plan.images_per_unit
    grey = pixels.to_uint8(np.full(image_shape, 0.3))
    units = [[(dark, 0)], [(grey, 1), (dark, 1)][:most], [(noise, 0)] * most]

    def pair(title, *parts):
        having = [[units[i] for i in part] for part in parts]
        without = [*having[:-1], having[-1][:-1]]
        sums = [sum(own.total(part) for part in draw) for draw in (without, having)]
        return Neighbours(
            name=f"{NAME}: {title}",
            state=(state, plan.refiner_noise_multiplier),
            without=[batch_of_units(part, image_shape, _ROWS, most) for part in without],
            having=[batch_of_units(part, image_shape, _ROWS, most) for part in having],
            expected=tuple(sums),
            sensitivity=1.0,
            noise_multiplier=plan.refiner_noise_multiplier,
            quiet_state=(state, shadow.QUIET),
        )

    return [
        pair("an empty draw, and one record", [2]),
        pair("two records, and a third", [0], [1, 2]),
    ]


class Learned:
    """What DenoiserSteps learn from, from now on.

    Attributes:
      steps: (state, float64 [D]) of each step that something was learned from, a list.
      releases: how many the mechanism made.

    Args:
      steps: the DenoiserSteps of a run's model.
    """

    def __init__(self, steps):
        self.steps, self.releases, self._state = [], 0, None
        self._release, self._learn = steps.release, steps.learn
        self._of_mechanism = steps.mechanism.release
        steps.release, steps.learn = self._note_state, self._note
        steps.mechanism.release = self._count

    def _note_state(self, state, draw):
        self._state = state[0]
        return self._release(state, draw)

    def _count(self, draw, **settings):
        self.releases += 1
        return self._of_mechanism(draw, **settings)

    def _note(self, released, number):
        self.steps.append((self._state, np.array(released.vector, np.float64)))
        return self._learn(released, number)


def residuals(steps, learned, plan, dataset, draws):
    """Returns of each refiner's step what it learned from, less the auditor's sums: float64 [D].

    Args:
      steps: the DenoiserSteps, after a run of which `learned` is the Learned.
      learned: what it learned from.
      plan: of the run, in whose refiner's steps every record is drawn.
      dataset: the Dataset of the run.
      draws: the PoissonBatches of these steps, which say how records lie in parts.
    """
    if not len(learned.steps) == learned.releases == plan.refiner_steps:
        # Something else than one release a step was paid for, or learned from.
        return [np.full(2, np.inf)] * plan.refiner_steps
    found, most = [], draws.images_per_unit
    own = Contributions(steps, learned.steps[0][0], draws.padded_size)
    for state, released in learned.steps:
        own.begin(state)
        parts = (_units(*map(np.asarray, batch), most) for batch in draws.dataset(1))
        found.append(released - sum(own.total(part) for part in parts))
    return found


def _units(images, labels, weights, most):
    """The units of a batch, of each its records: (image, label), or None."""
    records = [
        (image, label) if weight else None
        for image, label, weight in zip(images, labels, weights, strict=True)
    ]
    return [records[first : first + most] for first in range(0, len(records), most)]


def step_of(residuals_of_runs, plan, number):
    """Returns the shadow.Step of one of the refiner's steps, from its residuals in several runs."""
    return shadow.Step(
        f"{NAME}, step {number}",
        np.stack(residuals_of_runs),
        plan.refiner_noise_multiplier,
        1.0,
        _ROUNDING,
    )
