"""Random numbers that a generator takes out of its latent: functions of it, alike for alike latents."""

import keras
import numpy as np

from tfdps.generators.byte_table import ByteTable, fixed

# Radians by which one standard deviation turns a cosine: normals a tenth of that apart give like
# numbers, normals one apart have none in common (a correlation of exp(-4^2 / 2)).
_TURN = 4.0


@keras.saving.register_keras_serializable(package="tfdps")
class RandomCosines(keras.layers.Layer):
    """Numbers of mean 0 and variance 1 from standard normals [n, p]: float32 [n, count].

    sqrt(2) times a cosine along a direction of each number's own (random Fourier features, Rahimi &
    Recht, NeurIPS 2007). Numbers whose directions are at right angles, as most are from a p of about
    20, have a correlation of exp(-16).

    Weights, none trainable: directions [p, count], a ByteTable, and phases [count]; random, the same
    in every layer of a size and seed.

    Args:
      count: how many numbers.
      seed: layers of different seeds have nothing in common.
    """

    def __init__(self, count, *, seed, **kwargs):
        super().__init__(**kwargs)
        self.count, self.seed = count, seed

    def build(self, input_shape):
        random = np.random.default_rng(self.seed)
        directions = random.normal(size=(input_shape[-1], self.count))
        directions *= _TURN / np.linalg.norm(directions, axis=0)
        self.directions = ByteTable(directions.shape, axis=0, initial=directions, name="directions")
        phases = random.uniform(0, 2 * np.pi, self.count)
        self.phases = self.add_weight(
            name="phases", shape=phases.shape, initializer=fixed(phases), trainable=False
        )

    def call(self, normals):
        return 2**0.5 * keras.ops.cos(
            keras.ops.matmul(normals, self.directions.values()) + self.phases
        )

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.count)

    def get_config(self):
        return super().get_config() | {"count": self.count, "seed": self.seed}
