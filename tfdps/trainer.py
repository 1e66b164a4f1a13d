"""DPSinkhorn: the Keras model whose `train_step` is one step of DP-Sinkhorn.

Source: Cao et al., NeurIPS 2021, arXiv 2111.01177, algorithm 1.
"""

import keras
import tensorflow as tf

from tfdps import checks, sinkhorn

_UNLIMITED = tf.int64.max


class DPSinkhorn(keras.Model):
    """Trains a generator on the releases of a mechanism, by `fit` on padded Poisson draws.

    Guarantee: the private batch enters `_image_gradients` alone, and what that returns leaves the
    step only through `mechanism.release`; a private run returns its step counter alone.
    Shapes are fixed, and an empty draw is a step like any other. Every step first checks, in the
    graph, that it is covered: `noisy_steps` must be below `authorized_steps`, which starts at 0 and
    is raised when the ledger has the steps on disk (`authorize`).

    Data: batches (images uint8 [P,H,W,C], labels int32 [P], weights float32 [P], 1 or 0).

    Args:
      generator: Keras model, (z [n, latent_dim], labels [n]) -> images [n,H,W,C] in [-1,1].
      averaged_generator: another of the same architecture: the exponential average of its weights.
      mechanism: what may leave the private batch; holds the optimizer.
      config: the RunConfig.
      num_classes: L.
    """

    def __init__(self, generator, averaged_generator, mechanism, *, config, num_classes):
        super().__init__(name="dp_sinkhorn")
        self.generator, self.averaged_generator = generator, averaged_generator
        self.averaged_generator.trainable = False
        self.averaged_generator.set_weights(generator.get_weights())
        self.mechanism, self.config, self.num_classes = mechanism, config, num_classes
        self.noisy_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="noisy_steps")
        self.authorized_steps = tf.Variable(
            0 if mechanism.private else _UNLIMITED, dtype=tf.int64, trainable=False
        )
        # Not the whole step: XLA drops the assertion that the ledger covers it, and convolutions
        # are faster outside XLA on a CPU.
        self._image_gradients = tf.function(self._image_gradients, jit_compile=True)
        self._update_weights = tf.function(self._update_weights, jit_compile=True)
        self.compile(optimizer=mechanism.optimizer, jit_compile=False)
        self.optimizer.build(generator.trainable_variables)

    def authorize(self, total_steps):
        """Allows steps up to number `total_steps`, which the ledger covers already."""
        self.authorized_steps.assign(total_steps)

    def build(self, input_shape=None):
        """Nothing to do: the generators come built."""
        self.built = True

    def call(self, inputs, training=False):
        """Returns the averaged generator's images for (z, labels)."""
        return self.averaged_generator(inputs, training=training)

    def train_step(self, data):
        """One step on one padded Poisson draw; returns its number, and the loss if not private."""
        if self.jit_compile:
            raise checks.UsageError("jit_compile must be off: XLA would drop the ledger's check.")
        loss, _ = self.noisy_step(self._covered(data), *self.latents())
        public = {"noisy_steps": self.noisy_steps.value()}
        return public if self.mechanism.private else {**public, "loss": loss}

    def noisy_step(self, batch, z, labels):
        """(loss, released dL/dX [n,...]); updates the weights from latents and a covered batch."""
        with tf.GradientTape() as tape:
            images = self.generator([z, labels], training=True)
        loss, released, fresh_gradient = self.release(images, labels, batch)
        gradients = tape.gradient(
            images,
            self.generator.trainable_variables,
            output_gradients=tf.concat([released, fresh_gradient], axis=0),
        )
        self._update_weights(gradients)
        return loss, released

    def release(self, images, labels, batch):
        """(loss, released dL/dX [n,...], dL/dX_fresh [n',...]) of generated images on a private batch.

        All that leaves the batch in a step, and what an audit of the mechanism calls. The loss is
        private, the released gradient is not, and the fresh images' gradient holds none of it.

        Args:
          images: float32 [n + n', H, W, C] in [-1, 1], the fresh images last; public.
          labels: int32 [n + n']; public.
          batch: a padded draw, (images uint8, labels, weights); private.
        """
        loss, gradient, fresh_gradient = self._image_gradients(images, labels, *batch)
        return loss, self.mechanism.release(gradient), self.mechanism.limit_public(fresh_gradient)

    def _covered(self, data):
        """`data` of a step that the ledger covers, now counted; fails before touching it if not."""
        covered = tf.debugging.assert_less(
            self.noisy_steps,
            self.authorized_steps,
            "this step is in no ledger: call authorize() after the ledger has it on disk",
        )
        # An assertion alone would run beside the step; what depends on it waits for it.
        with tf.control_dependencies([covered] if covered is not None else []):
            self.noisy_steps.assign_add(1)
            return tf.nest.map_structure(tf.identity, data)

    def latents(self):
        """(z, labels) of the n images of the step and the n' fresh ones, which share n' labels."""
        num_images, num_fresh = self.config.batch_size, self.config.num_fresh
        z = tf.random.uniform([num_images + num_fresh, self.config.latent_dim])
        labels = tf.random.uniform([num_images], maxval=self.num_classes, dtype=tf.int32)
        return z, tf.concat([labels, labels[:num_fresh]], axis=0)

    def _image_gradients(self, images, labels, private_images, private_labels, weights):
        """(loss, dL/dX [n,...], dL/dX_fresh [n',...]); compiled; all three hold private data."""
        num_images = self.config.batch_size
        private = tf.cast(private_images, tf.float32) / 127.5 - 1
        target = self._features(private, private_labels)
        x, fresh = tf.stop_gradient(images[:num_images]), tf.stop_gradient(images[num_images:])
        with tf.GradientTape() as tape:
            tape.watch([x, fresh])
            loss = self._loss(
                self._features(x, labels[:num_images]),
                self._features(fresh, labels[num_images:]),
                target,
                weights,
            )
        gradients = tape.gradient(loss, [x, fresh], unconnected_gradients="zero")
        return loss, *gradients

    def _loss(self, x, fresh, target, weights):
        config = self.config
        settings = {
            "cost": config.cost,
            "cost_l1_weight": config.cost_l1_weight,
            "regularization": config.regularization,
            "schedule": config.schedule,
            "exponent": config.schedule_exponent,
            "y_weights": weights,
        }
        if config.loss == "plain":
            return sinkhorn.sinkhorn_divergence(x, target, y_self_term=False, **settings).value
        return sinkhorn.semi_debiased_loss(x, fresh, target, **settings)

    def _features(self, images, labels):
        """phi = [pixels; label_scale * onehot(label)], [n, d + L]."""
        count = images.shape[0]
        onehot = tf.one_hot(labels, self.num_classes) * self.config.label_scale
        return tf.concat([tf.reshape(images, [count, -1]), onehot], axis=1)

    def _update_weights(self, gradients):
        """Adam with the L2 term, then the moving average of all weights; all of it public."""
        decay, variables = self.config.weight_decay, self.generator.trainable_variables
        self.optimizer.apply_gradients(
            [(g + decay * v.value, v) for g, v in zip(gradients, variables, strict=True)]
        )
        # A short memory over the first steps, so that the first weights are soon forgotten.
        taken = tf.cast(self.optimizer.iterations, tf.float32)
        memory = tf.minimum(self.config.ema_decay, (1 + taken) / (10 + taken))
        for average, weight in zip(
            self.averaged_generator.weights, self.generator.weights, strict=True
        ):
            average.assign(memory * average.value + (1 - memory) * weight.value)
