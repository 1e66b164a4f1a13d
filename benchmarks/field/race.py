"""What a method is given, and what it hands back."""

import dataclasses
import typing

import numpy as np


@dataclasses.dataclass(frozen=True)
class Race:
    """What every method is given.

    Attributes:
      images: uint8 [N, H, W, C], the private records; labels: int32 [N].
      class_names: public; label k is the k-th.
      epsilon, delta: the budget, for zero-out adjacency (one record replaced by nothing, N public).
      samples: how many images to hand back.
      minutes: the time that a baseline may train.
      seed: of all that is random, but for this project's own noise, which takes none.
      flags: the product's own, as on its command line.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple
    epsilon: float
    delta: float
    samples: int
    minutes: float
    seed: int
    flags: tuple = ()

    @property
    def num_classes(self):
        """L."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class Finish:
    """What a method hands back.

    Attributes:
      draw: function of labels int32 [n]: images uint8 [n, H, W, C]; None for a classifier.
      predict: function of images uint8 [n, H, W, C]: labels [n]; None for a generator.
      labels: of the images that can be drawn, int32 [n]; None: the classes in turn, as many as wanted.
      numbers: what the run spent, for the log: epsilon, steps, sigma (noise standard deviation over
        sensitivity), batch and so on.
    """

    draw: typing.Callable | None = None
    predict: typing.Callable | None = None
    numbers: dict = dataclasses.field(default_factory=dict)
    labels: np.ndarray | None = None

    def arrays(self, given):
        """Returns {"images", "labels"} of as many images as the Race wants."""
        labels = self.labels
        if labels is None:
            labels = np.arange(given.samples, dtype=np.int32) % given.num_classes
        return {"images": self.draw(labels), "labels": labels}


def to_unit(images):
    """Returns bytes as float32 in [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1


def to_bytes(images):
    """Returns numbers in [-1, 1], clipped there, as bytes."""
    return np.rint((np.clip(np.asarray(images), -1, 1) + 1) * 127.5).astype(np.uint8)


def by_parts(function, array, size=500):
    """Returns function(part of the array, number of the part), of all parts, in one array.

    The last part is filled up, so that a compiled function meets one shape.
    """
    filled = array[np.arange(-(-len(array) // size) * size) % len(array)]
    parts = [function(filled[i : i + size], i // size) for i in range(0, len(filled), size)]
    return np.concatenate(parts)[: len(array)]
