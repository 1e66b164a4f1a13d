"""DPSinkhorn: the Keras model whose `train_step` is one step of a private run."""

import keras
import tensorflow as tf

from tfdps import checks

_UNLIMITED = tf.int64.max


class DPSinkhorn(keras.Model):
    """Has a learner take steps, by `fit` on padded Poisson draws, as far as the ledger covers them.

    Guarantee: every step first checks, in the graph, that it is covered: `noisy_steps` must be below
    `authorized_steps`, which starts at 0 and is raised when the ledger has the steps on disk
    (`authorize`). The private batch then goes to `learner.step` alone, whose own guarantee says what
    leaves it; a private run returns its step counter and nothing else.

    Data: batches (images uint8 [P,H,W,C], labels int32 [P], weights float32 [P], 1 or 0).

    Args:
      learner: what a step does, with its mechanism: an ImageGradientLearner or a MomentLearner.
    """

    def __init__(self, learner):
        super().__init__(name="dp_sinkhorn")
        self.learner, self.mechanism = learner, learner.mechanism
        self.generator = learner.generator
        self.averaged_generator = learner.averaged_generator
        self.noisy_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="noisy_steps")
        self.authorized_steps = tf.Variable(
            0 if self.mechanism.private else _UNLIMITED, dtype=tf.int64, trainable=False
        )
        self.compile(jit_compile=False, run_eagerly=learner.eager)

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
        number = self.noisy_steps.value()
        loss = self.learner.step(self._covered(data), number)
        public = {"noisy_steps": self.noisy_steps.value()}
        return public if self.mechanism.private else {**public, "loss": loss}

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
