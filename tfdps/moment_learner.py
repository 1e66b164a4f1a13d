"""MomentLearner: a mixture generator, set from rounds of moments of the private records."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfdps import rectified, replicas, rounds
from tfdps.local_gaussians import LocalGaussians
from tfdps.questions import Question


@dataclasses.dataclass(frozen=True)
class Finish:
    """What images get beside what was learned; public.

    Attributes:
      grain: noise on every pixel, in standard deviations of what real images have outside the
        subspace, >= 0.
      warp: standard deviation in pixels of how far smooth random fields bend an image, 0 to 1.
      mirror: whether half of the images are mirrored.
    """

    grain: float
    warp: float
    mirror: bool


class MomentLearner:
    """Takes one round of `schedule.of` a step, and writes what it learned into the generator.

    Guarantee: the private draw enters `release` alone, which is the mechanism's. Model and
    generator are functions of what that returned and of public values.

    With several workers the chief asks and learns; the others get the question, add up their own
    records for the release, and get the model. All of that is public.

    A round that was paid for but lost (killed between ledger and checkpoint) is asked again at the
    next step, with that step's noise; the schedule's last round is then the one that is missing.

    Args:
      generator: the Keras mixture generator.
      mechanism: the PerRecordMechanism.
      plan: the PrivacyPlan, for the noise multiplier of each step.
      schedule: the rounds, from `schedule.of`.
      settings: the questions.Settings.
      finish: as for `set_generator`.
      on: the Replicas of the run; default: one device.
    """

    eager = True  # a handful of steps, each of them long, and NumPy between the releases
    optimizer = None

    def __init__(self, generator, mechanism, *, plan, schedule, settings, finish, on=None):
        self.generator = self.averaged_generator = generator
        self.mechanism, self._plan, self._finish = mechanism, plan, finish
        self._rounds = [rounds.make(entry, settings) for entry in schedule]
        self._rng = np.random.default_rng()  # public choices only: where draws of the model fall
        self._progress = _Progress()
        self._replicas = on or replicas.Replicas()

    @property
    def model(self):
        """The LocalGaussians so far, or None."""
        return self._progress.model

    @property
    def updates(self):
        """How many rounds the generator has learned from."""
        return self._progress.rounds

    def saved_state(self):
        """Returns what a checkpoint must hold, trackables by name."""
        return {
            "generator": self.generator,
            "progress": self._progress,
        }

    def restored(self):
        """To be called after a checkpoint was loaded: gives every worker the chief's state.

        The finish may be another one by now.
        """
        self._share_progress()
        if self._progress.model is not None:
            set_generator(self.generator, self._progress.model, finish=self._finish)

    def step(self, draw, number):
        """Takes the next round on a covered draw; returns None.

        Args:
          draw: its parts, an iterable of batches (images uint8 [P,H,W,C], labels int32 [P], weights
            float32 [P]).
          number: the step's, from 0, which says how much noise it adds.
        """
        progress = self._progress
        asked = self._rounds[progress.rounds]
        question = asked.question(progress.model, self._rng) if self._replicas.is_chief else None
        if self._replicas.num_workers > 1:
            sent = self._replicas.broadcast(question.to_bytes() if question else None)
            question = question or Question.from_bytes(sent)
        noise_multiplier = self._plan.noise_multipliers[int(number)]
        released = self.release((question, noise_multiplier), draw)
        if self._replicas.is_chief:
            self._learn(asked, question, released, noise_multiplier)
        self._share_progress()
        set_generator(self.generator, progress.model, finish=self._finish)

    def _learn(self, asked, question, released, noise_multiplier):
        moments = self.mechanism.moments(
            released.numpy(),
            question.atoms,
            question.scales,
            noise_multiplier=noise_multiplier,
            pooled=question.pooled,
        )
        self._progress.model = asked.absorb(self._progress.model, question, moments)
        self._progress.rounds += 1

    def _share_progress(self):
        if self._replicas.num_workers > 1:
            self._progress.deserialize(self._replicas.broadcast(self._progress.serialize()))

    def release(self, state, draw):
        """Returns the released vector, float32 [D]: all that leaves a private draw in a step.

        What an audit of the mechanism calls.

        Args:
          state: (a questions.Question, noise multiplier); public.
          draw: its parts, as for `step`; private.
        """
        question, noise_multiplier = state
        return self.mechanism.release(
            draw,
            question.atoms,
            question.scales,
            noise_multiplier=noise_multiplier,
            pooled=question.pooled,
        )


def set_generator(generator, model, *, finish):
    """Writes LocalGaussians into a mixture generator, which may have room for more atoms.

    Pixels are clipped to [-1, 1] at the end, which moves their mean and spread: they are set so that
    what the subspace makes comes out as the model has it (`rectified`).

    What images have outside the subspace is added as noise, the same for all classes. Where there is
    none, a classifier reads faint patterns, fixed by class or atom, that real images drown.

    Args:
      generator: a Keras mixture generator of the model's classes, pixels and subspace.
      model: the LocalGaussians.
      finish: the Finish.
    """
    layer = generator.get_layer("images")
    rank = layer.basis.shape[0]
    if not len(model.basis):  # no subspace yet: plain means
        model = dataclasses.replace(
            model,
            basis=np.eye(rank, model.centres.shape[1]),
            variances=np.zeros(rank),
            offsets=np.zeros([*model.weights.shape, rank]),
            covariances=np.zeros([model.num_classes, rank, rank]),
        )
    gaussian, wanted = model.pixel_stddevs
    gaussian = np.broadcast_to(gaussian, wanted.shape)
    means, gains = rectified.match(np.clip(model.means, -1, 1), wanted, gaussian)
    missing = layer.num_atoms - model.weights.shape[1]

    def padded(values):
        return np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])

    layer.set_atoms(
        weights=padded(model.weights),
        means=padded(means),
        factors=model.factors,
        basis=model.basis,
        gains=padded(gains),
        grain=finish.grain * model.outside_stddevs,
    )
    layer.deformation.set(warp=finish.warp, mirror=finish.mirror)


class _Progress(tf.train.experimental.PythonState):
    """How many rounds the model has learned from, and the model; goes into checkpoints."""

    def __init__(self):
        self.rounds, self.model = 0, None

    def serialize(self):
        """Returns both as bytes."""
        return self.rounds.to_bytes(4, "big") + (self.model.to_bytes() if self.model else b"")

    def deserialize(self, string_value):
        """Takes both from what `serialize` returned."""
        self.rounds = int.from_bytes(string_value[:4], "big")
        self.model = LocalGaussians.from_bytes(string_value[4:]) if self.rounds else None
