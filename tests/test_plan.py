"""Plans whose steps have shares of the budget: calibrated, refused, told, stated."""

import dataclasses
import json
import math
import types

import pytest

from tfdps import accounting, checks, schedule
from tfdps.accounting import Charge
from tfdps.config import RunConfig
from tfdps.plan import PrivacyPlan, account, make_plan, privacy_statement

SHARES = (0.05, 0.05, 0.1, 0.3, 0.5)


def staged(shares=SHARES, *, target=10.0, accountant="pld", batch_size=500):
    """A plan of these shares on 500 records, all of them in every step unless told otherwise."""
    common = {"delta": 1e-5, "accountant": accountant}
    sigma = accounting.noise_multiplier(
        target_epsilon=target,
        sampling_probability=batch_size / 500,
        steps=len(shares),
        shares=shares,
        **common,
    )
    return PrivacyPlan(
        mechanism="per_record",
        dataset_size=500,
        batch_size=batch_size,
        noise_multiplier=sigma,
        clip_norm=6.0,
        steps=len(shares),
        target_epsilon=target,
        shares=shares,
        **common,
    )


def per_record(**changes):
    return RunConfig(mechanism="per_record", num_atoms=32, **changes)


@pytest.mark.parametrize("accountant", accounting.ACCOUNTANTS)
@pytest.mark.parametrize("target", [10.0, 1.0, 0.2])
def test_the_shares_of_a_plan_meet_its_target_together_and_hardly_less_noise_does_not(
    accountant, target
):
    plan = staged(target=target, accountant=accountant)
    assert plan.epsilon(5) <= target
    less = dataclasses.replace(plan, noise_multiplier=0.998 * plan.noise_multiplier)
    assert less.epsilon(5) > target
    exact = {10.0: 2.0004, 1.0: 0.26805, 0.2: 0.06133}[target]
    mu = math.sqrt(math.fsum(1 / sigma**2 for sigma in plan.noise_multipliers))
    assert mu == pytest.approx(math.sqrt(5) / plan.noise_multiplier, rel=1e-14)
    if accountant == "pld":
        assert mu == pytest.approx(exact, rel=2e-4)  # calibration and the table's last digit
    else:
        assert mu < exact


@pytest.mark.slow
@pytest.mark.parametrize("accountant", accounting.ACCOUNTANTS)
def test_shares_of_subsampled_steps_meet_the_target_too(accountant):
    plan = staged((0.1, 0.9), target=3.0, accountant=accountant, batch_size=25)
    assert plan.epsilon(2) <= 3.0
    assert dataclasses.replace(plan, noise_multiplier=0.998 * plan.noise_multiplier).epsilon(2) > 3
    # Steps of the same sum of 1 / sigma^2 cost different epsilon when they are subsampled.
    assert dataclasses.replace(plan, shares=None).epsilon(2) != pytest.approx(3.0, rel=0.01)


def test_without_shares_every_step_has_the_plans_noise():
    plan = make_plan(RunConfig(mechanism="joint", num_steps=300, noise_multiplier=4.0), 1438)
    assert plan.noise_multipliers == (4.0,) * 300
    assert plan.charges(20, 50) == [Charge(4.0, 50 / 1438, 50)]
    unprotected = make_plan(RunConfig(mechanism="none", num_steps=3), 1438)
    assert unprotected.noise_multipliers == (0.0,) * 3


def test_the_charges_of_a_plan_are_its_steps_in_order():
    plan = staged()
    sigmas = plan.noise_multipliers
    assert sigmas[0] == sigmas[1] > sigmas[2] > sigmas[3] > sigmas[4]
    assert plan.charges(1, 3) == [Charge(sigma, 1.0, 1) for sigma in sigmas[1:4]]
    assert plan.charges(0, 2) == [Charge(sigmas[0], 1.0, 2)]
    assert plan.charges(4, 0) == []
    spent = [plan.epsilon(steps) for steps in range(6)]
    assert spent[0] == 0
    assert spent == sorted(spent)
    for first, count in ((0, 6), (5, 1), (-1, 2)):
        with pytest.raises(checks.UsageError, match="must"):
            plan.charges(first, count)


def test_a_per_record_run_has_the_rounds_of_its_schedule_on_all_records():
    for accountant in accounting.ACCOUNTANTS:
        config = per_record(accountant=accountant, target_epsilon=1.0)
        plan = make_plan(config, 500)
        assert plan.shares == tuple(entry.share for entry in schedule.of(32))
        assert (plan.steps, plan.sampling_probability) == (len(plan.shares), 1)
        assert 0.999 < plan.epsilon(plan.steps) <= 1.0


def test_a_given_noise_multiplier_is_held_against_the_target():
    fits = make_plan(per_record(noise_multiplier=2.0), 500)
    assert fits.noise_multiplier == 2.0
    assert fits.epsilon(fits.steps) <= 10
    with pytest.raises(checks.UsageError) as error:
        make_plan(per_record(noise_multiplier=0.5), 500)
    assert f"cannot be met: {fits.steps} steps at noise_multiplier=0.5" in str(error.value)
    assert "Leave noise_multiplier out" in str(error.value)


def test_a_number_of_steps_that_is_not_the_schedules_is_refused():
    assert make_plan(per_record(num_steps=5), 500) == make_plan(per_record(), 500)
    with pytest.raises(checks.UsageError, match="num_steps must be the number of rounds, 5 for"):
        make_plan(per_record(num_steps=4), 500)


def test_shares_that_do_not_fit_the_steps_are_refused():
    with pytest.raises(checks.UsageError, match="an entry a step, received 5 for 300 steps"):
        dataclasses.replace(staged(), steps=300)


def test_the_plan_of_a_list_equals_the_plan_of_its_json():
    plan = staged([1 / 3, 0.1, 1 - 1 / 3 - 0.1])
    again = PrivacyPlan(**json.loads(json.dumps(dataclasses.asdict(plan))))
    assert again == plan
    assert hash(again) == hash(plan)


def test_the_account_has_a_line_a_round_and_no_most_steps():
    plan = staged()
    lines = list(account(per_record(), plan))
    rounds = [line.split() for line in lines if line.startswith("round")]
    assert [(words[1], words[3], words[-1]) for words in rounds] == [
        (str(number), f"{share:g}", f"{sigma:.6g}")
        for number, (share, sigma) in enumerate(
            zip(SHARES, plan.noise_multipliers, strict=True), start=1
        )
    ]
    assert not any("most steps" in line for line in lines)
    equal = RunConfig(mechanism="joint", batch_size=500, num_steps=5)
    assert sum("most steps" in line for line in account(equal, make_plan(equal, 500))) == 2


def test_the_statement_lists_the_events_that_make_its_epsilon():
    plan = staged()
    spent = plan.charges(0, 4)  # as a ledger has them after a stop
    statement = privacy_statement(
        plan, spent, types.SimpleNamespace(sensitivity_over_clip_norm=1.0)
    )
    events = json.loads(json.dumps(statement["events"]))
    assert [Charge(**event) for event in events] == spent
    assert statement["steps"] == sum(event["steps"] for event in events) == 4
    assert statement["noise_multiplier"] == plan.noise_multiplier
    assert (statement["mechanism"], statement["sensitivity"]) == ("per_record", 6.0)
    assert statement["epsilon"] == statement["epsilon_pld"] == plan.epsilon(4) < plan.epsilon(5)
    assert statement["epsilon_rdp"] > statement["epsilon_pld"]
