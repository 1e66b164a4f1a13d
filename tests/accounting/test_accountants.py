"""Epsilon against closed forms, published values and a second accountant; calibration; plans."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from scipy import optimize, stats

from tfdps import checks
from tfdps.accounting import accountants
from tfdps.accounting.accountants import NoiseEvent
from tfdps.accounting.plan import make_plan
from tfdps.config.run_config import RunConfig

Relation = dp_accounting.NeighboringRelation
ZERO_OUT = Relation.REPLACE_SPECIAL
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
    by_pld = accountants.epsilon(**settings, accountant="pld")
    by_rdp = accountants.epsilon(**settings, accountant="rdp")
    # 1e-9: the root search of this file's oracle.
    assert by_pld == pytest.approx(exact, rel=1e-9)
    assert by_pld < by_rdp <= 1.3 * exact


def test_gaussians_of_different_noise_are_one_of_the_sum_of_their_squared_mu():
    """Against dp-accounting's own composition of the same events on its grid."""
    kinds = [NoiseEvent(6.0, 1.0, 4), NoiseEvent(2.0, 1.0, 1), NoiseEvent(30.0, 1.0, 15)]
    exact = accountants.epsilon_of(kinds, delta=1e-5, accountant="pld")
    grid = pld.PLDAccountant(value_discretization_interval=1e-4)
    for kind in kinds:
        grid.compose(dp_accounting.GaussianDpEvent(kind.noise_multiplier), kind.steps)
    by_grid = grid.get_epsilon(1e-5)
    # Its every composed loss is rounded up, by an interval of 1e-4 at most.
    assert exact <= by_grid <= exact + 20 * 1e-4
    mu = math.sqrt(4 / 6**2 + 1 / 2**2 + 15 / 30**2)
    assert exact == pytest.approx(exact_gaussian_epsilon(1 / mu, 1e-5), rel=1e-9)
    assert exact < accountants.epsilon_of(kinds, delta=1e-5, accountant="rdp")


@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_whole_and_subsampled_charges_cost_what_dp_accountings_composition_of_them_does(delta):
    """Rounds on all records and then subsampled steps: one by one, in their order, on its grid."""
    charges = [NoiseEvent(6.0, 1.0, 2), NoiseEvent(2.5, 1.0, 1), NoiseEvent(1.5, 0.1, 3)]
    found = accountants.epsilon_of(charges, delta=delta, accountant="pld")
    grid = pld.PLDAccountant(value_discretization_interval=1e-4)
    for charge in charges:
        event = dp_accounting.GaussianDpEvent(charge.noise_multiplier)
        if charge.sampling_probability < 1:
            event = dp_accounting.PoissonSampledDpEvent(charge.sampling_probability, event)
        grid.compose(event, charge.steps)
    by_grid = grid.get_epsilon(delta)
    # The whole ones are one Gaussian here: of six steps four are on the grid, each of whose losses is
    # rounded up, by 1e-4 at most; the millionth of delta that is kept moves epsilon by 1e-6.
    assert by_grid - 3 * 1e-4 <= found <= by_grid + 1e-4
    by_rdp = accountants.epsilon_of(charges, delta=delta, accountant="rdp")
    assert found < by_rdp < 1.3 * found
    # More than either part alone, and the same in any order.
    for part in (charges[:2], charges[2:]):
        assert accountants.epsilon_of(part, delta=delta, accountant="pld") < found
    again = accountants.epsilon_of(charges[::-1], delta=delta, accountant="pld")
    assert again == pytest.approx(found, rel=1e-9)


def test_asking_for_one_mixture_of_charges_does_not_change_what_another_costs():
    """The composed distribution of subsampled charges is kept: it must not be composed in place."""
    sampled, whole = [NoiseEvent(1.5, 0.1, 3)], [NoiseEvent(2.0, 1.0, 1)]

    def spent(charges):
        return accountants.epsilon_of(charges, delta=1e-5, accountant="pld")

    before = spent(sampled), spent([*whole, *sampled])
    assert (spent(sampled), spent([*whole, *sampled])) == before
    assert before[1] > before[0]


def test_noise_beside_other_charges_meets_the_target_with_them():
    beside = [NoiseEvent(1.5, 0.1, 5)]
    settings = {"sampling_probability": 1.0, "steps": 3, "delta": 1e-5}
    sigma = accountants.noise_multiplier(target_epsilon=5.0, beside=beside, **settings)
    alone = accountants.noise_multiplier(target_epsilon=5.0, **settings)
    assert sigma > alone

    def spent(sigma):
        return accountants.epsilon_of([NoiseEvent(sigma, 1.0, 3), *beside], delta=1e-5)

    assert spent(sigma) <= 5.0 < spent(0.9998 * sigma)  # calibrated to 1e-4


def test_a_target_that_pld_alone_can_meet_beside_other_charges_is_met():
    beside = [NoiseEvent(1.5, 0.1, 5)]  # epsilon 1.03 by PLD, 1.28 by RDP
    settings = {"delta": 1e-5, "accountant": "pld"}
    sigma = accountants.noise_multiplier(
        target_epsilon=1.15, beside=beside, sampling_probability=1.0, steps=3, **settings
    )

    def spent(sigma):
        return accountants.epsilon_of([NoiseEvent(sigma, 1.0, 3), *beside], **settings)

    assert spent(sigma) <= 1.15 < spent(0.9998 * sigma)


def test_an_understated_mu_would_show():
    """Taking one noise for all rounds, their mean, is what the sum of squares must not become."""
    kinds = [NoiseEvent(6.0, 1.0, 1), NoiseEvent(2.0, 1.0, 1)]
    mean = accountants.epsilon_of([NoiseEvent(4.0, 1.0, 2)], delta=1e-5, accountant="pld")
    assert accountants.epsilon_of(kinds, delta=1e-5, accountant="pld") > 1.2 * mean


class TestZeroOut:
    """dp-accounting's REPLACE_SPECIAL: what `accounting` says of it."""

    ACCOUNTANTS = (
        lambda relation: rdp.RdpAccountant(neighboring_relation=relation),
        lambda relation: pld.PLDAccountant(relation, 1e-3),
    )

    @pytest.mark.parametrize("make", ACCOUNTANTS)
    @pytest.mark.parametrize("sigma", [0.8, 3.0, 40.0])
    def test_without_subsampling_it_costs_what_add_or_remove_does(self, make, sigma):
        def spent(relation):
            accountant = make(relation)
            accountant.compose(dp_accounting.GaussianDpEvent(sigma), 50)
            return accountant.get_epsilon(1e-5)

        zero_out, add_or_remove = spent(ZERO_OUT), spent(Relation.ADD_OR_REMOVE_ONE)
        assert zero_out == pytest.approx(add_or_remove, abs=1e-9)

    @pytest.mark.parametrize("make", ACCOUNTANTS)
    def test_a_subsampled_event_costs_the_same_under_it_or_is_refused(self, make):
        """0.4.3 refuses it, later releases know it."""
        gaussian = dp_accounting.GaussianDpEvent(2.0)
        sampled = dp_accounting.PoissonSampledDpEvent(0.1, gaussian)
        asked, other = make(Relation.ADD_OR_REMOVE_ONE), make(ZERO_OUT)
        assert asked.supports(sampled)
        if other.supports(sampled):
            asked.compose(sampled, 20)
            other.compose(sampled, 20)
            assert other.get_epsilon(1e-5) == pytest.approx(asked.get_epsilon(1e-5), rel=1e-9)

    @pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.05), (3.0, 0.3), (0.6, 0.01)])
    def test_a_subsampled_step_costs_what_its_two_distributions_say(self, sigma, q):
        """The step itself, by quadrature: noise around 0, and that moved by 1 in q of the draws."""
        accounted = accountants.epsilon(
            noise_multiplier=sigma, sampling_probability=q, steps=1, delta=1e-5, accountant="pld"
        )
        x, width = np.linspace(-14 * sigma, 14 * sigma + 1, 400_001, retstep=True)
        without = stats.norm.pdf(x, 0, sigma)
        with_record = (1 - q) * without + q * stats.norm.pdf(x, 1, sigma)

        def delta(epsilon):
            pairs = ((without, with_record), (with_record, without))
            return max(
                width * np.sum(np.maximum(one - math.exp(epsilon) * other, 0))
                for one, other in pairs
            )

        exact = optimize.brentq(lambda epsilon: delta(epsilon) - 1e-5, 0, 20)
        assert exact <= accounted + 1e-6  # of the quadrature
        assert accounted <= exact + 1e-3  # of the accountant's grid


@pytest.mark.parametrize(
    ("settings", "sigma", "rdp_steps", "pld_steps"),
    [
        (MNIST, 1.1, 3.99e6, 4.47e6),
        (FASHION, 0.9, 2.10e6, 2.35e6),
        (CELEBA, 0.8, 0.53e6, 0.59e6),
    ],
)
@pytest.mark.slow
def test_the_published_configurations_last_the_known_number_of_steps(
    settings, sigma, rdp_steps, pld_steps
):
    def spent(steps, accountant):
        return accountants.epsilon(
            noise_multiplier=sigma, steps=int(steps), accountant=accountant, **settings
        )

    steps = accountants.steps(target_epsilon=10, noise_multiplier=sigma, **settings)
    assert steps == pytest.approx(rdp_steps, rel=0.01)
    assert spent(steps, "rdp") <= 10 < spent(steps + 1000, "rdp")
    assert spent(0.97 * pld_steps, "pld") <= 10 < spent(1.03 * pld_steps, "pld")


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "by_rdp", "by_pld"),
    [
        (2.0, 50 / 1438, 300, 1.4261493622855275, 1.2927314144809152),
        (1.1, 50 / 60_000, 240_000, 2.0021527577898053, 1.8414100108007196),
        (3.0, 0.3, 1000, 19.810300708748397, 18.52860065491441),
        pytest.param(
            *(0.5, 0.01, 100, 8.030725352808414, 6.476210217876647), marks=pytest.mark.slow
        ),
        pytest.param(
            *(1.1, 0.9, 24, 27.21048945832041, 25.506629985769646), marks=pytest.mark.slow
        ),
    ],
)
def test_every_release_of_dp_accounting_gives_the_epsilon_of_0_4_3(sigma, q, steps, by_rdp, by_pld):
    """Its own numbers, stored: of dp-accounting 0.4.3 with NumPy 1.26 and SciPy 1.17."""
    for accountant, stored in (("rdp", by_rdp), ("pld", by_pld)):
        spent = accountants.epsilon(
            noise_multiplier=sigma,
            sampling_probability=q,
            steps=steps,
            delta=1e-5,
            accountant=accountant,
        )
        # Of 10,000 sums, and of the transforms that PLD composes by.
        assert spent == pytest.approx(stored, rel=1e-7)


def test_the_factor_two_of_the_published_accounting_is_not_lost():
    """tensorflow-privacy's own report of the same noise, 2 sigma, would claim 0.78."""
    truth = accountants.epsilon(noise_multiplier=1.1, steps=240_000, **MNIST)
    understated = accountants.epsilon(noise_multiplier=2.2, steps=240_000, **MNIST)
    assert truth == pytest.approx(2.00, abs=0.01)
    assert understated == pytest.approx(0.78, abs=0.01)


@pytest.mark.parametrize("accountant", accountants.ACCOUNTANTS)
@pytest.mark.parametrize(("target", "q", "steps"), [(2, 0.05, 300), (2, 1, 50)])
def test_calibrated_noise_meets_the_target_and_hardly_less_noise_does_not(
    accountant, target, q, steps
):
    settings = {"sampling_probability": q, "steps": steps, "delta": 1e-5, "accountant": accountant}
    sigma = accountants.noise_multiplier(target_epsilon=target, **settings)
    assert accountants.epsilon(noise_multiplier=sigma, **settings) <= target
    assert accountants.epsilon(noise_multiplier=0.998 * sigma, **settings) > target


@pytest.mark.parametrize("accountant", ["rdp", pytest.param("pld", marks=pytest.mark.slow)])
def test_the_steps_found_meet_the_target_and_more_do_not(accountant):
    settings = {
        "noise_multiplier": 1.0,
        "sampling_probability": 0.01,
        "delta": 1e-5,
        "accountant": accountant,
    }
    steps = accountants.steps(target_epsilon=3, **settings)
    assert accountants.epsilon(steps=steps, **settings) <= 3
    assert accountants.epsilon(steps=round(1.001 * steps) + 1, **settings) > 3


def test_charges_of_several_kinds_add_up_and_order_does_not_matter():
    one, other = NoiseEvent(1.0, 0.01, 100), NoiseEvent(5.0, 1.0, 10)
    for accountant in accountants.ACCOUNTANTS:
        both = accountants.epsilon_of([one, other], delta=1e-5, accountant=accountant)
        swapped = accountants.epsilon_of([other, one], delta=1e-5, accountant=accountant)
        alone = accountants.epsilon_of([one], delta=1e-5, accountant=accountant)
        assert both == pytest.approx(swapped, rel=1e-6)
        assert both > alone
    halves = [NoiseEvent(1.0, 0.01, 50), NoiseEvent(1.0, 0.01, 50)]
    assert accountants.epsilon_of(halves, delta=1e-5) == accountants.epsilon_of([one], delta=1e-5)


def test_no_steps_cost_nothing_and_more_steps_cost_more():
    spent = [
        accountants.epsilon(noise_multiplier=1.0, sampling_probability=0.01, steps=k, delta=1e-5)
        for k in (0, 1, 10, 100, 1000)
    ]
    assert spent[0] == 0.0
    assert spent == sorted(spent)


def test_accounting_prints_nothing(capfd):
    for accountant in accountants.ACCOUNTANTS:
        accountants.epsilon(
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
        accountants.epsilon(**{**settings, **changes})
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
