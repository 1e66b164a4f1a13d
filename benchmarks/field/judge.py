"""What images are worth: the classifiers of `accuracy.py`, a perceptual ruler, and a picture."""

import importlib.util

import accuracy
import numpy as np

from tfdps.generators import pixels

_COMPARED = 2000  # images of each kind that the ruler sees
_COLUMNS = 10


class Ruler:
    """FID, precision and recall in the features of a network that somebody has.

    Args:
      path: of a Python file with network(); features(network, images uint8 [n, H, W, C]), an array
        [n, d]; frechet(made, real), a number; precision_recall(real, made), two numbers.
      test: a Dataset, whose first 2,000 images are the real ones.
    """

    def __init__(self, path, test):
        spec = importlib.util.spec_from_file_location("ruler", path)
        self._ruler = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._ruler)
        self._network = self._ruler.network()
        self._real = self._ruler.features(self._network, test.images[:_COMPARED])

    def measured(self, images):
        """Returns {"fid", "precision", "recall"} of the first 2,000 images, uint8 [n, H, W, C]."""
        made = self._ruler.features(self._network, images[:_COMPARED])
        precision, recall = self._ruler.precision_recall(self._real, made)
        return {
            "fid": round(self._ruler.frechet(made, self._real), 2),
            "precision": round(precision, 3),
            "recall": round(recall, 3),
        }


def judged(arrays, *, test, names, seed, ruler, picture):
    """Returns the dict of what a method's images, or its predictions, measure.

    Args:
      arrays: a method's: images and labels; or predictions, of the test images.
      test: a Dataset.
      names: of classifiers.
      seed: of the classifiers.
      ruler: a Ruler, or None.
      picture: path of a PNG file for ten images of each class.
    """
    if "predictions" in arrays:
        return {"own": round(100 * float(np.mean(arrays["predictions"] == test.labels)), 2)}
    images, labels = arrays["images"], arrays["labels"]
    save_picture(picture, images, labels)
    found = ruler.measured(images) if ruler else {}
    return found | accuracy.accuracies(images, labels, test=test, names=names, seed=seed)


def save_picture(path, images, labels):
    """Writes a grid with a row of the first ten images of each class."""
    chosen = [np.flatnonzero(labels == label)[:_COLUMNS] for label in np.unique(labels)]
    pixels.save_png(path, images[np.concatenate(chosen)], columns=_COLUMNS)
