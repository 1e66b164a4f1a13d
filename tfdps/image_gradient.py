"""ImageGradientLearner: a generator's weights, trained on a released gradient of its images.

Source: Cao et al., NeurIPS 2021, arXiv 2111.01177, algorithm 1.
"""

import dataclasses

import tensorflow as tf

from tfdps import replicas, sinkhorn


class ImageGradientLearner:
    """One Adam step of a generator for each release of the transport loss's image gradient.

    Guarantee: the private batch enters `image_gradients` alone, and what that returns leaves the
    step only through `mechanism.release`; a private run returns nothing else. Shapes are fixed, and
    an empty draw is a step like any other.

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
    """

    eager = False  # the step is one TensorFlow graph

    def __init__(self, generator, averaged_generator, mechanism, *, config, num_classes, on=None):
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
        self.image_gradients = tf.function(self._image_gradients, jit_compile=True)
        if self._replicas.count == 1:  # the update of several replicas cannot be: it leaves them
            self._update_weights = tf.function(self._update_weights, jit_compile=True)

    @property
    def updates(self):
        """How often the generator's weights were changed."""
        return int(self.optimizer.iterations.numpy())

    def saved_state(self):
        """Returns what a checkpoint must hold, trackables by name."""
        return {
            "generator": self.generator,
            "averaged_generator": self.averaged_generator,
            "optimizer": _OptimizerVariables(self.optimizer),
        }

    def restored(self):
        """To be called after a checkpoint was loaded: gives every worker the chief's state.

        With today's learning rate, not the stored one.
        """
        networks = [*self.generator.weights, *self.averaged_generator.weights]
        state = [weight.value for weight in [*networks, *self.optimizer.variables]]
        self._replicas.broadcast_variables(state)
        self.optimizer.learning_rate = self.config.learning_rate

    def step(self, draw, number):
        """Takes one step on a covered draw; returns the loss, private, or None of a private run.

        Args:
          draw: its one part, a list of a batch (images uint8 [P,H,W,C], labels int32 [P], weights
            float32 [P]) of each replica.
          number: the step's, from 0; all steps of this learner are alike.
        """
        [batch] = draw
        losses = self._replicas.run(self._step_of_replica, (batch,))
        return None if self.mechanism.private else self._replicas.first(losses)

    def _step_of_replica(self, batch):
        z, labels = self.latents()
        return self.noisy_step(batch, z, labels)[0]

    def noisy_step(self, batch, z, labels):
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

    def release(self, state, draw):
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
        """(loss, released dL/dX [n,...], dL/dX_fresh [n',...]): the first private, the others not.

        The fresh images' gradient holds nothing of the batch.
        """
        loss, gradient, fresh_gradient = self.image_gradients(images, labels, *batch)
        return loss, self.mechanism.release(gradient), self.mechanism.limit_public(fresh_gradient)

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
        share = 1 / self._replicas.count  # the optimizer adds up what replicas have
        self.optimizer.apply_gradients(
            [(share * (g + decay * v.value), v) for g, v in zip(gradients, variables, strict=True)]
        )
        self._average_statistics()
        # A short memory over the first steps, so that the first weights are soon forgotten.
        taken = tf.cast(self.optimizer.iterations, tf.float32)
        memory = tf.minimum(self.config.ema_decay, (1 + taken) / (10 + taken))
        for average, weight in zip(
            self.averaged_generator.weights, self.generator.weights, strict=True
        ):
            average.assign(memory * average.value + (1 - memory) * weight.value)

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


def _dense(gradient, variable):
    """A gradient as a tensor of static shape; of an embedding it comes as rows."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = gradient.values, gradient.indices
    return tf.math.unsorted_segment_sum(rows, places, num_segments=variable.shape[0])


class _OptimizerVariables(tf.Module):
    """The variables of a Keras 3 optimizer, in order, for tf.train.Checkpoint."""

    def __init__(self, optimizer):
        super().__init__()
        self.slots = [variable.value for variable in optimizer.variables]
