"""TransportLoss: the loss of a joint step, and its gradients with respect to the generated images.

Source: Cao et al., NeurIPS 2021, arXiv 2111.01177, eq. 8.
"""

from __future__ import annotations

import typing

import tensorflow as tf

from tfdps.sinkhorn import divergence

if typing.TYPE_CHECKING:
    from tfdps.config.run_config import RunConfig


class TransportLoss:
    """The semi-debiased loss, or the plain divergence, between generated images and a private batch.

    Points are pixels and scaled labels, [pixels; label_scale * onehot(label)]. XLA compiles both
    gradients.

    Guarantee: none of its own. What `image_gradients` returns holds private data. `fresh_gradient` is
    not given the batch, so it holds none.

    Args:
      config: the RunConfig, whose batch_size is that of a replica.
      num_classes: L.

    Examples:
      >>> import tensorflow as tf, tfdps
      >>> from tfdps.learners.transport_loss import TransportLoss
      >>> config = tfdps.RunConfig(mechanism="joint", batch_size=5)
      >>> images, labels = tf.zeros([6, 8, 8, 1]), tf.zeros([6], tf.int32)  # the last one is fresh
      >>> TransportLoss(config, num_classes=10).fresh_gradient(images, labels).shape
      TensorShape([1, 8, 8, 1])
    """

    def __init__(self, config: RunConfig, num_classes: int) -> None:
        self._config, self._num_classes = config, num_classes
        self._settings: dict[str, typing.Any] = {
            "cost": config.cost,
            "cost_l1_weight": config.cost_l1_weight,
            "regularization": config.regularization,
            "schedule": config.schedule,
            "exponent": config.schedule_exponent,
        }

    def image_gradients(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        private_images: tf.Tensor,
        private_labels: tf.Tensor,
        weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (loss, dL/dX [n,H,W,C]), both private.

        Args:
          images: float32 [n + n', H, W, C] in [-1, 1], the n' fresh images last; public.
          labels: int32 [n + n']; public.
          private_images: uint8 [P, H, W, C].
          private_labels: int32 [P].
          weights: float32 [P], 1, or 0 of padding.
        """
        count = self._config.batch_size
        private = tf.cast(private_images, tf.float32) / 127.5 - 1
        target = self._points(private, private_labels)
        x, fresh = tf.stop_gradient(images[:count]), tf.stop_gradient(images[count:])
        with tf.GradientTape() as tape:
            tape.watch(x)
            own = self._points(x, labels[:count])
            if self._config.loss == "plain":
                loss = divergence.sinkhorn_divergence(
                    own, target, y_self_term=False, y_weights=weights, **self._settings
                ).value
            else:
                others = self._points(fresh, labels[count:])
                loss = divergence.semi_debiased_loss(
                    own, others, target, y_weights=weights, **self._settings
                )
        return loss, tape.gradient(loss, x)

    def fresh_gradient(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns dL/dX_fresh [n',H,W,C], of the debiasing term alone; arguments as above; public."""
        count = self._config.batch_size
        x, fresh = images[:count], tf.stop_gradient(images[count:])
        if not self._config.num_fresh:
            return tf.zeros_like(fresh)
        own = self._points(x, labels[:count])
        with tf.GradientTape() as tape:
            tape.watch(fresh)
            mixed = divergence.partly_fresh(own, self._points(fresh, labels[count:]))
            loss = -divergence.transport_cost(own, mixed, **self._settings).value
        return tape.gradient(loss, fresh)

    def _points(self, images, labels):
        """[pixels; label_scale * onehot(label)] of each image, [n, d + L]."""
        count = images.shape[0]
        onehot = tf.one_hot(labels, self._num_classes) * self._config.label_scale
        return tf.concat([tf.reshape(images, [count, -1]), onehot], axis=1)
