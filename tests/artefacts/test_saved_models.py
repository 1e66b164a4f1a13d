"""The generators that the repository ships are whole, load, agree, and say what they cost."""

import hashlib
import json

import numpy as np
import onnx
import pytest
import tensorflow as tf

from conftest import ROOT
from tfdps.artefacts import export, verification
from tfdps.config import flags
from tfdps.samplers import onnx_sampler, saved_model_sampler

FOLDER = ROOT / "saved_models"
NAMES = (
    "mnist_eps10",
    "mnist_eps1",
    "mnist_eps02",
    "fashion_mnist_eps10",
    "fashion_mnist_eps1",
    "cifar10_eps10",
    "cifar10_eps1",
)
MOST_BYTES = 52_000_000


@pytest.fixture(scope="module", params=NAMES)
def path(request):
    return FOLDER / request.param


def test_those_that_are_promised_are_there_in_the_size_that_is_promised():
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(NAMES)
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) < MOST_BYTES


def test_its_card_is_the_published_one(path):
    published, card = (FOLDER / "README.md").read_text(), (path / "model_card.json").read_bytes()
    assert f"{hashlib.sha256(card).hexdigest()}  {path.name}/model_card.json" in published
    assert f"![{path.name.rsplit('_', 1)[0]}, epsilon " in published


@pytest.mark.slow
def test_it_is_verified(path):
    """Seconds for each whose denoiser took subsampled steps."""
    verdict = verification.verify(str(path))
    assert not verdict.problems
    card = (path / "model_card.json").read_bytes()
    assert verdict.card_sha256 == hashlib.sha256(card).hexdigest()


def test_it_claims_the_epsilon_of_its_name(path):
    card = json.loads((path / "model_card.json").read_text())
    data, epsilon = path.name.rsplit("_eps", 1)
    epsilon = {"10": 10.0, "1": 1.0, "02": 0.2}[epsilon]
    assert card["generator"]["dataset"] == data
    assert 0.99 * epsilon < card["privacy"]["epsilon"] <= epsilon
    assert card["privacy"]["private"] is True
    assert card["training"]["target_epsilon"] == epsilon


def test_its_flags_are_those_of_the_card_and_name_no_machine(path):
    card = json.loads((path / "model_card.json").read_text())
    config = flags.parse(["tfdps", f"--flagfile={path / 'run.flags'}"])[1]
    assert flags.parse(["tfdps", *card["training"]["flags"]])[1] == config
    assert config.model_dir is None
    assert config.data_dir is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_eps1", "fashion_mnist_eps10", "cifar10_eps10"])
def test_saved_model_and_onnx_make_the_same_images_by_the_promised_signatures(name):
    """One of each data set: that the files of all are whole, `test_it_is_verified` says."""
    path = FOLDER / name
    saved_model, by_onnx = saved_model_sampler.load(path), onnx_sampler.load(str(path))
    assert saved_model.card == by_onnx.card
    classes = len(by_onnx.class_names)
    z = np.random.default_rng(3).random([4 * classes, by_onnx.latent_dim], np.float32)
    labels = np.arange(len(z)) % classes
    images = by_onnx.decode(z, labels)
    assert images.shape == (len(z), *by_onnx.image_shape)
    np.testing.assert_allclose(images, saved_model.decode(z, labels), atol=export.PARITY_TOLERANCE)
    assert images.std() > 0.2
    for sampler in (saved_model, by_onnx):
        drawn = sampler.sample(labels, 5)
        assert (drawn.dtype, drawn.shape) == (np.uint8, images.shape)
        assert drawn.std() > 25
    loaded = saved_model._model
    assert set(loaded.signatures) == {"serving_default", "sample", "decode"}
    for name in ("serving_default", "sample"):
        inputs = loaded.signatures[name].structured_input_signature[1]
        assert {key: (spec.dtype, spec.shape.as_list()) for key, spec in inputs.items()} == {
            "labels": (tf.int32, [None]),
            "seed": (tf.int32, [2]),
        }
    model = onnx.load(path / "generator.onnx")
    onnx.checker.check_model(model, full_check=True)
    session = by_onnx._session
    assert [each.name for each in session.get_inputs()] == ["z", "labels"]
    assert [each.name for each in session.get_outputs()] == ["images"]
