"""A feature space: what turns images into the vectors that the distances compare."""

import collections.abc
import dataclasses

import numpy as np

from tfdps import checks, console

_SILENT_SECONDS = 2.0  # work that is done by then shows no bar


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """A named map from images to vectors; distances compare only within one name and one digest.

    Attributes:
      name: short, fit for the name of a metric: fid_<name>.
      description: a sentence: what the features are and where the weights are from.
      digest: the first 12 hexadecimal digits of the SHA-256 of the weights.
      image_shape: (H, W, C) that the images must have; None in a place where any will do.
      batch_size: images that `compute` is given at a time.
      compute: uint8 [b, H, W, C] -> float32 [b, d].
      progress: whether `extract` shows a bar on stderr when it takes longer than a moment.
    """

    name: str
    description: str
    digest: str
    image_shape: tuple[int | None, int | None, int | None]
    batch_size: int
    compute: collections.abc.Callable
    progress: bool = True

    def extract(self, images):
        """Returns float32 features [n, d], one row for each image, in order.

        Args:
          images: uint8 [n, H, W, C], n >= 1, of `image_shape`.

        Raises:
          UsageError: for another dtype or shape, or no image.
        """
        images = np.asarray(images)
        fits = images.ndim == 4 and all(
            wanted in (None, size)
            for wanted, size in zip(self.image_shape, images.shape[1:], strict=True)
        )
        if images.dtype != np.uint8 or not fits or not images.size:
            shape = ", ".join("any" if n is None else str(n) for n in self.image_shape)
            raise checks.UsageError(
                f"images for features {self.name} must be uint8 [n, {shape}] with n >= 1, "
                f"received {images.dtype} {list(images.shape)}."
            )
        return np.concatenate([self.compute(images[part]) for part in self._parts(len(images))])

    def _parts(self, count):
        """Yields the slices of the batches, with a progress bar."""
        bar = console.Bar(
            desc=f"features {self.name}",
            total=count,
            unit="image",
            delay=_SILENT_SECONDS,
            leave=False,
            disable=not self.progress,
        )
        with bar:
            for start in range(0, count, self.batch_size):
                part = slice(start, min(start + self.batch_size, count))
                yield part
                bar.update(part.stop - part.start)
