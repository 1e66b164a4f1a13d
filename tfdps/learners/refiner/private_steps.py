"""The refiner's noisy steps: the denoiser learns from private records, as DP-SGD trains."""

from __future__ import annotations

import typing

import keras
import numpy as np
import tensorflow as tf

from tfdps.distributed import replicas
from tfdps.generators import denoiser as denoisers
from tfdps.generators import noted_layers, scaling
from tfdps.learners import averaging
from tfdps.learners.optimizer_state import OptimizerVariables
from tfdps.mechanisms.record_gradients import GradientRelease, RecordGradientMechanism

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

    from tfdps.accounting.plan import PrivacyPlan

_LONGEST_MEMORY = 0.95  # of the averaged weights
_MOST_UNITS, _MOST_VIEWS = 64, 128  # whose gradients are made at a time
CHUNK_BYTES, _OF_WEIGHT = 2**28, 20  # of these gradients; for each number: float32, float64, int64


def units_at_a_time(num_weights: int, *, views: int) -> int:
    """Returns how many units' gradients are made at a time, at least 1: what memory has room for.

    Args:
      num_weights: of the denoiser.
      views: of a unit, over all its images.
    """
    of_memory = CHUNK_BYTES // (_OF_WEIGHT * num_weights)
    return max(1, min(_MOST_UNITS, _MOST_VIEWS // views, of_memory))


class DenoiserSteps:
    """Trains a copy of a Denoiser on private records; the original keeps the average of its weights.

    A step: of each record drawn, shrunk by itself where it is large, the gradient of its denoising
    loss, the mean over `views` of noise levels of their own and, where images may be mirrored, sides,
    and over the records of a person; the mechanism clips it, sums, adds noise; Adam (Kingma & Ba 2015)
    takes the sum over the public batch size.

    Guarantee: the private draw enters `release` alone, which is the mechanism's. All else is a function
    of what that returned and of public values.

    Args:
      denoiser: the Denoiser of the generator.
      plan: the PrivacyPlan, for noise multiplier, batch size and number of the steps.
      views: of a record in its gradient, at least 1.
      mirror: whether half of the views are mirrored.
      learning_rate: Adam's at first; it falls to 0 in even steps.
      on: the Replicas of the run.
    """

    def __init__(
        self,
        denoiser: denoisers.Denoiser,
        *,
        plan: PrivacyPlan,
        views: int,
        mirror: bool,
        learning_rate: float,
        on: replicas.Replicas,
    ) -> None:
        self.averaged, self._plan, self._replicas = denoiser, plan, on
        self.trained = denoisers.Denoiser.from_config(denoiser.get_config())
        self._views, self._mirror, self._learning_rate = views, mirror, learning_rate
        self._optimizer = keras.optimizers.Adam(beta_1=0.9, beta_2=0.99)
        self._optimizer.build(self.trained.weights)
        self._seed = tf.Variable([0, 0], trainable=False)
        self._random = np.random.default_rng()  # public choices only: noise levels, noise, sides
        self._sizes = [int(np.prod(weight.shape)) for weight in self.trained.weights]
        self.mechanism = RecordGradientMechanism(
            self._gradients,
            self.numbers,
            size=sum(self._sizes),
            chunk_size=units_at_a_time(sum(self._sizes), views=views * plan.images_per_unit),
            images_per_unit=plan.images_per_unit,
            public=lambda: [self._seed, *(weight.value for weight in self.trained.weights)],
            on=on,
        )

    @property
    def first(self) -> int:
        """The number of the run's step that is the first of these."""
        return self._plan.steps - self._plan.refiner_steps

    @property
    def taken(self) -> int:
        """How many of these steps the denoiser has learned from."""
        return int(self._optimizer.iterations)

    def saved_state(self) -> dict[str, typing.Any]:
        """Returns what a checkpoint must hold beside the generator, trackables by name."""
        return {"denoiser": self.trained, "denoiser_optimizer": OptimizerVariables(self._optimizer)}

    def begin(self) -> None:
        """To be called when the generator's denoiser has its first weights: the copy gets them."""
        self.trained.set_weights(self.averaged.get_weights())

    def share(self) -> None:
        """Gives every worker the chief's state."""
        variables = [*self.trained.weights, *self._optimizer.variables]
        self._replicas.broadcast_variables([variable.value for variable in variables])

    def step(self, draw: Iterable[tuple[tf.Tensor, ...]], number: int) -> None:
        """Takes the run's step `number` on a covered draw; returns None."""
        seed = self._random.integers(2**31, size=2)
        if self._replicas.num_workers > 1:
            seed = np.frombuffer(self._replicas.broadcast(seed.tobytes()), seed.dtype)
        state = [weight.numpy() for weight in self.trained.weights], seed
        released = self.release((state, self._plan.refiner_noise_multiplier), draw)
        self.learn(released, number - self.first)

    def release(
        self, state: tuple[typing.Any, float], draw: Iterable[tuple[tf.Tensor, ...]]
    ) -> GradientRelease:
        """Returns the GradientRelease: all that leaves a private draw in a step.

        Args:
          state: ((weights, as of `get_weights`; seed of the public noise, int [2]), noise multiplier).
          draw: its parts, as for `step`; private.
        """
        (weights, seed), noise_multiplier = state
        self.trained.set_weights(weights)
        self._seed.assign(np.asarray(seed, np.int32))
        return self.mechanism.release(draw, noise_multiplier=noise_multiplier)

    def learn(self, released: GradientRelease, number: int) -> None:
        """Takes Adam's step `number`, from 0, from a release; returns None."""
        falling = 1 - number / self._plan.refiner_steps
        self._optimizer.learning_rate = self._learning_rate * falling
        mean = released.vector / self._plan.refiner_batch_size
        pieces = np.split(mean, np.cumsum(self._sizes)[:-1])
        weights = self.trained.weights
        gradients = [tf.reshape(p, w.shape) for p, w in zip(pieces, weights, strict=True)]
        self._optimizer.apply(gradients, weights)
        averaging.update(self.averaged.weights, weights, taken=number, longest=_LONGEST_MEMORY)

    def numbers(
        self, places: tf.Tensor, seed: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the public random numbers of a step for n places of a batch, of one chunk.

        Args:
          places: int32 [n], following one another.
          seed: int32 [2], of the step.
          *weights: of no use here.

        Returns:
          noise float32 [n views, h, w, C], standard normal, of the shape of the denoiser's images;
          levels float32 [n views]; whether a view is mirrored, bool [n views].
        """
        count = places.shape[0] * self._views
        seed = tf.stack([seed[0], tf.bitwise.bitwise_xor(seed[1], places[0])])
        noise = tf.random.stateless_normal([count, *self.trained.image_shape], seed, alg="philox")
        uniform = tf.random.stateless_uniform([2, count], seed + 1, alg="philox")
        level, side = tf.unstack(uniform)
        return noise, denoisers.levels_of(level), (side < 0.5) & self._mirror

    def _gradients(self, images, labels, counted, noise, levels, mirrored, seed, *weights):
        """float32 [n, D]: of each unit its own. See `RecordGradientMechanism`."""
        rows, views = images.shape[0] // self._plan.images_per_unit, self._views
        counts = tf.cast(counted > 0, tf.float32)
        of_unit = tf.reshape(counts, [rows, -1])
        shares = tf.reshape(
            of_unit / tf.maximum(tf.reduce_sum(of_unit, axis=1, keepdims=True), 1), [-1]
        )
        shares = tf.repeat(shares / views, views)
        clean = scaling.shrunk(tf.cast(images, tf.float32) / 127.5 - 1)
        clean = tf.repeat(clean, views, axis=0)
        clean = tf.where(mirrored[:, None, None, None], clean[:, :, ::-1], clean)
        labels = tf.repeat(labels, views)
        with keras.StatelessScope(list(zip(self.trained.weights, weights, strict=True))):
            return noted_layers.gradients(
                lambda: self.trained.loss(clean, noise, levels, labels) * shares,
                self.trained.weights,
                rows,
            )
