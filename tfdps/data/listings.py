"""The three ways in which a folder says what its records are: sub-folders, a CSV file, no labels."""

import os

from tfdps import checks
from tfdps.data import folder_files, labels_csv, location


def listing(path, *, labelled=True, csv_path=None, split="train", class_names=None):
    """Returns the Listing of what is trained on: by sub-folders, by a CSV file, or without labels.

    Args:
      path: the folder, or a CSV file in it.
      labelled: False: all images are one class.
      csv_path: of a CSV file, see `labels_csv`; None: sub-folders are classes.
      split: of the CSV file; without one there is train alone.
      class_names: the declared classes, or None.

    Raises:
      UsageError: the folder, the file or their layout is not as described.
    """
    if location.is_csv(path):
        if csv_path is not None:
            raise checks.UsageError(
                f"labels_csv must be left out where the data set is a CSV file itself, received "
                f"{csv_path!r} and folder:{path}."
            )
        path, csv_path = os.path.dirname(path) or ".", path
    if csv_path is not None:
        return labels_csv.listing(
            path, csv_path, split=split, labelled=labelled, class_names=class_names
        )
    checks.one_of("split", split, ("train",))
    if labelled:
        return folder_files.by_sub_folder(path, class_names)
    return folder_files.without_labels(path, class_names)
