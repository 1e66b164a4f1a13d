"""One shape of argument error: "clip_norm must be > 0, received -0.5."."""

import collections.abc
import csv
import dataclasses
import difflib
import functools
import math
import numbers
import os
import typing

_MOST_LISTED = 12
_T = typing.TypeVar("_T")


class UsageError(ValueError):
    """Something the user can put right: an argument, a flag, a file or a folder.

    The message stands alone: what came, what is allowed and, where not obvious, how to fix it.
    The command line prints it without a traceback and exits with status 2.

    Examples:
      >>> import tfdps
      >>> tfdps.RunConfig(delta=2.0)
      Traceback (most recent call last):
      tfdps.checks.UsageError: delta must be in (0, 1), received 2.0.
    """


def positive(name, value):
    """Returns `value` when it is a finite number above zero; raises UsageError otherwise."""
    return _number(name, value, "> 0", lambda v: v > 0)


def not_negative(name, value):
    """Returns `value` when it is a finite number of at least zero; raises UsageError otherwise."""
    return _number(name, value, ">= 0", lambda v: v >= 0)


def at_least(name, value, smallest):
    """Returns `value` when it is an integer of at least `smallest`; raises UsageError otherwise."""
    if not _is_integer(value):
        raise UsageError(f"{name} must be an integer >= {smallest}, received {value!r}.")
    if value < smallest:
        raise UsageError(f"{name} must be >= {smallest}, received {value!r}.")
    return value


def fraction(name, value, *, zero=False, one=False):
    """Returns `value` when it lies in (0, 1); `zero` and `one` include the ends."""
    allowed = f"in {'[' if zero else '('}0, 1{']' if one else ')'}"
    return _number(
        name, value, allowed, lambda v: 0 < v < 1 or (zero and v == 0) or (one and v == 1)
    )


def one_of(name, value, allowed):
    """Returns `value` when it is one of `allowed`; raises UsageError naming them all otherwise."""
    if not (isinstance(value, collections.abc.Hashable) and value in allowed):  # no array is one
        names = ", ".join(str(a) for a in allowed)
        raise UsageError(f"{name} must be one of {names}; received {value!r}.")
    return value


def names(name, text):
    """Returns the names in `text`, a tuple: commas between, one that holds a comma in quotes.

    None for None. Raises UsageError when a name is empty or is there twice.
    """
    if text is None:
        return None
    try:
        parts = next(csv.reader([text], skipinitialspace=True))
    except csv.Error:  # a line break, which a flagfile could not hold
        parts = []
    found = tuple(part.strip() for part in parts)
    if not found or "" in found or len(set(found)) < len(found):
        raise UsageError(f"{name} must be different names with commas between, received {text!r}.")
    return found


def listed(names):
    """Returns names as a text, the first few of many."""
    shown = ", ".join(names[:_MOST_LISTED])
    return shown if len(names) <= _MOST_LISTED else f"{shown}, ... {len(names)} in all"


def counted_classes(names):
    """Returns class names with their number: "3 classes: bar, disc, pole"."""
    return f"{len(names)} {'class' if len(names) == 1 else 'classes'}: {listed(names)}"


def known_fields(kind: type[_T]) -> type[_T]:
    """Returns a dataclass whose constructor answers a name that is no field by a UsageError."""
    construct = kind.__init__
    known = [field.name for field in dataclasses.fields(typing.cast(typing.Any, kind))]

    @functools.wraps(construct)
    def init(self, *values, **settings):
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                meant = f"did you mean {near[0]}?" if near else f"they are {listed(known)}."
                raise UsageError(f"{kind.__name__} has no setting {name!r}: {meant}")
        construct(self, *values, **settings)

    setattr(kind, "__init__", init)  # noqa: B010  (type checkers let nobody assign it)
    return kind


def field_types(settings):
    """Checks that each field of a dataclass instance has a value of the type that it is declared with.

    Values of other kinds that mean the same become plain ones: NumPy's numbers and truth values, 3.0
    for an integer, a pathlib.Path for a text.

    Args:
      settings: the instance, which may be frozen. Its fields are declared as str, bool, int or float,
        or typing.Optional of one of them; None fits these, and a field that is None by default.

    Raises:
      UsageError: naming the first field whose value has another type.
    """
    for field in dataclasses.fields(settings):
        value, kinds = getattr(settings, field.name), typing.get_args(field.type)
        if value is None and (type(None) in kinds or field.default is None):
            continue
        what, fits, plain = _KINDS[(kinds or (field.type,))[0]]
        if not fits(value):
            raise UsageError(f"{field.name} must be {what}, received {value!r}.")
        object.__setattr__(settings, field.name, plain(value))


def _number(name, value, allowed, holds):
    if not _is_number(value):
        raise UsageError(f"{name} must be a number {allowed}, received {value!r}.")
    if value == math.inf and holds(value):
        raise UsageError(f"{name} must be {allowed} and finite, received {value!r}.")
    if not holds(value):  # a NaN fails too
        raise UsageError(f"{name} must be {allowed}, received {value!r}.")
    return value


def _is_number(value):
    """Whether `value` is a real number of Python or NumPy, which a truth value is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_integer(value):
    """Whether `value` is a whole number; 3.0 is one."""
    return _is_number(value) and (isinstance(value, numbers.Integral) or float(value).is_integer())


def _is_truth(value):
    """Whether `value` is a truth value of Python or NumPy."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy 2's, 1's


def _plain_number(value):
    """`value` as it is where it is Python's own, an int being one; else as a float."""
    return value if type(value) in (int, float) else float(value)


# {a type: (what it is called, whether a value fits, the plain value of it)}
_KINDS = {
    str: ("a text", lambda value: isinstance(value, str | os.PathLike), os.fspath),
    bool: ("True or False", _is_truth, bool),
    int: ("an integer", _is_integer, int),
    float: ("a number", _is_number, _plain_number),
}
