"""Plans whose steps have shares of the budget: calibrated, refused, told, stated."""

import dataclasses
import json
import math
import types

import pytest

from tfdps import checks
from tfdps.accounting import accountants, round_shares
from tfdps.accounting.account_lines import account
from tfdps.accounting.accountants import NoiseEvent
from tfdps.accounting.plan import NOISE, PrivacyPlan, make_plan
from tfdps.accounting.statement import privacy_statement
from tfdps.config.run_config import RunConfig
from tfdps.data.dataset import DatasetSpec

SHARES = (0.05, 0.05, 0.1, 0.3, 0.5)


SPEC = DatasetSpec(name="own", image_shape=(8, 8, 1), class_names=("a", "b"))


def staged(shares=SHARES, *, target=10.0, accountant="pld", batch_size=500):
    """A plan of these shares on 500 records, all of them in every step unless told otherwise."""
    common = {"delta": 1e-5, "accountant": accountant}
    sigma = accountants.noise_multiplier(
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
        noise=NOISE,
        **common,
    )


def per_record(**changes):
    return RunConfig(mechanism="per_record", num_atoms=32, **changes)


@pytest.mark.parametrize("accountant", accountants.ACCOUNTANTS)
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
@pytest.mark.parametrize("accountant", accountants.ACCOUNTANTS)
def test_shares_of_subsampled_steps_meet_the_target_too(accountant):
    plan = staged((0.1, 0.9), target=3.0, accountant=accountant, batch_size=25)
    assert plan.epsilon(2) <= 3.0
    assert dataclasses.replace(plan, noise_multiplier=0.998 * plan.noise_multiplier).epsilon(2) > 3
    # Steps of the same sum of 1 / sigma^2 cost different epsilon when they are subsampled.
    assert dataclasses.replace(plan, shares=None).epsilon(2) != pytest.approx(3.0, rel=0.01)


def test_without_shares_every_step_has_the_plans_noise():
    plan = make_plan(RunConfig(mechanism="joint", num_steps=300, noise_multiplier=4.0), 1438)
    assert plan.noise_multipliers == (4.0,) * 300
    assert plan.charges(20, 50) == [NoiseEvent(4.0, 50 / 1438, 50)]
    unprotected = make_plan(RunConfig(mechanism="none", num_steps=3), 1438)
    assert unprotected.noise_multipliers == (0.0,) * 3


def test_the_charges_of_a_plan_are_its_steps_in_order():
    plan = staged()
    sigmas = plan.noise_multipliers
    assert sigmas[0] == sigmas[1] > sigmas[2] > sigmas[3] > sigmas[4]
    assert plan.charges(1, 3) == [NoiseEvent(sigma, 1.0, 1) for sigma in sigmas[1:4]]
    assert plan.charges(0, 2) == [NoiseEvent(sigmas[0], 1.0, 2)]
    assert plan.charges(4, 0) == []
    spent = [plan.epsilon(steps) for steps in range(6)]
    assert spent[0] == 0
    assert spent == sorted(spent)
    for first, count in ((0, 6), (5, 1), (-1, 2)):
        with pytest.raises(checks.UsageError, match="must"):
            plan.charges(first, count)


def test_a_per_record_run_has_the_rounds_of_its_schedule_on_all_records():
    for accountant in accountants.ACCOUNTANTS:
        config = per_record(accountant=accountant, target_epsilon=1.0)
        plan = make_plan(config, 500)
        assert plan.shares == tuple(entry.share for entry in round_shares.of(32))
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
    mechanism = types.SimpleNamespace(sensitivity_over_clip_norm=1.0)
    statement = privacy_statement(plan, spent, mechanism, SPEC)
    events = json.loads(json.dumps(statement["events"]))
    assert [NoiseEvent(**event) for event in events] == spent
    assert statement["steps"] == sum(event["steps"] for event in events) == 4
    assert statement["noise_multiplier"] == plan.noise_multiplier
    assert (statement["mechanism"], statement["sensitivity"]) == ("per_record", 6.0)
    assert statement["epsilon"] == statement["epsilon_pld"] == plan.epsilon(4) < plan.epsilon(5)
    assert statement["epsilon_rdp"] > statement["epsilon_pld"]


def test_the_statement_says_whose_privacy_against_what_and_what_it_takes_as_given():
    plan = staged()
    mechanism = types.SimpleNamespace(sensitivity_over_clip_norm=1.0)
    stated = privacy_statement(plan, plan.charges(0, 5), mechanism, SPEC)
    assert (stated["unit"], stated["adjacency"]) == ("one image", "zero-out-one")
    assert "nothing in the place of one record" in stated["adjacency_meaning"]
    assert stated["declared"] == {
        "num_records": 500,
        "image_shape": [8, 8, 1],
        "num_classes": 2,
        "class_names": ["a", "b"],
    }
    assert stated["noise"] == "gaussian-rounded-to-grid"
    assert stated["sensitivity"] == 6.0
    assert "clips records to C = clip_norm times that" in stated["sensitivity_meaning"]
    caveats = " ".join(stated["caveats"])
    assert "the (epsilon, delta) holds for the released bits" in caveats
    assert "Philox" not in caveats
    assert "floating" not in caveats


def test_the_statement_of_a_run_of_persons_names_them():
    plan = make_plan(per_record(person="folder", images_per_person=7), 220)
    mechanism = types.SimpleNamespace(sensitivity_over_clip_norm=1.0)
    stated = privacy_statement(plan, plan.charges(0, plan.steps), mechanism, SPEC)
    assert stated["unit"] == "one person, at most 7 images"
    assert (stated["images_per_person"], stated["declared"]["num_records"]) == (7, 220)
    assert "all images of one person" in stated["adjacency_meaning"]
    assert "A record is here a person" in stated["sensitivity_meaning"]
    assert any("of a single image the same" in caveat for caveat in stated["caveats"])
    assert not any("is one image" in caveat for caveat in stated["caveats"])


def test_without_a_mechanism_the_statement_claims_no_noise():
    plan = make_plan(RunConfig(mechanism="none", num_steps=3), 1438)
    stated = privacy_statement(plan, [], None, SPEC)
    assert stated["noise"] is None
    assert stated["epsilon"] == stated["sensitivity"] == "infinity"
    assert stated["sensitivity_meaning"] == "Nothing limits what one record changes."


def test_a_plan_knows_the_law_of_its_noise_and_one_of_0_1_does_not():
    assert make_plan(per_record(), 500).noise == NOISE
    of_0_1 = dataclasses.asdict(staged())
    del of_0_1["noise"]
    assert PrivacyPlan(**of_0_1).noise is None


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (per_record(clip_norm=1e7), "noise_multiplier times clip_norm must be at most 1e.05"),
        (RunConfig(mechanism="joint", noise_multiplier=1e6), "noise_multiplier must be at most"),
    ],
)
def test_noise_that_no_grid_has_room_for_is_refused_before_a_run_begins(config, what):
    with pytest.raises(checks.UsageError, match=what):
        make_plan(config, 1000)


def refined(**changes):
    """A RunConfig of rounds to one atom a class, and of five steps of a refiner."""
    settings = {
        "num_atoms": 1,
        "accountant": "rdp",  # whose calibration takes no ten seconds
        "refiner": "strokes",
        "refiner_steps": 5,
        "refiner_batch_size": 100,
        "refiner_noise_multiplier": 0.8,
    }
    settings |= changes
    if not settings["refiner_steps"]:
        del settings["refiner_batch_size"], settings["refiner_noise_multiplier"]
    return RunConfig(**settings)


class TestARefinersPart:
    def test_the_plan_has_two_stages_and_charges_in_the_order_of_the_steps(self):
        plan = make_plan(refined(), 1000)
        rounds = len(plan.shares)
        assert plan.steps == rounds + 5
        assert plan.stages == [(0, rounds, 1.0), (rounds, 5, 0.1)]
        assert plan.noise_multipliers[rounds:] == (0.8,) * 5
        *of_rounds, last = plan.charges(0, plan.steps)
        assert last == NoiseEvent(0.8, 0.1, 5)
        assert sum(charge.steps for charge in of_rounds) == rounds
        assert {charge.sampling_probability for charge in of_rounds} == {1.0}
        around = plan.charges(rounds - 1, 3)
        assert around == [
            NoiseEvent(plan.noise_multipliers[rounds - 1], 1.0, 1),
            NoiseEvent(0.8, 0.1, 2),
        ]
        with pytest.raises(checks.UsageError, match="must stay within"):
            plan.charges(rounds, 6)

    def test_a_plan_without_refiner_steps_has_one_stage_and_is_as_it_was(self):
        plan = make_plan(refined(refiner_steps=0), 1000)
        assert plan.stages == [(0, len(plan.shares), 1.0)]
        assert plan == make_plan(RunConfig(num_atoms=1, accountant="rdp"), 1000)

    @pytest.mark.parametrize(
        ("accountant", "target"),
        [
            ("rdp", 10.0),
            ("rdp", 5.0),
            pytest.param("pld", 10.0, marks=pytest.mark.slow),
        ],
    )
    def test_rounds_and_refiner_meet_the_target_together_and_leave_nothing_of_it(
        self, accountant, target
    ):
        plan = make_plan(refined(accountant=accountant, target_epsilon=target), 1000)
        assert 0.999 * target <= plan.epsilon(plan.steps) <= target
        of_rounds = plan.epsilon(plan.steps - 5)
        assert of_rounds < 0.99 * target
        spent = [plan.epsilon(steps, "rdp") for steps in range(plan.steps + 1)]
        assert spent == sorted(set(spent))

    def test_the_noise_of_the_rounds_grows_with_the_refiners_part(self):
        none, less, more, cheap = (
            make_plan(refined(**changes), 1000).noise_multiplier
            for changes in (
                {"refiner_steps": 0},
                {"refiner_steps": 5},
                {"refiner_steps": 20},
                {"refiner_noise_multiplier": 50.0},
            )
        )
        assert none < less < more
        assert none <= cheap < less
        assert cheap == pytest.approx(none, rel=1e-3)  # noise of 50 costs next to nothing

    def test_a_plan_survives_its_json(self):
        plan = make_plan(refined(), 1000)
        again = PrivacyPlan(**json.loads(json.dumps(dataclasses.asdict(plan))))
        assert again == plan
        assert hash(again) == hash(plan)
        assert again.stages == plan.stages
        assert again.charges(0, plan.steps) == plan.charges(0, plan.steps)

    def test_a_plan_of_before_there_was_a_refiner_is_read_as_one_without(self):
        plan = make_plan(refined(refiner_steps=0), 1000)
        fields = dataclasses.asdict(plan)
        for name in ("refiner_steps", "refiner_batch_size", "refiner_noise_multiplier"):
            del fields[name]
        assert PrivacyPlan(**fields) == plan

    def test_what_says_nothing_of_a_refiners_steps_is_not_part_of_a_plan_without_them(self):
        plain = make_plan(RunConfig(num_atoms=1, accountant="rdp"), 1000)
        same = make_plan(refined(refiner_steps=0), 1000)
        assert same == plain

    def test_a_draw_of_more_than_all_records_is_refused(self):
        message = "refiner_batch_size must be at most the number of records, received 1001 for 1000"
        with pytest.raises(checks.UsageError, match=message):
            make_plan(refined(refiner_batch_size=1001), 1000)
        whole = refined(refiner_batch_size=1000, refiner_noise_multiplier=9.0)
        assert make_plan(whole, 1000).stages[1].sampling_probability == 1

    @pytest.mark.parametrize(
        "changes", [{"refiner_noise_multiplier": 0.3}, {"target_epsilon": 0.5}]
    )
    def test_a_refiner_that_alone_is_too_dear_is_refused_in_one_line(self, changes):
        with pytest.raises(checks.UsageError) as error:
            make_plan(refined(**changes), 1000)
        message = str(error.value)
        assert "cannot be met: the refiner's steps alone cost epsilon" in message
        assert (
            "fewer refiner_steps, a smaller refiner_batch_size or a larger refiner_noise" in message
        )
        assert "\n" not in message

    def test_a_given_noise_multiplier_is_held_against_the_target_with_the_refiners_part(self):
        calibrated = make_plan(refined(), 1000)
        sigma = calibrated.noise_multiplier
        assert make_plan(refined(noise_multiplier=sigma), 1000) == calibrated
        with pytest.raises(checks.UsageError, match="target_epsilon=10.0 cannot be met"):
            make_plan(refined(noise_multiplier=0.99 * sigma), 1000)
        assert make_plan(refined(noise_multiplier=0.99 * sigma, refiner_steps=0), 1000).private

    def test_an_epsilon_that_draws_cut_short_are_not_accounted_for_is_refused(self):
        config = refined(target_epsilon=None, noise_multiplier=0.1, refiner_noise_multiplier=0.2)
        with pytest.raises(checks.UsageError, match="5 subsampled steps is beyond"):
            make_plan(config, 1000)

    def test_the_account_has_a_line_of_the_refiner(self):
        config = refined()
        plan = make_plan(config, 1000)
        [line] = [line for line in account(config, plan) if line.startswith("refiner")]
        assert line.split(maxsplit=1)[1] == (
            "5 steps, noise multiplier 0.8, sampling probability 0.1"
        )

    def test_the_statement_lists_the_refiners_step_with_its_own_probability(self):
        plan = make_plan(refined(), 1000)
        mechanism = types.SimpleNamespace(sensitivity_over_clip_norm=1.0)
        statement = privacy_statement(plan, plan.charges(0, plan.steps - 1), mechanism, SPEC)
        assert NoiseEvent(**statement["events"][-1]) == NoiseEvent(0.8, 0.1, 4)
        assert statement["epsilon"] == plan.epsilon(plan.steps - 1)
        assert statement["steps"] == plan.steps - 1
