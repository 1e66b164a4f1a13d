"""Releases of a run's learner on draws that an auditor made up, one or many at a time."""

import numpy as np
import tensorflow as tf

_CHUNK_NUMBERS = 2**22  # of noise that wait on the host
_MOST_IN_A_CHUNK = 50


class Releases:
    """What `learner.release` gives, with fresh noise each time.

    Args:
      learner: of the run's model; joint or per record.
    """

    def __init__(self, learner):
        self._learner = learner
        self._compiled = tf.function(self._of_noises)

    def one(self, state, draw):
        """Returns the released tensor of a state and a draw, a list of padded batches without noise."""
        noise = self._learner.noise
        if noise is None:
            return tf.constant(self._learner.release(state, list(draw)).vector)
        return self._learner.release(state, [(*batch, tf.constant(noise.draw())) for batch in draw])

    def many(self, state, draw, count):
        """Yields `count` releases, float32 [k, D] at a time."""
        noise = self._learner.noise
        size = None
        while count > 0:
            chunk = 1
            if size is not None:
                chunk = min(count, _MOST_IN_A_CHUNK, max(1, _CHUNK_NUMBERS // size))
            if noise is None:
                released = np.stack([self.one(state, draw).numpy().ravel() for _ in range(chunk)])
            else:
                noises = np.stack([noise.draw() for _ in range(chunk)])
                released = self._compiled(state, tuple(draw), noises).numpy().reshape(chunk, -1)
            size = released.shape[1]
            count -= chunk
            yield released

    def _of_noises(self, state, draw, noises):
        """float32 [k, ...]: the releases of one draw, of a batch, with each noise."""
        [batch] = draw
        return tf.map_fn(
            lambda noise: self._learner.release(state, [(*batch, noise)]),
            noises,
            fn_output_signature=tf.float32,
        )
