"""Epsilon against closed forms, published values and a second accountant; calibration; plans."""

import math

import dp_accounting
import pytest
from dp_accounting import pld
from scipy import optimize, stats

from tfdps import accounting, checks
from tfdps.accounting import Charge
from tfdps.config import RunConfig
from tfdps.plan import make_plan

MNIST = {"sampling_probability": 50 / 60_000, "delta": 1e-5}
FASHION = {"sampling_probability": 50 / 60_000, "delta": 1e-5}
CELEBA = {"sampling_probability": 200 / 162_770, "delta": 1e-6}


def exact_gaussian_epsilon(noise_multiplier, delta):
    """Balle and Wang 2018, theorem 8: the delta of a Gaussian mechanism in closed form, inverted."""

    def excess(epsilon):
        mu = 1 / noise_multiplier
        upper = stats.norm.cdf(mu / 2 - epsilon / mu)
        return upper - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu) - delta

    return optimize.brentq(excess, 0, 100)


@pytest.mark.parametrize(("sigma", "steps"), [(5.0, 1), (20.0, 100), (50.0, 30)])
def test_without_subsampling_pld_is_the_exact_gaussian_and_rdp_bounds_it(sigma, steps):
    exact = exact_gaussian_epsilon(sigma / math.sqrt(steps), 1e-5)
    settings = {"noise_multiplier": sigma, "sampling_probability": 1, "steps": steps, "delta": 1e-5}
    by_pld = accounting.epsilon(**settings, accountant="pld")
    by_rdp = accounting.epsilon(**settings, accountant="rdp")
    # 1e-9: the root search of this file's oracle.
    assert by_pld == pytest.approx(exact, rel=1e-9)
    assert by_pld < by_rdp <= 1.3 * exact


def test_gaussians_of_different_noise_are_one_of_the_sum_of_their_squared_mu():
    """Against dp-accounting's own composition of the same events on its grid."""
    kinds = [Charge(6.0, 1.0, 4), Charge(2.0, 1.0, 1), Charge(30.0, 1.0, 15)]
    exact = accounting.epsilon_of(kinds, delta=1e-5, accountant="pld")
    grid = pld.PLDAccountant(value_discretization_interval=1e-4)
    for kind in kinds:
        grid.compose(dp_accounting.GaussianDpEvent(kind.noise_multiplier), kind.steps)
    by_grid = grid.get_epsilon(1e-5)
    # Its every composed loss is rounded up, by an interval of 1e-4 at most.
    assert exact <= by_grid <= exact + 20 * 1e-4
    mu = math.sqrt(4 / 6**2 + 1 / 2**2 + 15 / 30**2)
    assert exact == pytest.approx(exact_gaussian_epsilon(1 / mu, 1e-5), rel=1e-9)
    assert exact < accounting.epsilon_of(kinds, delta=1e-5, accountant="rdp")


def test_an_understated_mu_would_show():
    """Taking one noise for all rounds, their mean, is what the sum of squares must not become."""
    kinds = [Charge(6.0, 1.0, 1), Charge(2.0, 1.0, 1)]
    mean = accounting.epsilon_of([Charge(4.0, 1.0, 2)], delta=1e-5, accountant="pld")
    assert accounting.epsilon_of(kinds, delta=1e-5, accountant="pld") > 1.2 * mean


@pytest.mark.parametrize(
    ("settings", "sigma", "rdp_steps", "pld_steps"),
    [
        (MNIST, 1.1, 3.99e6, 4.47e6),
        (FASHION, 0.9, 2.10e6, 2.35e6),
        (CELEBA, 0.8, 0.53e6, 0.59e6),
    ],
)
def test_the_published_configurations_last_the_known_number_of_steps(
    settings, sigma, rdp_steps, pld_steps
):
    def spent(steps, accountant):
        return accounting.epsilon(
            noise_multiplier=sigma, steps=int(steps), accountant=accountant, **settings
        )

    steps = accounting.steps(target_epsilon=10, noise_multiplier=sigma, **settings)
    assert steps == pytest.approx(rdp_steps, rel=0.01)
    assert spent(steps, "rdp") <= 10 < spent(steps + 1000, "rdp")
    assert spent(0.97 * pld_steps, "pld") <= 10 < spent(1.03 * pld_steps, "pld")


def test_the_factor_two_of_the_published_accounting_is_not_lost():
    """tensorflow-privacy's own report of the same noise, 2 sigma, would claim 0.78."""
    truth = accounting.epsilon(noise_multiplier=1.1, steps=240_000, **MNIST)
    understated = accounting.epsilon(noise_multiplier=2.2, steps=240_000, **MNIST)
    assert truth == pytest.approx(2.00, abs=0.01)
    assert understated == pytest.approx(0.78, abs=0.01)


@pytest.mark.parametrize("accountant", accounting.ACCOUNTANTS)
@pytest.mark.parametrize(("target", "q", "steps"), [(2, 0.05, 300), (2, 1, 50)])
def test_calibrated_noise_meets_the_target_and_hardly_less_noise_does_not(
    accountant, target, q, steps
):
    settings = {"sampling_probability": q, "steps": steps, "delta": 1e-5, "accountant": accountant}
    sigma = accounting.noise_multiplier(target_epsilon=target, **settings)
    assert accounting.epsilon(noise_multiplier=sigma, **settings) <= target
    assert accounting.epsilon(noise_multiplier=0.998 * sigma, **settings) > target


@pytest.mark.parametrize("accountant", ["rdp", pytest.param("pld", marks=pytest.mark.slow)])
def test_the_steps_found_meet_the_target_and_more_do_not(accountant):
    settings = {
        "noise_multiplier": 1.0,
        "sampling_probability": 0.01,
        "delta": 1e-5,
        "accountant": accountant,
    }
    steps = accounting.steps(target_epsilon=3, **settings)
    assert accounting.epsilon(steps=steps, **settings) <= 3
    assert accounting.epsilon(steps=round(1.001 * steps) + 1, **settings) > 3


def test_charges_of_several_kinds_add_up_and_order_does_not_matter():
    one, other = Charge(1.0, 0.01, 100), Charge(5.0, 1.0, 10)
    for accountant in accounting.ACCOUNTANTS:
        both = accounting.epsilon_of([one, other], delta=1e-5, accountant=accountant)
        swapped = accounting.epsilon_of([other, one], delta=1e-5, accountant=accountant)
        alone = accounting.epsilon_of([one], delta=1e-5, accountant=accountant)
        assert both == pytest.approx(swapped, rel=1e-6)
        assert both > alone
    halves = [Charge(1.0, 0.01, 50), Charge(1.0, 0.01, 50)]
    assert accounting.epsilon_of(halves, delta=1e-5) == accounting.epsilon_of([one], delta=1e-5)


def test_no_steps_cost_nothing_and_more_steps_cost_more():
    spent = [
        accounting.epsilon(noise_multiplier=1.0, sampling_probability=0.01, steps=k, delta=1e-5)
        for k in (0, 1, 10, 100, 1000)
    ]
    assert spent[0] == 0.0
    assert spent == sorted(spent)


def test_accounting_prints_nothing(capfd):
    for accountant in accounting.ACCOUNTANTS:
        accounting.epsilon(
            noise_multiplier=1.1,
            sampling_probability=0.9,
            steps=24,
            delta=1e-5,
            accountant=accountant,
        )
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_multiplier": 0.0}, "noise_multiplier must be > 0"),
        ({"sampling_probability": 1.5}, "sampling_probability must be in (0, 1], received 1.5."),
        ({"steps": -1}, "steps must be >= 0"),
        ({"delta": 0.0}, "delta must be in (0, 1)"),
        ({"accountant": "magic"}, "accountant must be one of rdp, pld"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    settings = {"noise_multiplier": 1.0, "sampling_probability": 0.1, "steps": 1, "delta": 1e-5}
    with pytest.raises(checks.UsageError) as error:
        accounting.epsilon(**{**settings, **changes})
    assert message in str(error.value)


def test_a_plan_never_ends_above_its_target():
    for config in (
        RunConfig(mechanism="joint", num_steps=300, target_epsilon=2.0),
        RunConfig(mechanism="joint", noise_multiplier=2.0, target_epsilon=2.0),
        RunConfig(mechanism="joint", num_steps=300, noise_multiplier=3.0, target_epsilon=4.0),
        RunConfig(mechanism="joint", target_epsilon=2.0, accountant="pld"),
    ):
        plan = make_plan(config, 1438)
        assert plan.epsilon(plan.steps) <= config.target_epsilon
        assert plan.sampling_probability == 50 / 1438


@pytest.mark.parametrize(
    ("settings", "records", "message"),
    [
        (
            {"num_steps": 300, "noise_multiplier": 0.5},
            1438,
            "target_epsilon=10.0 cannot be met: 300",
        ),
        (
            {"noise_multiplier": 0.1, "target_epsilon": 0.5},
            1438,
            "one step at noise_multiplier=0.1",
        ),
        (
            {"num_steps": 10**7, "target_epsilon": 1e-6, "delta": 1e-15},
            1438,
            "cannot be met in 10000000 steps",
        ),
        ({"delta": 0.01}, 1438, "delta must be below 1/N"),
        ({"batch_size": 100}, 99, "batch_size=100 for 99 records"),
        ({"target_epsilon": None, "num_steps": 5}, 1438, "give target_epsilon or noise_multiplier"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_the_way_out(settings, records, message):
    with pytest.raises(checks.UsageError) as error:
        make_plan(RunConfig(**{"mechanism": "joint", **settings}), records)
    assert message in str(error.value)


def test_without_a_mechanism_epsilon_is_infinite():
    plan = make_plan(RunConfig(mechanism="none", num_steps=5), 1438)
    assert plan.epsilon(5) == math.inf
    assert not plan.private
