"""The command line: modes that work, and one clear message for everything that does not."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from tfdps import accounting, data, launch, verification


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

    def test_one_class_only(self, capsys, tmp_path):
        folder = image_folder(tmp_path / "images")
        shutil.rmtree(folder / "dog")
        message = fails(capsys, f"--dataset=folder:{folder}", f"--model_dir={tmp_path}/run")
        assert "at least 2 classes" in message

    def test_fewer_records_than_the_batch(self, capsys, tmp_path):
        folder = image_folder(tmp_path / "images")
        message = fails(
            capsys, f"--dataset=folder:{folder}", f"--model_dir={tmp_path}/run", "--batch_size=50"
        )
        assert "batch_size=50 for 12 records" in message

    def test_labels_out_of_range(self, capsys, tmp_path, monkeypatch):
        read = data._Digits.read

        def broken(self):
            images, labels = read(self)
            return images, np.where(labels == 3, -1, labels)

        monkeypatch.setattr(data._Digits, "read", broken)
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
            (["--labels=10"], "class numbers from 0 to 9, ranges as 0-3"),
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
    assert Image.open(tmp_path / "grid.png").width >= 4 * 32
    stored = np.load(tmp_path / "samples.npz")
    assert stored["images"].shape == (12, 8, 8, 1)
    assert list(stored["labels"]) == [0, 1, 2] * 4
    again = data.load(f"folder:{tmp_path / 'folder'}", image_size=8)
    assert len(again) == 12
    assert sorted(again.images.reshape(12, -1).sum(1)) == sorted(
        stored["images"].astype(int).reshape(12, -1).sum(1)
    )


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
@pytest.mark.parametrize(
    ("name", "rdp_steps", "pld_steps"),
    [("mnist", 3.99e6, 4.47e6), ("fashion_mnist", 2.10e6, 2.35e6), ("celeba", 0.53e6, 0.59e6)],
)
def test_account_prints_the_published_step_counts_without_data(capsys, name, rdp_steps, pld_steps):
    out = succeeds(capsys, "--mode=account", f"--flagfile={name}_paper.flags")
    most = {m[1]: int(m[2]) for m in re.finditer(r"most steps by (\w+) +(\d+)", out)}
    assert most["RDP"] == pytest.approx(rdp_steps, rel=0.01)
    assert most["PLD"] == pytest.approx(pld_steps, rel=0.03)
    assert float(re.search(r"epsilon by RDP +([\d.]+)", out)[1]) <= 10


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
    sigma = accounting.noise_multiplier(
        target_epsilon=1, sampling_probability=50 / 1438, steps=100, delta=1e-5
    )
    assert f"noise multiplier          {sigma:.6g}" in out


@pytest.mark.slow
def test_the_job_runs_from_any_folder_with_a_bare_flagfile_name(command, tmp_path, tfds_dir):
    """Real MNIST, the package's flag file, another working directory, relative paths refused none."""
    run = tmp_path / "run"
    result = command("--flagfile=mnist_eps1.flags", f"--data_dir={tfds_dir}", f"--model_dir={run}")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "5 noisy steps" in result.stdout
    card = json.loads((run / "export" / "model_card.json").read_text())
    assert card["generator"]["image_shape"] == [28, 28, 1]
    assert card["privacy"]["dataset_size"] == 60_000
    assert 0.99 < card["privacy"]["epsilon"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        ["--latent_dim=9"],
        ["--mechanism=joint", "--batch_size=4", "--num_steps=20", "--generator=dcgan"],
    ],
)
def test_own_images_train_from_a_folder(command, tmp_path, extra):
    images, run = image_folder(tmp_path / "images"), tmp_path / "run"
    result = command(
        f"--dataset=folder:{images}",
        "--image_size=8",
        f"--model_dir={run}",
        *extra,
    )
    assert result.returncode == 0, result.stderr
    card = json.loads((run / "export" / "model_card.json").read_text())
    assert card["generator"]["class_names"] == ["cat", "dog"]
    assert str(images.parent) not in json.dumps(card)


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
