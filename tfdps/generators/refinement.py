"""The last layer of a refined generator: images of the mixture, noised and denoised step by step."""

import dataclasses
import typing
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdps.generators import scaling
from tfdps.generators.denoiser import Denoiser
from tfdps.generators.mixture import inverse_normal
from tfdps.generators.random_cosines import RandomCosines

_LAST_LEVEL = 0.05  # of the noise that the last step takes out


@dataclasses.dataclass(frozen=True)
class RefinerShape:
    """What a Refinement is made of.

    Attributes:
      width: of its Denoiser.
      start: noise level that images are brought to, 0.03 to 1, in pixel units.
      levels: how many steps lead down from it, at least 1.

    Examples:
      >>> import tfdps
      >>> tfdps.generators.RefinerShape(width=32, start=0.5, levels=3).start
      0.5
    """

    width: int
    start: float
    levels: int


@keras.saving.register_keras_serializable(package="tfdps")
class Refinement(keras.layers.Layer):
    """Images that look real where the mixture's have grain and haze; call([images, z, labels]).

        x = shrunk(image) + start * noise(z)
        x <- D(x, s) + (x - D(x, s)) s' / s    for levels s, and s' the next one

    From `start` down to 0.05 in even ratios, then 0: deterministic steps of the probability flow (Song
    et al., ICLR 2021; Karras et al., NeurIPS 2022), begun at an image instead of noise alone (SDEdit,
    Meng et al., ICLR 2022). The noise is a function of the latent: the same one gives the same image.
    Images of more than 40 pixels a side are made smaller first and enlarged at the end, see `scaling`.

    Weights, none trainable here: those of the `denoiser` and of the `noise`.

    Args:
      image_shape: (height, width, channels).
      num_classes: L.
      shape: the RefinerShape.

    Examples:
      >>> import numpy as np, tfdps
      >>> shape = tfdps.generators.RefinerShape(width=8, start=0.5, levels=1)
      >>> layer = tfdps.generators.Refinement((8, 8, 1), num_classes=2, shape=shape)
      >>> z, labels = np.full([3, 5], 0.5, np.float32), np.array([0, 1, 1])
      >>> layer([np.zeros([3, 8, 8, 1], np.float32), z, labels]).shape
      TensorShape([3, 8, 8, 1])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        num_classes: int,
        shape: RefinerShape,
        **kwargs: typing.Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_shape, self.num_classes, self.shape = tuple(image_shape), num_classes, shape
        self.refined_shape = scaling.refined_shape(self.image_shape)
        self.denoiser = Denoiser(
            self.refined_shape, num_classes=num_classes, width=shape.width, name="denoiser"
        )
        self.denoiser.trainable = False
        self.noise = RandomCosines(int(np.prod(self.refined_shape)), seed=2, name="noise")
        # A function, so that a file holds the denoiser once, for all steps to call.
        self._step = tf.function(
            self._denoised,
            input_signature=[
                tf.TensorSpec([None, *self.refined_shape], tf.float32),
                tf.TensorSpec([2], tf.float32),
                tf.TensorSpec([None], tf.int32),
            ],
            autograph=False,
        )

    def build(self, input_shape: typing.Any) -> None:
        self.noise.build((None, input_shape[1][-1] - 1))
        self.built = True

    def call(self, inputs: typing.Any) -> typing.Any:
        images, z, labels = inputs
        noise = keras.ops.reshape(self.noise(inverse_normal(z[:, 1:])), (-1, *self.refined_shape))
        x = scaling.shrunk(images) + self.shape.start * noise
        labels = keras.ops.cast(labels, "int32")
        levels = [*_falling(self.shape.start, self.shape.levels), 0.0]
        for pair in zip(levels[:-1], levels[1:], strict=True):
            x = self._step(x, tf.constant(pair, tf.float32), labels)
        return keras.ops.clip(scaling.enlarged(x, self.image_shape), -1.0, 1.0)

    def _denoised(self, x, levels, labels):
        """One step: [n, H, W, C] with noise of levels[0] -> with noise of levels[1]."""
        of_images = keras.ops.full_like(x[:, 0, 0, 0], levels[0])
        denoised = self.denoiser([x, of_images, labels])
        return denoised + (levels[1] / levels[0]) * (x - denoised)

    def compute_output_shape(self, input_shape: typing.Any) -> tuple[int | None, ...]:
        return (input_shape[0][0], *self.image_shape)

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {
            "image_shape": self.image_shape,
            "num_classes": self.num_classes,
            "shape": dataclasses.asdict(self.shape),
        }

    @classmethod
    def from_config(cls, config: dict[str, typing.Any]) -> "Refinement":
        return cls(**config | {"shape": RefinerShape(**config["shape"])})


def _falling(start, count):
    """The noise levels of `count` steps, from `start` in even ratios."""
    if count == 1:
        return [start]
    return [float(level) for level in np.geomspace(start, min(_LAST_LEVEL, start), count)]
