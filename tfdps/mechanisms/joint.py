"""The joint mechanism of DP-Sinkhorn: one clip over the gradient of a whole generated batch.

Source: Cao et al., NeurIPS 2021, arXiv 2111.01177, section 4.1.
"""

import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.mechanisms import dp_adam, exact_gaussian, gradient_grid, poisson


@dataclasses.dataclass(frozen=True)
class StepNoise:
    """What the noise of one replica's release is drawn from, on the host, for one step at a time.

    It goes to the device with the step's batch, as data of a static shape: so it is the same on a CPU,
    a GPU and a TPU, which has no generator that would do.

    Attributes:
      shape: of the release.
      stddev: in steps of the release's grid.
    """

    shape: tuple
    stddev: float

    def draw(self) -> np.ndarray:
        """Returns fresh noise, int64 of `shape`: see `exact_gaussian.draw`."""
        return exact_gaussian.draw(math.prod(self.shape), self.stddev).reshape(self.shape)


class JointMechanism:
    """Releases the gradient of the transport loss with respect to the generated images.

    Guarantee:
      Adjacency: zero-out: one record of the private data set counts or does not, its place stays.
      Mechanism: release(G) = (C / 2^20) (k(G) + round(N)): k(G) is G min(C/||G||, 1) in steps of
        C / 2^20, less a millionth, rounded towards 0, the norm taken over the whole array; a G whose
        norm is not finite counts as 0. N is Gaussian of standard deviation at least sigma 2 2^20
        (`exact_gaussian`).
      Sensitivity: the squares of k(G) sum to at most 2^40, which integers are compared by, else k is
        0. So k lies in a ball of radius 2^20, and any two private batches, neighbours or not, move it
        by at most 2 2^20 in L2, which is 2C. The noise has standard deviation sigma times that, so one
        step is a Gaussian mechanism of noise multiplier sigma, rounded, subsampled by the step's
        Poisson draw.
      Replicas: each has the generated images and the records of its own shard, its own clip and its
        own noise. A record's shard follows its place alone, so that zeroing it out moves no other:
        two neighbouring data sets differ in one replica's batch, and the others' releases are the
        same functions of the same records and of noise of their own. All releases together, one long
        vector, move by at most 2C: the mechanism of one device.
      May be released: the return value of `release`, and everything computed from it and from
        public values alone (the generator's weights, its images).
      What breaks it: a record in two replicas' shards; shards that depend on other records; noise
        used in two releases; a shape that follows the number of records drawn; skipping empty draws;
        using the gradient, its norm or the loss anywhere else.

    Args:
      clip_norm: C > 0, in units of cost per pixel unit.
      noise_multiplier: sigma > 0, noise standard deviation over sensitivity.
      learning_rate: of `optimizer`, the Adam that applies the released gradient, > 0, or a Keras
        learning-rate schedule.
      fresh_clip: what `limit_public` clips to, over C, in (0, 1].

    Raises:
      UsageError: on a setting out of range.

    Examples:
      >>> import tensorflow as tf, tfdps
      >>> mechanism = tfdps.mechanisms.JointMechanism(clip_norm=0.5, noise_multiplier=1.0)
      >>> mechanism.sensitivity, mechanism.noise_stddev
      (1.0, 1.0)
      >>> gradient = tf.zeros([10, 8, 8, 1])
      >>> mechanism.release(gradient, mechanism.step_noise(gradient.shape).draw()).shape
      TensorShape([10, 8, 8, 1])
    """

    name = "joint"
    private = True
    # Two clipped gradients are two points of a ball of radius C: at most 2 C apart, not C.
    sensitivity_over_clip_norm = 2.0
    # Any two batches are safe, not neighbours alone: draws may be cut short.
    overflow_probability, draws_in_parts = poisson.OVERFLOW_PROBABILITY, False
    sums_integers_in_float64 = False

    def __init__(
        self,
        *,
        clip_norm: float,
        noise_multiplier: float,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        fresh_clip: float = 1.0,
    ) -> None:
        self.clip_norm = checks.positive("clip_norm", clip_norm)
        self.noise_multiplier = checks.positive("noise_multiplier", noise_multiplier)
        self.fresh_clip = checks.fraction("fresh_clip", fresh_clip, one=True)
        self.optimizer = dp_adam.gaussian_adam(
            clip_norm=clip_norm, noise_stddev=self.noise_stddev, learning_rate=learning_rate
        )

    @property
    def sensitivity(self) -> float:
        """The most that two private batches can move the un-noised release, in L2: 2C."""
        return self.sensitivity_over_clip_norm * self.clip_norm

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of the noise on every element of the release."""
        return self.noise_multiplier * self.sensitivity

    @property
    def spacing(self) -> float:
        """One step of the release's grid."""
        return self.clip_norm / gradient_grid.STEPS

    def step_noise(self, shape: Sequence[int]) -> StepNoise:
        """Returns the StepNoise of releases of gradients of a shape.

        Raises:
          UsageError: for more than `gradient_grid.MOST_ELEMENTS` elements.
        """
        gradient_grid.check_size(shape)
        steps = self.noise_multiplier * self.sensitivity_over_clip_norm * gradient_grid.STEPS
        return StepNoise(tuple(shape), steps)

    def release(self, gradient: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Returns the sanitised gradient, float32 of the same shape. See the class's guarantee.

        Args:
          gradient: dL/dX, float32, in a shape that does not depend on private data.
          noise: int64 of that shape, of `step_noise(shape).draw()`, for this release alone.
        """
        steps = dp_adam.clip_and_noise(self.optimizer, finite_or_zero(gradient), noise)
        return tf.cast(steps * self.spacing, tf.float32)

    def limit_public(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns a gradient that holds no private data (the fresh images'), clipped."""
        return tf.clip_by_norm(finite_or_zero(gradient), self.fresh_clip * self.clip_norm)


def finite_or_zero(gradient):
    """Returns `gradient`, or zeros when its norm is not finite.

    Without this a NaN would pass through the clip and tell, un-noised, that a batch caused it.
    """
    norm = tf.norm(gradient)
    return tf.where(tf.math.is_finite(norm), gradient, tf.zeros_like(gradient))
