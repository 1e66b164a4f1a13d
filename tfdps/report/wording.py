"""Numbers as people read them; upper bounds are rounded up, lower bounds down."""

import datetime
import math
import re

from tfdps.accounting import shown

ABSENT = "–"
_NO_BREAK = "\u00a0"  # a space that a line does not break at
_NEARLY_ONE = 1 - 1e-7  # beyond it a percentage would need more digits than anyone reads


def number(value):
    """Returns a JSON number as a float; the text "infinity" is one, None and other texts are not."""
    if isinstance(value, bool):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def upper_bound(value, digits=4):
    """Returns a bound from above, such as an epsilon that is claimed, rounded up."""
    value = number(value)
    if not math.isfinite(value):
        return _not_finite(value)
    return shown.up(value, decimals=digits)


def lower_bound(value, digits=4):
    """Returns a bound from below, such as an epsilon that an attack has shown, rounded down."""
    value = number(value)
    if not math.isfinite(value):
        return _not_finite(value)
    return shown.down(value, decimals=digits)


def figure(value, digits=3):
    """Returns a measured number to `digits` decimals; a dash for None."""
    if value is None:
        return ABSENT
    value = number(value)
    return f"{value:.{digits}f}" if math.isfinite(value) else _not_finite(value)


def percent(fraction, digits=1):
    """Returns a fraction in [0, 1] in per cent, without the sign; ValueError for any other."""
    fraction = number(fraction)
    if not 0 <= fraction <= 1:
        raise ValueError(f"{fraction!r} is no fraction in [0, 1]")
    return f"{100 * fraction:.{digits}f}"


def confidence(fraction):
    """Returns a confidence in per cent with all its nines, at most six: "99.99 %"."""
    if not 0 < number(fraction) < 1:
        raise ValueError(f"{fraction!r} is no confidence in (0, 1)")
    return f"{math.floor(number(fraction) * 1e8 + 1e-3) / 1e6:g} %"


def percent_at_most(fraction):
    """Returns a fraction as a percentage, rounded up, with the digits that keep it below 100 %."""
    if fraction >= _NEARLY_ONE:
        return "practically 100 %"
    for digits in range(1, 8):
        at_most = upper_bound(100 * fraction, digits)
        if float(at_most) < 100:
            return f"{at_most} %"
    return "practically 100 %"


def mean_and_spread(entry, digits=1):
    """Returns {"mean", "std"} in per cent, "71.8 ± 0.3"; one run has no spread, None is a dash."""
    if entry is None:
        return ABSENT
    mean, spread = percent(entry["mean"], digits), entry.get("std")
    return mean if spread is None else f"{mean} ±{_NO_BREAK}{100 * number(spread):.{digits}f}"


def interval(entry, digits=3, in_percent=False):
    """Returns {"value", "low", "high"} as "0.512 (0.498 to 0.526)"; a dash for None."""
    if entry is None:
        return ABSENT
    show = percent if in_percent else figure
    value, low, high = (show(entry[name], digits) for name in ("value", "low", "high"))
    limits = f"({low} to {high})".replace(" ", _NO_BREAK)
    return f"{value}{_NO_BREAK}% {limits}" if in_percent else f"{value} {limits}"


def plain(value, digits=6):
    """Returns a setting to `digits` significant digits: 0.5, 1e-5."""
    return re.sub(r"e([+-])0+", lambda match: f"e{match[1].strip('+')}", f"{value:.{digits}g}")


def count(value):
    """Returns a whole number with commas: 60,000."""
    return f"{int(number(value)):,}"


def size(num_bytes):
    """Returns a file's size: 812 bytes, 85.3 kB, 3.8 MB (thousands, not 1024s)."""
    if num_bytes < 1000:
        return f"{num_bytes} bytes"
    unit, scale = ("kB", 1e3) if num_bytes < 1e6 else ("MB", 1e6)
    return f"{num_bytes / scale:,.1f} {unit}"


def factor(epsilon):
    """Returns e^epsilon, rounded up: 2.72 (two decimals below 10), 22,008, 1.1 × 10^13."""
    if epsilon < math.log(10):
        return upper_bound(math.exp(epsilon), 2)
    if epsilon < math.log(1e6):
        return f"{math.ceil(math.exp(epsilon)):,}"
    power = math.floor(epsilon / math.log(10))
    return f"{upper_bound(math.exp(epsilon - power * math.log(10)), 1)} × 10^{power}"


def one_in(probability):
    """Returns a small probability in words: "1 in 100,000"."""
    return f"1 in {round(1 / probability):,}"


def day(moment):
    """Returns an ISO time as "23 November 2026, 21:09 UTC"; any other text as it is."""
    try:
        moment = datetime.datetime.fromisoformat(moment)
    except (TypeError, ValueError):
        return str(moment)
    zone = " UTC" if moment.utcoffset() == datetime.timedelta(0) else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def _not_finite(value):
    return "undefined" if math.isnan(value) else "∞" if value > 0 else "−∞"
