"""Which records of a folder a run has: by sub-folders, by a CSV file, or all; and of which part."""

import os

from tfdps import checks
from tfdps.data import folder_files, held_out, labels_csv, location, names, persons


def part(name, *, labelled=True, csv_path=None, split="train", class_names=None, person, share):
    """Returns (the Listing of a part of a folder, whose each record is, lines on who is held out).

    Args:
      name: folder:PATH.
      labelled, csv_path, class_names: as for `listing`.
      split: "train", another one of the CSV file's or, where there is a share, "held_out".
      person: how to tell whose an image is, see `persons.of_listing`; None: nobody asks, and whose
        each is comes as None.
      share: of the units of split "train" that are split "held_out" instead, see `held_out`; or None.

    Raises:
      UsageError: as `listing`; files do not say whose they are; nobody is held out, or all are, or all
        of a class that is not declared.
    """
    held = share is not None and split == held_out.SPLIT
    found = listing(
        location.path(name),
        labelled=labelled,
        csv_path=csv_path,
        split="train" if held else split,
        class_names=class_names,
    )
    whose = None if person is None else persons.of_listing(found, person, names.public(name))
    if share is None or not (held or split == "train"):
        return found, whose, ()
    units = whose or [found.path(number) for number in range(len(found.files))]
    chosen = held_out.numbers(units, share, held=held)
    some = found.some(chosen)
    left = set(some.labels)
    gone = [each for k, each in enumerate(found.class_names) if k not in left]
    if gone and class_names is None and not held:
        raise checks.UsageError(
            f"held_out={share:g} leaves no image of {checks.listed(gone)} to train on: take another "
            "share, or declare all classes with --class_names=..., of which some may have none."
        )
    kind = "images" if whose is None else "persons"
    said = () if held else (held_out.line(units, share, kind),)
    return some, whose and [whose[number] for number in chosen], said


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
