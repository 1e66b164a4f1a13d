"""One shape of argument error: "clip_norm must be > 0, received -0.5."."""

import math


class UsageError(ValueError):
    """Something the user can put right: an argument, a flag, a file or a folder.

    The message stands alone: what came, what is allowed and, where not obvious, how to fix it.
    The command line prints it without a traceback and exits with status 2.
    """


def positive(name, value):
    """Returns `value` when it is a finite number above zero; raises UsageError otherwise."""
    return _number(name, value, "> 0", lambda v: v > 0)


def not_negative(name, value):
    """Returns `value` when it is a finite number of at least zero; raises UsageError otherwise."""
    return _number(name, value, ">= 0", lambda v: v >= 0)


def at_least(name, value, smallest):
    """Returns `value` when it is an integer of at least `smallest`; raises UsageError otherwise."""
    if isinstance(value, bool) or int(value) != value:
        raise UsageError(f"{name} must be an integer, received {value!r}.")
    return _number(name, value, f">= {smallest}", lambda v: v >= smallest)


def fraction(name, value, *, zero=False, one=False):
    """Returns `value` when it lies in (0, 1); `zero` and `one` include the ends."""
    allowed = f"in {'[' if zero else '('}0, 1{']' if one else ')'}"
    return _number(
        name, value, allowed, lambda v: 0 < v < 1 or (zero and v == 0) or (one and v == 1)
    )


def one_of(name, value, allowed):
    """Returns `value` when it is one of `allowed`; raises UsageError naming them all otherwise."""
    if value not in allowed:
        names = ", ".join(str(a) for a in allowed)
        raise UsageError(f"{name} must be one of {names}; received {value!r}.")
    return value


def _number(name, value, allowed, holds):
    if not (math.isfinite(value) and holds(value)):
        raise UsageError(f"{name} must be {allowed}, received {value!r}.")
    return value
