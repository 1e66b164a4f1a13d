"""The Renyi divergence of a subsampled Gaussian step at orders that are no integers. No TensorFlow.

Source: Mironov, Talwar and Zhang 2019, arXiv 1908.10530, section 3. dp-accounting has it as a series:
0.4.3 sums that, later releases its terms' absolute values, of at most 1000, which is 4 % more epsilon
for some plans. By this module the epsilon of a run is the same under both. At integers the series is
finite, and theirs.
"""

import numpy as np
from scipy import special

_APART = 0.05  # noise multipliers up to here leave two bumps, with less than e^-50 between them


def of_sampled_gaussian(orders, *, noise_multiplier, sampling_probability):
    """Returns the Renyi divergences of a step, float64 of the shape of `orders`.

    ln E (1 - q + q e^((2 x - 1) / (2 sigma^2)))^order / (order - 1), for x of N(0, sigma^2): of the
    noise moved by 1 in q of the draws from the noise alone, the larger one of the two directions
    (theorem 5). The integral is a trapezoidal sum.

    Guarantee: off by at most 1e-13 / (order - 1), or relatively 1e-13. The integrand has bumps of width
    sigma at 0 and at the order, and no singularity within pi sigma^2 of the line: spacings of
    sigma min(1, sigma) / 3, to 10 sigma off both bumps, leave less than e^-49 of the integral out.

    Args:
      orders: float64 [n], > 1; the largest decides the time, a millisecond at 11 and sigma = 1.
      noise_multiplier: sigma, > 0.
      sampling_probability: q in (0, 1).
    """
    sigma, q = noise_multiplier, sampling_probability
    if sigma <= _APART:
        far = orders * np.log(q) + (orders**2 - orders) / (2 * sigma**2)
        return np.logaddexp(orders * np.log1p(-q), far) / (orders - 1)
    spacing = sigma * min(1, sigma) / 3
    x = np.arange(-10 * sigma, orders.max() + 10 * sigma + spacing, spacing)
    log_ratio = np.logaddexp(np.log1p(-q), np.log(q) + (2 * x - 1) / (2 * sigma**2))
    log_weight = -((x / sigma) ** 2) / 2 + np.log(spacing / (sigma * np.sqrt(2 * np.pi)))
    moments = special.logsumexp(orders[:, None] * log_ratio + log_weight, axis=1)
    return moments / (orders - 1)
