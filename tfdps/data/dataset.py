"""Private records with their labels, in memory or on disk, and what is public about them."""

import dataclasses
import typing

import numpy as np


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What is public about a data set: its name, the images' (H, W, C), the classes' names.

    Guarantee: what is proved is for a record that is replaced by nothing, with N and all of this
    fixed. So these are declared, by flags or by the set, and data that contradict them are refused
    before an image is used: they do not follow from the records.

    Examples:
      >>> import tfdps
      >>> tfdps.DatasetSpec("arrays:pets", (32, 32, 3), ("cat", "dog")).num_classes
      2
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        height, width, channels = (int(size) for size in self.image_shape)  # of NumPy's, for JSON
        object.__setattr__(self, "image_shape", (height, width, channels))

    @property
    def num_classes(self) -> int:
        """The number of classes; labels lie in [0, num_classes)."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The private records in memory: images uint8 [n, H, W, C], labels int32 [n], the public spec.

    total: N, the public number of units of the whole data set, where these are a worker's part.
    units: int64 [n, m], the records of each unit of privacy, -1 where it has fewer than m: a person's,
      see `persons`; None: every record is a unit of its own.
    fingerprint: equal where the files of the whole data set are; for comparing two copies of it.
    persons: whose each record is, an array [n] of texts or integers; None where nobody says. Evaluation
      holds those of held-out records against them. Private.
    notes: lines on what was met in the files and what was left aside; private, for the owner alone.

    Examples:
      >>> import numpy as np, tfdps
      >>> spec = tfdps.DatasetSpec("arrays:pets", (32, 32, 3), ("cat", "dog"))
      >>> images, labels = np.zeros([4, 32, 32, 3], np.uint8), np.array([0, 1, 1, 0], np.int32)
      >>> dataset = tfdps.Dataset(images, labels, spec)
      >>> dataset.size, dataset.gather(np.array([0, 2])).shape
      (4, (2, 32, 32, 3))
    """

    images: np.ndarray
    labels: np.ndarray
    spec: DatasetSpec
    total: int | None = None
    fingerprint: str = ""
    units: np.ndarray | None = None
    persons: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    in_memory = True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """N, the public number of units, records or persons, of the whole data set."""
        return len(units_of(self)) if self.total is None else self.total

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images of records, uint8 [k, H, W, C]."""
        return self.images[indices]


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset:
    """Private records that stay on disk: as a Dataset, without its array of images.

    reader: increasing int64 [k] -> uint8 [k, H, W, C], by one pass over what lies between them.

    Examples:
      >>> import numpy as np, tfdps
      >>> spec = tfdps.DatasetSpec("arrays:pets", (32, 32, 3), ("cat", "dog"))
      >>> file = np.memmap("pets.bin", np.uint8, "w+", shape=(4, 32, 32, 3))
      >>> labels = np.array([0, 1, 1, 0], np.int32)
      >>> dataset = tfdps.data.StreamedDataset(lambda records: file[records], labels, spec, size=4)
      >>> dataset.gather(np.array([0, 2])).shape
      (2, 32, 32, 3)
    """

    reader: typing.Callable
    labels: np.ndarray
    spec: DatasetSpec
    size: int
    fingerprint: str = ""
    units: np.ndarray | None = None
    persons: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    in_memory = False

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images of records, increasing int64 [k], as uint8 [k, H, W, C]."""
        return self.reader(indices)


def units_of(dataset: Dataset | StreamedDataset) -> np.ndarray:
    """Returns the records of each unit of a data set, int64 [n, m]; m is 1 where units are records."""
    if dataset.units is None:
        return np.arange(len(dataset))[:, np.newaxis]
    return dataset.units


def chosen_units(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """Returns a Dataset of some units of another, with the records of these alone.

    Args:
      dataset: the other.
      chosen: int [k], numbers of units.
    """
    held = units_of(dataset)[chosen]
    records = held[held >= 0]
    places = np.where(held >= 0, np.cumsum(held >= 0).reshape(held.shape) - 1, -1)
    units = None if dataset.units is None else places
    return Dataset(
        dataset.gather(records), dataset.labels[records], dataset.spec, len(held), units=units
    )
