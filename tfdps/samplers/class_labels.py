"""Which classes to draw: 0-9, 0,3,5-7 or names, and the labels that follow from them."""

import re

import numpy as np

from tfdps import checks


def chosen(text, class_names):
    """Returns the class numbers that `text` names, in its order; all of them for None.

    Args:
      text: numbers, ranges of numbers and class names with commas between, as "0-4,7,ship"; a name
        is looked for first, in any case.
      class_names: the name of each class, from class 0 on.

    Raises:
      UsageError: for what names no class.
    """
    if text is None:
        return list(range(len(class_names)))
    numbers = {name.lower(): number for number, name in reversed(list(enumerate(class_names)))}
    found = []
    for part in (part.strip() for part in text.split(",")):
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if part.lower() in numbers:
            found.append(numbers[part.lower()])
        elif span:
            first, last = int(span[1]), int(span[2] or span[1])
            if not first <= last < len(class_names):
                raise _refused(part, class_names)
            found.extend(range(first, last + 1))
        else:
            raise _refused(part, class_names)
    return found


def in_turn(classes, start, count):
    """Returns labels start, ..., start + count - 1 of the classes taken in turn: int32 [count]."""
    return np.asarray(classes, np.int32)[np.arange(start, start + count) % len(classes)]


def listed(labels, *, smallest, largest):
    """Returns `labels` as an array of integers [n].

    Args:
      labels: a list or an array of integers, n >= 1.
      smallest: the smallest integer that is allowed.
      largest: the largest one.

    Raises:
      UsageError: unless they are a list of at least one integer, all from `smallest` to `largest`.
    """
    labels = np.asarray(labels)
    if not (labels.ndim == 1 and labels.size and np.issubdtype(labels.dtype, np.integer)):
        raise checks.UsageError(
            "labels must be a list of at least one integer, received "
            f"{labels.dtype} {list(labels.shape)}."
        )
    if labels.min() < smallest or labels.max() > largest:
        raise checks.UsageError(
            f"labels must be in [{smallest}, {largest + 1}), received {labels.min()} to "
            f"{labels.max()}."
        )
    return labels


def check(labels, num_classes):
    """Returns `labels` as an int32 array [n].

    Raises:
      UsageError: unless they are at least one integer, all in [0, num_classes).
    """
    return listed(labels, smallest=0, largest=num_classes - 1).astype(np.int32)


def _refused(part, class_names):
    names = ", ".join(str(name) for name in class_names[:12])
    more = ", ..." if len(class_names) > 12 else ""
    return checks.UsageError(
        f"labels must be class numbers from 0 to {len(class_names) - 1}, ranges as 0-3, or class "
        f"names ({names}{more}), received {part!r}."
    )
