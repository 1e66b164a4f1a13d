"""RefinedLearner: a mixture from rounds of moments, and the denoiser that its images go through."""

from __future__ import annotations

import logging
import typing

import tensorflow as tf

from tfdps.distributed import replicas
from tfdps.learners.per_record.learner import MomentLearner
from tfdps.learners.refiner import pretraining
from tfdps.learners.refiner.private_steps import DenoiserSteps
from tfdps.mechanisms.moments import MomentQuery

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

    from tfdps.accounting.plan import PrivacyPlan
    from tfdps.accounting.round_shares import RoundShare
    from tfdps.config.run_config import RunConfig
    from tfdps.data.dataset import DatasetSpec
    from tfdps.mechanisms.moments import Release
    from tfdps.mechanisms.record_gradients import GradientRelease

_logger = logging.getLogger(__name__)


class RefinedLearner:
    """A MomentLearner whose generator ends in a Refinement, with the denoiser trained as well.

    Guarantee: private draws go to the MomentLearner, and those of the plan's last `refiner_steps` to
    the DenoiserSteps, whose guarantees say what leaves them. Before the first step the denoiser learns
    from procedural images, which are public.

    Args:
      rounds: the MomentLearner, of a refined generator.
      steps: the DenoiserSteps, of the same generator's denoiser; None: no private record trains it.
      family: of the procedural images, one of families.FAMILIES.
      pretraining_steps: how many steps the denoiser learns from them.
      on: the Replicas of the run; default: one device.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(num_atoms=1, refiner="strokes")
      >>> digits = tfdps.load_dataset("digits")
      >>> model = tfdps.training.build_model(config, digits.spec, tfdps.make_plan(config, digits.size))
      >>> model.learner.generator.get_layer("refined").shape.levels
      3
    """

    eager = True  # as the rounds
    optimizer = None
    noise = None

    def __init__(
        self,
        rounds: MomentLearner,
        *,
        steps: DenoiserSteps | None,
        family: str,
        pretraining_steps: int,
        on: replicas.Replicas | None = None,
    ) -> None:
        self.rounds, self.mechanism, self.steps = rounds, rounds.mechanism, steps
        self.generator = self.averaged_generator = rounds.generator
        self._denoiser = self.generator.get_layer("refined").denoiser
        self._family, self._pretraining_steps = family, pretraining_steps
        self._replicas = on or replicas.Replicas()

    @classmethod
    def of_run(
        cls, config: RunConfig, spec: DatasetSpec, plan: PrivacyPlan, *, on: replicas.Replicas
    ) -> RefinedLearner | MomentLearner:
        """Returns the learner of a RunConfig on Replicas: a MomentLearner where it has no refiner."""
        rounds = MomentLearner.of_run(config, spec, plan, on=on)
        if not config.refined:
            return rounds
        steps = None
        if plan.refiner_steps:
            steps = DenoiserSteps(
                rounds.generator.get_layer("refined").denoiser,
                plan=plan,
                views=config.refiner_views,
                mirror=bool(config.mirror),
                learning_rate=config.refiner_learning_rate,
                on=on,
            )
        return cls(
            rounds,
            steps=steps,
            family=config.refiner or "none",
            pretraining_steps=config.refiner_pretraining,
            on=on,
        )

    @property
    def updates(self) -> int:
        """How many rounds and private steps the generator has learned from."""
        return self.rounds.updates + (self.steps.taken if self.steps else 0)

    def never_asked(self, steps: int) -> list[RoundShare]:
        """Returns the RoundShares that will have no answer after `steps` spent steps, a list."""
        return self.rounds.never_asked(steps)

    def saved_state(self) -> dict[str, typing.Any]:
        """Returns what a checkpoint must hold, trackables by name."""
        of_steps = self.steps.saved_state() if self.steps else {}
        return {**self.rounds.saved_state(), **of_steps}

    def prepare(self) -> None:
        """Trains the denoiser on procedural images, before the first step of a run."""
        if self._replicas.is_chief:
            pretraining.prepare(self._denoiser, self._family, steps=self._pretraining_steps)
        self._share_denoiser()
        if self.steps:
            self.steps.begin()

    def restored(self) -> None:
        """To be called after a checkpoint was loaded: gives every worker the chief's state."""
        self.rounds.restored()
        self._share_denoiser()
        if self.steps:
            self.steps.share()

    def _share_denoiser(self):
        self._replicas.broadcast_variables([weight.value for weight in self._denoiser.weights])

    def step(self, draw: Iterable[tuple[tf.Tensor, ...]], number: tf.Tensor) -> None:
        """Takes the run's step `number` on a covered draw, a round or the denoiser's; returns None."""
        if self.steps and int(number) >= self.steps.first:
            self.steps.step(draw, int(number))
        else:
            self.rounds.step(draw, number)

    def release(
        self, state: tuple[typing.Any, float], draw: Iterable[tuple[tf.Tensor, ...]]
    ) -> Release | GradientRelease:
        """Returns the release: all that leaves a private draw in a step.

        Args:
          state: of MomentLearner.release, or of DenoiserSteps.release.
          draw: its parts; private.
        """
        if self.steps and not isinstance(state[0], MomentQuery):
            return self.steps.release(state, draw)
        return self.rounds.release(state, draw)
