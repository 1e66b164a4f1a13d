"""The sampler of rounded Gaussian integers, step by step of its proof, against mpmath."""

import bisect
import itertools
import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from conftest import ROOT
from tfdps import checks
from tfdps.mechanisms import exact_gaussian
from tfdps.mechanisms.exact_gaussian import _Undecided, draw, exact_stddev

WIDTH = mpmath.mpf(1) / 64
SCALES = [exact_gaussian._mantissa(s) for s in (0.3, 1000.3, 2.0**25 / 3, 2.0**49.7, 2.0**56)]
FIRST = {"u": 32, "t": 64, "v": 31}  # digits drawn first
ONES = {name: 2**digits - 1 for name, digits in FIRST.items()}


@pytest.fixture(scope="module", autouse=True)
def _precision():
    with mpmath.workdps(80):
        yield


class Words:
    """Bits that were chosen: the words given, then random ones."""

    def __init__(self, *words, seed=0):
        self._words, self._random = list(words), np.random.default_rng(seed)

    def words(self, count):
        chosen, self._words = self._words[:count], self._words[count:]
        more = self._random.integers(0, 2**64, count - len(chosen), dtype=np.uint64)
        return np.concatenate([np.array(chosen, np.uint64), more])


def starts():
    """c_0, c_1, ... of the buckets."""
    with mpmath.workdps(80):
        heights = [mpmath.exp(-((b * WIDTH) ** 2) / 2) for b in range(1400)]
        sums = [mpmath.mpf(0), *itertools.accumulate(heights)]
        return [part / sums[-1] for part in sums]


STARTS = starts()


def real(digits, count):
    """What a number of so many binary digits is, about the middle of what it may be."""
    return (mpmath.mpf(digits) + mpmath.mpf("0.5")) / mpmath.mpf(2) ** count


def oracle(u, t, v, scale, exponent):
    """The steps 1 to 4 of the proof for real numbers: round(s x), or None where x is not kept."""
    bucket = bisect.bisect_right(STARTS, u) - 1
    if v >= mpmath.exp(-(2 * bucket * t + t**2) * WIDTH**2 / 2):
        return None
    x = (bucket + t) * WIDTH
    return int(mpmath.floor(mpmath.ldexp(scale * x, exponent) + mpmath.mpf("0.5")))


def fast(u, t, v, scale, exponent):
    """(None or round(s x), whether the first digits decided) for arrays of first digits."""
    u, v = (np.array(digits, np.uint32) for digits in (u, v))
    t = np.array(t, np.uint64)
    bucket, undecided = exact_gaussian._bucket(u)
    kept, unsure = exact_gaussian._is_kept(bucket, t, v)
    values, unclear = exact_gaussian._scaled(bucket, t, scale, exponent)
    decided = ~(undecided | unsure | (unclear & kept))
    return [int(k) if keep else None for k, keep in zip(values, kept, strict=True)], decided


def exact(u, t, v, scale, exponent, bits):
    """`_Undecided`'s answer, after a check of it against the oracle."""
    candidate = _Undecided(u, t, v, bits)
    value = candidate.value(scale, exponent)
    numbers = (real(*candidate._u), real(*candidate._t), real(*candidate._v))
    assert value == oracle(*numbers, scale, exponent)
    assert candidate._u[0] >> (candidate._u[1] - FIRST["u"]) == u
    return value


def random_words(count, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 2 ** FIRST[name], count, dtype=np.uint64).tolist() for name in "utv"]


def check(words, scale, exponent, bits):
    """Fast path, exact path and oracle agree; returns which the fast path decided."""
    values, decided = fast(*words, scale, exponent)
    for *first, value, is_decided in zip(*words, values, decided, strict=True):
        found = exact(*first, scale, exponent, bits)
        if is_decided:
            assert found == value, first
    return decided


@pytest.mark.parametrize(("scale", "exponent"), SCALES)
def test_fast_path_exact_path_and_oracle_agree_on_random_words(scale, exponent):
    decided = check(random_words(600), scale, exponent, Words())
    assert decided.mean() > 0.98


def test_words_at_the_edge_of_a_bucket_are_decided_by_further_digits():
    """u that has the digits of a bucket's start, one more and one less, or ones alone."""
    scale, exponent = SCALES[1]
    edges = [int(mpmath.floor(start * 2**32)) for start in STARTS[:420:4]]
    u = sorted({min(max(e + d, 0), ONES["u"]) for e in edges for d in (-1, 0, 1)})
    _, t, v = random_words(len(u))
    decided = check((u, t, v), scale, exponent, Words())
    # Far out the starts lie so near to one another that one less is another bucket's.
    every = [int(mpmath.floor(start * 2**32)) for start in STARTS[1:]]
    on_edge = np.isin(u, every)
    assert not decided[on_edge].any()
    assert decided[~on_edge].all()
    for further in (0, 1, 2**63, 2**64 - 1):  # the digits that decide are on the edge too
        for place in (edges[1], edges[50], ONES["u"]):
            exact(place, t[0], v[0], scale, exponent, Words(further, further))


@pytest.mark.parametrize("bucket", [0, 1, 17, 64, 200, 400])
def test_words_at_the_edge_of_acceptance_are_decided_by_further_digits(bucket):
    scale, exponent = SCALES[1]
    u = int(mpmath.floor((STARTS[bucket] + STARTS[bucket + 1]) / 2 * 2**32))
    words = [], [], []
    for t in (0, 1, 2**20, 2**63, ONES["t"] - 1, ONES["t"], *random_words(5)[1]):
        y = (2 * bucket * real(t, 64) + real(t, 64) ** 2) * WIDTH**2 / 2
        edge = int(mpmath.floor(mpmath.exp(-y) * 2**31))
        for v in (edge - 5, edge - 1, edge, edge + 1, edge + 5, ONES["v"]):
            if v <= ONES["v"]:
                for numbers, digits in zip(words, (u, t, v), strict=True):
                    numbers.append(digits)
    check(words, scale, exponent, Words())


@pytest.mark.parametrize(("scale", "exponent"), SCALES)
def test_words_at_the_edge_of_rounding_are_decided_by_further_digits(scale, exponent):
    """x s within a few units of t's last digits of an integer and a half."""
    stddev, words, unclear = mpmath.ldexp(scale, exponent), ([], [], []), 0
    first_half = int(mpmath.floor(1 / (2 * stddev * WIDTH)))
    for bucket in (first_half, 3, 64, 150, 400):
        low, high = (stddev * (bucket + end) * WIDTH for end in (0, 1))
        half = mpmath.floor((low + high) / 2) + mpmath.mpf("0.5")
        edge = int(mpmath.floor((half / stddev / WIDTH - bucket) * 2**64))
        u = int(mpmath.floor((STARTS[bucket] + STARTS[bucket + 1]) / 2 * 2**32))
        for step in (-1000, -1, 0, 1, 1000):
            if 0 <= edge + step <= ONES["t"]:
                unclear += abs(step) <= 1
                for numbers, digits in zip(words, (u, edge + step, 0), strict=True):
                    numbers.append(digits)
    decided = check(words, scale, exponent, Words())
    assert unclear
    assert (~decided).sum() >= unclear


def test_candidates_of_chosen_words_are_those_of_the_exact_path_up_to_7_standard_deviations():
    """Through the sampler's own inverse: buckets that 32 digits of u tell, and those they do not."""
    scale, exponent = SCALES[2]
    for bucket in range(0, 448, 7):
        middle = (STARTS[bucket] + STARTS[bucket + 1]) / 2
        u, further = divmod(int(mpmath.floor(middle * 2**96)), 2**64)
        t, v = int(mpmath.floor(0.37 * 2**64)), 6  # v is even: no sign
        first = [t, u | (v << 32)]
        [value] = exact_gaussian._candidates(1, scale, exponent, Words(*first, further))
        x = (bucket + real(t, 64)) * WIDTH
        assert value == int(mpmath.floor(mpmath.ldexp(scale * x, exponent) + mpmath.mpf("0.5")))
        first[1] |= 1 << 32
        [negative] = exact_gaussian._candidates(1, scale, exponent, Words(*first, further))
        assert negative == -value


def test_buckets_and_acceptance_together_have_the_normal_law_up_to_7_standard_deviations():
    """The table's probability of each bucket, times how often the shipped test keeps what is in it."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    t = ((nodes + 1) * 2.0**63).astype(np.uint64)
    buckets = np.arange(460)
    kept = np.zeros(len(buckets))
    for bucket in buckets:
        low, high = np.zeros(len(t), np.int64), np.full(len(t), 2**31)
        while (high - low > 1).any():  # where v is kept no more
            middle = (low + high) // 2
            keep, _ = exact_gaussian._is_kept(np.full(len(t), bucket), t, middle.astype(np.uint32))
            low, high = np.where(keep, middle, low), np.where(keep, high, middle)
        kept[bucket] = (high * 2.0**-31) @ weights / 2
    table = exact_gaussian._starts(40)
    parts = np.array([float(table[b + 1] - table[b]) for b in buckets]) * kept
    total = parts.sum() + 2 * stats.norm.sf(460 / 64) * parts[0] / (1 - 2 * stats.norm.sf(1 / 64))
    beyond = stats.norm.sf(buckets / 64)
    expected = 2 * (beyond - stats.norm.sf((buckets + 1) / 64))
    np.testing.assert_allclose(parts / total, expected, rtol=2e-8)
    for level in (1, 3, 5, 6, 7):
        tail = parts[64 * level :].sum() / total / 2
        assert tail == pytest.approx(stats.norm.sf(level) - stats.norm.sf(460 / 64), rel=2e-8)


def test_no_start_of_a_bucket_is_too_near_to_a_number_of_32_digits_to_tell_its_digits():
    table = exact_gaussian._tables()[1]
    for bucket in range(1, 420):
        fraction = STARTS[bucket] * 2**32 - int(table[bucket])
        assert 1e-9 < fraction < 1 - 1e-9
    assert STARTS[2**9] > 1 - mpmath.mpf(2) ** -49  # so that a decided bucket is far below 2^9


@pytest.mark.parametrize("stddev", [0.3, 1.0, 2.5, 17.0])
def test_small_deviations_have_the_law_of_rounded_normal_numbers(stddev):
    count, largest = 500_000, int(5 * stddev) + 1
    values = draw(count, stddev)
    edges = (np.arange(-largest, largest) + 0.5) / exact_stddev(stddev)
    expected = count * np.diff(stats.norm.cdf([-np.inf, *edges, np.inf]))
    clipped = np.clip(values, -largest, largest) + largest
    found = np.bincount(clipped, minlength=2 * largest + 1)
    often = expected > 10
    assert often.sum() > 2
    distance = ((found - expected)[often] ** 2 / expected[often]).sum()
    assert stats.chi2.sf(distance, often.sum() - 1) > 1e-7
    assert found[~often].sum() < 10 * (~often).sum() + 50


def test_the_standard_deviation_is_rounded_up_by_less_than_4e_8():
    random = np.random.default_rng(0)
    for stddev in [*2.0 ** random.uniform(-8, 56, 2000), 1.0, 2.0**-8, 2.0**56, np.nextafter(1, 0)]:
        assert stddev <= exact_stddev(stddev) < stddev * (1 + 4e-8)
        scale, exponent = exact_gaussian._mantissa(stddev)
        assert 2**25 <= scale < 2**26
        assert exact_stddev(stddev) == scale * 2.0**exponent
    assert exact_stddev(1e-9) == 2.0**-8
    assert not draw(1000, 1e-9).any()


@pytest.mark.parametrize("stddev", [2.0**-8, 0.3, 1e6, 2.0**47.3, 2.0**56])
def test_every_size_is_drawn_in_full(stddev):
    for size in (0, 1, 7, exact_gaussian._CHUNK, exact_gaussian._CHUNK + 1):
        values = draw(size, stddev)
        assert values.dtype == np.int64
        assert values.shape == (size,)
        assert np.abs(values).max(initial=0) < 8 * stddev + 1


@pytest.mark.parametrize(
    ("size", "stddev", "message"),
    [
        (3, 0.0, "stddev must be > 0"),
        (3, -1.0, "stddev must be > 0"),
        (3, np.nan, "stddev must be > 0"),
        (3, np.inf, "stddev must be > 0"),
        (3, 2.0**57, r"stddev must be at most 2\^56"),
        (-1, 1.0, "size must be >= 0"),
    ],
)
def test_arguments_without_a_law_are_refused(size, stddev, message):
    with pytest.raises(checks.UsageError, match=message):
        draw(size, stddev)


def test_no_seed_makes_a_call_repeat_another():
    calls = []
    for _ in range(3):
        np.random.seed(7)
        tf.random.set_seed(7)
        calls.append(draw(1000, 2.0**50))
    assert len(np.unique(calls)) == 3000  # one in 2^30 would be equal by chance


def test_processes_started_apart_or_by_a_fork_draw_different_noise():
    code = (
        "import os\n"
        "from tfdps.mechanisms.exact_gaussian import draw\n"
        "draw(10, 2.0**50)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "print(*draw(100, 2.0**50))\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert [len(numbers) for numbers in found] == [200, 200]
    assert len(set(found[0] + found[1])) == 400
