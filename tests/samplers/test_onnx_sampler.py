"""Drawing from generator.onnx, as somebody without TensorFlow does."""

import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from conftest import ROOT
from tfdps.checks import UsageError
from tfdps.commands import sample
from tfdps.samplers import onnx_sampler

EXPORT = ROOT / "saved_models" / "mnist_eps1"


@pytest.fixture(scope="module")
def sampler():
    return onnx_sampler.load(str(EXPORT / "generator.onnx"))


class TestLoad:
    @pytest.mark.parametrize("place", ["generator.onnx", "", "renamed.onnx", "model_dir"])
    def test_a_file_an_export_or_a_model_dir(self, tmp_path, place):
        path = {
            "renamed.onnx": tmp_path / "renamed.onnx",
            "model_dir": tmp_path,
        }.get(place, EXPORT / place)
        (tmp_path / "export").mkdir()
        for target in (tmp_path / "renamed.onnx", tmp_path / "export" / "generator.onnx"):
            shutil.copy(EXPORT / "generator.onnx", target)
        sampler = onnx_sampler.load(str(path))
        assert sampler.card.epsilon <= 1
        assert (sampler.image_shape, len(sampler.class_names)) == ((28, 28, 1), 10)

    def test_what_is_none_is_refused_with_its_name(self, tmp_path):
        with pytest.raises(UsageError, match="there is nothing at .*nowhere: name a model_dir"):
            onnx_sampler.load(str(tmp_path / "nowhere"))
        with pytest.raises(UsageError, match=r"holds no generator\.onnx: name one"):
            onnx_sampler.load(str(tmp_path))
        (tmp_path / "generator.onnx").write_bytes(b"no model")
        with pytest.raises(UsageError, match="no ONNX model that ONNX Runtime can load"):
            onnx_sampler.load(str(tmp_path))

    def test_a_model_of_somebody_else_is_refused(self, tmp_path):
        model = onnx.load(EXPORT / "generator.onnx")
        del model.metadata_props[:]
        onnx.save(model, tmp_path / "other.onnx")
        with pytest.raises(UsageError, match="holds no model card .* tfdps did not export it"):
            onnx_sampler.load(str(tmp_path / "other.onnx"))


class TestSample:
    def test_the_seed_decides_the_images(self, sampler):
        images = sampler.sample([0, 1, 2], seed=7)
        assert (images.dtype, images.shape) == (np.uint8, (3, 28, 28, 1))
        assert images.std() > 30
        np.testing.assert_array_equal(images, sampler.sample([0, 1, 2], seed=7))
        assert np.any(images != sampler.sample([0, 1, 2], seed=8))

    def test_a_longer_list_begins_with_the_images_of_the_shorter(self, sampler):
        labels = np.arange(1200) % 10
        images = sampler.sample(labels, 7)
        for size in (1, 500, 501):
            assert np.max(np.abs(images[:size].astype(int) - sampler.sample(labels[:size], 7))) <= 1
        assert len(np.unique(images.reshape(1200, -1), axis=0)) == 1200

    def test_a_stream_has_the_same_images(self, sampler):
        chunks = list(sampler.stream([3, 5], 1100, seed=2))
        labels = np.concatenate([labels for _, labels in chunks])
        np.testing.assert_array_equal(labels, np.resize([3, 5], 1100))
        images = np.concatenate([images for images, _ in chunks])
        np.testing.assert_array_equal(images, sampler.sample(labels, 2))
        assert max(len(labels) for _, labels in chunks) == 500

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([3], 0, 0), "num must be >= 1, received 0"),
            (([10], 5, 0), r"labels must be in \[0, 10\), received 10 to 10"),
            (([], 5, 0), "labels must be a list of at least one integer"),
            (([1], 5, 2**31), r"seed must be < 2\*\*31"),
        ],
    )
    def test_a_stream_is_refused_before_it_starts(self, sampler, arguments, message):
        with pytest.raises(UsageError, match=message):
            sampler.stream(*arguments)


@pytest.mark.parametrize("label", [-1, 10, 2**31 - 1, -(2**31)])
def test_a_label_outside_the_range_is_an_error_of_the_graph_itself(sampler, label):
    """Of a caller who passes by the client."""
    inputs = {"z": np.full((2, sampler.latent_dim), 0.5, np.float32)}
    inputs["labels"] = np.array([3, label], np.int32)
    with pytest.raises(Exception, match="out of data bounds"):
        sampler._session.run(None, inputs)


def test_the_images_of_a_seed_stay_what_they_are():
    """What a user has published by its seed: the latents, to the bit."""
    z = np.random.default_rng([7, 1]).random((3, 101), np.float32)
    assert hashlib.sha256(z.tobytes()).hexdigest()[:16] == "1769a3ebc7ada8f6"


class TestCommand:
    def run(self, capsys, *arguments):
        status = sample.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    def test_writes_what_is_asked_for_and_says_what_it_cost(self, tmp_path, capsys, sampler):
        out = tmp_path / "out.npz"
        options = ("--num", "7", "--labels", "0-1,4", "--seed", "3", "--out", out)
        status, said, _ = self.run(capsys, EXPORT, *options)
        assert status == 0
        assert f"7 images in {out}" in said
        assert "trained on mnist with epsilon 1 at delta 1e-05" in said  # 0.99995, rounded up
        arrays = np.load(out)
        np.testing.assert_array_equal(arrays["labels"], [0, 1, 4, 0, 1, 4, 0])
        np.testing.assert_array_equal(arrays["images"], sampler.sample(arrays["labels"], 3))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere.onnx"], "there is nothing at nowhere.onnx"),
            ([EXPORT, "--num", "0"], "num must be >= 1, received 0"),
            ([EXPORT, "--labels", "10"], "must be class names (0, 1, 2"),
            ([EXPORT, "--seed", "-1"], "seed must be >= 0"),
            ([EXPORT, "--out", "x.gif"], "out must end in"),
        ],
    )
    def test_bad_input_is_one_clear_line(self, capsys, arguments, message):
        status, said, error = self.run(capsys, *arguments)
        assert (status, said) == (2, "")
        assert error.startswith("tfdps-sample: error: ")
        assert message in error
        assert error.count("\n") == 1

    def test_a_place_where_nothing_may_be_written_is_named(self, capsys, tmp_path):
        (tmp_path / "file").touch()
        status, _, error = self.run(capsys, EXPORT, "--out", tmp_path / "file" / "x.npz")
        assert status == 2
        assert "file" in error
        assert error.count("\n") == 1


def test_a_process_without_tensorflow_draws(tmp_path):
    """Where importing it fails, and nothing but ONNX Runtime, NumPy, Pillow and tqdm is asked for."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'onnx', 'absl', 'scipy', 'pyarrow', 'dp_accounting',\n"
        "             'fcntl'):\n"
        "    sys.modules[name] = None\n"
    )
    command = [sys.executable, "-m", "tfdps.commands.sample", str(EXPORT / "generator.onnx")]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    result = subprocess.run(
        [*command, "--num", "20", "--out", "pictures/"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    pictures = sorted((tmp_path / "pictures").glob("*/*.png"))
    assert len(pictures) == 20
    assert np.asarray(Image.open(pictures[0])).shape == (28, 28)
