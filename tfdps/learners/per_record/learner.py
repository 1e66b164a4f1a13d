"""MomentLearner: a mixture generator, set from rounds of moments of the private records."""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.accounting import round_shares
from tfdps.distributed import replicas
from tfdps.generators import networks, rectified
from tfdps.learners.per_record import rounds
from tfdps.learners.per_record.class_rounds import num_waves
from tfdps.learners.per_record.image_model import LocalGaussians
from tfdps.learners.per_record.settings import RoundSettings
from tfdps.mechanisms.moments import MomentQuery
from tfdps.mechanisms.per_record import PerRecordMechanism

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import keras

    from tfdps.accounting.plan import PrivacyPlan
    from tfdps.config.run_config import RunConfig
    from tfdps.data.dataset import DatasetSpec
    from tfdps.learners.per_record.image_model import LocalGaussians
    from tfdps.mechanisms.moments import Release


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
    """Takes one round of a schedule a step, and writes what it learned into the generator.

    Guarantee: the private draw enters `release` alone, which is the mechanism's. Model and
    generator are functions of what that returned and of public values.

    With several workers the chief asks and learns; the others get the query, add up their own
    records for the release, and get the model. All of that is public.

    A round that was paid for but lost (killed between ledger and checkpoint) is asked again or passed
    over as `round_shares.next_round` says; the noise is always that of the step.

    Args:
      generator: the Keras mixture generator.
      mechanism: the PerRecordMechanism.
      plan: the PrivacyPlan, for the noise multiplier of each step.
      schedule: the rounds, from `round_shares.of`.
      settings: the RoundSettings.
      finish: as for `set_generator`.
      on: the Replicas of the run; default: one device.

    Examples:
      >>> import tfdps
      >>> config, digits = tfdps.RunConfig(latent_dim=9, num_atoms=1), tfdps.load_dataset("digits")
      >>> model = tfdps.training.build_model(config, digits.spec, tfdps.make_plan(config, digits.size))
      >>> type(model.learner).__name__, model.learner.updates
      ('MomentLearner', 0)
    """

    eager = True  # a handful of steps, each of them long, and NumPy between the releases
    optimizer = None
    noise = None  # a release draws its own: its size is the round's

    def __init__(
        self,
        generator: keras.Model,
        mechanism: PerRecordMechanism,
        *,
        plan: PrivacyPlan,
        schedule: Sequence[round_shares.RoundShare],
        settings: RoundSettings,
        finish: Finish,
        on: replicas.Replicas | None = None,
    ) -> None:
        self.generator = self.averaged_generator = generator
        self.mechanism, self._plan, self._finish = mechanism, plan, finish
        self._schedule = schedule
        self._rounds = [rounds.make(entry, settings) for entry in schedule]
        self._rng = np.random.default_rng()  # public choices only: where draws of the model fall
        self._progress = _Progress()
        self._replicas = on or replicas.Replicas()

    @classmethod
    def of_run(
        cls, config: RunConfig, spec: DatasetSpec, plan: PrivacyPlan, *, on: replicas.Replicas
    ) -> MomentLearner:
        """Returns the learner of a RunConfig, a DatasetSpec and a PrivacyPlan on Replicas.

        Raises:
          UsageError: for a subspace of more dimensions than there are waves to find it among.
        """
        waves = num_waves(spec.image_shape)
        if config.latent_dim > 1 + waves:
            raise checks.UsageError(
                f"latent_dim must be at most {1 + waves}, received {config.latent_dim}: the "
                f"subspace is found among the {waves} slowest waves."
            )
        settings = RoundSettings(
            image_shape=spec.image_shape,
            num_classes=spec.num_classes,
            class_size=plan.batch_size * plan.images_per_unit / spec.num_classes,
            rank=config.latent_dim - 1,
            # What the images of a person add lies apart where they are unlike: then its square adds up.
            clip_norm=plan.clip_norm * math.sqrt(plan.images_per_unit),
            regularization=config.regularization,
        )
        return cls(
            # Of no strategy: every worker sets it from the released moments, and no replica trains it.
            # TensorFlow's collectives could not share its tables of bytes.
            networks.of_run(config, spec),
            PerRecordMechanism(images_per_unit=plan.images_per_unit, on=on),
            plan=plan,
            schedule=round_shares.of(config.num_atoms),
            settings=settings,
            finish=Finish(
                grain=config.grain or 0.0, warp=config.warp or 0.0, mirror=bool(config.mirror)
            ),
            on=on,
        )

    @property
    def model(self) -> LocalGaussians | None:
        """The LocalGaussians so far, or None."""
        return self._progress.model

    @property
    def updates(self) -> int:
        """How many rounds the generator has learned from."""
        return len(self._progress.learned)

    def never_asked(self, steps: int) -> list[round_shares.RoundShare]:
        """Returns the RoundShares that will have no answer after `steps` spent steps, a list."""
        return round_shares.never_asked(self._schedule, self._progress.learned, steps)

    def saved_state(self) -> dict[str, typing.Any]:
        """Returns what a checkpoint must hold, trackables by name."""
        return {
            "generator": self.generator,
            "progress": self._progress,
        }

    def prepare(self) -> None:
        """Nothing to do before the first step."""

    def restored(self) -> None:
        """To be called after a checkpoint was loaded: gives every worker the chief's state.

        The finish may be another one by now.
        """
        self._share_progress()
        if self._progress.model is not None:
            set_generator(self.generator, self._progress.model, finish=self._finish)

    def step(self, draw: Iterable[tuple[tf.Tensor, ...]], number: tf.Tensor) -> None:
        """Takes the next round on a covered draw; returns None.

        Args:
          draw: its parts, an iterable of batches (images uint8 [P,H,W,C], labels int32 [P], weights
            float32 [P]).
          number: the step's, from 0, which says how much noise it adds.
        """
        progress = self._progress
        index = self._next_round(int(number))
        asked, expected = self._rounds[index], None
        query: typing.Any = None
        if self._replicas.is_chief:
            query, expected = asked.query(progress.model, self._rng)
        if self._replicas.num_workers > 1:
            sent = self._replicas.broadcast(query.to_bytes() if query else None)
            query = query or MomentQuery.from_bytes(sent)
        release = self.release((query, self._plan.noise_multipliers[int(number)]), draw)
        if self._replicas.is_chief:
            progress.model = asked.update(progress.model, query, expected, release.moments())
            progress.learned.append(index)
        self._share_progress()
        set_generator(self.generator, progress.model, finish=self._finish)

    def _next_round(self, number):
        """The index of the round that a step asks; public."""
        return round_shares.next_round(self._schedule, self._progress.learned, number)

    def _share_progress(self):
        if self._replicas.num_workers > 1:
            self._progress.deserialize(self._replicas.broadcast(self._progress.serialize()))

    def release(
        self, state: tuple[MomentQuery, float], draw: Iterable[tuple[tf.Tensor, ...]]
    ) -> Release:
        """Returns the Release: all that leaves a private draw in a step.

        What an audit of the mechanism calls.

        Args:
          state: (a MomentQuery, noise multiplier); public.
          draw: its parts, as for `step`; private.
        """
        query, noise_multiplier = state
        return self.mechanism.release(draw, query, noise_multiplier=noise_multiplier)


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
    """Which rounds the model has learned from, and the model; goes into checkpoints.

    learned: their indices in the schedule, below 256, in the order in which they were answered.
    """

    def __init__(self):
        self.learned, self.model = [], None

    def serialize(self):
        """Returns both as bytes: how many rounds, a byte each, the model."""
        indices = bytes([len(self.learned), *self.learned])
        return indices + (self.model.to_bytes() if self.model else b"")

    def deserialize(self, string_value):
        """Takes both from what `serialize` returned."""
        count, rest = string_value[0], string_value[1:]
        self.learned, stored = list(rest[:count]), rest[count:]
        self.model = LocalGaussians.from_bytes(stored) if stored else None
