"""Poisson sampling: which private records form each step's batch.

Guarantee: in every step every record is drawn independently with probability q, the sampling that
the accountant's `PoissonSampledDpEvent` describes: exactly, for a record is in where a number of as
many random binary digits as it takes is below q. The digits of each draw are fresh from the operating
system (`random_bits`), so no draw can be predicted or recomputed from another, and nothing seeds it.

Draws are padded to a static size P. When more than P records are drawn (probability at most the
`overflow_probability` of a step), P of them, chosen at random, are kept. For a mechanism whose noise
covers *any* pair of batches (the joint mechanism) this costs nothing: let D have nothing in the
place where D' has the record x (zero-out; what is not there is not drawn, and takes no room), draw
S from the other places, and b = 1 with probability q, independently of S: whether D' draws x. With
b = 0 both data sets give the truncated S, identically distributed. With b = 1 the batches,
truncated or not, are some two batches, and the release moves by at most the sensitivity. So for
every S the outputs are a Gaussian against the mixture (1 - q, q) of that Gaussian and one shifted
by at most the sensitivity, which is the pair the accountant bounds; joint convexity of the
hockey-stick and Renyi divergences carries the bound over S. A mechanism that is only bounded for
neighbouring batches (per-record sums) must not truncate: its overflow probability is 1e-30, and even
that is paid for out of delta (`accounting/overflow.py`); at q = 1 its batches have room for all N.

The number drawn is private: shapes, counts and logs must never follow it.
"""

import fractions
import functools

import numpy as np
from scipy import stats

from tfdps import checks
from tfdps.mechanisms.random_bits import RandomBits

OVERFLOW_PROBABILITY = 1e-4  # of a step, for a mechanism that any pair of batches is safe with

_DIGITS = 16  # drawn of every record's number at first


class PoissonSampler:
    """Draws the indices of each step's private batch.

    Args:
      dataset_size: N, the public number of records.
      sampling_probability: q in (0, 1].
      overflow_probability: in (0, 1), that a draw is larger than P.

    Examples:
      >>> import tfdps
      >>> sampler = tfdps.mechanisms.PoissonSampler(1000, 0.05)
      >>> sampler.padded_size
      80
      >>> drawn = sampler.draw()  # increasing, of about 50 records
      >>> bool((drawn[1:] > drawn[:-1]).all())
      True
    """

    def __init__(
        self,
        dataset_size: int,
        sampling_probability: float,
        *,
        overflow_probability: float = OVERFLOW_PROBABILITY,
    ) -> None:
        self.dataset_size = checks.at_least("dataset_size", dataset_size, 1)
        self.sampling_probability = checks.fraction(
            "sampling_probability", sampling_probability, one=True
        )
        checks.fraction("overflow_probability", overflow_probability)
        self.padded_size = _padded_size(dataset_size, sampling_probability, overflow_probability)

    def draw(self) -> np.ndarray:
        """Returns the indices of one exact draw, increasing int64 [k]; k may be 0."""
        bits = RandomBits()
        first = bits.words(self.dataset_size, np.uint16)
        # q in units of the first digits' last one: an integer, and what further digits decide about.
        whole, rest = divmod(fractions.Fraction(self.sampling_probability) * 2**_DIGITS, 1)
        drawn = first < whole
        for index in np.flatnonzero(first == whole):
            drawn[index] = _is_below(rest, bits)
        return np.flatnonzero(drawn)

    def draw_truncated(self) -> np.ndarray:
        """Returns one draw of at most P records; see the module's text for draws of more."""
        drawn = self.draw()
        if len(drawn) <= self.padded_size:
            return drawn
        return np.random.default_rng().choice(drawn, self.padded_size, replace=False)


def _is_below(probability, bits):
    """Whether a uniform number, of as many digits as it takes, is below a fraction."""
    while True:
        word = int(bits.words(1)[0])
        whole, probability = divmod(probability * 2**64, 1)
        if word != whole:
            return word < whole


@functools.lru_cache(maxsize=64)
def _padded_size(dataset_size, sampling_probability, overflow_probability):
    """The least multiple of 8 that is reached with at most the overflow probability; at most N."""
    low, high = 0, dataset_size  # a draw exceeds `high` rarely enough; scipy's isf ends at 1e-16
    while high - low > 1:
        middle = (low + high) // 2
        beyond = stats.binom.sf(middle, dataset_size, sampling_probability)
        low, high = (low, middle) if beyond <= overflow_probability else (middle, high)
    return min(dataset_size, 8 * (high // 8 + 1))
