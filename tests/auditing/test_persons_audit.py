"""The audit where persons are the unit: the real code passes, and faults that split a person do not."""

import numpy as np
import pytest
from planted import leave_out_seeds, one_pair_attacked

from conftest import failed_checks
from tfdps.accounting.plan import make_plan
from tfdps.auditing import canaries, draw_checks, mechanism, noise_checks, refiner
from tfdps.auditing.releases import Releases
from tfdps.config.run_config import RunConfig
from tfdps.data import loading
from tfdps.mechanisms import batches, record_gradients
from tfdps.mechanisms.per_record import PerRecordMechanism
from tfdps.training import builders

MOST = 4  # images of a person
REFINED = {
    "accountant": "rdp",  # whose calibration takes no ten seconds
    "refiner": "strokes",
    "refiner_width": 8,
    "refiner_steps": 2,
    "refiner_batch_size": 40,
}


@pytest.fixture(scope="module")
def digits():
    """The digits, as of persons who have written 2 to 5 of them, of which 4 may be used."""
    dataset = loading.load("digits")
    random = np.random.default_rng(0)
    whose = np.repeat(np.arange(720), random.integers(2, 6, 720))[: len(dataset)]
    return loading.load(
        "arrays",
        class_names=dataset.spec.class_names,
        records=(dataset.images, dataset.labels, whose),
        person="passed",
        images_per_person=MOST,
    )


def config_of(**changes):
    return RunConfig(
        dataset="arrays",
        person="passed",
        images_per_person=MOST,
        num_atoms=1,
        latent_dim=9,
        model_dir="unused",
        **changes,
    )


def audit(digits, **changes):
    config = config_of(**changes)
    plan = make_plan(config, digits.size)
    return mechanism.audit_mechanism(
        lambda plan: builders.build_model(config, digits.spec, plan), plan, digits, trials=150
    )


@pytest.mark.slow
def test_the_real_code_passes(digits):
    result = audit(digits)
    assert not result["violation"], failed_checks(result)
    names = [check["name"] for check in result["checks"]]
    assert "a person's images are drawn together" in names
    assert "un-noised sums, step 1 of a run" in names


@pytest.mark.slow
def test_the_joint_mechanism_passes(digits):
    config = RunConfig(
        dataset="arrays",
        mechanism="joint",
        person="passed",
        images_per_person=MOST,
        num_steps=50,
        batch_size=20,
        model_dir="unused",
    )
    plan = make_plan(config, digits.size)
    with one_pair_attacked():
        result = mechanism.audit_mechanism(
            lambda plan: builders.build_model(config, digits.spec, plan), plan, digits, trials=150
        )
    assert not result["violation"], failed_checks(result)


@pytest.mark.slow
def test_a_clip_of_each_image_by_itself_is_found(digits, monkeypatch):
    honest = PerRecordMechanism._contributions

    def of_each(self, batch, query):
        return honest(PerRecordMechanism(), batch, query)

    monkeypatch.setattr(PerRecordMechanism, "_contributions", of_each)
    leave_out_seeds(monkeypatch)
    result = audit(digits)
    assert result["violation"]
    # Four images that pull one way move a release by four times the clip: attacks see it.
    assert any(pair["violation"] for pair in result["pairs"])
    assert "un-noised sums, step 2 of a run" in failed_checks(result)


@pytest.mark.slow
def test_persons_who_are_torn_apart_are_found(digits, monkeypatch):
    honest = batches.units_of

    def torn(dataset):
        units = honest(dataset)
        return np.random.default_rng(0).permutation(units.ravel()).reshape(units.shape)

    monkeypatch.setattr(batches, "units_of", torn)
    config = config_of(batch_size=100, accountant="rdp")  # whose calibration is quick
    plan = make_plan(config, digits.size)
    model = builders.build_model(config, digits.spec, plan)
    failed = [c["name"] for c in draw_checks.check_draws(model.learner, plan) if not c["passed"]]
    assert "a person's images are drawn together" in failed


@pytest.mark.slow
def test_a_gradient_of_each_image_by_itself_is_found(digits, monkeypatch):
    config = config_of(**REFINED)
    plan = make_plan(config, digits.size)
    model = builders.build_model(config, digits.spec, plan)
    steps = model.learner.steps
    pairs = refiner.worst_neighbours(steps, plan, digits.spec.image_shape)

    def sums_are_right():
        one = Releases(model.learner).one
        return [noise_checks.check_sums(one, pair)["passed"] for pair in pairs]

    assert all(sums_are_right())
    honest = record_gradients.RecordGradientMechanism._sum

    def of_each(self, batch):
        return sum(
            honest(self, (*batch[:2], batch[2] * (np.arange(len(batch[2])) % MOST == place)))
            for place in range(MOST)
        )

    monkeypatch.setattr(record_gradients.RecordGradientMechanism, "_sum", of_each)
    assert not any(sums_are_right())


@pytest.mark.slow
def test_canaries_are_persons_and_a_tenth_of_the_noise_shows_them(digits, monkeypatch):
    config = config_of()
    plan = make_plan(config, digits.size)

    def found():
        return canaries.audit_canaries(
            lambda plan: builders.build_model(config, digits.spec, plan), plan, digits
        )

    assert not found()["violation"]
    honest = PerRecordMechanism.release

    def release(self, *args, noise_multiplier, **options):
        return honest(self, *args, noise_multiplier=noise_multiplier / 10, **options)

    monkeypatch.setattr(PerRecordMechanism, "release", release)
    # Of 200; an honest run has about 113, with a spread of 8.
    assert found()["num_correct"] > 150
