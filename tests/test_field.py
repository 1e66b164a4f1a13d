"""The baselines of benchmarks/field: what a record adds is bounded, the noise is what was planned."""

import dataclasses
import sys

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld

from conftest import ROOT

jax = pytest.importorskip("jax", reason="the extra [bench] has it")
sys.path.insert(0, str(ROOT / "benchmarks"))

from field import class_means, dp_classifier, dp_diffusion, dp_merf, dp_sgd, race  # noqa: E402

pytestmark = pytest.mark.slow  # plans of subsampled steps are calibrated
SHAPE, CLASSES = (8, 8, 1), 3


@pytest.fixture(scope="module")
def given():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (400, *SHAPE)).astype(np.uint8)
    images[0], images[1] = 255, 0  # a norm above the bound, and none
    return race.Race(
        images=images,
        labels=random.integers(0, CLASSES, len(images)).astype(np.int32),
        class_names=("a", "b", "c"),
        epsilon=3.0,
        delta=1e-5,
        samples=10,
        minutes=0.01,
        seed=0,
    )


def without(given, place):
    return dataclasses.replace(
        given,
        images=np.delete(given.images, place, axis=0),
        labels=np.delete(given.labels, place),
    )


def epsilon_of(given, plan, sigma):
    """By dp-accounting alone."""
    step = dp_accounting.PoissonSampledDpEvent(
        plan.sampling_probability, dp_accounting.GaussianDpEvent(sigma)
    )
    accountant = pld.PLDAccountant()
    accountant.compose(step, plan.steps)
    return accountant.get_epsilon(given.delta)


@pytest.mark.parametrize(("batch", "steps"), [(40, 50), (100, 7)])
def test_a_plan_spends_its_epsilon_and_no_more(given, batch, steps):
    plan = dp_sgd.plan_of(given, batch=batch, steps=steps)
    assert plan.epsilon <= given.epsilon
    assert epsilon_of(given, plan, plan.sigma) <= given.epsilon
    assert epsilon_of(given, plan, 0.95 * plan.sigma) > given.epsilon


def test_one_release_of_all_records_costs_what_the_gaussian_mechanism_does(given):
    plan = dp_sgd.plan_of(given, batch=len(given.labels), steps=1)
    assert plan.epsilon <= given.epsilon
    # sigma of the exact curve (Balle and Wang 2018) at epsilon 3 and delta 1e-5
    mu = 1 / plan.sigma
    from scipy.stats import norm

    delta = norm.cdf(mu / 2 - given.epsilon / mu) - np.exp(given.epsilon) * norm.cdf(
        -mu / 2 - given.epsilon / mu
    )
    assert delta == pytest.approx(given.delta, rel=5e-3)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_record_moves_the_class_sums_by_at_most_one(given, place):
    moved = class_means.statistics(given) - class_means.statistics(without(given, place))
    assert np.linalg.norm(moved) <= 1 + 1e-6
    if place == 0:  # the bound is met where the clip binds
        assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_record_moves_the_mean_embedding_by_one(given, place):
    frequencies = np.random.default_rng(1).standard_normal((64, 50)).astype(np.float32)
    moved = dp_merf.statistics(given, frequencies) - dp_merf.statistics(
        without(given, place), frequencies
    )
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-4)  # float32 sums of 400


def records_of(given, method, count):
    """(weights, records) of a method that trains by DP-SGD."""
    random, key = np.random.default_rng(2), jax.random.key(0)
    weights = method.initial(key, SHAPE, CLASSES)
    records = given.images[:count], given.labels[:count]
    if method is dp_diffusion:
        levels = random.uniform(0.1, 2, (count, 2)).astype(np.float32)
        records += (levels, random.standard_normal((count, 2, *SHAPE), np.float32))
    return weights, records


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


@pytest.mark.parametrize("method", [dp_classifier, dp_diffusion], ids=lambda m: m.__name__)
def test_a_record_moves_the_sum_of_gradients_by_at_most_the_clip(given, method):
    count, clip = 19, 0.05  # two chunks, the second not full
    weights, records = records_of(given, method, count)
    gradient = dp_sgd.NoisyGradient(method.loss, clip)
    whole = flat(gradient.sum(weights, records))
    for place in (0, 1, count - 1):
        rest = tuple(np.delete(array, place, axis=0) for array in records)
        moved = np.linalg.norm(whole - flat(gradient.sum(weights, rest)))
        assert 0 < moved <= clip * 1.001
    nothing = tuple(array[:0] for array in records)
    assert not flat(gradient.sum(weights, nothing)).any()


def test_a_gradient_that_is_no_number_adds_nothing(given):
    def loss(weights, record):
        return (weights * record[0]).sum()

    gradient = dp_sgd.NoisyGradient(loss, 1.0)
    bad = np.array([[np.nan, 1], [np.inf, 1], [3, 4]], np.float32)
    total = flat(gradient.sum(jax.numpy.ones(2), (bad, np.zeros(3))))
    assert total == pytest.approx([0.6, 0.8], abs=1e-6)


def test_the_noise_has_the_planned_deviation():
    size, sigma, clip, batch = 100_000, 1.7, 0.3, 20
    gradient = dp_sgd.NoisyGradient(lambda weights, record: (weights * record[0]).sum(), clip)
    nothing = (np.zeros([0, size], np.float32), np.zeros(0))
    plan = dataclasses.replace(dp_sgd.A_PLAN, sigma=sigma, batch=batch)
    noise = gradient(jax.numpy.zeros(size), nothing, jax.random.key(3), plan)
    expected, found = sigma * clip / batch, float(np.std(noise))
    assert abs(found / expected - 1) < 5 / (2 * size) ** 0.5  # five standard errors


def test_draws_are_poisson_samples(given):
    plan = dp_sgd.plan_of(given, batch=40, steps=1)
    random = np.random.default_rng(4)
    sizes = [len(dp_sgd.drawn(random, plan, 400)) for _ in range(1000)]
    assert abs(np.mean(sizes) - 40) < 5 * (36 / 1000) ** 0.5
    assert np.var(sizes) == pytest.approx(36, rel=5 * (2 / 1000) ** 0.5)
