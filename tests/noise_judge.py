"""One judge of noise: what of a sampler of rounded Gaussian integers is not as the law says.

An honest sampler is found wanting in less than one call in a million: every one of its some fifty
comparisons has a false alarm in 1e-8 of the calls.
"""

import numpy as np
from scipy import stats

CHUNK = 3 * 2**18  # integers at a time: whole pairs and triples, a few MB
FALSE_ALARM = 1e-8  # of one comparison
Z = stats.norm.isf(FALSE_ALARM / 2)
ELEMENTS = (0.1, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6)  # standard deviations
RADII = (0.2, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.3, 5.5, 5.678, 6)
FAR = 5.0  # pairs whose radii are kept, to look for a ring
NEAR = 4  # steps of the grid between two radii that count as one
LOW_BITS = 8
EXACT = 2**20  # pairs whose radii are compared exactly


def judge(draw, stddev, count):
    """Returns the names of what is wrong with a sampler, sorted; none of an honest one.

    tail: of single integers, so many standard deviations from 0. pair, triple: radii of neighbours,
    their counts and the largest. ring: radii of pairs that repeat. grid: low bits are not uniform.
    mean, scale, correlation: moments.

    Args:
      draw: (size, stddev) -> int64 [size].
      stddev: large, so that low bits are uniform and rounding does not matter: 2^18 or more.
      count: how many integers to judge, taken and dropped in chunks.
    """
    tally, done = _Tally(stddev), 0
    while done < count:
        tally.add(draw(CHUNK, stddev))
        done += CHUNK
    return sorted(tally.wrong())


class _Tally:
    """Counts and sums over chunks."""

    def __init__(self, stddev):
        self._stddev, self._count = stddev, 0
        self._beyond = {1: np.zeros(len(ELEMENTS)), 2: np.zeros(len(RADII))}
        self._beyond[3] = np.zeros(len(RADII))
        self._largest = {2: 0.0, 3: 0.0}
        self._low = np.zeros(2**LOW_BITS)
        self._sums = np.zeros(4)  # of z, z^2, z z' of next and next but one
        self._far, self._exact = [], []

    def add(self, integers):
        assert integers.dtype == np.int64
        self._count += len(integers)
        self._low += low_bits(integers)
        z = integers / self._stddev
        squares = z * z
        self._sums += z.sum(), squares.sum(), z[1:] @ z[:-1], z[2:] @ z[:-2]
        self._count_beyond(1, squares, ELEMENTS)
        pairs = squares[::2] + squares[1::2]
        triples = squares[::3] + squares[1::3] + squares[2::3]
        for size, sums in ((2, pairs), (3, triples)):
            self._count_beyond(size, sums, RADII)
            self._largest[size] = max(self._largest[size], sums.max())
        (far,) = np.nonzero(pairs > FAR**2)
        self._far += [_squared_radius(*integers[2 * i : 2 * i + 2]) for i in far]
        if len(self._exact) < EXACT:
            self._exact += (integers[::2] ** 2 + integers[1::2] ** 2)[:EXACT].tolist()

    def _count_beyond(self, size, squares, limits):
        self._beyond[size] += [np.count_nonzero(squares > limit**2) for limit in limits]

    def wrong(self):
        """The names, a set."""
        checks = [self._counts, self._largest_radii, self._rings, self._grid, self._moments]
        return {name for check in checks for name in check()}

    def _counts(self):
        for size, name in ((1, "tail"), (2, "pair"), (3, "triple")):
            limits = np.array(ELEMENTS if size == 1 else RADII)
            number = self._count // size
            expected = stats.chi2.sf(limits**2, size)
            fewer = stats.binom.cdf(self._beyond[size], number, expected)
            more = stats.binom.sf(self._beyond[size] - 1, number, expected)
            if min(fewer.min(), more.min()) < FALSE_ALARM / 2:
                yield name

    def _largest_radii(self):
        for size, name in ((2, "pair"), (3, "triple")):
            expected = self._count // size * stats.chi2.sf(self._largest[size], size)  # beyond it
            if not FALSE_ALARM < expected < -np.log(FALSE_ALARM):
                yield name

    def _rings(self):
        """Of radii as far as FAR those that are as good as equal; of any radii those that are."""
        number = self._count // 2
        far = np.sqrt(np.sort(np.array(self._far, float)))
        near = np.count_nonzero(np.diff(far) < NEAR)
        # Density of r exp(-r^2 / 2) there, squared and integrated: n^2 times FAR exp(-FAR^2) / 2.
        chance = number**2 * NEAR / self._stddev * FAR * np.exp(-(FAR**2)) / 2
        repeats = len(self._exact) - len(set(self._exact))
        # An n has r2(n) representations; the sum of r2^2 to X is 4 X log X. Twice that for safety.
        once = 2 * 4 * np.log(self._stddev**2) / (2 * np.pi * self._stddev) ** 2
        equal = len(self._exact) ** 2 / 2 * once
        if stats.poisson.sf(near - 1, chance) < FALSE_ALARM:
            yield "ring"
        if stats.poisson.sf(repeats - 1, equal) < FALSE_ALARM:
            yield "ring"

    def _grid(self):
        if not are_uniform(self._low):
            yield "grid"

    def _moments(self):
        mean, square, next_one, next_but_one = self._sums / self._count
        root = np.sqrt(self._count)
        for name, value, spread in (
            ("mean", mean, 1),
            ("scale", square - 1, np.sqrt(2)),
            ("correlation", next_one, 1),
            ("correlation", next_but_one, 1),
        ):
            if abs(value) > Z * spread / root:
                yield name


def low_bits(integers):
    """Returns how often each value of the last LOW_BITS digits comes."""
    return np.bincount(integers & (2**LOW_BITS - 1), minlength=2**LOW_BITS)


def are_uniform(counts):
    """Returns whether counts are as those of values that are all as likely: chi-square."""
    expected = counts.sum() / len(counts)
    distance = ((counts - expected) ** 2 / expected).sum()
    return stats.chi2.sf(distance, len(counts) - 1) > FALSE_ALARM


def _squared_radius(one, other):
    return int(one) ** 2 + int(other) ** 2
