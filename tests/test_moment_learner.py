"""The per-record run on the digits: its steps, its state, what a crash costs, what it exports."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfdps import accounting, data, ledger, models, samples, train
from tfdps.batches import PoissonBatches
from tfdps.checks import UsageError
from tfdps.config import RunConfig
from tfdps.plan import make_plan


def per_record_config(model_dir="unused", **changes):
    settings = {"num_atoms": 2, "latent_dim": 9, "accountant": "pld", "target_epsilon": 8.0}
    return RunConfig(mechanism="per_record", model_dir=str(model_dir), **{**settings, **changes})


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: (model_dir, config, model card)."""
    config = per_record_config(tmp_path_factory.mktemp("per_record") / "run")
    return config.model_dir, config, train.train(config, say=lambda line: None)


def new_model(digits, config):
    plan = make_plan(config, len(digits))
    return models.build_model(config, digits.spec, plan), plan


def test_the_card_tells_the_rounds_and_recomputes_to_the_target(run):
    privacy = run[2]["privacy"]
    assert privacy["mechanism"] == "per_record"
    assert privacy["sampling_probability"] == 1
    charges = [accounting.Charge(**event) for event in privacy["events"]]
    assert sum(charge.steps for charge in charges) == privacy["steps"] == 4
    again = accounting.epsilon_of(charges, delta=privacy["delta"], accountant="pld")
    assert again == pytest.approx(privacy["epsilon"])
    assert 7.9 < again <= 8.0


def test_samples_are_of_their_class(run, digits):
    """Nearest class mean of the real digits: real images reach 90 %, chance is 10 %."""
    labels = np.repeat(np.arange(10, dtype=np.int32), 30)
    images = samples.load_sampler(run[0]).sample(labels, 1).reshape(300, -1).astype(float)
    flat = digits.images.reshape(len(digits), -1)
    means = np.stack([flat[digits.labels == label].mean(axis=0) for label in range(10)])
    nearest = np.linalg.norm(images[:, None] - means, axis=2).argmin(axis=1)
    assert np.mean(nearest == labels) > 0.75
    assert np.std(images, axis=0).max() > 20  # varied


def test_the_checkpoint_holds_the_whole_state(run, digits):
    config = run[1]
    model, _ = new_model(digits, config)
    manager = train._checkpoint_manager(train.RunDir(config.model_dir), model)
    manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    assert model.learner.updates == int(model.noisy_steps) == 4
    assert model.learner.model.means.shape == (10, 2, 64)
    labels = np.arange(10, dtype=np.int32)
    z = np.random.default_rng(0).random((10, 9), np.float32)
    exported = samples.load_sampler(config.model_dir).decode(z, labels)
    np.testing.assert_allclose(model([z, labels]).numpy(), exported, atol=1e-5)


@pytest.mark.slow
def test_another_finish_is_exported_from_a_finished_run_at_no_cost(run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(run[0], path)
    before = (path / "ledger.jsonl").read_bytes()
    labels, z = np.arange(10, dtype=np.int32), np.random.default_rng(0).random((10, 9), np.float32)
    z[:5, 0], z[5:, 0] = 0.0, 1.0  # the first half of the first atom's, the second of the last's

    def images(**finish):
        train.train(per_record_config(path, **finish), say=lambda line: None)
        return samples.load_sampler(path).decode(z, labels)

    with_default = samples.load_sampler(run[0]).decode(z, labels)
    none, three = (np.abs(images(grain=grain) - with_default).mean() for grain in (0.0, 3.0))
    assert none > 0.005
    assert three > none  # two more against one less
    plain, mirrored = images(grain=0.0), images(grain=0.0, mirror=True)
    np.testing.assert_array_equal(mirrored[:5], plain[:5])
    np.testing.assert_array_equal(mirrored[5:], plain[5:, :, ::-1])
    bent = images(grain=0.0, warp=0.5)
    assert 0.005 < np.abs(bent - plain).mean() < 0.5
    assert (path / "ledger.jsonl").read_bytes() == before


def test_every_step_has_the_noise_of_its_share(digits, monkeypatch):
    config = per_record_config()
    model, plan = new_model(digits, config)
    asked = []

    def no_release(draw, atoms, scales, *, noise_multiplier, pooled):
        asked.append((atoms.positions.shape[1], noise_multiplier, pooled))
        raise StopIteration

    monkeypatch.setattr(model.mechanism, "release", no_release)
    for number in (0, 2):
        with pytest.raises(StopIteration):
            model.learner.step((), tf.constant(number))
    assert [a[1] for a in asked] == [plan.noise_multipliers[0], plan.noise_multipliers[2]]
    assert plan.noise_multipliers[0] != plan.noise_multipliers[2]


def test_a_step_that_no_ledger_covers_is_refused_before_it_reads_anything(digits, monkeypatch):
    model, plan = new_model(digits, per_record_config())
    monkeypatch.setattr(
        model.learner, "release", lambda *args: pytest.fail("private records were read")
    )
    draws = PoissonBatches(digits, plan.sampling_probability, truncated=False).dataset(1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="in no ledger"):
        model.fit(draws, steps_per_epoch=1, verbose=0)
    assert int(model.noisy_steps) == 0


def test_a_lost_round_is_asked_again_and_stays_spent(digits, tmp_path, monkeypatch):
    """Killed after the ledger had round 2 and before its release: the budget does not grow."""
    config = per_record_config(tmp_path / "run")
    build, built = models.build_model, []
    release_of = None

    def build_and_break(*args, **options):
        built.append(build(*args, **options))
        learner = built[-1].learner
        nonlocal release_of
        release_of = learner.release

        def release(state, draw):
            if learner.updates == 1 and len(built) == 1:
                raise RuntimeError("killed")
            return release_of(state, draw)

        learner.release = release
        return built[-1]

    monkeypatch.setattr(models, "build_model", build_and_break)
    with pytest.raises(RuntimeError, match="killed"):
        train.train(config, say=lambda line: None)
    covered = ledger.read_charges(train.RunDir(config.model_dir).ledger)
    assert sum(charge.steps for charge in covered) == 2
    said = []
    card = train.train(config, say=said.append)
    assert any("1 steps after the last checkpoint were lost" in line for line in said)
    assert card["privacy"]["steps"] == 4
    assert card["privacy"]["epsilon"] <= 8.0
    assert built[-1].learner.updates == 3  # centre, scatter and one round of atoms
    assert built[-1].learner.model.weights.shape == (10, 1)


def test_a_poisson_sample_of_a_quarter_is_never_truncated(digits):
    config = per_record_config(batch_size=400, noise_multiplier=3.0, target_epsilon=None)
    plan = make_plan(config, len(digits))
    assert plan.sampling_probability == pytest.approx(400 / len(digits))
    draws = PoissonBatches(digits, plan.sampling_probability, truncated=False)
    [batch] = draws.dataset(1)
    assert batch[0].shape[0] == len(digits)
    assert 250 < batch[2].numpy().sum() < 550  # 400, give or take 18


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "mlp"}, "mechanism=per_record cannot train generator=mlp"),
        ({"cost": "l1+l2"}, "cost=l1.l2 means nothing with mechanism=per_record"),
        ({"learning_rate": 0.5}, "learning_rate=0.5 means nothing"),
        ({"num_atoms": 0}, "num_atoms must be"),
        ({"warp": 1.5}, r"warp must be in \[0, 1\], received 1.5"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        per_record_config(**changes)


@pytest.mark.parametrize("finish", [{"grain": 1.0}, {"warp": 0.5}, {"mirror": True}])
def test_a_finish_of_other_generators_is_refused(finish):
    with pytest.raises(
        UsageError, match=f"{next(iter(finish))}=.* means nothing with mechanism=jo"
    ):
        RunConfig(mechanism="joint", model_dir="unused", **finish)


def test_other_numbers_of_steps_than_the_rounds_are_refused():
    with pytest.raises(UsageError, match="number of rounds, 4 for num_atoms=2"):
        make_plan(per_record_config(num_steps=7), 1438)


def test_a_subspace_larger_than_the_image_is_refused(digits):
    with pytest.raises(UsageError, match="p from 1 to the 64 pixels"):
        new_model(digits, per_record_config(latent_dim=66))


def test_the_card_is_in_the_export(run):
    card = json.loads((train.RunDir(run[0]).export / "model_card.json").read_text())
    assert card["generator"]["name"] == "mixture"
    assert card["generator"]["latent_dim"] == 9
    assert card["training"]["generator_updates"] == 4
