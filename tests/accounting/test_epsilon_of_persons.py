"""What a person with several images has of a run whose images are drawn one by one."""

import math

import dp_accounting
import numpy as np
import pytest
from scipy import stats

import tfdps
from tfdps.accounting import account_lines, gaussian_curve, overflow, persons


def plan_of(size=1000, **settings):
    return tfdps.make_plan(tfdps.RunConfig(**settings), size, num_classes=10)


def test_one_image_has_the_epsilon_of_the_run():
    joint = {"mechanism": "joint", "accountant": "pld", "noise_multiplier": 2.0, "num_steps": 2}
    for settings in ({}, joint):
        plan = plan_of(target_epsilon=2.0, **settings)
        assert persons.epsilon(plan, 1) == pytest.approx(plan.epsilon(plan.steps), rel=1e-9)


def test_where_all_are_drawn_k_images_are_one_gaussian_of_k_times_the_sensitivity():
    plan = plan_of(target_epsilon=1.0)
    mu = math.sqrt(sum(1 / sigma**2 for sigma in plan.noise_multipliers))
    expected = gaussian_curve.gaussian_epsilon(plan.delta, 3 * mu)
    assert persons.epsilon(plan, 3) == pytest.approx(expected, rel=1e-9)
    assert expected > 3 * plan.epsilon(plan.steps)  # k times epsilon would be too little


def test_where_any_batches_are_safe_a_person_is_who_is_drawn_at_all():
    plan = plan_of(mechanism="joint", noise_multiplier=1.0, num_steps=100, batch_size=20)
    at_all = tfdps.accounting.epsilon(
        noise_multiplier=1.0,
        sampling_probability=1 - 0.98**5,
        steps=100,
        delta=plan.delta,
        accountant="pld",
    )
    assert persons.epsilon(plan, 5) == pytest.approx(at_all, rel=1e-9)


def test_images_of_a_person_on_several_replicas_move_each_of_them():
    plan = plan_of(mechanism="joint", noise_multiplier=20.0, num_steps=100, batch_size=500)
    moved = tfdps.accounting.epsilon(
        noise_multiplier=20.0 / math.sqrt(8),
        sampling_probability=1 - 0.5**8,
        steps=100,
        delta=plan.delta,
        accountant="pld",
    )
    assert persons.epsilon(plan, 8, one_replica=False) == pytest.approx(moved, rel=1e-9)
    # Eight replicas, an image on each, drawn with q: at least what two points of one step's would be.
    assert moved > 3.2 > 2.2 > persons.epsilon(plan, 8)


def sampled_plan():
    return plan_of(batch_size=200, noise_multiplier=2.0, target_epsilon=None, num_atoms=1)


@pytest.mark.skipif(
    not hasattr(dp_accounting, "MixtureOfGaussiansDpEvent"),
    reason="dp-accounting 0.4.3 has no mixtures of Gaussians",
)
def test_where_images_are_drawn_by_chance_epsilon_covers_the_pair_of_mixtures():
    """Of one step of one number: delta at epsilon by integrating the two densities."""
    plan = sampled_plan()
    charge = plan.charges(0, 1)[0]
    q, sigma, k = charge.sampling_probability, charge.noise_multiplier, 4
    epsilon = persons.epsilon(plan, k)
    assert plan.epsilon(plan.steps) < epsilon < 10 * plan.epsilon(plan.steps)
    x = np.linspace(-12 * sigma, k + 12 * sigma, 200_001)
    weights = stats.binom.pmf(np.arange(k + 1), k, q)
    moved = sum(w * stats.norm.pdf(x, j, sigma) for j, w in enumerate(weights))
    still = stats.norm.pdf(x, 0, sigma)
    for one, other in ((moved, still), (still, moved)):
        delta = np.trapezoid(np.maximum(one - math.exp(epsilon) * other, 0), x)
        assert delta <= plan.delta


@pytest.mark.skipif(
    not hasattr(dp_accounting, "MixtureOfGaussiansDpEvent"),
    reason="dp-accounting 0.4.3 has no mixtures of Gaussians",
)
def test_what_the_kept_share_of_delta_does_not_cover_is_not_claimed(monkeypatch):
    plan, config = sampled_plan(), tfdps.RunConfig(images_per_person=4, batch_size=200)
    assert math.isfinite(persons.epsilon(plan, 4))
    # Of a part: far more than there is room for.
    monkeypatch.setattr(overflow, "PROBABILITY", 1e-16)
    assert persons.epsilon(plan, 4) == math.inf
    [line] = [line for line in account_lines.account(config, plan) if "person" in line]
    assert line.endswith("of at most 4 images: too large to be claimed")


@pytest.mark.skipif(
    hasattr(dp_accounting, "MixtureOfGaussiansDpEvent"), reason="this dp-accounting has them"
)
def test_where_it_cannot_be_computed_nothing_is_claimed():
    plan, config = sampled_plan(), tfdps.RunConfig(images_per_person=4, batch_size=200)
    assert persons.epsilon(plan, 4) is None
    [line] = [line for line in account_lines.account(config, plan) if "person" in line]
    assert "Python 3.12 and 3.13" in line


def test_account_tells_what_a_person_has():
    config = tfdps.RunConfig(target_epsilon=1.0, images_per_person=3)
    plan = tfdps.make_plan(config, 1000, num_classes=10)
    lines = list(account_lines.account(config, plan))
    [line] = [line for line in lines if line.startswith("epsilon of a person")]
    assert "with at most 3 images, by PLD" in line
    config = tfdps.RunConfig(target_epsilon=1.0, person="(.+)_.*")
    lines = list(account_lines.account(config, tfdps.make_plan(config, 220, num_classes=10)))
    assert "persons N                 220" in lines
    assert "images of a person        at most 10" in lines
    assert not any("epsilon of a person" in line for line in lines)


def test_a_run_of_persons_costs_what_one_of_images_costs_for_as_many_units():
    of_images = plan_of(220, target_epsilon=1.0)
    of_persons = plan_of(220, target_epsilon=1.0, person="folder")
    assert of_persons.noise_multipliers == of_images.noise_multipliers
    assert (of_images.images_per_unit, of_persons.images_per_unit) == (1, 10)
