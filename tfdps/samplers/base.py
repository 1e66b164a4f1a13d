"""What all samplers have in common: labels and seeds in, images out, in chunks of bounded memory."""

import abc
from collections.abc import Iterator, Sequence

import numpy as np

from tfdps import checks
from tfdps.artefacts.card import ModelCard
from tfdps.generators import pixels
from tfdps.samplers import class_labels

CHUNK = 500  # images drawn at a time; part of what a seed means, so never changed
_LARGEST_SEED = 2**31


class Sampler(abc.ABC):
    """A generator that was exported, loaded.

    Attributes:
      card: its ModelCard.
      class_names: the name of each class.
      image_shape: (H, W, C).
      latent_dim: numbers of a latent z.

    Examples:
      >>> import numpy as np, tfdps
      >>> sampler = tfdps.load_sampler("saved_models/mnist_eps1/generator.onnx")
      >>> sampler.decode(np.full([2, sampler.latent_dim], 0.5), [3, 4]).shape
      (2, 28, 28, 1)
      >>> bool((sampler.sample(["3"], seed=0) == sampler.sample([3], seed=0)).all())
      True
      >>> sum(len(images) for images, labels in sampler.stream([0, 1], num=600, seed=0))
      600
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.class_names = tuple(card.class_names)
        self.image_shape = tuple(card.image_shape)
        self.latent_dim = card.latent_dim

    def sample(self, labels: Sequence[int] | Sequence[str] | np.ndarray, seed: int) -> np.ndarray:
        """Returns uint8 images [n, H, W, C], one for each label; the same for the same seed.

        Image i depends on the seed, on i and on its label alone: a longer list of labels begins
        with the images of the shorter one (up to float32 rounding, one grey level).

        Args:
          labels: integers [n] in [0, num_classes), or class names [n]; n >= 1.
          seed: an integer in [0, 2**31).

        Raises:
          UsageError: for labels or a seed outside these ranges.
        """
        labels, seed = self._checked(labels), _checked_seed(seed)
        return np.concatenate(
            [
                self._sample_chunk(labels[start : start + CHUNK], seed, start // CHUNK)
                for start in range(0, len(labels), CHUNK)
            ]
        )

    def stream(
        self, classes: Sequence[int] | Sequence[str] | np.ndarray, num: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Returns an iterator of (images, labels), the images of `sample` chunk by chunk.

        Args:
          classes: integers [k] in [0, num_classes), or class names [k], k >= 1; the labels are these in
            turn.
          num: how many images in all, at least 1.
          seed: an integer in [0, 2**31).

        Raises:
          UsageError: for arguments outside these ranges, at once.
        """
        classes, seed = self._checked(classes), _checked_seed(seed)
        checks.at_least("num", num, 1)

        def chunks():
            for start in range(0, num, CHUNK):
                labels = class_labels.in_turn(classes, start, min(CHUNK, num - start))
                yield self._sample_chunk(labels, seed, start // CHUNK), labels

        return chunks()

    def decode(
        self, z: np.ndarray, labels: Sequence[int] | Sequence[str] | np.ndarray
    ) -> np.ndarray:
        """Returns float32 images [n, H, W, C] in [-1, 1], one for each latent and label.

        Args:
          z: finite numbers [n, latent_dim]; the generator was trained on z uniform on [0, 1].
          labels: integers [n] in [0, num_classes), or class names [n]; n >= 1.

        Raises:
          UsageError: for latents of another shape, or labels outside their range.
        """
        labels, z = self._checked(labels), np.asarray(z, np.float32)
        expected = (len(labels), self.latent_dim)
        if z.shape != expected or not np.all(np.isfinite(z)):
            raise checks.UsageError(
                f"z must be finite numbers {list(expected)}, received {list(z.shape)}"
                f"{' with NaN or infinity' if z.shape == expected else ''}."
            )
        return self._decoded(z, labels)

    def _decoded(self, z, labels):
        """float32 images of latents and int32 labels, so many at a time as memory allows."""
        parts = pixels.parts(len(labels), self.image_shape, most=CHUNK)
        return np.concatenate([self._decode_chunk(z[part], labels[part]) for part in parts])

    @abc.abstractmethod
    def _sample_chunk(self, labels, seed, chunk):
        """uint8 images of int32 labels, at most CHUNK; decided by the seed and the chunk's number."""

    @abc.abstractmethod
    def _decode_chunk(self, z, labels):
        """float32 images of float32 latents and int32 labels."""

    def _checked(self, labels):
        return class_labels.numbers(labels, self.class_names)


def _checked_seed(seed):
    if checks.at_least("seed", seed, 0) >= _LARGEST_SEED:
        raise checks.UsageError(f"seed must be < 2**31, received {seed}.")
    return int(seed)
