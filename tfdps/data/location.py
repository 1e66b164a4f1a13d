"""Where a data set lies: a folder's name as it is recorded, and whether two names are one place."""

import os

FOLDER = "folder:"


def is_folder(name):
    """Returns whether the data set `name` is a folder of images, folder:PATH."""
    return name.startswith(FOLDER)


def path(name):
    """Returns the path of folder:PATH, absolute, "~" being the user's home; "" where there is none."""
    given = name.removeprefix(FOLDER)
    return absolute(given) if given else ""


def is_csv(path):
    """Returns whether a folder's path is one of a CSV file, which says what its records are."""
    return path.lower().endswith(".csv") and os.path.isfile(os.path.expanduser(path))


def absolute(path):
    """Returns a path that means the same in every working folder; an URL (gs://...) as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def recorded(name):
    """Returns the data set's name as a run keeps it: folder:PATH with an absolute path.

    Examples:
      >>> from tfdps.data import location
      >>> location.recorded("folder:/data/pets/"), location.recorded("mnist")
      ('folder:/data/pets', 'mnist')
    """
    return f"{FOLDER}{path(name)}" if is_folder(name) and name != FOLDER else name


def same(name, other):
    """Returns whether two names are one data set, or lead to one folder, by links too."""
    if is_folder(name) and is_folder(other):
        return os.path.realpath(path(name)) == os.path.realpath(path(other))
    return name == other
