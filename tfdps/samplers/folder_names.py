"""The sub-folders that images of each class are written to."""

import os
import re

_FOREIGN_TO_WINDOWS = '<>:"|?*' + "\\\\" if os.name == "nt" else ""
# What no file name has here, with the spaces around it.
_FOREIGN = re.compile(rf"\s*[/\x00-\x1f\x7f{_FOREIGN_TO_WINDOWS}]+\s*")


def of(class_names):
    """Returns a distinct folder name for each class: its own, as far as this file system takes it.

    So that the folder can be --dataset or --eval_dataset where the classes were a folder's. What cannot
    be in a name becomes "_": "T - shirt / top" -> "T - shirt_top". A dot at the beginning, which would
    hide the folder, is left out. Where two names are one but for capitals, or one is empty, all begin
    with their numbers.
    """
    names = [_FOREIGN.sub("_", name).lstrip(".") for name in class_names]
    if os.name == "nt":
        names = [name.rstrip(" .") for name in names]
    if len({name.lower() for name in names}) < len(names) or "" in names:
        names = [f"{label:03d}_{name}" for label, name in enumerate(names)]
    return names
