"""Renyi divergences of a subsampled Gaussian against the integral itself and against dp-accounting."""

import dp_accounting
import mpmath
import numpy as np
import pytest
from dp_accounting import rdp

from tfdps.accounting import renyi

ORDERS = np.array([1.1, 1.5, 3.7, 10.9])
STEPS = [
    (0.02, 1e-9),
    (0.05, 0.999),
    (0.0501, 0.001),
    (0.1, 0.3),
    (0.7, 1e-5),
    (1.0, 0.05),
    (3.0, 0.9),
    (30.0, 0.999),
    (1e3, 0.5),
]


def divergences(orders, sigma, q):
    return renyi.of_sampled_gaussian(orders, noise_multiplier=sigma, sampling_probability=q)


def library(orders, sigma, q):
    """dp-accounting's; later releases give up on some, which are infinite then."""
    accountant = rdp.RdpAccountant(orders)
    gaussian = dp_accounting.GaussianDpEvent(sigma)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(q, gaussian))
    return accountant._rdp


def integral(order, sigma, q):
    """(order - 1) times the divergence, with 30 digits, by Gauss-Legendre on pieces."""
    with mpmath.workdps(30):
        order, sigma, q = map(mpmath.mpf, (order, sigma, q))

        def density(x):
            ratio = 1 - q + q * mpmath.exp((2 * x - 1) / (2 * sigma**2))
            return mpmath.npdf(x, 0, sigma) * ratio**order

        bend = sigma**2 * mpmath.log(1 / q - 1) + mpmath.mpf(1) / 2
        bumps = [near + k * sigma for near in (mpmath.mpf(0), order) for k in range(-12, 13, 3)]
        bends = [bend + k * sigma**2 for k in (-2, -1, 0, 1, 2)]
        inside = [x for x in bumps + bends if -12 * sigma <= x <= order + 12 * sigma]
        return float(mpmath.log(mpmath.quad(density, sorted(set(inside)))))


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "q"), STEPS)
def test_it_is_the_integral(sigma, q):
    for order, found in zip(ORDERS, (ORDERS - 1) * divergences(ORDERS, sigma, q), strict=True):
        exact = integral(order, sigma, q)
        assert abs(found - exact) <= 1e-13 * max(1, exact)


@pytest.mark.parametrize(("sigma", "q"), STEPS)
def test_integer_orders_are_the_librarys_finite_sum(sigma, q):
    orders = np.array([2.0, 3.0, 7.0, 20.0])
    # 1e-12: rounding of ln(1 + little), which both have.
    np.testing.assert_allclose(
        divergences(orders, sigma, q), library(orders, sigma, q), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(("sigma", "q"), [(0.5, 0.01), (1.0, 0.05), (3.0, 0.1), (3.0, 0.3)])
def test_the_librarys_series_is_never_below(sigma, q):
    """0.4.3 has the same number, later releases as much or more."""
    orders = np.array([1.5, 2.5, 3.7, 8.3, 10.9])
    ours, theirs = divergences(orders, sigma, q), library(orders, sigma, q)
    assert (theirs >= ours * (1 - 1e-9)).all()
    assert theirs[-1] == pytest.approx(ours[-1], rel=1e-3)


def test_it_grows_with_the_order_and_with_q_and_falls_with_noise():
    grid = [[divergences(ORDERS, s, q) for s in (0.5, 1.0, 2.0)] for q in (0.01, 0.1, 0.5)]
    assert (np.diff(grid, axis=0) > 0).all()
    assert (np.diff(grid, axis=1) < 0).all()
    assert (np.diff(grid, axis=2) > 0).all()
