"""DPSinkhorn: the Keras model whose `train_step` is one step of a private run."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf

from tfdps import checks

if typing.TYPE_CHECKING:
    from tfdps.distributed.replicas import Replicas
    from tfdps.learners.joint import ImageGradientLearner
    from tfdps.learners.per_record.learner import MomentLearner
    from tfdps.mechanisms.batches import PoissonBatches


_UNLIMITED = tf.int64.max


class DPSinkhorn(keras.Model):
    """Has a learner take steps, by `fit` on padded Poisson draws, as far as the ledger covers them.

    Guarantee: every step first checks that it is covered: `noisy_steps` must be below
    `authorized_steps`, which starts at 0 and is raised when the ledger has the steps on disk
    (`authorize`). The check is part of what `fit` runs, on the host, before the step reads its draw.
    That then goes to `learner.step` alone, whose own guarantee says what leaves it; a private run
    returns its step counter and nothing else.

    Data: batches (images uint8 [P,H,W,C], labels int32 [P], weights float32 [P], 1 or 0, and the noise
    of learners that take it with the batch), of every replica; `parts_per_step` of them are a draw.
    `total_steps` is where `fit` stops, so that the last execution may be shorter than
    `steps_per_execution`.

    Args:
      learner: what a step does, with its mechanism: an ImageGradientLearner or a MomentLearner. What
        runs on replicas is its business: to Keras this model runs on the host alone.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", num_steps=10)
      >>> digits = tfdps.load_dataset("digits")
      >>> model = tfdps.training.build_model(config, digits.spec, tfdps.make_plan(config, digits.size))
      >>> int(model.noisy_steps), int(model.authorized_steps)
      (0, 0)
    """

    train_function: typing.Any  # that Keras calls, as `make_train_function` made it

    def __init__(self, learner: ImageGradientLearner | MomentLearner) -> None:
        super().__init__(name="dp_sinkhorn")
        self.learner, self.mechanism = learner, learner.mechanism
        self.generator = learner.generator
        self.averaged_generator = learner.averaged_generator
        self.noisy_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="noisy_steps")
        self.authorized_steps = tf.Variable(
            0 if self.mechanism.private else _UNLIMITED, dtype=tf.int64, trainable=False
        )
        self.parts_per_step, self.total_steps = 1, _UNLIMITED
        self.compile(jit_compile=False, run_eagerly=learner.eager)

    def authorize(self, total_steps: int) -> None:
        """Allows steps up to number `total_steps`, which the ledger covers already."""
        self.authorized_steps.assign(total_steps)

    def take_steps(
        self,
        draws: PoissonBatches,
        count: int,
        *,
        on: Replicas,
        total: int,
        per_execution: int = 1,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Takes `count` steps, by `fit`, on draws of the private records.

        Args:
          draws: the PoissonBatches.
          count: how many; those that the ledger does not cover by then are refused.
          on: the Replicas of the run.
          total: the number of the last step, counted from the run's first.
          per_execution: how many steps between two calls of the callbacks.
          callbacks: Keras callbacks.
        """
        self.steps_per_execution, self.total_steps = per_execution, total
        self.parts_per_step = draws.parts_per_step
        self.fit(
            on.distribute(draws.dataset(count)),
            steps_per_epoch=count,
            verbose=0,
            shuffle=False,
            callbacks=list(callbacks),
        )

    def build(self, input_shape: typing.Any = None) -> None:
        """Nothing to do: the generators come built."""
        self.built = True

    def call(self, inputs: typing.Any, training: bool = False) -> tf.Tensor:
        """Returns the averaged generator's images for (z, labels)."""
        return self.averaged_generator(inputs, training=training)

    def make_train_function(
        self, force: bool = False
    ) -> Callable[[typing.Any], dict[str, tf.Tensor]]:
        """Makes what `fit` calls with its iterator, for up to `steps_per_execution` steps."""
        if self.train_function is None or force:
            if self.learner.eager:
                self.train_function = self._next_step
            else:
                self.train_function = tf.function(self._next_steps, autograph=False)
        return self.train_function

    def _next_step(self, iterator):
        return self.train_step(next(iterator) for _ in range(self.parts_per_step))

    def _next_steps(self, iterator):
        """As many steps as fit into an execution, in one graph."""
        left = self.total_steps - self.noisy_steps
        count = tf.minimum(tf.cast(self.steps_per_execution, tf.int64), left)

        def take(step, loss):
            public = self.train_step([next(iterator) for _ in range(self.parts_per_step)])
            return step + 1, public.get("loss", loss)

        start = [tf.constant(0, tf.int64), tf.constant(0.0)]
        _, loss = tf.while_loop(lambda step, _: step < count, take, start)
        return self._public(loss)

    def train_step(self, draw: Iterable[tuple[tf.Tensor, ...]]) -> dict[str, tf.Tensor]:
        """One step on the parts of one Poisson draw; returns its number, and the loss if not private.

        Args:
          draw: an iterable of padded batches, `parts_per_step` of them.
        """
        if self.jit_compile:
            raise checks.UsageError("jit_compile must be off: XLA would drop the ledger's check.")
        number = self.noisy_steps.value()
        return self._public(self.learner.step(self._covered(draw), number))

    def _public(self, loss):
        number = {"noisy_steps": self.noisy_steps.value()}
        return number if self.mechanism.private else {**number, "loss": loss}

    def _covered(self, draw):
        """The parts of a step that the ledger covers, now counted; fails first if it does not."""
        covered = tf.debugging.assert_less(
            self.noisy_steps,
            self.authorized_steps,
            "this step is in no ledger: call authorize() after the ledger has it on disk",
        )
        # An assertion alone would run beside the step; what depends on it waits for it.
        waited_for = [] if covered is None else [covered]
        with tf.control_dependencies(waited_for):
            self.noisy_steps.assign_add(1)
        return (_after(waited_for, part) for part in draw)


def _after(operations, part):
    with tf.control_dependencies(operations):
        return tf.nest.map_structure(tf.identity, part, expand_composites=True)
