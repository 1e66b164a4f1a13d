"""Poisson sampling: which private records form each step's batch.

Guarantee: in every step every record is drawn independently with probability q, the sampling that
the accountant's `PoissonSampledDpEvent` describes. The randomness of each draw is fresh from the
operating system, so no draw can be predicted or recomputed from another, and nothing seeds it.

Draws are padded to a static size P. When more than P records are drawn (probability at most
`OVERFLOW_PROBABILITY` a step), P of them, chosen uniformly, are kept. For a mechanism whose noise
covers *any* pair of batches (the joint mechanism) this costs nothing: let D' = D + {x}, draw S from
D, and b = 1 with probability q, independently of S. With b = 0 both data sets give the truncated S,
identically distributed. With b = 1 the batches, truncated or not, are some two batches, and the
release moves by at most the sensitivity. So for every S the outputs are a Gaussian against the
mixture (1 - q, q) of that Gaussian and one shifted by at most the sensitivity, which is the pair the
accountant bounds; joint convexity of the hockey-stick and Renyi divergences carries the bound over S.
A mechanism that is only bounded for neighbouring batches (the per-record mechanism) must not
truncate: its batches are padded to all N records (`truncated=False`), and then no draw is too large.

The number drawn is private: shapes, counts and logs must never follow it.
"""

import numpy as np
from scipy import stats

from tfdps import checks

OVERFLOW_PROBABILITY = 1e-4


class PoissonSampler:
    """Draws the indices of each step's private batch.

    Args:
      dataset_size: N, the public number of records.
      sampling_probability: q in (0, 1].
      truncated: whether P may be below N, for mechanisms that any pair of batches is safe with.
    """

    def __init__(self, dataset_size, sampling_probability, *, truncated=True):
        self.dataset_size = checks.at_least("dataset_size", dataset_size, 1)
        self.sampling_probability = checks.fraction(
            "sampling_probability", sampling_probability, one=True
        )
        self.padded_size = (
            _padded_size(dataset_size, sampling_probability) if truncated else dataset_size
        )

    def draw(self):
        """Returns the indices of one exact draw, int64 [k], in random order; k may be 0.

        A binomial count and then a uniform subset of that size: the same law as N independent
        coins, in time proportional to the count.
        """
        rng = np.random.default_rng()  # no seed: entropy from the operating system, every step
        count = rng.binomial(self.dataset_size, self.sampling_probability)
        return rng.choice(self.dataset_size, size=count, replace=False)

    def draw_truncated(self):
        """Returns one draw of at most P records; see the module's text for draws of more."""
        return self.draw()[: self.padded_size]  # random order: the first P are a uniform choice


def _padded_size(dataset_size, sampling_probability):
    """The smallest multiple of 8 that a draw exceeds with at most the overflow probability."""
    quantile = stats.binom.isf(OVERFLOW_PROBABILITY, dataset_size, sampling_probability)
    return min(dataset_size, 8 * (int(max(quantile, 1)) // 8 + 1))
