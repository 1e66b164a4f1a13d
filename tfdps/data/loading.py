"""Data sets: a tfds name, folder:PATH, digits, passed arrays. TensorFlow loads for tfds names alone."""

import dataclasses
import math
import typing

import numpy as np

from tfdps import checks
from tfdps.config import data_settings
from tfdps.data import (
    arrays,
    declared,
    digits,
    folder_files,
    image_files,
    image_folder,
    listings,
    location,
    names,
    partition,
    persons,
)
from tfdps.data.dataset import Dataset, DatasetSpec, StreamedDataset

_SIDE_OF_FOLDERS = 32  # in pixels


def load(
    name: str,
    *,
    data_dir: str | None = None,
    label: str | None = None,
    labels_csv: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    fit: str | None = None,
    background: str | None = None,
    max_value: int | None = None,
    dicom_window: str | None = None,
    held_out: float | None = None,
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
        prepared if it is not), folder:PATH (one sub-folder of image files a class, or a CSV file),
        digits (sklearn's; every fifth record is the test split), or arrays or arrays:NAME for
        `records`.
      data_dir: where tfds keeps its data; default: tfds's own. Only tfds names read it.
      label: the tfds feature that is the class, a ClassLabel or a bool, possibly nested ("Male" or
        "attributes/Male" of celeb_a); default: the supervised label, or the only one there is. "none":
        all images are one class, which has the data set's name or the one in class_names.
      labels_csv: of a folder: a CSV file that says what its records are, see `labels_csv.listing`.
      image_size: side in pixels that images are resized to, antialiased; default: as they are,
        which then must be one shape; for a folder 32.
      channels: 1 or 3, what the images must have; a folder's are taken so, see
        `image_folder.Records`. Default: as they have, which then must be one number.
      fit: of a folder: "squash", "crop" or "pad", see `fit.resize`; default: squash.
      background: of a folder: "white" or "black", what transparent pixels turn into; default: white.
      max_value: of a folder: what is white in 16-bit grey; default: 65535, or what its format says.
      dicom_window: of a folder: "CENTER,WIDTH" of grey DICOM images; default: each file's own.
      held_out: of a folder: the share of its units that split "train" leaves out and split "held_out"
        has, see `held_out.is_held_out`; default: none.
      class_names: tuple of the classes that there must be, in any order: they are numbered as the set
        has them, or as the sorted sub-folders, which then may be empty.
      dataset_size: how many records there must be in all parts.
      split: "train" or another split the data set has; a folder has train, those of its CSV file, and
        "held_out" where a share is.
      part: (index, count): of `count` parts of the records only part `index`. Parts are disjoint and
        together all records; tfds sets, whose order is random, are cut by files.
      records_mib: most MiB of images of the part that are held in memory.
      person: how to tell whose an image is, where units of privacy are persons, as --person takes it:
        folder, column, dicom, passed or a pattern; None: every record is a unit of its own.
      images_per_person: the most records of a person, see `persons.units`.
      records: what arrays or arrays:NAME stands for: (images, labels), a tf.data.Dataset or a
        Dataset, see `arrays.Records`. Their class_names are in the order of the labels.

    Returns:
      A Dataset with one or three channels and at least one class; a StreamedDataset where it would be
      larger than records_mib.

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
    if records is not None and names.source(name) != "arrays":
        raise checks.UsageError(
            f"dataset must be arrays or arrays:NAME where records are passed, received {name!r}: "
            "RunConfig(dataset='arrays:NAME')."
        )
    given = {"labels_csv": labels_csv, "max_value": max_value, "background": background}
    more = {"fit": fit, "dicom_window": dicom_window, "held_out": held_out, "label": label}
    declared.check_settings(name, {**given, **more})
    reading = image_files.Reading(
        image_size=image_size or _SIDE_OF_FOLDERS,
        channels=channels,
        max_value=max_value,
        background=background or "white",
        fit=fit or "squash",
        dicom_window=data_settings.window(dicom_window),
    )
    source: typing.Any  # of records
    kind, public, whose, said = names.source(name), names.public(name), None, ()
    if kind == "tfds":
        from tfdps.data import tfds_images

        source = tfds_images.Records(
            name, data_dir=data_dir, label=label, image_size=image_size, split=split, part=part
        )
    elif kind == "digits":
        source = digits.Records(image_size, split, part, labelled=label is None)
    elif kind == "arrays":
        checks.one_of("split", split, ("train",))
        if records is None:
            raise arrays.missing(name)
        source = arrays.Records(
            name, records, image_size=image_size, class_names=class_names, part=part
        )
    else:
        listing, whose, said = listings.part(
            name,
            labelled=label is None,
            csv_path=labels_csv,
            split=split,
            class_names=class_names,
            person=person,
            share=held_out,
        )
        source = image_folder.Records(listing, reading, part=part)
    if label == names.WITHOUT_LABEL and class_names is not None:
        source.class_names = (folder_files.only_name(class_names),)
    whose, units = _persons(source, whose, public, person, images_per_person)
    size = source.total if units is None else len(units)
    declared.check_size(public, size, dataset_size, "records" if units is None else "persons")
    declared.check_records(public, source, channels, class_names)
    result = _loaded(source, public, split, records_mib)
    doubts = persons.hints_of(source) if person is None else ()
    if whose is not None:
        result = dataclasses.replace(result, persons=np.asarray(whose)[partition.strided(part)])
    notes = (*result.notes, *said, *doubts)
    return dataclasses.replace(result, units=units, notes=notes, **_size(result, size))


def _persons(source, whose, name, person, images_per_person):
    """(whose each record is, the records of each person), None where nobody asks or nobody says."""
    if person is None:
        return None, None
    if person == "passed" and getattr(source, "units", None) is not None:
        return None, persons.widened(source.units, images_per_person)
    own_names = None
    if whose is None:
        whose = persons.passed(source, person, name)
    else:  # of a folder, whose files have names
        own_names = source.names()
    return whose, persons.units(whose, own_names, images_per_person)


def _size(result, size):
    """The field of a Dataset, or of a StreamedDataset, that holds N."""
    return {"total": size} if result.in_memory else {"size": size}


def _loaded(source, name, split, records_mib):
    """The Dataset of a source's records, or a StreamedDataset where it would be too large."""
    if len(source) > records_mib * 2**20 / max(1, source.bytes_of_image):
        labels = source.labels()
        spec = DatasetSpec(name, source.image_shape, source.class_names)
        result = StreamedDataset(source.gather, labels, spec, source.total)
    else:
        images, labels = source.read()
        height, width, depth = (int(n) for n in images.shape[1:])
        spec = DatasetSpec(name, (height, width, depth), source.class_names)
        result = Dataset(images, labels, spec, source.total)
    declared.check_labels(labels, spec, split)
    return dataclasses.replace(
        result,
        fingerprint=source.fingerprint,
        persons=getattr(source, "persons", None),
        notes=getattr(source, "notes", ()),
    )


def settings_of(config):
    """Returns what a RunConfig says of how records are read, by the names of `load`'s arguments."""
    settings = ("label", "image_size", "channels", *data_settings.OF_FOLDERS)
    return {name: getattr(config, name) for name in settings}


def of_persons(config):
    """Returns what a RunConfig says of its units, by the names of `load`'s arguments."""
    if config.person is None:
        return {}
    return {"person": config.person, "images_per_person": config.images_per_person}


def whose_if_told(name, *, person, label, split):
    """Returns whose each record of a folder is, an array of texts; None where its files do not say.

    Args:
      name: folder:PATH.
      person, label, split: as for `load`.
    """
    try:
        listing = listings.listing(location.path(name), labelled=label is None, split=split)
        return np.asarray(persons.of_listing(listing, person, names.public(name)))
    except checks.UsageError:
        return None


def load_of(config, *, split="train", **how):
    """Returns the Dataset that a RunConfig names, as `load` does; a split of it.

    how: part, records_mib and records, as for `load`.

    Raises:
      UsageError: as `load`; records were passed with persons, and the unit is not a person.
    """
    if config.person is None and arrays.has_units(how.get("records")):
        raise checks.UsageError(
            "records were passed with persons, and the unit of privacy is one image: "
            "RunConfig(person='passed') makes it a person, else pass them without."
        )
    return load(
        config.dataset,
        data_dir=config.data_dir,
        **settings_of(config),
        class_names=checks.names("class_names", config.class_names),
        dataset_size=config.dataset_size if split == "train" else None,
        split=split,
        **of_persons(config),
        **how,
    )
