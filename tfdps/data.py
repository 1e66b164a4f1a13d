"""Data sets: a tfds name, folder:PATH or digits. TensorFlow loads only for tfds names."""

import dataclasses
import math
import os
import typing

import numpy as np

from tfdps import checks, image_folder, parts

DIGITS_SIZE = 1797  # records of sklearn.datasets.load_digits, 8 x 8 grey, 10 classes


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What is public about a data set: its name, the images' (H, W, C), the classes' names."""

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    @property
    def num_classes(self):
        """The number of classes; labels lie in [0, num_classes)."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The private records in memory: images uint8 [n, H, W, C], labels int32 [n], the public spec.

    total: N, the public number of records of the whole data set, where these are a worker's part.
    fingerprint: equal where the files of the whole data set are; for comparing two copies of it.
    """

    images: np.ndarray
    labels: np.ndarray
    spec: DatasetSpec
    total: int | None = None
    fingerprint: str = ""

    in_memory = True

    def __len__(self):
        return len(self.labels)

    @property
    def size(self):
        """N, the public number of records of the whole data set."""
        return len(self) if self.total is None else self.total

    def gather(self, indices):
        """Returns the images of records, uint8 [k, H, W, C]."""
        return self.images[indices]


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset:
    """Private records that stay on disk: as a Dataset, without its array of images.

    reader: increasing int64 [k] -> uint8 [k, H, W, C], by one pass over what lies between them.
    """

    reader: typing.Callable
    labels: np.ndarray
    spec: DatasetSpec
    size: int
    fingerprint: str = ""

    in_memory = False

    def __len__(self):
        return len(self.labels)

    def gather(self, indices):
        """Returns the images of records, increasing int64 [k], as uint8 [k, H, W, C]."""
        return self.reader(indices)


def load(
    name,
    *,
    data_dir=None,
    label=None,
    image_size=None,
    split="train",
    part=parts.WHOLE,
    records_mib=math.inf,
):
    """Returns the Dataset `name`, all of one split, in an order that never changes.

    Args:
      name: a tfds name (mnist, celeb_a, "mnist:3.0.1", "emnist/letters", ...; downloaded and
        prepared if it is not), folder:PATH (one sub-folder of PNG or JPEG files a class), or digits
        (sklearn's; every fifth record is the test split).
      data_dir: where tfds keeps its data; default: tfds's own. Only tfds names read it.
      label: the tfds feature that is the class, a ClassLabel or a bool, possibly nested ("Male" or
        "attributes/Male" of celeb_a); default: the supervised label, or the only one there is.
      image_size: side in pixels that whole images are resized to, antialiased; default: as they
        are, which then must be one shape; for a folder 32.
      split: "train" or another split the data set has; a folder has train only.
      part: (index, count): of `count` parts of the records only part `index`. Parts are disjoint and
        together all records; tfds sets, whose order is random, are cut by files.
      records_mib: most MiB of images of the part that are held in memory.

    Returns:
      A Dataset with one or three channels and at least two classes; a StreamedDataset where it would
      be larger than records_mib.

    Raises:
      UsageError: the data cannot be had, or are not labelled images of the above kinds.
    """
    if image_size is not None:
        checks.at_least("image_size", image_size, 1)
    if _source(name) == "tfds":
        from tfdps import tfds_images

        records = tfds_images.Records(
            name, data_dir=data_dir, label=label, image_size=image_size, split=split, part=part
        )
    else:
        if label is not None:
            raise checks.UsageError(
                f"label applies to tfds data sets only, received {label!r} for {name}."
            )
        if _source(name) == "digits":
            records = _Digits(image_size, split, part)
        else:
            checks.one_of("split", split, ("train",))
            records = image_folder.Records(_path(name), image_size=image_size or 32, part=part)
    size = len(records)
    if size > records_mib * 2**20 / max(1, records.bytes_of_image):
        labels = records.labels()
        spec = DatasetSpec(_public_name(name), records.image_shape, records.class_names)
        result = StreamedDataset(records.gather, labels, spec, records.total, records.fingerprint)
    else:
        images, labels = records.read()
        shape = tuple(int(n) for n in images.shape[1:])
        spec = DatasetSpec(_public_name(name), shape, records.class_names)
        result = Dataset(images, labels, spec, records.total, records.fingerprint)
    _check(labels, spec, split)
    return result


def load_of(config, *, split="train", **how):
    """Returns the Dataset that a RunConfig names, as `load` does; a split of it.

    how: part and records_mib, as for `load`.
    """
    return load(
        config.dataset,
        data_dir=config.data_dir,
        label=config.label,
        image_size=config.image_size,
        split=split,
        **how,
    )


def dataset_size(name, *, data_dir=None, split="train"):
    """Returns the public number of records N of a split, without reading an image.

    A tfds set states it in its description, which must be prepared; a folder's files are counted.

    Raises:
      UsageError: the set is unknown or not prepared, or has no such split.
    """
    source = _source(name)
    if source == "tfds":
        from tfdps import tfds_images

        return tfds_images.count(name, data_dir=data_dir, split=split)
    if source == "digits":
        checks.one_of("split", split, ("train", "test"))
        in_test = DIGITS_SIZE // 5
        return in_test if split == "test" else DIGITS_SIZE - in_test
    checks.one_of("split", split, ("train",))
    return image_folder.count(_path(name))


def _source(name):
    if name == "digits":
        return "digits"
    return "folder" if name.startswith("folder:") else "tfds"


def _path(name):
    return name.removeprefix("folder:")


def _public_name(name):
    """`name` without the path that leads to a folder: it travels in the model card."""
    if _source(name) == "folder":
        return f"folder:{os.path.basename(os.path.abspath(os.path.expanduser(_path(name))))}"
    return name


class _Digits:
    """sklearn's digits, of a split and part, with what every source of records has."""

    bytes_of_image = 0  # the set is small whatever it is resized to
    fingerprint = "digits"

    def __init__(self, image_size, split, part):
        import sklearn.datasets

        checks.one_of("split", split, ("train", "test"))
        self._image_size, self._digits = image_size, sklearn.datasets.load_digits()
        in_test = np.arange(DIGITS_SIZE) % 5 == 4
        chosen = np.flatnonzero(in_test if split == "test" else ~in_test)
        self.total, self._chosen = len(chosen), chosen[parts.strided(part)]
        self.class_names = tuple(str(name) for name in self._digits.target_names)

    def __len__(self):
        return len(self._chosen)

    def read(self):
        """Returns (images uint8 [n, S, S, 1], labels int32 [n])."""
        from PIL import Image

        images = np.rint(self._digits.images[self._chosen] * (255 / 16))  # values are 0..16
        images = images.astype(np.uint8)
        if self._image_size is not None:
            resized = [
                image_folder.resize(Image.fromarray(image), self._image_size) for image in images
            ]
            images = np.stack([np.asarray(image) for image in resized])
        return images[..., np.newaxis], self._digits.target[self._chosen].astype(np.int32)


def _check(labels, spec, split):
    """Raises UsageError unless there are two classes and only labels of those classes."""
    if spec.num_classes < 2:
        raise checks.UsageError(
            f"{spec.name} must have at least 2 classes, received {spec.num_classes}: "
            f"{', '.join(spec.class_names)}."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= spec.num_classes:
        raise checks.UsageError(
            f"labels of split {split} of {spec.name} must lie in [0, {spec.num_classes - 1}], "
            f"received [{low}, {high}]; is the split without labels?"
        )
