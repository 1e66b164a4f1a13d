"""The command line: modes that work, and one clear message for everything that does not."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from tfdps import launch
from tfdps.accounting import accountants, ledger, plan
from tfdps.artefacts import verification
from tfdps.commands import sample, verify
from tfdps.config import evaluation_options, flags
from tfdps.config.run_config import RunConfig
from tfdps.data import digits, loading
from tfdps.data.dataset import DatasetSpec
from tfdps.evaluation import subject
from tfdps.serving import demo
from tfdps.training import run_dir


def fails(capsys, *arguments):
    """Runs the command line in this process; returns its one message."""
    status = launch.main(["tfdps", *map(str, arguments)])
    captured = capsys.readouterr()
    assert status == 2, captured.out
    assert captured.err.startswith("tfdps: error: ")
    assert "Traceback" not in captured.err
    return captured.err


def succeeds(capsys, *arguments):
    status = launch.main(["tfdps", *map(str, arguments)])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


class TestOneCommandAgain:
    """A command that was given before, or with a flagfile, and what must not come of it."""

    @pytest.fixture
    def started(self, tmp_path):
        """(flags, folder, its files) of a run on a folder that was killed before its first step."""
        folder = image_folder(tmp_path / "images")
        flags_given = [f"--dataset=folder:{folder}", "--image_size=8", "--latent_dim=9"]
        config = flags.parse(["tfdps", *flags_given])[1]
        run, loaded = run_dir.RunDir(str(tmp_path / "run")), loading.load_of(config)
        run.keep_fingerprint(loaded.fingerprint)
        run.write(config, loaded.spec, loaded.size)
        ledger.open_ledger(run.ledger, plan.make_plan(config, loaded.size, num_classes=2)).close()
        kept = {path: path.read_bytes() for path in run.root.iterdir()}
        yield [*flags_given, f"--model_dir={run.root}"], folder, kept
        assert {path: path.read_bytes() for path in run.root.iterdir()} == kept

    def test_with_a_class_renamed_is_refused(self, capsys, started):
        arguments, folder, _ = started
        (folder / "cat").rename(folder / "zebra")
        message = fails(capsys, *arguments, "--grain=0.5")
        assert "classes of folder:images are not the run's: received zebra, dog" in message
        assert "was trained on cat, dog" in message

    def test_with_other_channels_is_refused(self, capsys, started):
        arguments, folder, _ = started
        for path in folder.rglob("*.png"):
            Image.open(path).convert("RGB").save(path)
        message = fails(capsys, *arguments)
        assert "images of folder:images are (8, 8, 3), the run's (8, 8, 1)" in message

    def test_with_one_file_in_colour_is_refused(self, capsys, started):
        arguments, folder, _ = started
        Image.new("RGB", (10, 10), (200, 9, 9)).save(folder / "cat" / "0.png")
        message = fails(capsys, *arguments)
        assert "cat/0.png is stored in colour; --channels=1 or --channels=3" in message

    def test_with_an_epsilon_before_the_flagfile_costs_that_epsilon(self, capsys):
        asked = ["--target_epsilon=1", "--flagfile=mnist.flags", "--mode=account"]
        found = float(re.search(r"epsilon by PLD +([\d.]+)", succeeds(capsys, *asked))[1])
        assert 0.99 < found <= 1


class TestFromPython:
    """The command as a function: in a program, a notebook, a thread of a server."""

    @pytest.mark.parametrize("program", [[], ["tfdps"], ["/usr/bin/tfdps"]])
    def test_no_flag_is_dropped_with_or_without_a_program(self, capsys, tmp_path, program):
        folder = image_folder(tmp_path / "images")
        assert launch.main([*program, f"--dataset=folder:{folder}", "--mode=account"]) == 0
        assert re.search(r"records N +12\n", capsys.readouterr().out)

    def test_a_path_is_a_word(self, capsys, tmp_path):
        assert launch.main([tmp_path, "--version"]) == 0

    def test_no_words_at_all_are_a_command_without_flags(self, capsys):
        assert launch.main([]) == 2
        assert "model_dir is missing" in capsys.readouterr().err

    @pytest.mark.slow  # a run
    def test_a_thread_trains_and_leaves_signals_to_the_program(self, tmp_path):
        folder, found = image_folder(tmp_path / "images"), []
        before = signal.getsignal(signal.SIGTERM)
        words = [f"--dataset=folder:{folder}", "--image_size=8", "--latent_dim=3", "--noreport"]

        def train():
            found.append(launch.main([*words, f"--model_dir={tmp_path}/run"]))
            found.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        assert found == [0, before]
        card = json.loads((tmp_path / "run" / "export" / "model_card.json").read_text())
        assert card["generator"]["class_names"] == ["cat", "dog"]
        assert str(folder.parent) not in json.dumps(card)

    def test_settings_of_numpy_are_kept_with_a_run(self, tmp_path):
        config = RunConfig(image_size=np.int64(16), target_epsilon=np.float32(2), mirror=np.True_)
        run = run_dir.RunDir(tmp_path)
        run.write(config, DatasetSpec("digits", tuple(np.array([16, 16, 1])), ("0", "1")), 1438)
        assert run.read()[0] == RunConfig(image_size=16, target_epsilon=2.0, mirror=True)
        assert run.read()[1].image_shape == (16, 16, 1)


class TestBadInput:
    """Each wrong thing a user may give, and what the message must hold."""

    def test_a_data_set_that_is_not_prepared(self, capsys, tmp_path):
        message = fails(
            capsys,
            "--dataset=mnist",
            f"--data_dir={tmp_path}/nothing",
            f"--model_dir={tmp_path}/run",
        )
        assert f"{tmp_path}/nothing" in message
        assert "--data_dir" in message

    def test_an_unknown_data_set(self, capsys, tmp_path):
        assert "received 'mnst'" in fails(capsys, "--dataset=mnst", f"--model_dir={tmp_path}/run")

    def test_an_unreadable_image(self, capsys, tmp_path):
        folder = image_folder(tmp_path / "images")
        (folder / "cat" / "0.png").write_bytes(b"not an image")
        message = fails(capsys, f"--dataset=folder:{folder}", f"--model_dir={tmp_path}/run")
        assert str(folder / "cat" / "0.png") in message

    @pytest.mark.parametrize(
        ("layout", "arguments", "message"),
        [
            (
                "train/cat",
                [],
                "by their names splits and not classes: train on one, --dataset=folder:",
            ),
            (
                "images/cat",
                [],
                "holds one sub-folder, images, with images in sub-folders of its own",
            ),
            ("cat", ["--labels_csv=none.csv"], "labels_csv none.csv cannot be read"),
            (
                "cat",
                ["--label=Male"],
                "label applies to tfds data sets only, and --label=none also to",
            ),
            ("cat", ["--class_names=cat,dog"], "received no dog"),
            ("cat", ["--max_value=0"], "max_value must be from 1 to 65535, received 0"),
            ("cat", ["--background=red"], "background"),
        ],
    )
    def test_a_folder_of_another_layout(self, capsys, tmp_path, layout, arguments, message):
        file = tmp_path / "all" / layout / "1.png"
        file.parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(file)
        data = [f"--dataset=folder:{tmp_path}/all", *arguments]
        found = fails(capsys, *data, f"--model_dir={tmp_path}/run")
        assert message in found
        assert len(found.splitlines()) == 1
        assert not list(tmp_path.glob("run/*"))

    def test_what_was_read_is_said_before_a_ledger_is_there(self, capsys, tmp_path):
        folder = image_folder(tmp_path / "images")
        (folder / "cat" / "1.heic").write_text("x")
        model = ["--mechanism=joint", "--generator=dcgan", "--image_size=10", "--batch_size=5"]
        arguments = [f"--dataset=folder:{folder}", f"--model_dir={tmp_path}/run", *model]
        assert launch.main(["tfdps", *arguments]) == 2
        said = capsys.readouterr()
        assert "Public: 12 images, 10x10 grey, 2 classes: cat, dog.\n" in said.out
        assert "Read: left out: 1 .heic.\n" in said.out
        assert "sides are multiples of 4" in said.err
        assert not list((tmp_path / "run").iterdir())

    def test_a_path_without_folder(self, capsys, tmp_path):
        for name in (f"Folder:{tmp_path}", tmp_path):
            for more in ("--mode=account", f"--model_dir={tmp_path}/run"):
                message = fails(capsys, f"--dataset={name}", more)
                assert f"Did you mean --dataset=folder:{tmp_path}?" in message

    def test_fewer_records_than_the_batch(self, capsys, tmp_path):
        folder = image_folder(tmp_path / "images")
        message = fails(
            capsys, f"--dataset=folder:{folder}", f"--model_dir={tmp_path}/run", "--batch_size=50"
        )
        assert "batch_size=50 for 12 records" in message

    def test_labels_out_of_range(self, capsys, tmp_path, monkeypatch):
        read = digits.Records.read

        def broken(self):
            images, labels = read(self)
            return images, np.where(labels == 3, -1, labels)

        monkeypatch.setattr(digits.Records, "read", broken)
        message = fails(capsys, f"--model_dir={tmp_path}/run")
        assert "must lie in [0, 9], received [-1, 9]" in message

    def test_an_unknown_flag(self, capsys):
        assert "Unknown command line flag 'epsilon'" in fails(capsys, "--epsilon=3")

    def test_no_model_dir(self, capsys):
        for mode in ("train", "export", "sample"):
            message = fails(capsys, f"--mode={mode}", "--out=x.png")
            assert "model_dir is missing: give" in message

    def test_a_model_dir_that_is_not_there(self, capsys, tmp_path):
        for mode in ("export", "sample"):
            message = fails(capsys, f"--mode={mode}", f"--model_dir={tmp_path}/none", "--out=x.png")
            assert f"{tmp_path}/none" in message

    def test_a_model_dir_that_is_a_file(self, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        assert "is a file" in fails(capsys, f"--model_dir={tmp_path}/file")

    def test_a_model_dir_of_another_run(self, capsys, digits_run):
        message = fails(capsys, f"--model_dir={digits_run[0]}", "--batch_size=20", "--num_steps=60")
        assert "alters the privacy guarantee" in message

    def test_a_target_epsilon_that_cannot_be_met(self, capsys, tmp_path):
        message = fails(
            capsys,
            f"--model_dir={tmp_path}/run",
            "--mechanism=joint",
            "--target_epsilon=1",
            "--noise_multiplier=2",
            "--num_steps=9000",
        )
        assert "target_epsilon=1.0 cannot be met" in message
        assert "num_steps=" in message

    def test_an_image_that_the_generator_cannot_make(self, capsys, tmp_path):
        message = fails(
            capsys,
            f"--model_dir={tmp_path}/run",
            "--mechanism=joint",
            "--image_size=30",
            "--generator=biggan",
        )
        assert "30" in message

    def test_a_damaged_ledger(self, capsys, digits_run, tmp_path):
        model_dir, config, _, _ = digits_run
        copy = tmp_path / "run"
        shutil.copytree(model_dir, copy)
        with open(copy / "ledger.jsonl", "a") as file:
            file.write("garbage")
        flags = [f"--flagfile={model_dir / 'run.flags'}", f"--model_dir={copy}"]
        assert "ledger.jsonl is damaged at line" in fails(capsys, *flags)
        assert "ledger.jsonl is damaged at line" in fails(capsys, "--mode=export", *flags)

    @pytest.mark.parametrize("mode", ["evaluate", "audit", "report", "sample", "export"])
    def test_a_mode_that_needs_a_run_without_one(self, capsys, mode):
        assert "model_dir is missing" in fails(capsys, f"--mode={mode}", "--out=grid.png")

    @pytest.mark.parametrize("mode", ["evaluate", "audit", "report"])
    def test_a_mode_that_needs_a_run_in_an_empty_folder(self, capsys, mode, tmp_path):
        assert str(tmp_path) in fails(capsys, f"--mode={mode}", f"--model_dir={tmp_path}")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--labels=0,ten"], "received 'ten'"),
            (["--labels=10"], "must be class names (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"),
            (["--num=0"], "num must be >= 1"),
            (["--seed=-1"], "seed must be >= 0, received -1."),
            (["--out=grid.gif"], "gif"),
        ],
    )
    def test_a_sample_that_cannot_be(self, capsys, digits_run, tmp_path, arguments, message):
        flags = ["--mode=sample", f"--model_dir={digits_run[0]}", f"--out={tmp_path}/grid.png"]
        assert message in fails(capsys, *flags, *arguments)


def image_folder(path):
    """Twelve small PNGs in two classes."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (path / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, [10, 10], dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number}.png")
    return path


def test_a_wrong_command_exits_with_status_2_and_no_traceback(command, tmp_path):
    result = command("--clip_norm=-1", f"--model_dir={tmp_path}/run")
    assert result.returncode == 2
    assert result.stderr == "tfdps: error: clip_norm must be > 0, received -1.0.\n"
    assert not (tmp_path / "run").exists()


def test_samples_of_a_run_go_to_a_grid_a_file_or_a_folder(capsys, digits_run, tmp_path):
    flags = ["--mode=sample", f"--model_dir={digits_run[0]}", "--num=12", "--labels=0,1,2"]
    for out in ("grid.png", "samples.npz", "folder/"):
        assert "12 images" in succeeds(capsys, *flags, f"--out={tmp_path}/{out}")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width >= 4 * 32
    stored = np.load(tmp_path / "samples.npz")
    assert stored["images"].shape == (12, 8, 8, 1)
    assert list(stored["labels"]) == [0, 1, 2] * 4
    again = loading.load(f"folder:{tmp_path / 'folder'}", image_size=8)
    assert len(again) == 12
    assert sorted(again.images.reshape(12, -1).sum(1)) == sorted(
        stored["images"].astype(int).reshape(12, -1).sum(1)
    )


class TestHome:
    """What a shell leaves to the program: --model_dir=~/run."""

    @pytest.fixture
    def home(self, digits_run, tmp_path, monkeypatch):
        shutil.copytree(digits_run[0], tmp_path / "run")
        monkeypatch.setenv("HOME", str(tmp_path))
        return tmp_path

    def test_sampling_takes_it(self, capsys, home):
        flags = ["--mode=sample", "--model_dir=~/run", "--num=2", "--out=~/two.npz"]
        assert "2 images" in succeeds(capsys, *flags)
        assert len(np.load(home / "two.npz")["labels"]) == 2
        assert sample.main(["~/run", "--num=3", "--out=~/three.npz"]) == 0
        assert len(np.load(home / "three.npz")["labels"]) == 3

    def test_verifying_takes_it(self, capsys, home):
        assert verify.main(["~/run"]) == 0
        assert "Ledger: read" in capsys.readouterr().out

    def test_what_evaluates_and_audits_takes_it(self, home):
        tested = subject.open_subject(
            RunConfig(model_dir="~/run"), evaluation_options.EvaluationOptions()
        )
        assert tested.report_dir == home / "run" / "report"
        assert tested.sampler.sample([0], 0).shape == (1, 8, 8, 1)
        assert len(tested.training()) == 1438

    @pytest.mark.slow
    def test_exporting_and_reporting_take_it(self, capsys, home):
        shutil.rmtree(home / "run" / "export")
        succeeds(capsys, "--mode=export", "--model_dir=~/run")
        assert (home / "run" / "export" / "generator.onnx").is_file()
        succeeds(capsys, "--mode=report", "--model_dir=~/run")
        assert (home / "run" / "report" / "index.html").is_file()

    @pytest.mark.parametrize("flag", ["--export=~/run", "--model_dir=~/run"])
    def test_the_page_in_a_browser_takes_it(self, capsys, home, monkeypatch, flag):
        monkeypatch.setattr(demo, "_forever", lambda: None)
        assert "shows it" in succeeds(capsys, "--mode=demo", flag, "--port=0")

    def test_a_run_is_begun_there(self, home):
        run_dir.RunDir("~/new").prepare()
        assert (home / "new").is_dir()


def test_the_same_seed_samples_the_same_images_and_another_seed_others(
    capsys, digits_run, tmp_path
):
    def images(seed, name):
        path = tmp_path / name
        flags = ["--mode=sample", f"--model_dir={digits_run[0]}", f"--seed={seed}"]
        succeeds(capsys, *flags, f"--out={path}")
        return np.load(path)["images"]

    one = images(7, "one.npz")
    np.testing.assert_array_equal(one, images(7, "again.npz"))
    assert (one != images(8, "other.npz")).any()


@pytest.mark.slow
def test_account_reads_the_size_of_the_data_set_where_no_flag_gives_it(capsys):
    out = succeeds(
        capsys,
        "--mode=account",
        "--mechanism=joint",
        "--dataset=digits",
        "--num_steps=100",
        "--target_epsilon=1",
    )
    assert "records N                 1438" in out
    sigma = accountants.noise_multiplier(
        target_epsilon=1, sampling_probability=50 / 1438, steps=100, delta=1e-5
    )
    assert f"noise multiplier          {sigma:.6g}" in out


@pytest.mark.slow
def test_the_job_runs_from_any_folder_with_a_bare_flagfile_name(command, tmp_path, tfds_dir):
    """Real MNIST, the package's flag file, another working directory, relative paths refused none."""
    run = tmp_path / "run"
    result = command(
        "--flagfile=mnist_eps1.flags",
        f"--data_dir={tfds_dir}",
        f"--model_dir={run}",
        "--refiner=none",  # which takes no noisy step, and minutes
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "5 noisy steps" in result.stdout
    card = json.loads((run / "export" / "model_card.json").read_text())
    assert card["generator"]["image_shape"] == [28, 28, 1]
    assert card["privacy"]["dataset_size"] == 60_000
    assert 0.99 < card["privacy"]["epsilon"] <= 1


@pytest.mark.slow
@pytest.mark.slow
def test_an_installed_package_finds_its_flag_files(tmp_path):
    """Built and unpacked as pip does it, away from the checkout."""
    checkout, target = tmp_path / "checkout", tmp_path / "site"
    ignore = shutil.ignore_patterns(".git", ".venv*", "build", "runs", "*.egg-info")
    shutil.copytree(ROOT, checkout, ignore=ignore)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(checkout)], check=True, timeout=300)
    assert sorted(path.name for path in (target / "tfdps" / "flagfiles").glob("*.flags")) == sorted(
        path.name for path in pathlib.Path(ROOT / "launch").glob("*.flags")
    )


@pytest.mark.slow
def test_a_run_of_the_joint_mechanism_is_verified(digits_run):
    """The card, computed again without TensorFlow, and the ledger: see test_verify.py."""
    assert not verification.verify(str(digits_run[0])).problems


@pytest.mark.parametrize("package", ["tensorflow", "dp_accounting"])
def test_where_drawing_alone_was_installed_it_says_what_training_takes(
    capsys, monkeypatch, tmp_path, package
):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith("tfdps.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(name, raising=False)
    mode = ["--mode=account", "--dataset_size=1000"] if package == "dp_accounting" else []
    message = fails(capsys, *mode, f"--model_dir={tmp_path}/run")
    assert f'{package} is missing: training takes pip install "tfdps[train]"' in message


def test_a_program_of_one_line_is_a_program_too(monkeypatch, capsys):
    """python -c "from tfdps import launch; launch.run()" --mode=account ..."""
    monkeypatch.setattr(sys, "argv", ["-c", "--mode=account", "--dataset_size=500"])
    assert launch.main() == 0
    assert "records N                 500" in capsys.readouterr().out
