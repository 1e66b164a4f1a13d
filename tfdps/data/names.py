"""The name of a data set: where its records come from, and what of it is public."""

import os
import re

from tfdps import checks
from tfdps.data import arrays, location

WITHOUT_LABEL = "none"  # as a label: all images are of one class
# What no name of a tfds set begins with.
_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[/\\]")


def source(name):
    """Returns "digits", "arrays", "folder" or "tfds".

    Raises:
      UsageError: the name is a folder's path, and does not begin with folder:.
    """
    if name == "digits":
        return "digits"
    if arrays.is_name(name):
        return "arrays"
    if location.is_folder(name):
        return "folder"
    prefix, colon, rest = name.partition(":")
    if colon and prefix.strip().lower() in ("folder", "folders", "dir", "path"):
        raise _not_a_folder(name, rest.strip())
    if _PATH.match(name):
        raise _not_a_folder(name, name)
    return "tfds"


def public(name):
    """Returns `name` without the path that leads to a folder: it travels in the model card."""
    if source(name) == "folder":
        return f"{location.FOLDER}{os.path.basename(location.path(name))}"
    return name


def hint(name):
    """Returns a sentence where a name that tfds does not know is a folder that is there; else ""."""
    return f" Did you mean --dataset=folder:{name}?" if os.path.isdir(name) else ""


def _not_a_folder(name, meant):
    return checks.UsageError(
        f"dataset must be folder:PATH for a folder of images, received {name!r}. "
        f"Did you mean --dataset=folder:{meant}?"
    )
