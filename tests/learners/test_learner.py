"""The per-record run on the digits: its steps, its state, what a crash costs, what it exports."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfdps import console
from tfdps.accounting import accountants, ledger, overflow
from tfdps.accounting.plan import make_plan
from tfdps.checks import UsageError
from tfdps.config.run_config import RunConfig
from tfdps.data import loading
from tfdps.data.dataset import DatasetSpec
from tfdps.mechanisms.batches import PoissonBatches
from tfdps.samplers import saved_model_sampler
from tfdps.training import builders, callbacks, job


def per_record_config(model_dir="unused", **changes):
    settings = {"num_atoms": 2, "latent_dim": 9, "accountant": "pld", "target_epsilon": 8.0}
    return RunConfig(mechanism="per_record", model_dir=str(model_dir), **{**settings, **changes})


@pytest.fixture(scope="module")
def digits():
    return loading.load("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: (model_dir, config, model card)."""
    config = per_record_config(tmp_path_factory.mktemp("per_record") / "run")
    return config.model_dir, config, job.train(config)


def new_model(digits, config):
    plan = make_plan(config, len(digits))
    return builders.build_model(config, digits.spec, plan), plan


def test_the_card_tells_the_rounds_and_recomputes_to_the_target(run):
    privacy = run[2].content["privacy"]
    assert privacy["mechanism"] == "per_record"
    assert privacy["sampling_probability"] == 1
    charges = [accountants.NoiseEvent(**event) for event in privacy["events"]]
    assert sum(charge.steps for charge in charges) == privacy["steps"] == 4
    assert run[2].content["training"]["rounds_lost"] == []
    again = accountants.epsilon_of(charges, delta=privacy["delta"], accountant="pld")
    assert again == pytest.approx(privacy["epsilon"])
    assert 7.9 < again <= 8.0


def test_samples_are_of_their_class(run, digits):
    """Nearest class mean of the real digits: real images reach 90 %, chance is 10 %."""
    labels = np.repeat(np.arange(10, dtype=np.int32), 30)
    images = saved_model_sampler.load(run[0]).sample(labels, 1).reshape(300, -1).astype(float)
    flat = digits.images.reshape(len(digits), -1)
    means = np.stack([flat[digits.labels == label].mean(axis=0) for label in range(10)])
    nearest = np.linalg.norm(images[:, None] - means, axis=2).argmin(axis=1)
    assert np.mean(nearest == labels) > 0.75
    assert np.std(images, axis=0).max() > 20  # varied


def test_the_checkpoint_holds_the_whole_state(run, digits):
    config = run[1]
    model, _ = new_model(digits, config)
    manager = job._checkpoint_manager(job.RunDir(config.model_dir), model)
    manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    assert model.learner.updates == int(model.noisy_steps) == 4
    assert model.learner.model.means.shape == (10, 2, 64)
    labels = np.arange(10, dtype=np.int32)
    z = np.random.default_rng(0).random((10, 9), np.float32)
    exported = saved_model_sampler.load(config.model_dir).decode(z, labels)
    np.testing.assert_allclose(model([z, labels]).numpy(), exported, atol=1e-5)


@pytest.mark.slow
def test_another_finish_is_exported_from_a_finished_run_at_no_cost(run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(run[0], path)
    before = (path / "ledger.jsonl").read_bytes()
    labels, z = np.arange(10, dtype=np.int32), np.random.default_rng(0).random((10, 9), np.float32)
    z[:5, 0], z[5:, 0] = 0.0, 1.0  # the first half of the first atom's, the second of the last's

    def images(**finish):
        job.train(per_record_config(path, **finish))
        return saved_model_sampler.load(path).decode(z, labels)

    with_default = saved_model_sampler.load(run[0]).decode(z, labels)
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

    def no_release(draw, query, *, noise_multiplier):
        asked.append(noise_multiplier)
        raise StopIteration

    monkeypatch.setattr(model.mechanism, "release", no_release)
    for number in (0, 2):
        with pytest.raises(StopIteration):
            model.learner.step((), tf.constant(number))
    assert asked == [plan.noise_multipliers[0], plan.noise_multipliers[2]]
    assert plan.noise_multipliers[0] != plan.noise_multipliers[2]


def test_a_step_that_no_ledger_covers_is_refused_before_it_reads_anything(digits, monkeypatch):
    model, plan = new_model(digits, per_record_config())
    monkeypatch.setattr(
        model.learner, "release", lambda *args: pytest.fail("private records were read")
    )
    draws = PoissonBatches(
        digits, plan.sampling_probability, overflow_probability=overflow.PROBABILITY, in_parts=True
    ).dataset(1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="in no ledger"):
        model.fit(draws, steps_per_epoch=1, verbose=0, shuffle=False)
    assert int(model.noisy_steps) == 0


@pytest.mark.slow
def test_a_lost_round_is_asked_again_and_stays_spent(digits, tmp_path, monkeypatch):
    """Killed after the ledger had round 2 and before its release: the budget does not grow."""
    config = per_record_config(tmp_path / "run")
    build, built = builders.build_model, []
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

    monkeypatch.setattr(builders, "build_model", build_and_break)
    with pytest.raises(RuntimeError, match="killed"):
        job.train(config)
    covered = ledger.read_charges(job.RunDir(config.model_dir).ledger)
    assert sum(charge.steps for charge in covered) == 2
    said = []
    with console.lines_to(said.append):
        card = job.train(config)
    assert any("1 steps after the last checkpoint were lost" in line for line in said)
    assert "1 of 4 rounds was lost: the round with 2 atoms will not be asked." in said
    assert any(
        line.startswith("Done, but 1 of 4 rounds was lost: the round with 2 atoms was never asked.")
        for line in said
    )
    assert card.steps == 4
    assert card.epsilon <= 8.0
    assert card.content["training"]["rounds_lost"] == ["with 2 atoms"]
    assert card.generator_updates == built[-1].learner.updates == 3
    assert built[-1].learner.model.weights.shape == (10, 1)  # centre, scatter and spread


class _Killed(BaseException):
    """What nothing in a run catches, as it cannot catch kill -9."""


class _Faults:
    """Runs of a plan that die at some steps; what each step asked, at what noise."""

    def __init__(self, monkeypatch):
        self.asked, self._die = {}, set()
        build = builders.build_model

        def watched(*args, **options):
            model = build(*args, **options)
            self.model, release = model, model.learner.release

            def dies(state, draw):
                step, (query, noise_multiplier) = int(model.noisy_steps) - 1, state
                self.asked[step] = (query.atoms.positions.shape[1], noise_multiplier)
                if step in self._die:
                    raise _Killed
                return release(state, draw)

            model.learner.release = dies
            return model

        monkeypatch.setattr(builders, "build_model", watched)

    def run(self, config, die):
        """(the model card, what was said by the last start) of a run that dies at these steps."""
        self._die = set(die)
        for _ in die:
            with pytest.raises(_Killed):
                job.train(config)
        said = []
        with console.lines_to(said.append):
            return job.train(config), said


@pytest.mark.slow
def test_a_lost_round_of_atoms_is_passed_over_and_the_last_is_asked_with_its_own_noise(
    tmp_path, monkeypatch
):
    """Killed with its release in memory, before the checkpoint that has it."""
    config, faults = per_record_config(tmp_path / "run", num_atoms=9), _Faults(monkeypatch)
    save, died = callbacks.Checkpoints.save, []

    def dies(self):
        if int(self.model.noisy_steps) == 4 and not died:
            died.append(True)
            raise _Killed
        save(self)

    monkeypatch.setattr(callbacks.Checkpoints, "save", dies)
    with pytest.raises(_Killed):
        job.train(config)
    card, said = faults.run(config, die=[])
    noise = faults.model.learner._plan.noise_multipliers
    assert faults.asked == {step: (k, noise[step]) for step, k in enumerate([1, 1, 1, 8, 9])}
    assert any("1 steps after the last checkpoint were lost" in line for line in said)
    lost = "1 of 5 rounds was lost: the round with 8 atoms"
    assert f"{lost} will not be asked." in said
    assert any(line.startswith(f"Done, but {lost} was never asked. Spent epsilon") for line in said)
    assert card.content["training"]["rounds_lost"] == ["with 8 atoms"]
    assert card.generator_updates == 4
    assert card.steps == 5
    assert faults.model.learner.model.weights.shape == (10, 9)
    assert np.isfinite(saved_model_sampler.load(config.model_dir).sample([3, 4], 0)).all()


@pytest.mark.slow
def test_first_rounds_that_are_lost_again_and_again_are_asked_until_no_step_is_left(
    tmp_path, monkeypatch
):
    """Of three rounds two are lost: a generator of plain means, and a run that says so."""
    config, faults = per_record_config(tmp_path / "run", num_atoms=1), _Faults(monkeypatch)
    card, said = faults.run(config, die=[0, 1])
    assert said[-5].startswith(
        "Done, but 2 of 3 rounds were lost: the round scatter was never asked and the round spread "
        "was never asked. Spent epsilon"
    )
    assert card.content["training"]["rounds_lost"] == ["scatter", "spread"]
    assert card.generator_updates == 1
    assert [noise for _, noise in faults.asked.values()] == list(
        faults.model.learner._plan.noise_multipliers
    )
    assert saved_model_sampler.load(config.model_dir).sample([3], 0).std() > 5


def test_a_run_that_lost_every_round_has_no_generator_and_says_that(tmp_path, monkeypatch):
    config, faults = per_record_config(tmp_path / "run", num_atoms=1), _Faults(monkeypatch)
    with pytest.raises(UsageError, match="there is no generator to export"):
        faults.run(config, die=[0, 1, 2])


def test_which_rounds_were_answered_survives_a_checkpoint(digits):
    model, _ = new_model(digits, per_record_config())
    progress = model.learner._progress
    for learned in ([], [0], [0, 1, 2, 4]):
        progress.learned = learned
        stored = progress.serialize()
        progress.learned = [7]
        progress.deserialize(stored)
        assert progress.learned == learned
        assert progress.model is None


def test_a_poisson_sample_of_a_quarter_is_never_truncated(digits):
    config = per_record_config(batch_size=400, noise_multiplier=3.0, target_epsilon=None)
    plan = make_plan(config, len(digits))
    assert plan.sampling_probability == pytest.approx(400 / len(digits))
    draws = PoissonBatches(
        digits, plan.sampling_probability, overflow_probability=overflow.PROBABILITY, in_parts=True
    )
    [batch] = draws.dataset(1)
    assert 400 < batch[0].shape[0] < len(digits)
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
    with pytest.raises(UsageError, match="at most 65, received 66: .* the 64 slowest waves"):
        new_model(digits, per_record_config(latent_dim=66))


def test_the_card_is_in_the_export(run):
    card = json.loads((job.RunDir(run[0]).export / "model_card.json").read_text())
    assert card["generator"]["name"] == "mixture"
    assert card["generator"]["latent_dim"] == 9
    assert card["training"]["generator_updates"] == 4


def test_a_subspace_larger_than_the_waves_is_refused_before_the_first_step():
    config = per_record_config(latent_dim=802)
    spec = DatasetSpec("x", (32, 32, 1), ("a", "b"))
    with pytest.raises(UsageError, match="latent_dim must be at most 801, received 802"):
        builders.build_model(config, spec, make_plan(config, 1000))
