"""Which files of a folder are records, of which class, and what is left aside. Reads no image."""

import collections
import dataclasses
import os
import pathlib
import re

from tfdps import checks
from tfdps.data import image_files

# Made by network storage, archives and file systems. Hidden folders are nobody's classes either.
_OF_SYSTEMS = ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information")
_SPLITS = re.compile(
    r"(train|training|test|testing|val|valid|validation|dev|eval|evaluation)(_?set)?", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Listing:
    """The records of a folder, by file names alone.

    folder: pathlib.Path.
    class_names: tuple of str; label k is the k-th.
    files: [pathlib.Path], one a record.
    labels: [int], the class of each.
    persons: [str], whose picture each is; None where nobody says.
    left_out: {phrase: how many}, what lies there and is no record.
    by_sub_folder: whether a file's class is its first folder.
    others: the Listing of the other splits of a CSV file; None where there are none.
    """

    folder: pathlib.Path
    class_names: tuple
    files: list
    labels: list
    left_out: dict
    persons: list | None = None
    by_sub_folder: bool = False
    others: "Listing | None" = None

    def some(self, numbers):
        """Returns the Listing of some of the records, by their numbers in order."""
        return dataclasses.replace(
            self,
            files=[self.files[number] for number in numbers],
            labels=[self.labels[number] for number in numbers],
            persons=self.persons and [self.persons[number] for number in numbers],
        )

    def path(self, number):
        """Returns where a record's file lies in the folder, bytes."""
        return os.fsencode(self.files[number].relative_to(self.folder))

    def name(self, number):
        """Returns what tells a record from the others, bytes: its path, and what that does not say."""
        path = self.path(number)
        if self.by_sub_folder:
            return path
        label = self.class_names[self.labels[number]]
        persons = [] if self.persons is None else [self.persons[number]]
        return b"\0".join([path, *(text.encode() for text in (label, *persons))])

    def aside(self):
        """Returns phrases on files in deeper folders, and on what lies there and is no record."""
        deeper = sum(map(self._is_deeper, self.files)) if self.by_sub_folder else 0
        phrases = [f"{deeper:,} in folders below their class's"] if deeper else []
        return phrases + _left_out(self.left_out)

    def _is_deeper(self, file):
        return len(file.relative_to(self.folder).parts) > 2


def by_sub_folder(path, class_names=None):
    """Returns the Listing of a folder with one sub-folder a class, in natural order (2 before 10).

    A class has the images in its sub-folder, at any depth, in sorted order. A folder that has images
    and no sub-folder is one class.

    Args:
      path: the folder.
      class_names: the declared classes; None where none are. A declared class may have no image, and
        be named as a split.

    Raises:
      UsageError: there is no such folder, or a class without images, or sub-folders that are no
        classes by their names: train and test, or a single one around others.
    """
    folder, left_out = folder_at(path), collections.Counter()
    loose, names = [], []
    for each in _listed(folder, left_out):
        (names if each.is_dir() else loose).append(each)
    names.sort(key=lambda each: natural(each.name))
    if not names:
        if not loose:
            besides = "".join(f" ({what})" for what in _left_out(left_out))
            raise checks.UsageError(
                f"image folder {folder} has no sub-folders; it needs one a class. It has no "
                f"{', '.join(image_files.EXTENSIONS)} file either{besides}."
            )
        one_declared = class_names is not None and len(class_names) == 1
        return _one(folder, loose, left_out, class_names if one_declared else None)
    for image in loose:
        left_out[f"{image.suffix.lower()} beside the classes' folders"] += 1
    classes = {each.name: images_below(each, left_out, [folder.resolve()]) for each in names}
    _check_names(folder, classes)
    if class_names is None:
        _check_not_splits(folder, classes)
        _check_not_around_others(folder, classes)
        _check_none_is_empty(folder, classes, left_out)
    return Listing(
        folder,
        tuple(classes),
        [file for files in classes.values() for file in files],
        [label for label, files in enumerate(classes.values()) for _ in files],
        dict(left_out),
        by_sub_folder=True,
    )


def without_labels(path, class_names=None):
    """Returns the Listing of all images below a folder, at any depth, as one class.

    Args:
      path: the folder.
      class_names: the name of the class, alone in a tuple; None: the folder's.

    Raises:
      UsageError: there is no such folder, or several class names.
    """
    folder, left_out = folder_at(path), collections.Counter()
    return _one(folder, images_below(folder, left_out), left_out, class_names)


def folder_at(path):
    """Returns the absolute pathlib.Path of a folder; raises UsageError where there is none."""
    if not str(path):
        raise checks.UsageError("folder: needs a path, as in folder:/data/pets.")
    folder = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise checks.UsageError(f"image folder {folder} {what}.")
    return folder


def images_below(folder, left_out, above=()):
    """Returns the image files in a folder and its sub-folders, sorted; counts what else is there."""
    found, above = [], (*above, folder.resolve())
    for each in _listed(folder, left_out):
        if not each.is_dir():
            found.append(each)
        elif each.resolve() in above:
            left_out["linked to a folder around it"] += 1
        else:
            found += images_below(each, left_out, above)
    return found


def natural(name):
    """Returns a key to sort names by that takes runs of digits as numbers."""
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def only_name(class_names):
    """Returns the one name of a tuple, or None for None; raises UsageError where there are more."""
    if class_names is None:
        return None
    if len(class_names) != 1:
        raise checks.UsageError(
            f"class_names must be one name with --label=none, received {checks.listed(class_names)}."
        )
    return class_names[0]


def _one(folder, files, left_out, class_names):
    name = only_name(class_names) or folder.name or "images"
    _check_names(folder, [name])
    return Listing(folder, (name,), files, [0] * len(files), dict(left_out))


def _listed(folder, left_out):
    """Yields the sub-folders and images in a folder, sorted; counts what else is there."""
    for each in sorted(folder.iterdir()):
        if each.name.startswith("."):
            left_out["hidden"] += 1
        elif each.is_dir():
            if each.name in _OF_SYSTEMS:
                left_out[f"folder {each.name}"] += 1
            else:
                yield each
        elif image_files.is_image(each):
            yield each
        elif not each.exists():
            left_out["linked to nothing"] += 1
        else:
            left_out[_printable(each.suffix.lower()) or "without an ending"] += 1


def _left_out(counts):
    each = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    return [f"left out: {each}"] if each else []


def _printable(text):
    return os.fsencode(text).decode(errors="backslashreplace")


def _check_names(folder, names):
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise checks.UsageError(
                f"a class must have a name in UTF-8, received the folder {_printable(name)!r} in "
                f"{_printable(str(folder))}: rename it."
            ) from error


def _check_not_splits(folder, classes):
    splits = [name for name in classes if _SPLITS.fullmatch(name)]
    if len(splits) < min(2, len(classes)):
        return
    first = next((name for name in splits if name.lower().startswith("train")), splits[0])
    raise checks.UsageError(
        f"image folder {folder} holds {checks.listed(splits)}, by their names splits and not classes: "
        f"train on one, --dataset=folder:{folder / first}, and keep another for --eval_dataset. If "
        "they are classes, declare all of them with --class_names=..."
    )


def _check_not_around_others(folder, classes):
    """One class whose images lie in several sub-folders: these may be the classes."""
    if len(classes) > 1:
        return
    (name, files) = next(iter(classes.items()))
    parents = (file.relative_to(folder / name).parent.parts for file in files)
    inner = sorted({parts[0] for parts in parents if parts}, key=natural)
    if inner:
        raise checks.UsageError(
            f"image folder {folder} holds one sub-folder, {name}, with images in sub-folders of its "
            f"own ({checks.listed(inner)}). If these are the classes: "
            f"--dataset=folder:{folder / name}. If all images are one class: --label=none."
        )


def _check_none_is_empty(folder, classes, left_out):
    empty = [name for name, files in classes.items() if not files]
    if empty:
        besides = "".join(f" ({what})" for what in _left_out(left_out))
        raise checks.UsageError(
            f"image folder {folder} has no {', '.join(image_files.EXTENSIONS)} file in "
            f"{checks.listed(empty)}{besides}; every sub-folder is a class and needs images, unless "
            "all classes are declared with --class_names=..."
        )
