"""What a method's images are worth: the classifiers of `accuracy.py`, the ruler, and a picture."""

import accuracy
import numpy as np

from tfdps.generators import pixels

_COLUMNS = 10


def judged(arrays, *, test, names, seed, ruler, picture):
    """Returns the dict of what a method's images, or its predictions, measure.

    Args:
      arrays: a method's: images and labels; or predictions, of the test images.
      test: a Dataset.
      names: of classifiers.
      seed: of the classifiers.
      ruler: a `ruler.Ruler`, or None.
      picture: path of a PNG file for ten images of each class, or None.
    """
    if "predictions" in arrays:
        return {"own": round(100 * float(np.mean(arrays["predictions"] == test.labels)), 2)}
    images, labels = arrays["images"], arrays["labels"]
    if picture is not None:
        save_picture(picture, images, labels)
    found = ruler.measured(images) if ruler else {}
    return found | accuracy.accuracies(images, labels, test=test, names=names, seed=seed)


def save_picture(path, images, labels):
    """Writes a grid with a row of the first ten images of each class."""
    chosen = [np.flatnonzero(labels == label)[:_COLUMNS] for label in np.unique(labels)]
    pixels.save_png(path, images[np.concatenate(chosen)], columns=_COLUMNS)
