"""ImageGradientLearner: a generator's weights, trained on a released gradient of its images.

Source: Cao et al., NeurIPS 2021, arXiv 2111.01177, algorithm 1.
"""

from __future__ import annotations

import dataclasses
import typing

import keras
import tensorflow as tf

from tfdps.distributed import replicas
from tfdps.generators import networks
from tfdps.learners import averaging
from tfdps.learners.optimizer_state import OptimizerVariables
from tfdps.learners.transport_loss import TransportLoss
from tfdps.mechanisms.joint import JointMechanism
from tfdps.mechanisms.none import NoMechanism

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

    from tfdps.accounting.plan import PrivacyPlan
    from tfdps.config.run_config import RunConfig
    from tfdps.data.dataset import DatasetSpec
    from tfdps.mechanisms.joint import StepNoise


class ImageGradientLearner:
    """One Adam step of a generator for each release of the transport loss's image gradient.

    Guarantee: the private batch enters `image_gradients` alone, and what that returns leaves the
    step only through `mechanism.release`; a private run returns nothing else. The gradient of the
    fresh images, which has no noise, is computed by `fresh_gradient`, which is not given the batch.
    Shapes are fixed, and an empty draw is a step like any other.

    On R replicas each has B / R images and its shard of the draw, and releases the gradient of their
    loss by itself (see the mechanism). What is then averaged over them, the gradient of the weights
    and batch normalisation's statistics, follows from releases.

    Args:
      generator: Keras model, (z [n, latent_dim], labels [n]) -> images [n,H,W,C] in [-1,1].
      averaged_generator: another of the same architecture: the exponential average of its weights.
      mechanism: a JointMechanism or NoMechanism; holds the optimizer.
      config: the RunConfig.
      num_classes: L.
      on: the Replicas of the run, in whose scope the other arguments were made; default: one device.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", num_steps=10)
      >>> digits = tfdps.load_dataset("digits")
      >>> model = tfdps.training.build_model(config, digits.spec, tfdps.make_plan(config, digits.size))
      >>> type(model.learner).__name__, model.learner.updates
      ('ImageGradientLearner', 0)
    """

    eager = False  # the step is one TensorFlow graph

    def __init__(
        self,
        generator: keras.Model,
        averaged_generator: keras.Model,
        mechanism: JointMechanism | NoMechanism,
        *,
        config: RunConfig,
        num_classes: int,
        on: replicas.Replicas | None = None,
    ) -> None:
        self.generator, self.averaged_generator = generator, averaged_generator
        self.averaged_generator.trainable = False
        self.averaged_generator.set_weights(generator.get_weights())
        self._replicas = on or replicas.Replicas()
        # Of a replica: its batch size is its share.
        share = config.batch_size // self._replicas.count
        self.config = dataclasses.replace(config, batch_size=share)
        self.mechanism, self.num_classes = mechanism, num_classes
        self.optimizer = mechanism.optimizer
        self.optimizer.build(generator.trainable_variables)
        # Not the whole step: XLA drops the assertion that the ledger covers it, and convolutions
        # are faster outside XLA on a CPU.
        loss = TransportLoss(self.config, num_classes)
        self.image_gradients = tf.function(loss.image_gradients, jit_compile=True)
        self.fresh_gradient = tf.function(loss.fresh_gradient, jit_compile=True)
        if self._replicas.count == 1:  # the update of several replicas cannot be: it leaves them
            self._update_weights = tf.function(self._update_weights, jit_compile=True)  # type: ignore[method-assign]

    @classmethod
    def of_run(
        cls, config: RunConfig, spec: DatasetSpec, plan: PrivacyPlan, *, on: replicas.Replicas
    ) -> ImageGradientLearner:
        """Returns the learner of a RunConfig, a DatasetSpec and a PrivacyPlan on Replicas."""
        with on.scope():
            mechanism: JointMechanism | NoMechanism
            if plan.private:
                mechanism = JointMechanism(
                    clip_norm=plan.clip_norm,
                    noise_multiplier=plan.noise_multiplier,
                    learning_rate=_learning_rate(config, plan),
                    fresh_clip=config.fresh_clip,
                )
            else:
                mechanism = NoMechanism(learning_rate=_learning_rate(config, plan))
            return cls(
                networks.of_run(config, spec, precision=config.precision),
                networks.of_run(config, spec, precision=config.precision),
                mechanism,
                config=config,
                num_classes=spec.num_classes,
                on=on,
            )

    @property
    def noise(self) -> StepNoise | None:
        """What a step's noise is drawn from, for a batch of each replica; None: there is none."""
        shape = [self.config.batch_size, *self.generator.output_shape[1:]]
        return self.mechanism.step_noise(shape)

    @property
    def updates(self) -> int:
        """How often the generator's weights were changed."""
        return int(self.optimizer.iterations.numpy())

    def saved_state(self) -> dict[str, typing.Any]:
        """Returns what a checkpoint must hold, trackables by name."""
        return {
            "generator": self.generator,
            "averaged_generator": self.averaged_generator,
            "optimizer": OptimizerVariables(self.optimizer),
        }

    def prepare(self) -> None:
        """Nothing to do before the first step."""

    def restored(self) -> None:
        """To be called after a checkpoint was loaded: gives every worker the chief's state.

        With today's learning rate, not the stored one; a schedule is today's from the start.
        """
        networks = [*self.generator.weights, *self.averaged_generator.weights]
        state = [weight.value for weight in [*networks, *self.optimizer.variables]]
        self._replicas.broadcast_variables(state)
        if self.config.learning_rate_schedule == "constant":
            self.optimizer.learning_rate = self.config.learning_rate

    def step(self, draw: Iterable[tuple[tf.Tensor, ...]], number: tf.Tensor) -> tf.Tensor | None:
        """Takes one step on a covered draw; returns the loss, private, or None of a private run.

        Args:
          draw: its one part, a list of a batch (images uint8 [P,H,W,C], labels int32 [P], weights
            float32 [P], and `noise`'s int64 [n,H,W,C] of a private run) of each replica.
          number: the step's, from 0; all steps of this learner are alike.
        """
        [batch] = draw
        losses = self._replicas.run(self._step_of_replica, (batch,))
        return None if self.mechanism.private else self._replicas.first(losses)

    def _step_of_replica(self, batch):
        z, labels = self.latents()
        return self.noisy_step(batch, z, labels)[0]

    def noisy_step(
        self, batch: tuple[tf.Tensor, ...], z: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(loss, released dL/dX [n,...]); updates the weights from latents and a covered batch."""
        with tf.GradientTape() as tape:
            images = self.generator([z, labels], training=True)
        loss, released, fresh_gradient = self._releases(images, labels, batch)
        gradients = tape.gradient(
            images,
            self.generator.trainable_variables,
            output_gradients=tf.concat([released, fresh_gradient], axis=0),
        )
        variables = self.generator.trainable_variables
        self._update_weights([_dense(g, v) for g, v in zip(gradients, variables, strict=True)])
        return loss, released

    def release(
        self, state: tuple[tf.Tensor, tf.Tensor], draw: Iterable[tuple[tf.Tensor, ...]]
    ) -> tf.Tensor:
        """Returns the released dL/dX, [n,H,W,C]: all that leaves a private draw in a step.

        What an audit of the mechanism calls.

        Args:
          state: (images float32 [n + n', H, W, C] in [-1, 1], the fresh images last; labels int32
            [n + n']); public.
          draw: as for `step`; private.
        """
        [batch] = draw
        return self._releases(*state, batch)[1]

    def _releases(self, images, labels, batch):
        """(loss, released dL/dX [n,...], dL/dX_fresh [n',...]): the first private, the others not."""
        records, noise = batch[:3], batch[3:]
        loss, gradient = self.image_gradients(images, labels, *records)
        released = self.mechanism.release(gradient, *noise)
        return loss, released, self.mechanism.limit_public(self.fresh_gradient(images, labels))

    def latents(self) -> tuple[tf.Tensor, tf.Tensor]:
        """(z, labels) of the n images of the step and the n' fresh ones, which share n' labels."""
        num_images, num_fresh = self.config.batch_size or 0, self.config.num_fresh
        z = tf.random.uniform([num_images + num_fresh, self.config.latent_dim])
        labels = tf.random.uniform([num_images], maxval=self.num_classes, dtype=tf.int32)
        return z, tf.concat([labels, labels[:num_fresh]], axis=0)

    def _update_weights(self, gradients):
        """Adam with the L2 term, then the moving average of all weights; all of it public."""
        decay, variables = self.config.weight_decay, self.generator.trainable_variables
        share = 1 / self._replicas.count  # the optimizer adds up what replicas have
        self.optimizer.apply_gradients(
            [(share * (g + decay * v.value), v) for g, v in zip(gradients, variables, strict=True)]
        )
        self._average_statistics()
        averaging.update(
            self.averaged_generator.weights,
            self.generator.weights,
            taken=tf.cast(self.optimizer.iterations, tf.float32),
            longest=self.config.ema_decay,
        )

    def _average_statistics(self):
        """Gives all replicas the mean of their moving statistics; spectral layers keep theirs alike."""
        if self._replicas.count == 1:
            return
        statistics = [w for w in self.generator.non_trainable_weights if w.aggregation == "none"]
        if statistics:
            context = tf.distribute.get_replica_context()
            means = context.all_reduce("MEAN", [tf.identity(weight.value) for weight in statistics])
            for weight, mean in zip(statistics, means, strict=True):
                weight.assign(mean)


def _learning_rate(config, plan):
    """A RunConfig's learning rate: a number, or a Keras schedule over the steps of a PrivacyPlan."""
    if config.learning_rate_schedule == "constant":
        return config.learning_rate
    return keras.optimizers.schedules.CosineDecay(config.learning_rate, plan.steps)


def _dense(gradient, variable):
    """A gradient as a tensor of static shape; of an embedding it comes as rows."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = gradient.values, gradient.indices
    return tf.math.unsorted_segment_sum(rows, places, num_segments=variable.shape[0])
