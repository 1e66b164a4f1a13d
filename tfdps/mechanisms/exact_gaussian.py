"""Gaussian noise rounded to integers, drawn exactly: no table's end, no floating point in its law.

The law.  `draw` returns independent integers K = round(s Z), Z a standard normal number:

    P(K = k) = Phi((k + 1/2) / s) - Phi((k - 1/2) / s)   for every integer k.

Why it is private.  Let S be a vector of integers that one record moves by at most D in L2, public
units. Then S + K = round(S + s Z), for adding an integer and rounding commute: what is released is a
function of the real Gaussian mechanism S + s Z. Post-processing costs nothing, so whatever holds for
the Gaussian mechanism of noise multiplier s / D holds for the released bits, at the same epsilon and
delta, with nothing to add for the grid or for floating point. Where elements of S lie on grids of
different spacings g_e the same goes for g_e (S_e + K_e) with s_e = stddev / g_e: each element is
scaled by a public constant, and the norm is that of (g_e S_e).

Why the law is exact.  Let w = 1/64, and bucket b = [b w, (b + 1) w). Then

  1. b >= 0 is drawn with probability proportional to m_b = exp(-(b w)^2 / 2), which is the largest
     value of exp(-x^2 / 2) in the bucket, over all b to infinity: b is the one for which a uniform u
     lies in [c_b, c_(b+1)), c_b = sum_(j < b) m_j / sum_j m_j;
  2. x = (b + t) w, with t uniform in [0, 1);
  3. x is kept if a uniform v < exp(-x^2 / 2) / m_b = exp(-(2 b t + t^2) w^2 / 2), else all is drawn
     anew. So a kept x has a density proportional to exp(-x^2 / 2) on [0, infinity) (von Neumann's
     rejection);
  4. a sign is drawn, and K = sign round(s x).

u, t, v are real numbers of infinitely many random binary digits, of which only as many are drawn as
the answers need (Knuth and Yao 1976; Karney 2016). The first digits decide nearly always, by float64
and int64 sums and products whose rounding is far smaller than the margin that is kept from every edge.
Where they do not decide, about once in ten million numbers, `_Undecided` draws further digits and
decides by integers and correctly rounded decimals of growing precision. So no probability is off, not
by 2^-64 either: what is left to trust are IEEE 754's sums and products, `decimal`, and the bits.

The bits.  Each call of `draw` reads AES-256 in counter mode under a key of its own from the operating
system (`random_bits`); no state outlives the call. The one assumption: whom the guarantee is against
cannot tell AES's output from uniform bits.

Sources: von Neumann 1951; Karney, "Sampling exactly from the normal distribution", ACM TOMS 42, 2016;
Mironov, "On significance of the least significant bits for differential privacy", CCS 2012, which
shows what inexact noise gives away; Canonne, Kamath & Steinke 2020 for the discrete alternative.
"""

import decimal
import functools
import math

import numpy as np

from tfdps import checks
from tfdps.mechanisms.random_bits import RandomBits

SMALLEST_STDDEV, LARGEST_STDDEV = 2.0**-8, 2.0**56  # of `draw`: int64 has room for no more

_BUCKETS = 64  # a standard deviation
_RATE = 1 / (2 * _BUCKETS**2)  # w^2 / 2
_DIGITS_U, _DIGITS_T, _DIGITS_V = 32, 64, 31  # binary digits drawn first; the sign takes one of v's
_GUIDE = 16  # leading digits of u that mostly tell the bucket
_HIGH = 17  # leading digits of t that are multiplied exactly
_SCALE_DIGITS = 26  # of the standard deviation, which is rounded up to so many
# Larger than what rounding and digits not yet drawn can move the quantities compared by: those are
# 2^-31 of v and 2^-38 of the rest; 2^-21 of the scaled position.
_MARGIN, _POSITION_MARGIN = 2.0**-30, 2.0**-20
_CHUNK = 2**15  # numbers at a time: their words fit a processor's cache
_SPARE = 1.02  # candidates a number: 0.6 % are not kept


def draw(size, stddev):
    """Returns `size` independent integers of the rounded Gaussian law, int64 [size].

    Guarantee: the law is the module's, for s = `exact_stddev(stddev)` >= stddev; each call has a key of
    its own from the operating system, and nothing can seed it.

    Args:
      size: how many, at least 0.
      stddev: s, in units of the grid, in (0, 2^56]; below 2^-8, where all numbers are 0, it is 2^-8.

    Raises:
      UsageError: on a size or a standard deviation out of range.
    """
    size = checks.at_least("size", size, 0)
    scale, exponent = _mantissa(stddev)
    bits = RandomBits()
    values = np.empty(size, np.int64)
    done = 0
    while done < size:
        wanted = min(_CHUNK, size - done)
        kept = _candidates(int(_SPARE * wanted) + 16, scale, exponent, bits)[:wanted]
        values[done : done + len(kept)] = kept
        done += len(kept)
    return values


def exact_stddev(stddev):
    """Returns s, the standard deviation that `draw` has: `stddev` rounded up to 26 binary digits.

    It is above `stddev` by at most 3e-8 of it, and at least 2^-8: what noise is to be held against.

    Raises:
      UsageError: on a standard deviation out of range.
    """
    scale, exponent = _mantissa(stddev)
    return math.ldexp(scale, exponent)


def _mantissa(stddev):
    """(m, e): stddev rounded up to m 2^e with m an integer below 2^26."""
    stddev = checks.positive("stddev", float(stddev))
    if stddev > LARGEST_STDDEV:
        raise checks.UsageError(
            f"stddev must be at most 2^56 units of the grid, received {stddev!r}. Take less noise, or "
            "a smaller clip_norm."
        )
    fraction, exponent = math.frexp(max(stddev, SMALLEST_STDDEV))
    scale, exponent = math.ceil(math.ldexp(fraction, _SCALE_DIGITS)), exponent - _SCALE_DIGITS
    return (scale // 2, exponent + 1) if scale == 2**_SCALE_DIGITS else (scale, exponent)


def _candidates(count, scale, exponent, bits):
    """Those of `count` candidates that are kept, in their order, int64: the steps 1 to 4."""
    words = bits.words(2 * count)
    t, rest = words[:count], words[count:].view(np.uint32)
    u, v = rest[:count], rest[count:]
    negative, v = (v & 1).astype(bool), v >> np.uint32(1)
    bucket, undecided = _bucket(u)
    kept, unsure = _is_kept(bucket, t, v)
    undecided |= unsure
    values, unsure = _scaled(bucket, t, scale, exponent)
    undecided |= unsure & kept
    for place in np.flatnonzero(undecided):
        exact = _Undecided(int(u[place]), int(t[place]), int(v[place]), bits)
        value = exact.value(scale, exponent)
        kept[place] = value is not None
        values[place] = value or 0
    return np.where(negative, -values, values)[kept]


def _bucket(u):
    """(int64 [n]: the bucket of each u, bool [n]: whether further digits may change it)."""
    guide, starts = _tables()
    bucket = np.take(guide, u >> np.uint32(_DIGITS_U - _GUIDE)).astype(np.int64)
    undecided = np.zeros(len(u), bool)
    unclear = np.flatnonzero(bucket < 0)
    several = u[unclear].astype(np.int64)
    found = np.searchsorted(starts, several, side="right") - 1
    bucket[unclear] = found
    # c_b itself lies in [u, u + 1) 2^-32 where its leading digits are u's.
    undecided[unclear] = (starts[found] == several) & (found > 0)
    return bucket, undecided


def _is_kept(bucket, t, v):
    """(bool [n]: v < exp(-y), bool [n]: whether further digits may change that), y = (2bt + t^2) w^2/2.

    1 - y is below exp(-y), and keeps all but one in a hundred; of the rest Taylor's polynomial is
    off by less than y^8 / 8! < 2^-39, for y <= (2 b + 1) w^2 / 2 < 1/8 as b < 2^9: 32 digits of u
    decide for no bucket beyond, since those have 2^-49 of the probability.
    """
    t = t.astype(np.float64) * 2.0**-_DIGITS_T
    y = t * (2.0 * bucket + t) * _RATE
    v = v * 2.0**-_DIGITS_V
    kept = v < 1 - y - _MARGIN
    undecided = np.zeros(len(v), bool)
    others = np.flatnonzero(~kept)
    y, v = y[others], v[others]
    power = np.ones_like(y)
    for term in range(7, 0, -1):
        power = 1 - y / term * power
    kept[others] = v < power
    undecided[others] = np.abs(v - power) < 4 * _MARGIN
    return kept, undecided


def _scaled(bucket, t, scale, exponent):
    """(int64 [n]: round(s x), bool [n]: whether further digits may change it).

    s x 2^shift = scale (b 2^17 + the high digits of t) + scale (the lower digits): the first product is
    one of integers, below 2^53 for b < 2^10, and exact; the second is below 2^26, and off by less than
    2^-20. Where s is above 2^48 both are multiplied by a power of two, up to 2^61, and so is 2^-20.
    """
    margin = _POSITION_MARGIN
    high = (bucket << _HIGH) + (t >> np.uint64(_DIGITS_T - _HIGH)).astype(np.int64)
    low = (t & np.uint64(2 ** (_DIGITS_T - _HIGH) - 1)).astype(np.float64)
    shift = _HIGH + int(math.log2(_BUCKETS)) - exponent
    if shift < 1:  # in steps of a half instead, so that there is something to round
        scale, shift = scale << (1 - shift), 1
        margin = scale * 2.0 ** (-_SCALE_DIGITS) * _POSITION_MARGIN
    low *= scale * 2.0 ** -(_DIGITS_T - _HIGH)
    high = high * scale + (1 << (shift - 1))
    least = (high + np.floor(low - margin).astype(np.int64)) >> shift
    most = (high + np.floor(low + margin).astype(np.int64)) >> shift
    return least, least != most


class _Undecided:
    """A candidate that its first digits did not decide; digit by digit, in integers and decimals."""

    def __init__(self, u, t, v, bits):
        self._bits = bits
        self._u, self._t, self._v = [u, _DIGITS_U], [t, _DIGITS_T], [v, _DIGITS_V]

    def value(self, scale, exponent):
        """Returns round(s x), or None where x is not kept."""
        digits, bucket = 40, None
        while bucket is None:
            bucket = self._bucket(digits)
            digits = self._further(self._u, digits, bucket)
        digits, kept = 40, None
        while kept is None:
            kept = self._is_kept(bucket, digits)
            digits = self._further(self._v, digits, kept)
            if kept is None:
                self._further(self._t, digits, None)
        if not kept:
            return None
        # round(s x) = floor(m 2^e (b + t) / 64 + 1/2): least and most by the digits of t so far.
        while True:
            t, count = self._t
            shift = count + int(math.log2(_BUCKETS)) - exponent
            least, most = (
                (scale * ((bucket << count) + t + one) * 2 + (1 << shift)) >> (shift + 1)
                for one in (0, 1)
            )
            if least == most:
                return least
            self._further(self._t, 0, None)

    def _bucket(self, digits):
        """The bucket of u, or None where its digits so far, or these decimals, do not tell it."""
        with decimal.localcontext(decimal.Context(prec=digits)):
            first, last = _interval(self._u)
            starts, error = _starts(digits), decimal.Decimal(10) ** (4 - digits)
            for bucket in range(len(starts) - 1):
                if starts[bucket] + error <= first and last <= starts[bucket + 1] - error:
                    return bucket
            return 0 if last <= starts[1] - error else None

    def _is_kept(self, bucket, digits):
        """Whether v < exp(-(2 b t + t^2) w^2 / 2), or None where that is not told yet."""
        with decimal.localcontext(decimal.Context(prec=digits)):
            error = decimal.Decimal(10) ** (4 - digits)
            (first, last), (least, most) = _interval(self._v), _interval(self._t)
            low, high = (
                (-(2 * bucket * t + t * t) * decimal.Decimal(_RATE)).exp() for t in (most, least)
            )
            if last <= low - error:
                return True
            return False if first >= high + error else None

    def _further(self, number, digits, answer):
        """Appends 64 digits to a number that has no answer yet; returns the next decimals to try."""
        if answer is None:
            number[0] = (number[0] << 64) | int(self._bits.words(1)[0])
            number[1] += 64
        return 2 * digits


def _interval(number):
    """The ends of what a number of so many binary digits may be, decimals."""
    digits, count = number
    unit = decimal.Decimal(2) ** -count
    return digits * unit, (digits + 1) * unit


@functools.lru_cache(maxsize=4)
def _starts(digits):
    """c_0, c_1, ... as decimals, up to where they are 1 to so many digits."""
    with decimal.localcontext(decimal.Context(prec=digits + 6)):
        heights, bucket = [], 0
        while not heights or heights[-1] > decimal.Decimal(10) ** -(digits + 4):
            heights.append((-(bucket * bucket) * decimal.Decimal(_RATE)).exp())
            bucket += 1
        sums = [decimal.Decimal(0)]
        for height in heights:
            sums.append(sums[-1] + height)
        return [part / sums[-1] for part in sums]


@functools.lru_cache(maxsize=1)
def _tables():
    """(guide, starts): the bucket by u's leading 16 digits, or -1; floor(2^32 c_b), int64."""
    starts = np.array([int(start * 2**_DIGITS_U) for start in _starts(40)], np.int64)
    edges = np.arange(2**_GUIDE + 1, dtype=np.int64) << (_DIGITS_U - _GUIDE)
    first = np.searchsorted(starts, edges[:-1], side="right") - 1
    last = np.searchsorted(starts, edges[1:] - 1, side="right") - 1
    clear = (first == last) & ((starts[first] < edges[:-1]) | (first == 0))
    return np.where(clear, first, -1).astype(np.int16), starts
