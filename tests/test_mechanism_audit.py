"""The mechanism audit: tight on the real mechanism, and every planted fault is found."""

import numpy as np
import pytest
import tensorflow as tf

from conftest import failed_checks, small_config
from tfdps import data, models
from tfdps.audit import mechanism, noise_checks, worst_case
from tfdps.mechanisms import joint, tf_privacy
from tfdps.plan import make_plan
from tfdps.sampling import PoissonSampler

TRIALS = 1000


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def audit(digits, sigma=1.0, trials=TRIALS, broken=lambda model: model, **changes):
    """The audit of a run on the digits whose model `broken` has tampered with."""
    config = small_config("unused", noise_multiplier=sigma, target_epsilon=None, **changes)
    plan = make_plan(config, len(digits))
    return mechanism.audit_mechanism(
        lambda: broken(models.build_model(config, digits.spec, plan)), plan, trials=trials
    )


def broken_release(change):
    """Tampers with a model: `change(gradient, release, batch)` is released instead."""

    def tamper(model):
        def release(state, draw):
            [batch] = draw
            gradient = model.learner.image_gradients(*state, *batch)[1]
            return change(gradient, model.mechanism.release, batch)

        model.learner.release = release
        return model

    return tamper


@pytest.mark.slow
def test_the_right_mechanism_passes_and_the_bound_is_close_to_its_claim(digits):
    result = audit(digits)
    assert not result["violation"], failed_checks(result)
    assert result["claim"]["mu"] == 1
    # A thousand trials a side at confidence 0.9999 see a separation of 1 to about a quarter.
    assert 0.7 < result["lower_bound"]["mu"] <= 1
    assert 0.6 * result["claim"]["epsilon"] < result["lower_bound"]["epsilon"]
    assert result["lower_bound"]["epsilon"] <= result["claim"]["epsilon"]


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.4, 5.0])
def test_the_bound_at_the_default_trials_is_within_a_quarter_of_the_claim(digits, sigma):
    result = audit(digits, sigma=sigma, trials=10_000)
    assert not result["violation"], failed_checks(result)
    for name in ("mu", "epsilon"):
        claim, found = result["claim"][name], result["lower_bound"][name]
        # At sigma = 5 ten thousand trials see 0.2 +- 0.014: confidence 0.9999 takes a third of it.
        assert (0.75 if sigma < 5 else 0.5) * claim <= found <= claim


@pytest.mark.slow
def test_noise_for_sensitivity_c_instead_of_2c_is_caught(digits, monkeypatch):
    monkeypatch.setattr(joint.JointMechanism, "sensitivity_over_clip_norm", 1.0)
    result = audit(digits)
    assert result["violation"]
    assert result["lower_bound"]["mu"] > 1.5 * result["claim"]["mu"]
    assert any("random directions" in name for name in failed_checks(result))


@pytest.mark.slow
def test_noise_on_half_the_pixels_is_caught(digits, monkeypatch):
    honest = tf_privacy._FreshGaussianSumQuery.get_noised_result

    def half(self, state, global_state):
        noised, *rest = honest(self, state, global_state)
        [(total, noisy)] = zip(tf.nest.flatten(state), tf.nest.flatten(noised), strict=True)
        bare = tf.cast(tf.range(tf.size(total)) % 2 == 0, tf.bool)
        return [tf.where(tf.reshape(bare, tf.shape(total)), total, noisy)], *rest

    monkeypatch.setattr(tf_privacy._FreshGaussianSumQuery, "get_noised_result", half)
    result = audit(digits)
    assert result["violation"]
    assert result["lower_bound"]["mu"] > 100 * result["claim"]["mu"]
    assert any("every element" in name for name in failed_checks(result))


@pytest.mark.slow
def test_a_shape_that_follows_the_draw_is_caught(digits):
    def follow(gradient, release, batch):
        return release(gradient)[: 1 + tf.cast(tf.reduce_sum(batch[2]), tf.int32)]

    result = audit(digits, broken=broken_release(follow))
    assert result["violation"]
    assert ["shape does not follow the draw" in name for name in failed_checks(result)] == [True]
    assert result["lower_bound"]["epsilon"] == np.inf


@pytest.mark.slow
def test_missing_noise_on_an_empty_draw_is_caught(digits):
    def skip(gradient, release, batch):
        return tf.where(tf.reduce_sum(batch[2]) > 0, release(gradient), tf.zeros_like(gradient))

    result = audit(digits, broken=broken_release(skip))
    assert result["violation"]
    empty, _ = result["pairs"]
    assert empty["mu_lower_bound"] > 1.5 * result["claim"]["mu"]


@pytest.mark.slow
def test_a_missing_clip_is_caught(digits):
    def unclipped(gradient, release, batch):
        return gradient + release(tf.zeros_like(gradient))

    result = audit(digits, broken=broken_release(unclipped))
    assert result["violation"]
    assert result["lower_bound"]["mu"] > result["claim"]["mu"]


@pytest.mark.slow
def test_noise_that_a_seed_repeats_is_caught(digits):
    def seeded(model):
        noise = tf.random.Generator.from_seed(1, alg="philox")
        stddev = model.mechanism.noise_stddev
        model.mechanism.release = lambda g: (
            tf.clip_by_norm(g, model.mechanism.clip_norm) + stddev * noise.normal(tf.shape(g))
        )
        return model

    result = audit(digits, broken=seeded)
    assert result["violation"]
    assert failed_checks(result) == ["noise does not repeat under a seed"]


@pytest.mark.slow
def test_one_noise_for_all_pixels_is_caught(digits):
    def shared(gradient, release, batch):
        noise = release(tf.zeros_like(gradient))
        return tf.clip_by_norm(gradient, 0.5) + noise[0, 0, 0, 0]

    result = audit(digits, broken=broken_release(shared))
    assert result["violation"]
    assert any("random directions" in name for name in failed_checks(result))


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        (lambda size, q: np.arange(round(size * q)), "draws vary as coins do"),
        (
            lambda size, q: np.flatnonzero(np.random.default_rng().random(size) < 1.1 * q),
            "sampling probability",
        ),
        (
            lambda size, q: np.flatnonzero(np.random.default_rng().random(size // 2) < 2 * q),
            "records' draws are independent",
        ),
    ],
)
def test_a_sampler_that_tosses_no_fair_coins_is_caught(monkeypatch, fault, caught):
    sampler = PoissonSampler(5000, 0.01)
    assert all(check["passed"] for check in noise_checks.check_sampler(sampler))
    monkeypatch.setattr(sampler, "draw", lambda: fault(5000, 0.01))
    result = {check["name"]: check["passed"] for check in noise_checks.check_sampler(sampler)}
    assert not result[caught]


@pytest.mark.slow
def test_the_worst_pair_is_as_far_apart_as_the_sensitivity_allows(digits):
    config = small_config("unused")
    plan = make_plan(config, len(digits))
    model = models.build_model(config, digits.spec, plan)
    empty, second = worst_case.worst_neighbours(model, plan, 40)
    assert empty.without[2].numpy().sum() == 0
    assert empty.having[2].numpy().sum() == 1
    assert second.distance == pytest.approx(2 * config.clip_norm, rel=1e-3)
    assert second.distance <= second.sensitivity * (1 + 1e-5)
    noiseless = tf_privacy.gaussian_adam(clip_norm=config.clip_norm, noise_stddev=0.0)
    model.mechanism.optimizer = noiseless
    released = [
        model.learner.release(second.state, [batch]).numpy()
        for batch in (second.without, second.having)
    ]
    np.testing.assert_allclose(released[1] - released[0], second.difference, atol=1e-6)
