"""The whole job on the digits: files, resume, refusals, crash."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from PIL import Image

from conftest import ROOT, small_config
from tfdps import accounting, checks, flags, ledger, models, train
from tfdps.accounting import epsilon_of
from tfdps.run_dir import RunDir


@pytest.fixture
def copy_of_run(digits_run, tmp_path):
    """A copy of the finished run, to be spoilt: (model_dir, config)."""
    model_dir, config, _, _ = digits_run
    copy = tmp_path / "run"
    shutil.copytree(model_dir, copy)
    return copy, dataclasses.replace(config, model_dir=str(copy))


def test_a_run_leaves_every_file_that_users_rely_on(digits_run):
    model_dir, config, _, _ = digits_run
    for name in (
        "run.flags",
        "run.json",
        "ledger.jsonl",
        "checkpoints/checkpoint",
        "samples/step_000060.png",
        "export/saved_model/1/saved_model.pb",
        "export/generator.onnx",
        "export/model_card.json",
        "export/samples.png",
    ):
        assert (model_dir / name).is_file(), name
    assert list((model_dir / "logs").glob("events.out.tfevents.*"))
    assert flags.parse(["tfdps", f"--flagfile={model_dir / 'run.flags'}"])[1] == config
    assert RunDir(str(model_dir)).read()[0] == config
    assert Image.open(model_dir / "samples" / "step_000060.png").width > 300


def test_the_model_card_says_what_the_ledger_says(digits_run):
    model_dir, config, card, said = digits_run
    on_disk = json.loads((model_dir / "export" / "model_card.json").read_text())
    assert on_disk == card
    privacy = card["privacy"]
    charges = ledger.read_charges(model_dir / "ledger.jsonl")
    assert sum(charge.steps for charge in charges) == privacy["steps"] == 60
    assert privacy["epsilon"] == privacy["epsilon_rdp"] == epsilon_of(charges, delta=1e-5)
    assert 0 < privacy["epsilon_pld"] < privacy["epsilon"] <= config.target_epsilon
    assert privacy["sensitivity"] == 2 * privacy["clip_norm"] == 1.0
    assert privacy["sampling_probability"] == 10 / 1438
    assert privacy["dataset_size"] == 1438
    assert (privacy["sampling"], privacy["mechanism"]) == ("poisson", "joint")
    assert privacy["adjacency"] == "add-or-remove-one"
    assert privacy["caveats"]
    assert card["generator"]["class_names"] == [str(k) for k in range(10)]
    assert not any("model_dir" in flag for flag in card["training"]["flags"])
    metadata = {
        p.key: p.value for p in onnx.load(model_dir / "export" / "generator.onnx").metadata_props
    }
    assert json.loads(metadata["tfdps.model_card"]) == card
    assert any("epsilon" in line and "60 noisy steps" in line for line in said)


def test_starting_a_finished_run_again_takes_no_step(copy_of_run):
    model_dir, config = copy_of_run
    before = (model_dir / "ledger.jsonl").read_bytes()
    card = train.train(config, say=lambda line: None)
    assert (model_dir / "ledger.jsonl").read_bytes() == before
    assert card["training"]["generator_updates"] == 60


def test_exporting_again_gives_the_same_images(copy_of_run):
    import tensorflow as tf

    model_dir, config = copy_of_run

    def images():
        loaded = tf.saved_model.load(str(model_dir / "export" / "saved_model" / "1"))
        z = tf.constant(np.linspace(0, 1, 48).reshape(3, 16), tf.float32)
        return loaded.decode(z, tf.constant([0, 5, 9]))["images"].numpy()

    before = images()
    shutil.rmtree(model_dir / "export")
    train.export_checkpoint(config, say=lambda line: None)
    np.testing.assert_allclose(images(), before, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"noise_multiplier": 5.0}, "--noise_multiplier alters the privacy guarantee"),
        ({"clip_norm": 0.1}, "--clip_norm alters the privacy guarantee"),
        ({"num_steps": 61}, "--num_steps alters the privacy guarantee"),
        ({"mechanism": "none"}, "--mechanism alters the privacy guarantee"),
        ({"dataset": "mnist"}, "--dataset alters the privacy guarantee"),
        ({"delta": 1e-6}, "--delta alters the privacy guarantee"),
        ({"generator": "dcgan"}, "--generator alters the generator"),
    ],
)
def test_a_changed_flag_that_matters_is_refused_by_name(digits_run, change, what):
    model_dir, config, _, _ = digits_run
    before = (model_dir / "ledger.jsonl").read_bytes()
    with pytest.raises(checks.UsageError) as error:
        train.train(dataclasses.replace(config, **change), say=lambda line: None)
    assert what in str(error.value)
    assert (model_dir / "ledger.jsonl").read_bytes() == before


def test_a_flag_that_does_not_matter_may_change_and_is_named(copy_of_run):
    model_dir, config = copy_of_run
    said = []
    train.train(dataclasses.replace(config, learning_rate=0.5), say=said.append)
    assert "Changed: learning_rate" in said[0]
    assert RunDir(str(model_dir)).read()[0].learning_rate == 0.5


def test_a_lost_ledger_is_refused(copy_of_run):
    model_dir, config = copy_of_run
    (model_dir / "ledger.jsonl").unlink()
    with pytest.raises(checks.UsageError, match="has lost its ledger"):
        train.train(config, say=lambda line: None)
    assert not (model_dir / "ledger.jsonl").exists()


def test_a_ledger_with_fewer_steps_than_the_checkpoint_is_refused(copy_of_run):
    model_dir, config = copy_of_run
    path = model_dir / "ledger.jsonl"
    short = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    path.write_bytes(short)
    with pytest.raises(checks.UsageError, match="entries are missing"):
        train.train(config, say=lambda line: None)
    assert path.read_bytes() == short


def test_a_damaged_run_json_is_refused(copy_of_run):
    model_dir, config = copy_of_run
    (model_dir / "run.json").write_text("{}")
    with pytest.raises(checks.UsageError, match=r"run\.json is damaged"):
        train.train(config, say=lambda line: None)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(checks.UsageError, match=r"it has thesis\.tex, but no run\.json"):
        train.train(small_config(tmp_path), say=lambda line: None)


def test_a_stated_size_that_is_wrong_is_refused(tmp_path):
    with pytest.raises(checks.UsageError, match="--dataset_size=1437 but digits has 1438 records"):
        train.train(small_config(tmp_path, dataset_size=1437), say=lambda line: None)


@pytest.mark.slow
def test_a_run_without_mechanism_says_so_everywhere(tmp_path, capsys):
    said = []
    card = train.train(small_config(tmp_path, mechanism="none", num_steps=20), say=said.append)
    assert "NOT PRIVATE" in said[0]
    assert any("NOT PRIVATE: epsilon is infinity" in line for line in said[1:])
    assert "NOT PRIVATE" in capsys.readouterr().err
    assert card["privacy"]["private"] is False
    for name in ("epsilon", "epsilon_rdp", "epsilon_pld"):
        assert float(card["privacy"][name]) == np.inf
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.slow
def test_an_interrupted_run_saves_and_goes_on_where_it_was(tmp_path, monkeypatch):
    from tfdps import callbacks

    config = small_config(tmp_path)
    write = callbacks.Scalars.on_train_batch_end

    def interrupt(self, batch, logs=None):
        if int(self.model.noisy_steps) == 40:
            raise KeyboardInterrupt
        write(self, batch, logs)

    monkeypatch.setattr(callbacks.Scalars, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.train(config, say=lambda line: None)
    monkeypatch.undo()
    covered = sum(c.steps for c in ledger.read_charges(tmp_path / "ledger.jsonl"))
    assert covered >= 40
    rates = []
    build = models.build_model
    monkeypatch.setattr(
        models, "build_model", lambda *args, **on: rates.append(build(*args, **on)) or rates[0]
    )
    config, said = dataclasses.replace(config, learning_rate=5e-3), []
    card = train.train(config, say=said.append)
    assert card["privacy"]["steps"] == 60
    assert card["training"]["generator_updates"] == 60 - (covered - 40)
    # The new flag's, not the checkpoint's.
    assert float(rates[0].learner.optimizer.learning_rate) == pytest.approx(5e-3)
    if covered > 40:
        assert any(f"{covered - 40} steps" in line and "stay spent" in line for line in said)


SPY = """
import os, sys
from tfdps import callbacks, launch
file = os.open(sys.argv.pop(1), os.O_CREAT | os.O_WRONLY)
end = callbacks.Checkpoints.on_train_batch_end
def spy(self, batch, logs=None):
    os.pwrite(file, b"%12d" % int(self.model.noisy_steps), 0)
    end(self, batch, logs)
callbacks.Checkpoints.on_train_batch_end = spy
launch.run()
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_never_undercounts_and_the_same_command_finishes(tmp_path):
    """A real process, killed twice; the spy writes the steps that were taken past any buffer."""
    run, taken_file = tmp_path / "run", tmp_path / "taken"
    command = [sys.executable, "-c", SPY, str(taken_file), f"--model_dir={run}"]
    command += [
        "--mechanism=joint",
        "--num_steps=3000",
        "--batch_size=10",
        "--regularization=10",
        "--checkpoint_secs=1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def taken():
        return int(taken_file.read_text() or 0) if taken_file.exists() else 0

    def covered():
        return sum(c.steps for c in ledger.read_charges(run / "ledger.jsonl"))

    lost = 0
    for stop_at in (500, 1500):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while taken() < stop_at and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert taken() >= stop_at, process.stderr.read().decode()
        assert taken() <= covered() <= 3000  # every noisy step that ran is in the ledger
        checkpoint = max(
            int(path.stem.removeprefix("ckpt-")) for path in (run / "checkpoints").glob("*.index")
        )
        lost += covered() - checkpoint
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert "Resuming the run" in finished.stdout
    card = json.loads((run / "export" / "model_card.json").read_text())
    assert covered() == card["privacy"]["steps"] == 3000
    assert card["privacy"]["epsilon"] <= 10
    assert card["privacy"]["epsilon"] == epsilon_of(
        ledger.read_charges(run / "ledger.jsonl"), delta=1e-5
    )
    # What a crash lost was spent, and is not taken again.
    assert card["training"]["generator_updates"] == 3000 - lost


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_noise_when_calibration_comes_out_a_digit_different(
    copy_of_run, monkeypatch
):
    model_dir, config = copy_of_run
    calibrate = accounting.noise_multiplier
    monkeypatch.setattr(
        accounting, "noise_multiplier", lambda **kwargs: calibrate(**kwargs) * (1 + 1e-9)
    )
    card = train.train(config, say=lambda line: None)
    assert card["privacy"]["noise_multiplier"] == make_plan_of(model_dir).noise_multiplier
    assert card["privacy"]["epsilon"] <= config.target_epsilon


def make_plan_of(model_dir):
    return ledger.read_plan(model_dir / "ledger.jsonl")


def test_a_run_that_is_spent_without_a_checkpoint_exports_nothing(copy_of_run):
    model_dir, config = copy_of_run
    shutil.rmtree(model_dir / "checkpoints")
    shutil.rmtree(model_dir / "export")
    with pytest.raises(checks.UsageError, match="there is no generator to export"):
        train.train(config, say=lambda line: None)
    assert not (model_dir / "export").exists()


def test_a_generator_that_cannot_be_does_not_start_a_run(tmp_path):
    wrong = small_config(tmp_path, image_size=10, generator="dcgan")
    with pytest.raises(checks.UsageError, match="multiples of 4"):
        train.train(wrong, say=lambda line: None)
    assert not list(tmp_path.iterdir())


def test_a_generator_that_diverged_is_not_saved_over_the_last_good_one(tmp_path):
    config = small_config(tmp_path, mechanism="none", learning_rate=1e38, num_steps=30)
    with pytest.raises(checks.UsageError, match="training diverged"):
        train.train(config, say=lambda line: None)
    assert not (tmp_path / "export").exists()
