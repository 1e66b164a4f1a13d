"""Which classes to draw: 0-9, 0,3,5-7 or names, and the labels that follow from them.

A number in a text has one meaning. Where a class's name is a number, as of the digits, numbers are
names: "1-3" are the classes called 1, 2 and 3. Elsewhere they are class numbers, from 0.
"""

import csv
import re

import numpy as np

from tfdps import checks

_MOST_NAMED = 12


def chosen(text, class_names):
    """Returns the class numbers that `text` names, in its order; all of them for None.

    Args:
      text: numbers, ranges of numbers and class names with commas between, as "0-4,7,ship". A name
        that has a comma stands in quotes, unless it is all of the text.
      class_names: the name of each class, from class 0 on.

    Raises:
      UsageError: for what names no class, or several.
    """
    if text is None:
        return list(range(len(class_names)))
    parts = _parts(text)
    try:
        return [number for part in parts for number in _classes(part, class_names)]
    except checks.UsageError:
        if len(parts) > 1 and text.strip() in class_names:
            return [class_names.index(text.strip())]
        raise


def numbers(labels, class_names):
    """Returns class numbers, an int32 array [n], of numbers or names.

    Args:
      labels: integers [n] in [0, num_classes), or texts [n], each a class name or a number as in
        `chosen`; n >= 1.
      class_names: the name of each class, from class 0 on.

    Raises:
      UsageError: unless they are at least one integer in that range, or name.
    """
    if isinstance(labels, str):
        raise checks.UsageError(
            f"labels must be a list, received the text {labels!r}: [{labels!r}]."
        )
    if np.asarray(labels).dtype.kind in "UTO":
        texts = [str(label) for label in labels if isinstance(label, str)]
        if len(texts) != len(labels):
            raise checks.UsageError("labels must be all numbers or all names, received both.")
        named = {text: _one(text, class_names) for text in set(texts)}
        labels = [named[text] for text in texts]
    return listed(labels, smallest=0, largest=len(class_names) - 1).astype(np.int32)


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


def _parts(text):
    """The texts between commas; quotes hold one together."""
    try:
        parts = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error:  # a line break
        parts = [text]
    return [part.strip() for part in parts] or [text]


def _classes(part, class_names):
    """The class numbers that a name, a number or a range stands for."""
    name = _by_name(part, class_names)
    if name is not None:
        return [name]
    span = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
    if not span:
        raise _refused(part, class_names)
    first, last = int(span[1]), int(span[2] or span[1])
    meaning = _meaning_of_numbers(class_names)
    if not (first <= last and first in meaning and last in meaning):
        raise _refused(part, class_names)
    return [meaning[number] for number in sorted(meaning) if first <= number <= last]


def _one(text, class_names):
    found = _classes(text, class_names)
    if len(found) > 1:
        raise checks.UsageError(
            f"labels must name one class each, received {text!r}, which are {len(found)}."
        )
    return found[0]


def _by_name(text, class_names):
    """The number of the class of this name; of any case where only one has it so."""
    if text in class_names:
        return list(class_names).index(text)
    alike = [k for k, name in enumerate(class_names) if name.casefold() == text.casefold()]
    return alike[0] if len(alike) == 1 else None


def _meaning_of_numbers(class_names):
    """{number: class number}: by the names that are numbers, where there are such; else themselves."""
    named = [(int(name), k) for k, name in enumerate(class_names) if re.fullmatch("[0-9]+", name)]
    if not named:
        return {k: k for k in range(len(class_names))}
    values = [value for value, _ in named]
    return {value: k for value, k in named if values.count(value) == 1}  # of 1 and 01 neither


def _refused(part, class_names):
    names = ", ".join(str(name) for name in class_names[:_MOST_NAMED])
    more = ", ..." if len(class_names) > _MOST_NAMED else ""
    numbered = f"class numbers from 0 to {len(class_names) - 1}, ranges as 0-3, or "
    if any(re.fullmatch("[0-9]+", name) for name in class_names):
        numbered = ""
    quotes = ' A name with a comma goes in quotes: "a, b".' * any("," in n for n in class_names)
    return checks.UsageError(
        f"labels must be {numbered}class names ({names}{more}), received {part!r}.{quotes}"
    )
