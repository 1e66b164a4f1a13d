"""load_sampler: which of the two formats a path holds, and what runs it."""

import shutil
import sys

import numpy as np
import pytest

from conftest import ROOT
from tfdps import checks
from tfdps.samplers import loading
from tfdps.samplers.onnx_sampler import OnnxSampler
from tfdps.samplers.saved_model_sampler import SavedModelSampler

EXPORT = ROOT / "saved_models" / "mnist_eps1"


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("", SavedModelSampler),
        ("model_card.json", SavedModelSampler),
        ("saved_model", SavedModelSampler),
        ("saved_model/1", SavedModelSampler),
        ("generator.onnx", OnnxSampler),
    ],
)
def test_an_onnx_file_is_run_by_onnx_runtime_and_all_else_by_tensorflow(place, kind):
    sampler = loading.load_sampler(EXPORT / place)
    assert type(sampler) is kind
    images = sampler.sample([3, 4], seed=0)
    assert (images.shape, images.dtype) == ((2, 28, 28, 1), np.uint8)
    assert sampler.card.epsilon <= 1


def test_both_formats_decode_alike():
    one, other = (loading.load_sampler(EXPORT / place) for place in ("", "generator.onnx"))
    z = np.random.default_rng(0).random((4, one.latent_dim), np.float32)
    # The export's own parity check allows no more.
    np.testing.assert_allclose(
        one.decode(z, [0, 1, 2, 3]), other.decode(z, [0, 1, 2, 3]), atol=1e-4
    )


def test_without_tensorflow_a_saved_model_says_what_it_takes(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(
        checks.UsageError, match="^tensorflow is missing, which runs the SavedModel"
    ):
        loading.load_sampler(EXPORT)
    assert isinstance(loading.load_sampler(EXPORT / "generator.onnx"), OnnxSampler)


def test_an_export_without_its_saved_model_is_refused_not_run_otherwise(tmp_path):
    """For a seed the formats draw other images: none stands in for the other unasked."""
    shutil.copy(EXPORT / "generator.onnx", tmp_path)
    with pytest.raises(checks.UsageError, match="holds no export"):
        loading.load_sampler(tmp_path)
    with pytest.raises(checks.UsageError, match="there is nothing at"):
        loading.load_sampler(tmp_path / "nowhere")
