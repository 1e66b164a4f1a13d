"""The exact curve of a Gaussian mechanism: integrals, 60-digit values, never below the truth."""

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy import integrate, stats

from tfdps import checks
from tfdps.accounting import gaussian_curve
from tfdps.auditing import bounds

# Epsilon by bisection of the formula in mpmath with 60 digits.
TRUTH = [
    (1e-5, 2.0004, 9.999719088139964),
    (1e-5, 0.26805, 0.99999539848667117),
    (1e-5, 0.06133, 0.19998528154760042),
    (1e-5, 1e-3, 0.00193872496986011),
    (1e-5, 1e-4, 9.023709432563504e-5),
    (1e-5, 30.0, 577.01197368801701),
    (1e-5, 1000.0, 504263.89292065408),
    (1e-12, 50.0, 1600.7886583055774),
    (1e-100, 7.0, 172.95492975401236),
    (1e-300, 1.0, 37.448847912139105),
    (0.5, 3.0, 3.5292757809317399),
    (0.9, 5.0, 4.9612198649868906),
]


@pytest.mark.parametrize(
    ("epsilon", "mu"),
    [(0, 1e-3), (1e-3, 1e-3), (0.03, 1e-2), (0.5, 0.2), (1, 1), (10, 3), (20, 10), (1200, 50)],
)
def test_gaussian_delta_is_the_integral_of_the_positive_part(epsilon, mu):
    def excess(x):  # of N(mu, 1) over e^epsilon N(0, 1), positive from epsilon / mu + mu / 2 on
        return stats.norm.pdf(x - mu) * -np.expm1(epsilon - mu * x + mu**2 / 2)

    start = epsilon / mu + mu / 2
    oracle, _ = integrate.quad(excess, start, max(start, mu) + 12, epsabs=0, epsrel=1e-11)
    # 1e-9: the integrand near its zero loses about seven of sixteen digits at mu = 1e-3.
    assert gaussian_curve.gaussian_delta(epsilon, mu) == pytest.approx(oracle, rel=1e-9)


@pytest.mark.parametrize(("delta", "mu", "truth"), TRUTH)
def test_gaussian_epsilon_is_the_truth_and_never_below_it(delta, mu, truth):
    received = gaussian_curve.gaussian_epsilon(delta, mu)
    # The bracket and its widening, 1e-12 each; delta is rounded up by 1e-14 of each of its two terms,
    # which for small mu leave about mu of themselves when one is taken from the other.
    assert truth < received <= truth * (1 + 3e-12 + 3e-14 / mu)


@pytest.mark.parametrize(("mu", "epsilon"), [(2.0004, 10), (0.26805, 1), (0.06133, 0.2)])
def test_the_strengths_that_runs_ask_for(mu, epsilon):
    # The design's own table, to its five and four digits.
    assert gaussian_curve.gaussian_epsilon(1e-5, mu) == pytest.approx(epsilon, rel=1e-4)


@pytest.mark.parametrize("mu", [0.2, 1.0, 3.0])
def test_gaussian_epsilon_is_the_accountants(mu):
    loss = privacy_loss_distribution.from_gaussian_mechanism(
        1 / mu, value_discretization_interval=1e-4
    )
    # The accountant rounds every loss up by at most its interval.
    assert gaussian_curve.gaussian_epsilon(1e-5, mu) == pytest.approx(
        loss.get_epsilon_for_delta(1e-5), abs=2e-4
    )


@pytest.mark.parametrize("mu", [1e-3, 0.03, 1, 7, 50])
@pytest.mark.parametrize("delta", [1e-100, 1e-12, 1e-5])
def test_gaussian_epsilon_inverts_gaussian_delta(delta, mu):
    epsilon = gaussian_curve.gaussian_epsilon(delta, mu)
    assert gaussian_curve.gaussian_delta(epsilon, mu) == pytest.approx(delta, rel=1e-6)


def test_gaussian_ends():
    assert gaussian_curve.gaussian_epsilon(1e-5, 0) == 0
    assert gaussian_curve.gaussian_epsilon(1e-5, 1e-6) == 0  # total variation 4e-7 is below delta
    assert gaussian_curve.gaussian_epsilon(1e-5, math.inf) == math.inf
    assert gaussian_curve.gaussian_epsilon(0, 1) == math.inf
    assert gaussian_curve.gaussian_delta(3, 0) == 0
    assert gaussian_curve.gaussian_delta(3, math.inf) == 1
    assert gaussian_curve.gaussian_delta(0, 100) == pytest.approx(1)


@pytest.mark.parametrize("mu", [-1, math.nan])
def test_gaussian_refuses_a_mu_that_is_none(mu):
    with pytest.raises(checks.UsageError, match="mu must be >= 0"):
        gaussian_curve.gaussian_epsilon(1e-5, mu)


def test_the_audit_holds_runs_against_the_same_curve():
    assert bounds.gaussian_epsilon is gaussian_curve.gaussian_epsilon
    assert bounds.gaussian_delta is gaussian_curve.gaussian_delta
