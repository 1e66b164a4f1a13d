"""Data sets: a tfds name, folder:PATH, digits, passed arrays. TensorFlow loads for tfds names alone."""

import math
import os
import typing

from tfdps import checks
from tfdps.data import arrays, digits, image_folder, partition, persons
from tfdps.data.dataset import Dataset, DatasetSpec, StreamedDataset


def load(
    name: str,
    *,
    data_dir: str | None = None,
    label: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    class_names: tuple[str, ...] | None = None,
    dataset_size: int | None = None,
    split: str = "train",
    part: tuple[int, int] = partition.WHOLE,
    records_mib: float = math.inf,
    records: "arrays.PassedRecords | None" = None,
    person: str | None = None,
    images_per_person: int = 10,
) -> Dataset | StreamedDataset:
    """Returns the Dataset `name`, all of one split, in an order that never changes.

    The images' shape, the classes and the number of records are declared and public: by image_size,
    channels, class_names and dataset_size, or, where these are left out, by the set as it is.

    Args:
      name: a tfds name (mnist, celeb_a, "mnist:3.0.1", "emnist/letters", ...; downloaded and
        prepared if it is not), folder:PATH (one sub-folder of image files a class), digits
        (sklearn's; every fifth record is the test split), or arrays or arrays:NAME for `records`.
      data_dir: where tfds keeps its data; default: tfds's own. Only tfds names read it.
      label: the tfds feature that is the class, a ClassLabel or a bool, possibly nested ("Male" or
        "attributes/Male" of celeb_a); default: the supervised label, or the only one there is.
      image_size: side in pixels that whole images are resized to, antialiased; default: as they
        are, which then must be one shape; for a folder 32.
      channels: 1 or 3, what the images must have; a folder's are taken so, see
        `image_folder.Records`. Default: as they have, which then must be one number.
      class_names: tuple of the classes that there must be, in any order: they are numbered as the set
        has them, or as the sorted sub-folders, which then may be empty.
      dataset_size: how many records there must be in all parts.
      split: "train" or another split the data set has; a folder has train only.
      part: (index, count): of `count` parts of the records only part `index`. Parts are disjoint and
        together all records; tfds sets, whose order is random, are cut by files.
      records_mib: most MiB of images of the part that are held in memory.
      person: how to tell whose an image is, where units of privacy are persons, as --person takes it:
        folder, column, passed or a pattern; None: every record is a unit of its own.
      images_per_person: the most records of a person, see `persons.units`.
      records: what arrays or arrays:NAME stands for: (images, labels), a tf.data.Dataset or a
        Dataset, see `arrays.Records`. Their class_names are in the order of the labels.

    Returns:
      A Dataset with one or three channels and at least two classes; a StreamedDataset where it would
      be larger than records_mib.

    Raises:
      UsageError: the data cannot be had, are not labelled images of the above kinds, or contradict
        what is declared.

    Examples:
      >>> import tfdps
      >>> digits = tfdps.load_dataset("digits")
      >>> digits.images.shape, digits.spec.num_classes
      ((1438, 8, 8, 1), 10)
    """
    if image_size is not None:
        checks.at_least("image_size", image_size, 1)
    if records is not None and _source(name) != "arrays":
        raise checks.UsageError(
            f"dataset must be arrays or arrays:NAME where records are passed, received {name!r}: "
            "RunConfig(dataset='arrays:NAME')."
        )
    source: typing.Any  # of records
    result: Dataset | StreamedDataset
    if _source(name) == "tfds":
        from tfdps.data import tfds_images

        source = tfds_images.Records(
            name, data_dir=data_dir, label=label, image_size=image_size, split=split, part=part
        )
    else:
        if label is not None:
            raise checks.UsageError(
                f"label applies to tfds data sets only, received {label!r} for {name}."
            )
        if _source(name) == "digits":
            source = digits.Records(image_size, split, part)
        elif _source(name) == "arrays":
            checks.one_of("split", split, ("train",))
            if records is None:
                raise arrays.missing(name)
            source = arrays.Records(
                name, records, image_size=image_size, class_names=class_names, part=part
            )
        else:
            checks.one_of("split", split, ("train",))
            source = image_folder.Records(
                _path(name),
                image_size=image_size or 32,
                channels=channels,
                empty_classes=class_names is not None,
                part=part,
            )
    units = _units(name, source, person, images_per_person)
    num_units = source.total if units is None else len(units)
    _check_declared(_public_name(name), source, channels, class_names)
    _check_size(_public_name(name), num_units, dataset_size, person)
    size = len(source)
    if size > records_mib * 2**20 / max(1, source.bytes_of_image):
        labels = source.labels()
        spec = DatasetSpec(_public_name(name), source.image_shape, source.class_names)
        result = StreamedDataset(source.gather, labels, spec, num_units, source.fingerprint, units)
    else:
        images, labels = source.read()
        height, width, depth = (int(n) for n in images.shape[1:])
        spec = DatasetSpec(_public_name(name), (height, width, depth), source.class_names)
        result = Dataset(images, labels, spec, num_units, source.fingerprint, units)
    _check(labels, spec, split)
    return result


def load_of(config, *, split="train", **how):
    """Returns the Dataset that a RunConfig names, as `load` does; a split of it.

    how: part, records_mib and records, as for `load`.
    """
    return load(
        config.dataset,
        data_dir=config.data_dir,
        label=config.label,
        image_size=config.image_size,
        channels=config.channels,
        class_names=checks.names("class_names", config.class_names),
        dataset_size=config.dataset_size if split == "train" else None,
        split=split,
        **({} if split != "train" or config.person is None else _of_persons(config)),
        **how,
    )


def _of_persons(config):
    return {"person": config.person, "images_per_person": config.images_per_person}


def _units(name, source, person, images_per_person):
    """The table of `persons.units`, or None where records are the units."""
    if person is None:
        return None
    if not hasattr(source, "persons"):
        raise checks.UsageError(
            f"person applies to folders and arrays, received {person!r} for {name}: leave --person out."
        )
    of_records, names = source.persons(person)
    return persons.units(of_records, images_per_person, names)


def dataset_size(name: str, *, data_dir: str | None = None, split: str = "train") -> int:
    """Returns the public number of records N of a split, without reading an image.

    A tfds set states it in its description, which must be prepared; a folder's files are counted.

    Args:
      name, data_dir, split: as for `load`.

    Raises:
      UsageError: the set is unknown or not prepared, or has no such split, or is one of passed records.

    Examples:
      >>> import tfdps
      >>> tfdps.data.dataset_size("digits", split="test")
      359
    """
    source = _source(name)
    if source == "tfds":
        from tfdps.data import tfds_images

        return tfds_images.count(name, data_dir=data_dir, split=split)
    if source == "digits":
        checks.one_of("split", split, ("train", "test"))
        in_test = digits.SIZE // 5
        return in_test if split == "test" else digits.SIZE - in_test
    checks.one_of("split", split, ("train",))
    if source == "arrays":
        raise checks.UsageError(
            f"dataset_size is missing: the number of records of {name} is known where they are passed "
            "alone. Give --dataset_size."
        )
    return image_folder.count(_path(name))


def _source(name):
    if name == "digits":
        return "digits"
    if arrays.is_name(name):
        return "arrays"
    return "folder" if name.startswith("folder:") else "tfds"


def _path(name):
    return name.removeprefix("folder:")


def _public_name(name):
    """`name` without the path that leads to a folder: it travels in the model card."""
    if _source(name) == "folder":
        return f"folder:{os.path.basename(os.path.abspath(os.path.expanduser(_path(name))))}"
    return name


def _check_size(name, num_units, dataset_size, person):
    """Raises UsageError where the data have another number of units than is declared."""
    if dataset_size in (None, num_units):
        return
    what = "records" if person is None else "persons"
    raise checks.UsageError(
        f"dataset_size must be {num_units}, the number of {what} of {name}, received "
        f"{dataset_size}: the guarantee depends on it. Leave --dataset_size out, or give the true "
        "number."
    )


def _check_declared(name, records, channels, class_names):
    """Raises UsageError where the data contradict what is declared, before an image is read.

    The channels of a folder are checked as its files are read.
    """
    if _source(name) != "folder" and channels not in (None, records.channels):
        raise checks.UsageError(
            f"channels must be {records.channels}, as {name} has them, received {channels}: leave "
            "--channels out."
        )
    if class_names is not None and set(class_names) != set(records.class_names):
        missing = [each for each in class_names if each not in records.class_names]
        other = [each for each in records.class_names if each not in class_names]
        found = [f"no {checks.listed(missing)}"] * bool(missing)
        found += [f"also {checks.listed(other)}"] * bool(other)
        where = "the sub-folders" if _source(name) == "folder" else "the classes"
        raise checks.UsageError(
            f"{where} of {name} must be the declared classes, {checks.listed(class_names)}; received "
            f"{' and '.join(found)}: put that right, or declare others with --class_names=..."
        )


def _check(labels, spec, split):
    """Raises UsageError unless there are two classes and only labels of those classes."""
    if spec.num_classes < 2:
        raise checks.UsageError(
            f"{spec.name} must have at least 2 classes, received {spec.num_classes}: "
            f"{checks.listed(spec.class_names)}."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= spec.num_classes:
        raise checks.UsageError(
            f"labels of split {split} of {spec.name} must lie in [0, {spec.num_classes - 1}], "
            f"received [{low}, {high}]; is the split without labels?"
        )
