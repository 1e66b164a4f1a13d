"""A run with a refiner on the digits: its stages, its state, what a stop costs, what it exports."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfdps import console
from tfdps.accounting import accountants, ledger
from tfdps.accounting.plan import make_plan
from tfdps.artefacts import verification
from tfdps.commands import verify
from tfdps.config.run_config import RunConfig
from tfdps.data import loading
from tfdps.learners.refiner import learner as learners
from tfdps.learners.refiner import pretraining
from tfdps.mechanisms.record_gradients import GradientRelease
from tfdps.samplers import saved_model_sampler
from tfdps.training import builders, job

pytestmark = pytest.mark.slow  # a run of its own, most of it compilation

ROUNDS, STEPS = 3, 3  # of one atom a class; of the denoiser


def refined(model_dir="unused", **changes):
    settings = {
        "num_atoms": 1,
        "latent_dim": 9,
        "target_epsilon": 10.0,
        "accountant": "rdp",  # whose calibration takes no ten seconds
        "refiner": "strokes",
        "refiner_pretraining": 20,
        "refiner_width": 8,
        "refiner_levels": 1,
        "refiner_steps": STEPS,
        "refiner_batch_size": 200,
        "refiner_noise_multiplier": 1.5,
    }
    settings |= changes
    if not settings["refiner_steps"]:
        del settings["refiner_batch_size"], settings["refiner_noise_multiplier"]
    return RunConfig(model_dir=str(model_dir), **settings)


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """300 procedural images instead of 10,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "NUM_IMAGES", 300)
        yield


@pytest.fixture(scope="module")
def digits():
    return loading.load("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: (model_dir, config, model card, the model, lines said, [(steps, q) drawn])."""
    config = refined(tmp_path_factory.mktemp("refined") / "run")
    said, built, drawn = [], [], []
    with pytest.MonkeyPatch.context() as patch, console.lines_to(said.append):
        build = builders.build_model

        def watched(*args, **on):
            built.append(build(*args, **on))
            take_steps = built[0].take_steps

            def watching(draws, count, **settings):
                drawn.append((count, draws.sampling_probability))
                take_steps(draws, count, **settings)

            built[0].take_steps = watching
            return built[0]

        patch.setattr(builders, "build_model", watched)
        card = job.train(config)
    return config.model_dir, config, card, built[0], said, drawn


@pytest.fixture(scope="module")
def prepared(digits):
    """Weights of the denoiser of a new model, when it has learned from procedural images."""
    model = new_model(digits, refined())
    before = denoiser_of(model).get_weights()
    model.learner.prepare()
    assert not same(denoiser_of(model).get_weights(), before)
    assert same(model.learner.steps.trained.get_weights(), denoiser_of(model).get_weights())
    return denoiser_of(model).get_weights()


def charges_of(model_dir):
    return ledger.read_charges(job.RunDir(str(model_dir)).ledger)


def new_model(digits, config):
    plan = make_plan(config, len(digits))
    return builders.build_model(config, digits.spec, plan)


def denoiser_of(model):
    return model.generator.get_layer("refined").denoiser


def same(weights, others):
    return all(np.array_equal(one, other) for one, other in zip(weights, others, strict=True))


def inputs(count=20):
    labels = np.arange(count, dtype=np.int32) % 10
    return np.random.default_rng(0).random((count, 9), np.float32), labels


def test_the_ledger_has_the_rounds_and_then_the_subsampled_steps(run, digits):
    plan = make_plan(run[1], len(digits))
    charges = charges_of(run[0])
    assert charges == plan.charges(0, ROUNDS + STEPS)
    assert [c.sampling_probability for c in charges[:-1]] == [1.0] * (len(charges) - 1)
    last = charges[-1]
    assert (last.steps, last.noise_multiplier) == (STEPS, 1.5)
    assert last.sampling_probability == 200 / 1438


def test_records_are_drawn_as_the_ledger_says_in_every_stage(run):
    """Not with the q of the rounds, which costs more than the ledger says."""
    assert run[5] == [(ROUNDS, 1.0), (STEPS, 200 / 1438)]


def test_the_card_tells_every_step_and_recomputes_to_an_epsilon_below_the_target(run):
    privacy = run[2].content["privacy"]
    charges = [accountants.NoiseEvent(**event) for event in privacy["events"]]
    assert charges == charges_of(run[0])
    assert sum(charge.steps for charge in charges) == privacy["steps"] == ROUNDS + STEPS
    again = accountants.epsilon_of(charges, delta=privacy["delta"], accountant="rdp")
    assert again == pytest.approx(privacy["epsilon"])
    assert 9.99 < again <= 10
    assert privacy["epsilon_pld"] < again
    training = run[2].content["training"]
    assert (training["rounds_lost"], training["refiner_steps_lost"]) == ([], 0)
    assert training["generator_updates"] == ROUNDS + STEPS


def test_the_export_is_verified(run, capsys):
    export = job.RunDir(run[0]).export
    assert not verification.verify(str(export)).problems
    assert verify.main([str(export)]) == 0
    assert "VERIFIED" in capsys.readouterr().out


def test_an_export_of_fewer_steps_of_the_refiner_is_seen(run, tmp_path):
    """A card that leaves one out of its events, and says the epsilon of all."""
    export = shutil.copytree(job.RunDir(run[0]).export, tmp_path / "export")
    card = json.loads((export / "model_card.json").read_text())
    card["privacy"]["events"][-1]["steps"] -= 1
    (export / "model_card.json").write_text(json.dumps(card, indent=2) + "\n")
    assert verification.verify(str(export)).problems


def test_refined_images_are_not_the_mixtures_and_the_export_makes_them(run):
    model, (z, labels) = run[3], inputs()
    refined_images = model.generator([z, labels]).numpy()
    mixture = tf.keras.Model(model.generator.inputs, model.generator.get_layer("images").output)
    assert np.abs(refined_images - mixture([z, labels]).numpy()).mean() > 0.02
    assert np.abs(refined_images).max() <= 1
    exported = saved_model_sampler.load(run[0]).decode(z, labels)
    np.testing.assert_allclose(refined_images, exported, atol=1e-5)


def test_the_checkpoint_holds_the_whole_state(run, digits):
    config = run[1]
    model = new_model(digits, config)
    manager = job._checkpoint_manager(job.RunDir(config.model_dir), model)
    manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    assert int(model.noisy_steps) == ROUNDS + STEPS
    assert model.learner.updates == ROUNDS + STEPS
    steps, finished = model.learner.steps, run[3].learner.steps
    assert same(steps.trained.get_weights(), finished.trained.get_weights())
    assert same(denoiser_of(model).get_weights(), denoiser_of(run[3]).get_weights())
    assert not same(steps.trained.get_weights(), denoiser_of(model).get_weights())
    assert int(steps._optimizer.iterations) == STEPS
    for one, other in zip(steps._optimizer.variables, finished._optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_private_steps_moved_the_denoiser_from_what_it_had_learned_before(run, prepared):
    for before, after in zip(prepared, denoiser_of(run[3]).get_weights(), strict=True):
        assert not np.array_equal(before, after)
        # Three steps of Adam at 5e-4, 3.3e-4, 1.7e-4: no weight moves further.
        assert np.abs(after - before).max() < 1.1e-3


def test_what_is_said_names_the_refiner_and_reads_no_record_for_it(run):
    [line] = [line for line in run[4] if line.startswith("Refiner:")]
    assert "procedural images (strokes), for 20 steps; no record is read" in line


def test_a_finished_run_that_is_started_again_takes_no_step_and_is_exported_as_before(run):
    z, labels = inputs()
    before, images = charges_of(run[0]), saved_model_sampler.load(run[0]).decode(z, labels)
    card = job.train(run[1])
    assert card.epsilon == run[2].epsilon
    assert charges_of(run[0]) == before
    np.testing.assert_array_equal(saved_model_sampler.load(run[0]).decode(z, labels), images)
    assert not verification.verify(str(job.RunDir(run[0]).export)).problems


def test_without_private_steps_the_denoiser_needs_no_record(prepared, tmp_path, monkeypatch):
    """After a run of the rounds its weights are those of `prepare`, bit for bit."""
    built, build = [], builders.build_model
    monkeypatch.setattr(
        builders, "build_model", lambda *args, **on: built.append(build(*args, **on)) or built[-1]
    )
    config = refined(tmp_path / "run", refiner_steps=0)
    card = job.train(config)
    assert built[0].learner.steps is None
    assert {charge.sampling_probability for charge in charges_of(config.model_dir)} == {1.0}
    assert card.steps == ROUNDS
    assert same(denoiser_of(built[0]).get_weights(), prepared)


def test_every_step_has_the_noise_of_its_stage(digits, monkeypatch):
    model, asked = new_model(digits, refined()), []

    def no_release(draw, *query, noise_multiplier):
        asked.append(noise_multiplier)
        raise StopIteration

    monkeypatch.setattr(model.mechanism, "release", no_release)
    monkeypatch.setattr(model.learner.steps.mechanism, "release", no_release)
    for number in (0, ROUNDS, ROUNDS + STEPS - 1):
        with pytest.raises(StopIteration):
            model.learner.step((), tf.constant(number))
    plan = make_plan(refined(), len(digits))
    assert asked == [plan.noise_multipliers[0], 1.5, 1.5]
    assert plan.noise_multipliers[-STEPS:] == (1.5,) * STEPS


def test_a_records_gradient_is_the_mean_over_its_views_at_the_weights_that_are_released(digits):
    """Against a tape on one record, with the step's public noise; in float32, summed otherwise."""
    model = new_model(digits, refined(refiner_views=3))
    steps, count = model.learner.steps, 2
    random = np.random.default_rng(0)
    weights = [w + 0.1 * random.normal(size=w.shape) for w in steps.averaged.get_weights()]
    steps.trained.set_weights(weights)
    steps._seed.assign([5, 6])
    images, labels = digits.images[:count], tf.constant(digits.labels[:count])
    noise, levels, mirrored = steps.numbers(tf.range(count), tf.constant([5, 6]))
    assert min(levels) >= 0.03
    assert max(levels) <= 1
    assert not any(mirrored)
    public = noise, levels, mirrored, tf.constant([5, 6])
    found = steps._gradients(
        images, labels, tf.ones(count), *public, *steps.trained.get_weights()
    ).numpy()
    for record in range(count):
        own = slice(3 * record, 3 * record + 3)
        clean = np.repeat(images[record : record + 1] / np.float32(127.5) - 1, 3, axis=0)
        with tf.GradientTape() as tape:
            losses = steps.trained.loss(
                clean, noise[own], levels[own], tf.repeat(labels[record], 3)
            )
            loss = tf.reduce_mean(losses)
        expected = tape.gradient(loss, [weight.value for weight in steps.trained.weights])
        expected = np.concatenate([gradient.numpy().ravel() for gradient in expected])
        assert np.linalg.norm(found[record] - expected) < 1e-4 * np.linalg.norm(expected)


def test_a_step_of_the_denoiser_is_adams_of_the_released_sum_over_the_batch_size(digits):
    """Adam in NumPy, at a rate that falls to 0 over the steps."""
    steps = new_model(digits, refined(refiner_learning_rate=1e-2)).learner.steps
    rng, shapes = np.random.default_rng(0), [weight.shape for weight in steps.trained.weights]
    weights = np.concatenate([weight.ravel() for weight in steps.trained.get_weights()])
    first, second = np.zeros(weights.size), np.zeros(weights.size)
    for number in range(STEPS):
        vector = rng.normal(0, 3, weights.size).astype(np.float32)
        steps.learn(GradientRelease(vector), number)
        mean = vector / 200.0
        first, second = 0.9 * first + 0.1 * mean, 0.99 * second + 0.01 * mean**2
        unbiased = np.sqrt(1 - 0.99 ** (number + 1)) / (1 - 0.9 ** (number + 1))
        weights -= 1e-2 * (1 - number / STEPS) * unbiased * first / (np.sqrt(second) + 1e-7)
        found = steps.trained.get_weights()
        assert [weight.shape for weight in found] == shapes
        np.testing.assert_allclose(np.concatenate([w.ravel() for w in found]), weights, atol=2e-6)


class _Killed(BaseException):
    """What nothing in a run catches, as it cannot catch kill -9."""


class _Faults:
    """A run whose refiner dies twice: after its first step, when it goes on before its second."""

    def __init__(self, monkeypatch):
        self.numbers, self.models, build = [], [], builders.build_model

        def watched(*args, **options):
            model = build(*args, **options)
            self.models.append(model)
            steps, lives = model.learner.steps, len(self.models)
            step = steps.step

            def dies(draw, number):
                self.numbers.append(number)
                if (lives, number) == (2, ROUNDS + 1):
                    raise _Killed
                step(draw, number)
                if (lives, number) == (1, ROUNDS):
                    raise KeyboardInterrupt

            steps.step = dies
            return model

        monkeypatch.setattr(builders, "build_model", watched)


def test_a_refiner_that_is_stopped_goes_on_with_its_state_and_what_kill_9_took_stays_spent(
    tmp_path, monkeypatch
):
    config = refined(tmp_path / "run", refiner_pretraining=0)
    faults = _Faults(monkeypatch)
    restored = []
    monkeypatch.setattr(learners.RefinedLearner, "prepare", _once(learners.RefinedLearner.prepare))
    original = learners.RefinedLearner.restored

    def keep(self):
        original(self)
        restored.append((self.steps.trained.get_weights(), self.steps.averaged.get_weights()))

    monkeypatch.setattr(learners.RefinedLearner, "restored", keep)
    with pytest.raises(KeyboardInterrupt):
        job.train(config)
    with pytest.raises(_Killed):
        job.train(config)
    stopped = faults.models[0].learner.steps
    assert faults.numbers[0] == ROUNDS
    assert same(restored[0][0], stopped.trained.get_weights())
    assert same(restored[0][1], stopped.averaged.get_weights())

    spent = sum(charge.steps for charge in charges_of(config.model_dir))
    assert spent >= ROUNDS + 2
    said = []
    with console.lines_to(said.append):
        card = job.train(config)
    assert any("steps after the last checkpoint were lost" in line for line in said)
    assert same(restored[1][0], restored[0][0])
    assert not same(faults.models[2].learner.steps.trained.get_weights(), restored[1][0])
    charges = charges_of(config.model_dir)
    plan = ledger.read_plan(job.RunDir(config.model_dir).ledger)
    assert charges == plan.charges(0, ROUNDS + STEPS)
    assert card.steps == ROUNDS + STEPS
    assert card.epsilon <= 10
    assert len(faults.numbers) == len(set(faults.numbers))  # no step's noise is drawn twice
    training = card.content["training"]
    assert (training["rounds_lost"], training["refiner_steps_lost"]) == ([], 1)
    assert training["generator_updates"] == card.steps - 1
    [last] = [line for line in said if line.startswith("Done")]
    assert f"Done, but 1 of the refiner's {STEPS} steps was lost. Spent epsilon" in last
    assert np.isfinite(saved_model_sampler.load(config.model_dir).sample([3, 4], 0)).all()


def _once(function):
    """A function that may be called once."""
    called = []

    def wrapped(*args):
        assert not called, "the denoiser was trained from procedural images again"
        called.append(True)
        return function(*args)

    return wrapped
