"""How many records a data set has, by what is said of it or by file names: no image is read."""

from tfdps import checks
from tfdps.config import data_settings
from tfdps.data import declared, digits, listings, location, names, persons


def dataset_size(
    name: str,
    *,
    data_dir: str | None = None,
    split: str = "train",
    label: str | None = None,
    labels_csv: str | None = None,
    class_names: tuple[str, ...] | None = None,
) -> int:
    """Returns the public number of records N of a split, without reading an image.

    A tfds set states it in its description, which must be prepared; a folder's files are counted.

    Args:
      name, data_dir, split, label, labels_csv, class_names: as for `load`.

    Raises:
      UsageError: the set is unknown or not prepared, or has no such split, or is one of passed records;
        or a folder is not of the layout that is described.

    Examples:
      >>> import tfdps
      >>> tfdps.data.dataset_size("digits", split="test")
      359
    """
    source = names.source(name)
    if source == "tfds":
        from tfdps.data import tfds_images

        return tfds_images.count(name, data_dir=data_dir, split=split)
    if source == "digits":
        checks.one_of("split", split, ("train", "test"))
        in_test = digits.SIZE // 5
        return in_test if split == "test" else digits.SIZE - in_test
    if source == "arrays":
        raise checks.UsageError(
            f"dataset_size is missing: the number of records of {name} is known where they are passed "
            "alone. Give --dataset_size."
        )
    found = listings.listing(
        location.path(name),
        labelled=label is None,
        csv_path=labels_csv,
        split=split,
        class_names=class_names,
    )
    return len(found.files)


def num_classes_of(config):
    """Returns the number of classes of a RunConfig's data set, without reading an image.

    Raises:
      UsageError: as `dataset_size`.
    """
    declared_classes = checks.names("class_names", config.class_names)
    if declared_classes or config.label == names.WITHOUT_LABEL:
        return len(declared_classes or ("all",))
    source = names.source(config.dataset)
    if source == "digits":
        return digits.NUM_CLASSES
    if source == "tfds":
        from tfdps.data import tfds_images

        return tfds_images.num_classes(config.dataset, data_dir=config.data_dir, label=config.label)
    if source == "arrays":
        raise checks.UsageError(
            f"class_names is missing: the classes of {config.dataset} are declared. Give --class_names."
        )
    found = listings.listing(location.path(config.dataset), csv_path=config.labels_csv)
    return len(found.class_names)


def counted_of(config):
    """Returns (N, lines on what was counted and what was left aside) of a RunConfig's data set.

    Raises:
      UsageError: as `dataset_size`.
    """
    of_folders = {name: getattr(config, name) for name in data_settings.OF_FOLDERS}
    declared.check_settings(config.dataset, {**of_folders, "label": config.label})
    if names.source(config.dataset) != "folder":
        return dataset_size(config.dataset, data_dir=config.data_dir), ()
    classes = checks.names("class_names", config.class_names)
    found, whose, said = listings.part(
        config.dataset,
        labelled=config.label is None,
        csv_path=config.labels_csv,
        class_names=classes,
        person=config.person,
        share=config.held_out,
    )
    about = [
        f"{len(found.files):,} images, {checks.counted_classes(found.class_names)}",
        *found.aside(),
    ]
    size, doubts = len(found.files), ()
    if whose is None:
        doubts = persons.hints(found)
    else:
        size = len(set(whose))
        about.insert(1, f"{size:,} persons")
    return size, (f"Found: {'; '.join(about)}.", *said, *doubts)
