"""The whole job on the digits: files, resume, refusals, crash."""

import dataclasses
import json
import os
import re
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
from tfdps import checks, console
from tfdps.accounting import accountants, ledger
from tfdps.accounting.accountants import epsilon_of
from tfdps.config import flags
from tfdps.config.run_config import RunConfig
from tfdps.data import loading
from tfdps.data.dataset import Dataset, DatasetSpec
from tfdps.training import builders, job, nonprivate, plan_lines, run_export
from tfdps.training.run_dir import RunDir


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
        "run.nonprivate.json",
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
    with Image.open(model_dir / "samples" / "step_000060.png") as grid:
        assert grid.width > 300


def test_the_model_card_says_what_the_ledger_says(digits_run):
    model_dir, config, card, said = digits_run
    on_disk = json.loads((model_dir / "export" / "model_card.json").read_text())
    assert on_disk == card.content
    privacy = card.content["privacy"]
    charges = ledger.read_charges(model_dir / "ledger.jsonl")
    assert sum(charge.steps for charge in charges) == privacy["steps"] == 60
    assert privacy["epsilon"] == privacy["epsilon_rdp"] == epsilon_of(charges, delta=1e-5)
    assert 0 < privacy["epsilon_pld"] < privacy["epsilon"] <= config.target_epsilon
    assert privacy["sensitivity"] == 2 * privacy["clip_norm"] == 1.0
    assert privacy["sampling_probability"] == 10 / 1438
    assert privacy["dataset_size"] == 1438
    assert (privacy["sampling"], privacy["mechanism"]) == ("poisson", "joint")
    assert privacy["adjacency"] == "zero-out-one"
    assert "nothing in the place of one record" in privacy["adjacency_meaning"]
    assert privacy["unit"] == "one image"
    assert privacy["noise"] == "gaussian-rounded-to-grid"
    assert privacy["declared"] == {
        "num_records": 1438,
        "image_shape": [8, 8, 1],
        "num_classes": 10,
        "class_names": [str(k) for k in range(10)],
    }
    assert "twice clip_norm" in privacy["sensitivity_meaning"]
    assert privacy["caveats"]
    assert card.class_names == [str(k) for k in range(10)]
    assert not any("model_dir" in flag for flag in card.flags)
    metadata = {
        p.key: p.value for p in onnx.load(model_dir / "export" / "generator.onnx").metadata_props
    }
    assert metadata["tfdps.model_card"] == card.to_json()
    assert any("epsilon" in line and "60 noisy steps" in line for line in said)


@pytest.mark.slow
def test_starting_a_finished_run_again_takes_no_step(copy_of_run):
    model_dir, config = copy_of_run
    before = (model_dir / "ledger.jsonl").read_bytes()
    card = job.train(config)
    assert (model_dir / "ledger.jsonl").read_bytes() == before
    assert card.generator_updates == 60


@pytest.mark.slow
def test_exporting_again_gives_the_same_images(copy_of_run):
    import tensorflow as tf

    model_dir, config = copy_of_run

    def images():
        loaded = tf.saved_model.load(str(model_dir / "export" / "saved_model" / "1"))
        z = tf.constant(np.linspace(0, 1, 48).reshape(3, 16), tf.float32)
        return loaded.decode(z, tf.constant([0, 5, 9]))["images"].numpy()

    before = images()
    shutil.rmtree(model_dir / "export")
    job.export_checkpoint(config)
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
        job.train(dataclasses.replace(config, **change))
    assert what in str(error.value)
    assert (model_dir / "ledger.jsonl").read_bytes() == before


def test_a_flag_that_does_not_matter_may_change_and_is_named(copy_of_run):
    model_dir, config = copy_of_run
    said = []
    with console.lines_to(said.append):
        job.train(dataclasses.replace(config, learning_rate=0.5))
    assert "Changed: learning_rate" in said[0]
    assert RunDir(str(model_dir)).read()[0].learning_rate == 0.5


def test_a_lost_ledger_is_refused(copy_of_run):
    model_dir, config = copy_of_run
    (model_dir / "ledger.jsonl").unlink()
    with pytest.raises(checks.UsageError, match="has lost its ledger"):
        job.train(config)
    assert not (model_dir / "ledger.jsonl").exists()


def test_a_ledger_with_fewer_steps_than_the_checkpoint_is_refused(copy_of_run):
    model_dir, config = copy_of_run
    path = model_dir / "ledger.jsonl"
    short = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    path.write_bytes(short)
    for mode in (job.train, job.export_checkpoint):
        with pytest.raises(checks.UsageError, match="entries are missing"):
            mode(config)
    assert path.read_bytes() == short


def test_a_damaged_run_json_is_refused(copy_of_run):
    model_dir, config = copy_of_run
    (model_dir / "run.json").write_text("{}")
    with pytest.raises(checks.UsageError, match=r"run\.json is damaged"):
        job.train(config)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(checks.UsageError, match=r"it has thesis\.tex, but no run\.json"):
        job.train(small_config(tmp_path))


def test_a_stated_size_that_is_wrong_is_refused(tmp_path):
    with pytest.raises(checks.UsageError, match="dataset_size must be 1438, .* received 1437"):
        job.train(small_config(tmp_path, dataset_size=1437))
    assert not list(tmp_path.iterdir())


def test_what_is_public_of_the_data_is_said_before_the_first_step(digits_run):
    said = digits_run[3]
    assert "Public: 1438 images, 8x8 grey, 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in said[1]
    many = DatasetSpec("x", (4, 5, 3), tuple(f"c{number}" for number in range(40)))
    line = plan_lines.of_data(Dataset(np.zeros((7, 4, 5, 3)), np.zeros(7), many))
    assert line.startswith("Public: 7 images, 4x5 colour, 40 classes: c0, ")
    assert line.endswith("c11, ... 40 in all.")


def test_what_the_loader_of_one_worker_refuses_is_refused_by_all(tmp_path):
    class OtherWorkerRefuses:
        worker, num_workers = 1, 2

        def any(self, flag):
            return True

    config, on = small_config(tmp_path), OtherWorkerRefuses()
    with pytest.raises(checks.UsageError, match="refused on another worker"):
        job._load(config, None, on)
    with pytest.raises(checks.UsageError, match="channels must be 1"):
        job._load(dataclasses.replace(config, channels=3), None, on)


class TestDataOfAnotherRun:
    """A run at model_dir has one data set: another is refused, and nothing of the run is touched."""

    @pytest.fixture
    def changed(self, copy_of_run):
        """Changes a JSON file of the run, as if trained on other data; returns what it then holds."""
        model_dir, config = copy_of_run

        def change(name, alter):
            content = json.loads((model_dir / name).read_text())
            alter(content)
            (model_dir / name).write_text(json.dumps(content))
            return config, self.files(model_dir)

        return change

    def files(self, folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    @pytest.mark.parametrize(
        ("name", "alter", "message"),
        [
            (
                "run.json",
                lambda run: run["dataset"]["class_names"].__setitem__(3, "three"),
                "the classes of digits are not the run's: received 3, 0, 1, .* 9; the run at .* was "
                "trained on three, 0, 1, .* a new --model_dir",
            ),
            (
                "run.json",
                lambda run: run["dataset"].update(image_shape=[8, 8, 3]),
                r"images of digits are \(8, 8, 1\), the run's \(8, 8, 3\) .* a new --model_dir",
            ),
            (
                "run.json",
                lambda run: run["dataset"].update(num_records=1437),
                "digits has 1438 records, the run at .* was trained on 1437.* a new --model_dir",
            ),
            (
                "run.nonprivate.json",
                lambda kept: kept.update(fingerprint="other"),
                "the records of digits are not those that the run at .* a new --model_dir",
            ),
            (
                "run.nonprivate.json",
                lambda kept: kept.pop("fingerprint"),
                r"run\.nonprivate\.json is damaged",
            ),
        ],
    )
    def test_is_refused_by_what_differs(self, changed, name, alter, message):
        config, before = changed(name, alter)
        with pytest.raises(checks.UsageError, match=message):
            job.train(config)
        assert self.files(RunDir(config.model_dir).root) == before

    def test_a_folder_whose_files_changed(self, tmp_path):
        folder, run = tmp_path / "images", RunDir(str(tmp_path / "run"))
        for name in ("bar", "disc", "pole"):
            (folder / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(folder / name / "0.png", compress_level=0)
        run.prepare()

        def load():
            return loading.load(f"folder:{folder}", image_size=8)

        before = load()
        run.check_data(before)  # nothing was started
        run.keep_fingerprint(before.fingerprint)
        run.write(small_config(run.root), before.spec, before.size)
        run.check_data(load())
        Image.new("L", (8, 8), 1).save(folder / "bar" / "0.png", compress_level=0)  # of equal size
        with pytest.raises(checks.UsageError, match="files were renamed, replaced or changed"):
            run.check_data(load())
        (folder / "bar").rename(folder / "zebra")
        with pytest.raises(checks.UsageError, match="received zebra, disc, pole; .* on bar, disc"):
            run.check_data(load())

    def test_the_fingerprint_is_marked_and_in_no_file_that_is_passed_on(self, digits_run):
        model_dir, *_ = digits_run
        kept = json.loads((model_dir / "run.nonprivate.json").read_text())
        assert kept["nonprivate"] == nonprivate.MARK
        assert kept["fingerprint"] == loading.load("digits").fingerprint
        assert "fingerprint" not in (model_dir / "run.json").read_text()
        assert not list((model_dir / "export").rglob("*nonprivate*"))

    def test_a_run_without_a_fingerprint_is_given_one(self, copy_of_run):
        model_dir, config = copy_of_run
        (model_dir / "run.nonprivate.json").unlink()
        job.train(config)
        kept = json.loads((model_dir / "run.nonprivate.json").read_text())
        assert kept["fingerprint"] == loading.load("digits").fingerprint


def test_declaring_afterwards_what_a_run_has_alters_nothing_and_anything_else_is_refused(
    digits_run,
):
    model_dir, config, *_ = digits_run
    run = RunDir(str(model_dir))
    had = {"channels": 1, "class_names": "9,8,7,6,5,4,3,2,1,0", "dataset_size": 1438}
    had |= {"fit": "squash", "background": "white"}
    assert set(run.check_resume(dataclasses.replace(config, **had))) == set(had)
    others = {"channels": 3, "class_names": "0,1", "dataset_size": 9, "label": "none"}
    others |= {"fit": "crop", "background": "black", "max_value": 4095, "labels_csv": "labels.csv"}
    for name, value in others.items():
        with pytest.raises(
            checks.UsageError, match=f"--{name} alters the privacy .* Leave --{name}"
        ):
            run.check_resume(dataclasses.replace(config, **{name: value}))


def test_the_cards_flags_name_a_csv_file_without_its_path():
    config = RunConfig(
        dataset="folder:/home/ann/scans", labels_csv="/home/ann/labels.csv", fit="pad"
    )
    lines = run_export.public_flags(config, DatasetSpec("folder:scans", (8, 8, 1), ("a",)))
    assert {"--dataset=folder:scans", "--labels_csv=labels.csv", "--fit=pad"} <= set(lines)
    assert "ann" not in "".join(lines)


@pytest.mark.slow
def test_a_run_without_mechanism_says_so_everywhere(tmp_path, capsys):
    said = []
    with console.lines_to(said.append):
        card = job.train(small_config(tmp_path, mechanism="none", num_steps=20))
    assert "NOT PRIVATE" in said[0]
    assert any("NOT PRIVATE: epsilon is infinity" in line for line in said[1:])
    assert "NOT PRIVATE" in capsys.readouterr().err
    assert card.private is False
    assert {card.epsilon, *card.epsilons.values()} == {np.inf}
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.slow
def test_an_interrupted_run_saves_and_goes_on_where_it_was(tmp_path, monkeypatch):
    from tfdps.training import callbacks

    config = small_config(tmp_path)
    write = callbacks.Scalars.on_train_batch_end

    def interrupt(self, batch, logs=None):
        if int(self.model.noisy_steps) == 40:
            raise KeyboardInterrupt
        write(self, batch, logs)

    monkeypatch.setattr(callbacks.Scalars, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        job.train(config)
    monkeypatch.undo()
    covered = sum(c.steps for c in ledger.read_charges(tmp_path / "ledger.jsonl"))
    assert covered >= 40
    rates = []
    build = builders.build_model
    monkeypatch.setattr(
        builders, "build_model", lambda *args, **on: rates.append(build(*args, **on)) or rates[0]
    )
    config, said = dataclasses.replace(config, learning_rate=5e-3), []
    with console.lines_to(said.append):
        card = job.train(config)
    assert card.steps == 60
    assert card.generator_updates == 60 - (covered - 40)
    # The new flag's, not the checkpoint's.
    assert float(rates[0].learner.optimizer.learning_rate) == pytest.approx(5e-3)
    if covered > 40:
        assert any(f"{covered - 40} steps" in line and "stay spent" in line for line in said)


SPY = """
import os, sys
from tfdps import launch
from tfdps.training import callbacks
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
        "--num_steps=600",
        "--batch_size=10",
        "--regularization=10",
        "--checkpoint_secs=1",
        "--noreport",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def taken():
        return int(taken_file.read_text() or 0) if taken_file.exists() else 0

    def covered():
        return sum(c.steps for c in ledger.read_charges(run / "ledger.jsonl"))

    lost = 0
    for stop_at in (100, 300):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while taken() < stop_at and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with process.stderr as errors:
            assert taken() >= stop_at, errors.read().decode()
        assert taken() <= covered() <= 600  # every noisy step that ran is in the ledger
        # Not the newest file: a checkpoint counts when this names it, and a kill may come before.
        state = (run / "checkpoints" / "checkpoint").read_text()
        lost += covered() - int(re.search(r'^model_checkpoint_path: ".*?ckpt-(\d+)"', state)[1])
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert "Resuming the run" in finished.stdout
    card = json.loads((run / "export" / "model_card.json").read_text())
    assert covered() == card["privacy"]["steps"] == 600
    assert card["privacy"]["epsilon"] <= 10
    assert card["privacy"]["epsilon"] == epsilon_of(
        ledger.read_charges(run / "ledger.jsonl"), delta=1e-5
    )
    # What a crash lost was spent, and is not taken again.
    assert card["training"]["generator_updates"] == 600 - lost


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_noise_when_calibration_comes_out_a_digit_different(
    copy_of_run, monkeypatch
):
    model_dir, config = copy_of_run
    calibrate = accountants.noise_multiplier
    monkeypatch.setattr(
        accountants, "noise_multiplier", lambda **kwargs: calibrate(**kwargs) * (1 + 1e-9)
    )
    card = job.train(config)
    assert card.noise_multiplier == make_plan_of(model_dir).noise_multiplier
    assert card.epsilon <= config.target_epsilon


def make_plan_of(model_dir):
    return ledger.read_plan(model_dir / "ledger.jsonl")


def test_a_run_that_0_1_began_is_neither_resumed_nor_exported(copy_of_run):
    """Its ledger says nothing of the noise; a new card must not say that it was exact."""
    model_dir, config = copy_of_run
    path = model_dir / "ledger.jsonl"
    old, charges = (
        dataclasses.replace(make_plan_of(model_dir), noise=None),
        ledger.read_charges(path),
    )
    path.unlink()
    opened = ledger.open_ledger(path, old)
    for charge in charges:
        opened.append(charge)
    opened.close()
    card = (model_dir / "export" / "model_card.json").read_bytes()
    for use in (job.train, job.export_checkpoint):
        with pytest.raises(
            checks.UsageError, match="begun by tfdps 0.1, whose noise was not Gaussian"
        ):
            use(config)
    assert (model_dir / "export" / "model_card.json").read_bytes() == card


def test_a_run_that_is_spent_without_a_checkpoint_exports_nothing(copy_of_run):
    model_dir, config = copy_of_run
    shutil.rmtree(model_dir / "checkpoints")
    shutil.rmtree(model_dir / "export")
    with pytest.raises(checks.UsageError, match="there is no generator to export"):
        job.train(config)
    assert not (model_dir / "export").exists()


def test_a_generator_that_cannot_be_does_not_start_a_run(tmp_path):
    wrong = small_config(tmp_path, image_size=10, generator="dcgan")
    with pytest.raises(checks.UsageError, match="multiples of 4"):
        job.train(wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_generator_that_diverged_is_not_saved_over_the_last_good_one(tmp_path):
    config = small_config(tmp_path, mechanism="none", learning_rate=1e38, num_steps=30)
    with pytest.raises(checks.UsageError, match="training diverged"):
        job.train(config)
    assert not (tmp_path / "export").exists()
