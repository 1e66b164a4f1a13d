"""MomentLearner: a mixture generator, set from rounds of moments of the private records."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfdps import rectified, rounds
from tfdps.local_gaussians import LocalGaussians


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

    Guarantee: the private batch enters `release` alone, which is the mechanism's. Model and
    generator are functions of what that returned and of public values.

    A round that was paid for but lost (killed between ledger and checkpoint) is asked again at the
    next step, with that step's noise; the schedule's last round is then the one that is missing.

    Args:
      generator: the Keras mixture generator.
      mechanism: the PerRecordMechanism.
      plan: the PrivacyPlan, for the noise multiplier of each step.
      schedule: the rounds, from `schedule.of`.
      settings: the questions.Settings.
      finish: as for `set_generator`.
    """

    eager = True  # a handful of steps, each of them long, and NumPy between the releases
    optimizer = None

    def __init__(self, generator, mechanism, *, plan, schedule, settings, finish):
        self.generator = self.averaged_generator = generator
        self.mechanism, self._plan, self._finish = mechanism, plan, finish
        self._rounds = [rounds.make(entry, settings) for entry in schedule]
        self._rng = np.random.default_rng()  # public choices only: where draws of the model fall
        self._progress = _Progress()

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
        """To be called after a checkpoint was loaded: the finish may be another one by now."""
        if self._progress.model is not None:
            set_generator(self.generator, self._progress.model, finish=self._finish)

    def step(self, batch, number):
        """Takes the next round on a covered batch; returns None.

        Args:
          batch: a padded draw, (images uint8 [P,H,W,C], labels int32 [P], weights float32 [P]).
          number: the step's, from 0, which says how much noise it adds.
        """
        progress = self._progress
        asked = self._rounds[progress.rounds]
        question = asked.question(progress.model, self._rng)
        noise_multiplier = self._plan.noise_multipliers[int(number)]
        released = self.release((question, noise_multiplier), batch)
        moments = self.mechanism.moments(
            released.numpy(),
            question.atoms,
            question.scales,
            noise_multiplier=noise_multiplier,
            pooled=question.pooled,
        )
        progress.model = asked.absorb(progress.model, question, moments)
        progress.rounds += 1
        set_generator(self.generator, progress.model, finish=self._finish)

    def release(self, state, batch):
        """Returns the released vector, float32 [D]: all that leaves a private batch in a step.

        What an audit of the mechanism calls.

        Args:
          state: (a questions.Question, noise multiplier); public.
          batch: a padded draw, as for `step`; private.
        """
        question, noise_multiplier = state
        return self.mechanism.release(
            batch,
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
