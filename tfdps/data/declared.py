"""What is declared of a data set, held against the data: they must not contradict it."""

from tfdps import checks
from tfdps.config import data_settings
from tfdps.data import names


def check_settings(name, settings):
    """Raises UsageError for a setting that means nothing with the data set.

    Args:
      name: of the data set.
      settings: {name of the setting: its value, None where it is not given}.
    """
    for setting in data_settings.OF_FOLDERS:
        if settings[setting] is not None and names.source(name) != "folder":
            raise checks.UsageError(
                f"{setting} applies to folders of images only, received {settings[setting]!r} for "
                f"{name}: leave --{setting} out."
            )
    label, kind = settings["label"], names.source(name)
    if kind == "tfds" or label is None or (label == names.WITHOUT_LABEL and kind != "arrays"):
        return
    raise checks.UsageError(
        f"label applies to tfds data sets only, and --label=none also to folders and digits; received "
        f"{label!r} for {name}."
    )


def check_size(name, size, dataset_size, units):
    """Raises UsageError where the data have another number of units than is declared.

    Args:
      name: of the data set.
      size: how many it has.
      dataset_size: how many are declared; None: no number is.
      units: what they are, a word in the plural.
    """
    if dataset_size not in (None, size):
        raise checks.UsageError(
            f"dataset_size must be {size}, the number of {units} of {name}, received {dataset_size}: "
            "the guarantee depends on it. Leave --dataset_size out, or give the true number."
        )


def check_records(name, records, channels, class_names):
    """Raises UsageError where the data contradict what is declared, before an image is read.

    The channels of a folder are checked as its files are read.
    """
    if names.source(name) != "folder" and channels not in (None, records.channels):
        raise checks.UsageError(
            f"channels must be {records.channels}, as {name} has them, received {channels}: leave "
            "--channels out."
        )
    if class_names is not None and set(class_names) != set(records.class_names):
        missing = [each for each in class_names if each not in records.class_names]
        other = [each for each in records.class_names if each not in class_names]
        found = [f"no {checks.listed(missing)}"] * bool(missing)
        found += [f"also {checks.listed(other)}"] * bool(other)
        where = getattr(records, "classes_are", "the classes")
        raise checks.UsageError(
            f"{where} of {name} must be the declared classes, {checks.listed(class_names)}; received "
            f"{' and '.join(found)}: put that right, or declare others with --class_names=..."
        )


def check_labels(labels, spec, split):
    """Raises UsageError unless labels are those of classes."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= spec.num_classes:
        raise checks.UsageError(
            f"labels of split {split} of {spec.name} must lie in [0, {spec.num_classes - 1}], "
            f"received [{low}, {high}]; is the split without labels?"
        )
