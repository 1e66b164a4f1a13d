"""The audit of a refined run: right as it is, and every fault planted in its steps is found."""

import numpy as np
import pytest
import tensorflow as tf
from planted import leave_out_seeds, of_refiner

from conftest import failed_checks
from tfdps.accounting.plan import make_plan
from tfdps.auditing import draw_checks, mechanism, noise_checks, per_record, refiner, shadow
from tfdps.auditing.releases import Releases
from tfdps.config.run_config import RunConfig
from tfdps.data import loading
from tfdps.data.dataset import DatasetSpec
from tfdps.mechanisms import batches, gradient_grid
from tfdps.training import builders

pytestmark = pytest.mark.slow

SETTINGS = {
    "num_atoms": 1,
    "latent_dim": 9,
    "accountant": "rdp",  # whose calibration takes no ten seconds
    "refiner": "strokes",
    "refiner_width": 8,
    "refiner_levels": 1,  # of drawing an image, which no test here does
    "refiner_steps": 2,
    "refiner_batch_size": 100,
}


@pytest.fixture(scope="module")
def digits():
    return loading.load("digits")


def built(digits):
    """(model, plan) of a small refined run."""
    config = RunConfig(model_dir="unused", **SETTINGS)
    plan = make_plan(config, len(digits))
    return builders.build_model(config, digits.spec, plan), plan


@pytest.fixture(scope="module")
def honest(digits):
    """(DenoiserSteps as they are, their two pairs of neighbours)."""
    model, plan = built(digits)
    steps = model.learner.steps
    return steps, refiner.worst_neighbours(steps, plan, digits.spec.image_shape)


def audit(digits):
    """The mechanism audit of a refined run, of its rounds one kind."""
    config = RunConfig(model_dir="unused", **SETTINGS)
    plan = make_plan(config, len(digits))
    with of_refiner():
        return mechanism.audit_mechanism(
            lambda plan: builders.build_model(config, digits.spec, plan),
            plan,
            digits,
            trials=150,
        )


def test_a_release_without_its_noise_is_the_auditor_s_own_sum(honest):
    steps, pairs = honest
    for pair in pairs:
        for draw, expected in zip((pair.without, pair.having), pair.expected, strict=True):
            released = steps.release(pair.quiet_state, draw).vector
            # float32 gradients by two ways, and one step of the grid in each number.
            assert np.linalg.norm(released - expected) < 2e-5


def test_the_record_that_joins_moves_the_release_by_nearly_all_that_is_allowed(honest):
    for pair in honest[1]:
        assert 0.95 < pair.distance <= 1


def test_the_right_steps_pass_and_both_kinds_are_looked_at(digits, monkeypatch):
    leave_out_seeds(monkeypatch)  # two more models to compile for each kind
    result = audit(digits)
    assert not result["violation"], failed_checks(result)
    names = [check["name"] for check in result["checks"]]
    for what in (
        "un-noised sums, refiner, step 4 of a run",
        "noise has the law that is accounted, refiner, step 4 of a run",
        "sampling probability, refiner",
    ):
        assert what in names
    assert [p["name"].split(":")[0] for p in result["pairs"]][-2:] == ["refiner"] * 2


def test_large_records_are_learned_from_as_they_are_shrunk_each_by_itself():
    """The auditor's own means of squares, and integers that no other record moves."""
    spec = DatasetSpec("large", (50, 44, 1), ("a", "b"))
    plan = make_plan(RunConfig(model_dir="unused", **SETTINGS), 1000, num_classes=2)
    steps = builders.build_model(
        RunConfig(model_dir="unused", **SETTINGS), spec, plan
    ).learner.steps
    assert steps.trained.image_shape == (25, 22, 1)
    pair = refiner.worst_neighbours(steps, plan, spec.image_shape)[1]
    for draw, expected in zip((pair.without, pair.having), pair.expected, strict=True):
        released = steps.release(pair.quiet_state, draw).vector
        assert np.linalg.norm(released - expected) < 2e-5
    images = np.random.default_rng(0).integers(0, 256, (8, *spec.image_shape), np.uint8)
    labels = np.arange(8, dtype=np.int32) % 2
    first = (np.arange(8) < 3).astype(np.float32)
    both, one, other = (
        steps.mechanism._sum((images, labels, weights.astype(np.float32))).numpy()
        for weights in (np.ones(8), first, 1 - first)
    )
    np.testing.assert_array_equal(both, one + other)
    assert one.any()
    assert other.any()


def steps_without_noise(model):
    """The refiner's noise is nothing; that of the rounds is right."""
    mechanism_ = model.learner.steps.mechanism
    honest = mechanism_.release
    mechanism_.release = lambda draw, *, noise_multiplier: honest(
        draw, noise_multiplier=shadow.QUIET
    )
    return model


def steps_without_a_clip(model):
    """Gradients are summed as they are, ten times what the clip leaves of them."""
    steps = model.learner.steps

    def unclipped(images, labels, weights, *public):
        gradients = steps._gradients(images, labels, weights, *public)
        whole = gradient_grid.clip_rows(gradients, weights > 0, softening=0.02)
        return 10 * tf.reduce_sum(whole, axis=0)

    steps.mechanism._clipped_sum = unclipped
    return model


def steps_that_mix_records(model):
    """Every record's gradient has a part of the batch's mean, as batch statistics would give it."""
    steps = model.learner.steps
    honest = steps.mechanism._gradients

    def mixed(images, labels, weights, *public):
        gradients = honest(images, labels, weights, *public)
        return gradients + 0.1 * tf.reduce_mean(gradients, axis=0, keepdims=True)

    steps.mechanism._gradients = mixed
    return model


@pytest.mark.parametrize("tamper", [steps_without_a_clip, steps_that_mix_records])
def test_a_sum_that_is_not_of_clipped_records_is_found(digits, honest, tamper):
    model, _ = built(digits)
    tamper(model)
    pairs = honest[1]  # whose sums are the auditor's own, and whose state is a new denoiser's
    found = [noise_checks.check_sums(Releases(model.learner).one, pair) for pair in pairs]
    assert not all(check["passed"] for check in found)


def test_noise_that_is_left_out_is_found(digits):
    config = RunConfig(model_dir="unused", **SETTINGS)

    def build(plan):
        return steps_without_noise(builders.build_model(config, digits.spec, plan))

    with of_refiner():
        known = shadow.known_records(digits, np.random.default_rng())
        plan = shadow.plan_on(built(digits)[1], known)
        *of_rounds, one, two = per_record.steps_of(build, plan, known)
    for step in (one, two):
        law = noise_checks.check_law((step.residual / step.stddev).ravel(), step.name)
        assert not law["passed"]


def test_twice_the_sampling_probability_in_the_refiner_s_steps_alone_is_found(digits, monkeypatch):
    honest = batches.PoissonBatches.__init__

    def doubled(self, dataset, sampling_probability, **options):
        if sampling_probability < 1:
            sampling_probability = min(1, 2 * sampling_probability)
        honest(self, dataset, sampling_probability, **options)

    monkeypatch.setattr(batches.PoissonBatches, "__init__", doubled)
    model, plan = built(digits)
    checked = draw_checks.check_draws(model.learner, plan)
    failed = [check["name"] for check in checked if not check["passed"]]
    assert "sampling probability, refiner" in failed
    assert "sampling probability" not in failed
