"""sklearn's digits: 8 x 8 grey, 10 classes; every fifth record is the test split."""

import numpy as np

from tfdps import checks
from tfdps.data import fit, partition

SIZE = 1797  # records of sklearn.datasets.load_digits
NUM_CLASSES = 10


class Records:
    """sklearn's digits, of a split and part, with what every source of records has."""

    bytes_of_image = 0  # the set is small whatever it is resized to
    channels, fingerprint = 1, "digits"

    def __init__(self, image_size, split, part, *, labelled=True):
        import sklearn.datasets

        checks.one_of("split", split, ("train", "test"))
        self._image_size, self._digits = image_size, sklearn.datasets.load_digits()
        in_test = np.arange(SIZE) % 5 == 4
        chosen = np.flatnonzero(in_test if split == "test" else ~in_test)
        self.total, self._chosen = len(chosen), chosen[partition.strided(part)]
        names = self._digits.target_names if labelled else ["digits"]
        self.class_names, self._labelled = tuple(str(name) for name in names), labelled

    def __len__(self):
        return len(self._chosen)

    def read(self):
        """Returns (images uint8 [n, S, S, 1], labels int32 [n])."""
        from PIL import Image

        images = np.rint(self._digits.images[self._chosen] * (255 / 16))  # values are 0..16
        images = images.astype(np.uint8)
        if self._image_size is not None:
            resized = [fit.resize(Image.fromarray(image), self._image_size) for image in images]
            images = np.stack([np.asarray(image) for image in resized])
        labels = self._digits.target[self._chosen] * self._labelled
        return images[..., np.newaxis], labels.astype(np.int32)
