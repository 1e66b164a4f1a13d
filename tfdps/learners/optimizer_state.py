"""What a checkpoint has of an optimizer."""

import tensorflow as tf


class OptimizerVariables(tf.Module):
    """The variables of a Keras 3 optimizer, in order, for tf.train.Checkpoint."""

    def __init__(self, optimizer):
        super().__init__()
        self.slots = [variable.value for variable in optimizer.variables]
