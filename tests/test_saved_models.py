"""The generators that the repository ships are whole, load, and say what they cost."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from conftest import ROOT
from tfdps import flags, samples

SHIPPED = sorted(path for path in (ROOT / "saved_models").iterdir() if path.is_dir())


def test_there_is_a_shipped_generator():
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_generator_samples_and_carries_its_guarantee(path):
    sampler = samples.load_sampler(path)
    card = json.loads((path / "model_card.json").read_text())
    privacy, generator = card["privacy"], card["generator"]
    assert sampler.card == card
    assert privacy["private"]
    assert 0 < privacy["epsilon"] <= card["training"]["target_epsilon"]
    labels = np.arange(generator["num_classes"], dtype=np.int32)
    images = sampler.sample(labels, 0)
    assert images.shape == (len(labels), *generator["image_shape"])
    assert images.std() > 10
    model = onnx.load(path / "generator.onnx")
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == {"tfdps.model_card": card}
    session = onnxruntime.InferenceSession(str(path / "generator.onnx"))
    z = np.random.default_rng(0).random([len(labels), generator["latent_dim"]], np.float32)
    (decoded,) = session.run(None, {"z": z, "labels": labels})
    assert decoded.shape == images.shape
    config = flags.parse(["tfdps", f"--flagfile={path / 'run.flags'}"])[1]
    assert flags.parse(["tfdps", *card["training"]["flags"]])[1] == config
    assert config.model_dir is None
