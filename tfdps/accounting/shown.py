"""Numbers as texts that are never on the wrong side of the truth: bounds from above are rounded up.

An epsilon that is claimed is shown by `up`, one that an attack has shown by `down`.
"""

import decimal
import math

_EXACT = decimal.Context(prec=400)  # more digits than any rounding of a float64 here has


def up(value, digits=4, *, decimals=None):
    """Returns the smallest text of so many digits that is not below `value`.

    A number that has no more digits than that is shown as it is: 10.0 as "10", 0.2 as "0.2". Read
    back, the text is at least `value`, and less than one unit of its last digit above it.

    Args:
      value: a number >= 0, or its text; infinity is "infinity", as in a model card.
      digits: how many significant digits, at least 1.
      decimals: how many digits after the point instead, all of them shown: "10.000".
    """
    return _shown(value, digits, decimals, decimal.ROUND_CEILING)


def down(value, digits=4, *, decimals=None):
    """Returns the largest text of so many digits that is not above `value`; see `up`."""
    return _shown(value, digits, decimals, decimal.ROUND_FLOOR)


def _shown(value, digits, decimals, rounding):
    value = float(value)
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
    exact = decimal.Decimal(repr(value))  # of all that read back as this float the shortest
    last = exact.adjusted() - digits + 1 if decimals is None else -decimals
    rounded = exact.quantize(decimal.Decimal((0, (1,), last)), rounding, _EXACT)
    if decimals is not None:
        return f"{rounded:f}"
    return f"{float(rounded):.{digits}g}"
