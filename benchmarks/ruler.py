"""FID, precision and recall of generated images, in the features of a network that somebody has."""

import importlib.util

import numpy as np

_COMPARED = 2000  # images of each kind


class Ruler:
    """FID, precision and recall in the features of a network that somebody has.

    Args:
      path: of a Python file with network(); features(network, images uint8 [n, H, W, C]), an array
        [n, d]; frechet(made, real), a number; precision_recall(real, made), two numbers.
      test: a Dataset; 2,000 of its images, drawn without replacement by a fixed seed, are the real
        ones.
    """

    def __init__(self, path, test):
        spec = importlib.util.spec_from_file_location("ruler", path)
        self._ruler = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._ruler)
        self._network = self._ruler.network()
        # Not the first ones: a file may be sorted by class.
        mixed = np.random.default_rng(1).permutation(len(test))[:_COMPARED]
        self._real = self._ruler.features(self._network, test.images[mixed])

    def measured(self, images):
        """Returns {"fid", "precision", "recall"} of the first 2,000 images, uint8 [n, H, W, C]."""
        made = self._ruler.features(self._network, images[:_COMPARED])
        precision, recall = self._ruler.precision_recall(self._real, made)
        return {
            "fid": round(self._ruler.frechet(made, self._real), 2),
            "precision": round(precision, 3),
            "recall": round(recall, 3),
        }
