"""Data sets as arrays: a tfds name, folder:PATH or digits. TensorFlow loads only for tfds names."""

import dataclasses
import os

import numpy as np

from tfdps import checks, image_folder

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
    """The private records: images uint8 [N, H, W, C], labels int32 [N], and the public spec."""

    images: np.ndarray
    labels: np.ndarray
    spec: DatasetSpec

    def __len__(self):
        return len(self.labels)


def load(name, *, data_dir=None, label=None, image_size=None, split="train"):
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

    Returns:
      A Dataset with one or three channels and at least two classes.

    Raises:
      UsageError: the data cannot be had, or are not labelled images of the above kinds.
    """
    if image_size is not None:
        checks.at_least("image_size", image_size, 1)
    if _source(name) == "tfds":
        from tfdps import tfds_images

        images, labels, class_names = tfds_images.read(
            name, data_dir=data_dir, label=label, image_size=image_size, split=split
        )
    else:
        if label is not None:
            raise checks.UsageError(
                f"label applies to tfds data sets only, received {label!r} for {name}."
            )
        if _source(name) == "digits":
            images, labels, class_names = _digits(image_size, split)
        else:
            checks.one_of("split", split, ("train",))
            images, labels, class_names = image_folder.read(
                _path(name), image_size=image_size or 32
            )
    spec = DatasetSpec(_public_name(name), tuple(int(n) for n in images.shape[1:]), class_names)
    _check(labels, spec, split)
    return Dataset(images, labels, spec)


def load_of(config, *, split="train"):
    """Returns the Dataset that a RunConfig names, as `load` does; a split of it."""
    return load(
        config.dataset,
        data_dir=config.data_dir,
        label=config.label,
        image_size=config.image_size,
        split=split,
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


def _digits(image_size, split):
    """Returns (images uint8 [N, S, S, 1], labels int32 [N], class names) of sklearn's digits."""
    import sklearn.datasets
    from PIL import Image

    checks.one_of("split", split, ("train", "test"))
    digits = sklearn.datasets.load_digits()
    in_test = np.arange(len(digits.target)) % 5 == 4
    chosen = in_test if split == "test" else ~in_test
    images = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)  # values are 0..16
    if image_size is not None:
        resized = [image_folder.resize(Image.fromarray(image), image_size) for image in images]
        images = np.stack([np.asarray(image) for image in resized])
    class_names = tuple(str(name) for name in digits.target_names)
    return images[..., np.newaxis], digits.target[chosen].astype(np.int32), class_names


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
