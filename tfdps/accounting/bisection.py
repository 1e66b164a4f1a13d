"""Where a yes-or-no question about a number changes its answer, once."""

import math


def numbers(fits, low, high):
    """Returns the high end of a bracket of relative width 1e-4 around where `fits` turns true."""
    while high > low * (1 + 1e-4):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def integers(fits, low, high, width):
    """Returns the low end, which fits, of an integer bracket of at most `width` around the last."""
    while high - low > width:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
