"""The joint mechanism of DP-Sinkhorn: one clip over the gradient of a whole generated batch.

Source: Cao et al., NeurIPS 2021, arXiv 2111.01177, section 4.1.
"""

import tensorflow as tf

from tfdps import checks
from tfdps.mechanisms import tf_privacy


class JointMechanism:
    """Releases the gradient of the transport loss with respect to the generated images.

    Guarantee:
      Adjacency: add or remove one record of the private data set.
      Mechanism: release(G) = G min(C/||G||, 1) + N(0, (sigma 2C)^2 I), the norm taken over the whole
        array; a G that is not finite counts as 0.
      Sensitivity: clipped gradients lie in a ball of radius C, so any two private batches,
        neighbours or not, move the un-noised release by at most 2C in L2. The noise has standard
        deviation sigma times that, so one step is a Gaussian mechanism of noise multiplier sigma,
        subsampled by the step's Poisson draw.
      Replicas: each has the generated images and the records of its own shard, its own clip and its
        own noise. A record is in one shard, so two neighbouring data sets differ in one replica's
        batch; the others' releases are the same functions of the same records and of noise of their
        own. All releases together, one long vector, move by at most 2C: the mechanism of one device.
      May be released: the return value of `release`, and everything computed from it and from
        public values alone (the generator's weights, its images).
      What breaks it: a record in two replicas' shards; two replicas with one noise stream (a run
        compares them before its first step); a shape that follows the number of records drawn;
        skipping empty draws; using the gradient, its norm or the loss anywhere else; noise that
        somebody can reproduce (its generator is keyed by the operating system, and its state is
        never saved).

    Args:
      clip_norm: C > 0, in units of cost per pixel unit.
      noise_multiplier: sigma > 0, noise standard deviation over sensitivity.
      **adam_settings: for `optimizer`, the Adam that applies the released gradient.

    Raises:
      UsageError: on a setting out of range.
    """

    name = "joint"
    private = True
    # Two clipped gradients are two points of a ball of radius C: at most 2 C apart, not C.
    sensitivity_over_clip_norm = 2.0
    bounds_any_batches = True  # not neighbours alone: draws may be truncated

    def __init__(self, *, clip_norm, noise_multiplier, **adam_settings):
        self.clip_norm = checks.positive("clip_norm", clip_norm)
        self.noise_multiplier = checks.positive("noise_multiplier", noise_multiplier)
        self.optimizer = tf_privacy.gaussian_adam(
            clip_norm=clip_norm, noise_stddev=self.noise_stddev, **adam_settings
        )

    @property
    def sensitivity(self):
        """The most that two private batches can move the un-noised release, in L2: 2C."""
        return self.sensitivity_over_clip_norm * self.clip_norm

    @property
    def noise_stddev(self):
        """Standard deviation of the noise on every element of the release."""
        return self.noise_multiplier * self.sensitivity

    def release(self, gradient):
        """Returns the sanitised gradient, float32 of the same shape. See the class's guarantee.

        Args:
          gradient: dL/dX, float32, in a shape that does not depend on private data.

        """
        return tf_privacy.clip_and_noise(self.optimizer, finite_or_zero(gradient))

    def noise_sample(self, size):
        """Returns the next numbers of this replica's noise, float64 [size], which no release has."""
        return tf_privacy.noise_sample(self.optimizer, size)

    def limit_public(self, gradient):
        """Returns a gradient that holds no private data (the fresh images'), clipped to C."""
        return tf.clip_by_norm(finite_or_zero(gradient), self.clip_norm)


def finite_or_zero(gradient):
    """Returns `gradient`, or zeros when its norm is not finite.

    Without this a NaN would pass through the clip and tell, un-noised, that a batch caused it.
    """
    norm = tf.norm(gradient)
    return tf.where(tf.math.is_finite(norm), gradient, tf.zeros_like(gradient))
