"""Records that a Python program passes: NumPy arrays, a tf.data.Dataset or a Dataset.

A run names them "arrays" or "arrays:NAME", which is all that its files say of where they come from.
"""

import hashlib
import re
import typing

import numpy as np

from tfdps import checks
from tfdps.data import partition
from tfdps.data.dataset import Dataset, units_of

if typing.TYPE_CHECKING:
    import tensorflow as tf

PassedRecords: typing.TypeAlias = "tuple[np.ndarray, ...] | Dataset | tf.data.Dataset"

_NAME = re.compile(r"arrays(:\w[\w .-]*)?")
_CHANNELS = (1, 3)
_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


def is_name(name: str) -> bool:
    """Returns whether a data set's name is one of passed records: arrays or arrays:NAME."""
    return name.partition(":")[0] == "arrays"


def missing(name: str) -> checks.UsageError:
    """Returns the error for passed records that are not there."""
    return checks.UsageError(
        f"the records of {name} are a Python program's, and no file has them: pass them to "
        "tfdps.train, tfdps.evaluate or tfdps.audit, as (images, labels). Sampling, exporting, "
        "verifying and reporting need none."
    )


class Records:
    """Records that were passed, with what every source of records has.

    The arrays are not copied: they must not change while they are used.

    Guarantee: classes are declared, never found in the labels; records that do not fit are refused
    before a plan is made of them. Parts are disjoint: a record is of the part of its place. The
    fingerprint is computed from private records without noise, and goes where theirs may go.

    Attributes:
      class_names: tuple of str; label k is the k-th.
      total: N, the number of records of all parts.
      channels: of every image, 1 or 3.
      image_shape: (height, width, channels).
      persons: whose each record is, an array [N] of texts or integers, or None.
      units: of a Dataset that has them, int64 [n, m], see there; None.
      fingerprint: SHA-256 of all images and labels in their order; private.
      bytes_of_image: 0, since they are in memory already.

    Args:
      name: arrays or arrays:NAME.
      records: (images, labels): arrays uint8 [N, H, W] or [N, H, W, C] with C 1 or 3, and integers [N];
        or (images, labels, persons), with whose each image is, texts or integers [N]; or a
        tf.data.Dataset of pairs, one record each, which is read into memory once and must have one
        order; or a Dataset, whose spec declares the classes.
      image_size: side in pixels that images must have; None: any.
      class_names: tuple of the classes in the order of their labels; None where a Dataset has them.
      part: (index, count), see `partition`: every count-th record.

    Raises:
      UsageError: the records are of another kind, or contradict what is declared.
    """

    bytes_of_image = 0

    def __init__(self, name, records, *, image_size=None, class_names=None, part=partition.WHOLE):
        if not _NAME.fullmatch(name):
            raise checks.UsageError(
                "dataset must be arrays or arrays:NAME where records are passed, with letters, digits, "
                f"spaces, dots and dashes in NAME; received {name!r}: RunConfig(dataset='arrays:NAME')."
            )
        persons, units = getattr(records, "persons", None), getattr(records, "units", None)
        if isinstance(records, tuple) and len(records) == 3:
            *records, persons = records
            records = tuple(records)
        images, labels, declared = _parts_of(records)
        self.class_names = _declared(class_names, declared)
        self._images = _checked_images(images, image_size)
        self._labels = _checked_labels(labels, len(self._images), self.class_names)
        self.image_shape = self._images.shape[1:]
        self.total, self.channels = len(self._images), self.image_shape[-1]
        self.persons = None if persons is None else _checked_persons(persons, self.total)
        self.units = None if units is None else _checked_units(units, self.total)
        self.fingerprint = _fingerprint(self._images, self._labels, self.persons, self.units)
        self._part = partition.strided(part)

    def __len__(self):
        return len(self._labels[self._part])

    def read(self):
        """Returns (images uint8 [n, H, W, C], labels int32 [n]) of the part."""
        return self._images[self._part], self._labels[self._part]


def has_units(records):
    """Returns whether records were passed with persons, as units of privacy."""
    if isinstance(records, Dataset):
        return records.units is not None
    return isinstance(records, tuple) and len(records) == 3


def _parts_of(records):
    """(images, labels, class names or None) of what was passed."""
    if isinstance(records, Dataset):
        count, what = len(units_of(records)), "records" if records.units is None else "persons"
        if records.size != count:
            raise checks.UsageError(
                f"records must be all of a data set, received {count} of {records.size} {what}: pass "
                "the whole Dataset, or Dataset(images, labels, spec) of what is the whole."
            )
        return records.images, records.labels, records.spec.class_names
    if isinstance(records, tuple) and len(records) == 2:
        return *records, None
    if hasattr(records, "element_spec"):
        return *_read(records), None
    raise checks.UsageError(
        "records must be (images, labels), (images, labels, persons), a tf.data.Dataset of such pairs "
        f"or a tfdps.Dataset, received {type(records).__name__}."
    )


def _read(pairs):
    """(images, labels) of all pairs of a tf.data.Dataset."""
    kinds = pairs.element_spec
    if not (isinstance(kinds, tuple) and len(kinds) == 2 and kinds[1].shape.rank == 0):
        raise checks.UsageError(
            "a tf.data.Dataset must hold (image, label) pairs, one record each, received elements of "
            f"{kinds}: map them to pairs, and unbatch() batches."
        )
    if pairs.cardinality() == _INFINITE:
        raise checks.UsageError(
            "a tf.data.Dataset must end, received one that does not: no repeat()."
        )
    found = list(pairs.as_numpy_iterator())
    return [image for image, _ in found], [label for _, label in found]


def _declared(class_names, of_dataset):
    """The classes, which labels must not be asked for: what they hold is private."""
    if class_names is None and of_dataset is None:
        raise checks.UsageError(
            "class_names must be declared where records are passed, since the classes that the labels "
            "happen to have are private: RunConfig(class_names='cat,dog'), label k is the k-th."
        )
    if class_names is not None and of_dataset is not None and class_names != of_dataset:
        raise checks.UsageError(
            f"class_names must be those of the Dataset, {checks.listed(of_dataset)}, in that order; "
            f"received {checks.listed(class_names)}: leave class_names out."
        )
    return class_names or of_dataset


def _checked_images(images, image_size):
    """The images as uint8 [N, H, W, C]."""
    images = _array("images", images)
    if images.dtype != np.uint8:
        raise checks.UsageError(
            f"images must be uint8, 0 to 255, received {images.dtype}: numbers in [0, 1] become "
            "np.rint(255 * images).astype(np.uint8)."
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or 0 in images.shape or images.shape[3] not in _CHANNELS:
        raise checks.UsageError(
            "images must be [N, H, W], or [N, H, W, C] with C 1 or 3, none of them 0; received "
            f"{list(images.shape)}."
        )
    if image_size is not None and images.shape[1:3] != (image_size, image_size):
        raise checks.UsageError(
            f"images that are passed must be image_size x image_size, {image_size} x {image_size}, "
            f"received {images.shape[1]} x {images.shape[2]}: resize them, or leave image_size out."
        )
    return images


def _checked_labels(labels, count, class_names):
    """The labels as int32 [N], each that of a class."""
    labels = _array("labels", labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise checks.UsageError(
            f"labels must be integers, one for each of the {count} images, received {labels.dtype} "
            f"{list(labels.shape)}."
        )
    largest = len(class_names) - 1
    if labels.min() < 0 or labels.max() > largest:
        raise checks.UsageError(
            f"labels must lie in [0, {largest}], one number for each class of "
            f"{checks.listed(class_names)}; received [{labels.min()}, {labels.max()}]: declare every "
            "class in class_names, and number them from 0."
        )
    return labels.astype(np.int32)


def _checked_persons(persons, count):
    """Whose each record is, an array."""
    persons = _array("persons", persons)
    if persons.shape != (count,) or persons.dtype.kind not in "iuUS":
        raise checks.UsageError(
            f"persons must be texts or integers, one for each of the {count} images, received "
            f"{persons.dtype} {list(persons.shape)}."
        )
    return persons


def _checked_units(units, count):
    """The records of each unit, int64 [n, m]: no record is of two of them."""
    units = _array("units", units)
    if units.ndim != 2 or 0 in units.shape or units.dtype.kind not in "iu":
        raise checks.UsageError(
            "units must be integers [n, m], the records of each person and -1 where there are fewer, "
            f"received {units.dtype} {list(units.shape)}."
        )
    held = units[units >= 0]
    if units.min() < -1 or units.max() >= count or len(np.unique(held)) < len(held):
        raise checks.UsageError(
            f"units must hold numbers of the {count} records, each once at most, or -1; received a "
            "record twice, or one that is not there: the guarantee of a person depends on it."
        )
    return units.astype(np.int64)


def _array(name, values):
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of various lengths, images of various shapes
        raise checks.UsageError(f"{name} must be one array, all of one shape: {error}.") from error


def _fingerprint(images, labels, persons, units):
    digest = hashlib.sha256(f"{images.shape}".encode())
    if units is not None:
        digest.update(f"{units.shape}".encode() + units.tobytes())
    if persons is not None:
        digest.update("\0".join(map(str, persons.tolist())).encode())
    for array in (images, labels):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
