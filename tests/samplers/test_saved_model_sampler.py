import dataclasses

import keras
import numpy as np
import onnxruntime
import pytest

from tfdps.artefacts import export
from tfdps.checks import UsageError
from tfdps.generators import networks
from tfdps.samplers import saved_model_sampler


@dataclasses.dataclass
class Spec:
    """Stands in for data.DatasetSpec."""

    name: str = "digits"
    image_shape: tuple = (8, 8, 1)
    class_names: tuple = ("zero", "one", "two")
    num_classes: int = 3


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    export.write_export(
        path / "export",
        generator=networks.build("mlp", image_shape=(8, 8, 1), num_classes=3, latent_dim=4),
        generator_name="mlp",
        spec=Spec(),
        privacy={"epsilon": 1.0},
        training={},
    )
    return path


@pytest.fixture(scope="module")
def sampler(model_dir):
    return saved_model_sampler.load(model_dir)


@pytest.mark.parametrize("parts", [(), ("export",), ("export", "saved_model"), "1"])
def test_an_export_is_found_from_any_of_its_folders(model_dir, parts):
    parts = ("export", "saved_model", "1") if parts == "1" else parts
    found = saved_model_sampler.load(model_dir.joinpath(*parts))
    assert found.card.epsilon == 1.0
    assert found.class_names == ("zero", "one", "two")
    assert found.sample([0, 1], 0).shape == (2, 8, 8, 1)


def test_what_holds_no_export_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is nothing at .*nowhere: name a model_dir"):
        saved_model_sampler.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no export"):
        saved_model_sampler.load(tmp_path)
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    (tmp_path / "saved_model" / "1" / "saved_model.pb").touch()
    with pytest.raises(UsageError, match="model_card.json is missing"):
        saved_model_sampler.load(tmp_path)


class TestSample:
    def test_the_seed_decides_the_images(self, sampler):
        images = sampler.sample([0, 1, 2], 7)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, sampler.sample(np.array([0, 1, 2]), 7))
        assert np.any(images != sampler.sample([0, 1, 2], 8))

    def test_a_longer_list_begins_with_the_images_of_the_shorter(self, sampler):
        labels = np.arange(1200) % 3
        images = sampler.sample(labels, 7)
        for size in (1, 500, 501):
            shorter = sampler.sample(labels[:size], 7).astype(int)
            assert np.max(np.abs(images[:size] - shorter)) <= 1

    def test_chunks_do_not_repeat_each_other(self, sampler):
        images = sampler.sample(np.zeros(1000, int), 7)
        assert len(np.unique(images.reshape(1000, -1), axis=0)) == 1000

    @pytest.mark.parametrize(
        ("labels", "seed", "message"),
        [
            ([0, 3], 0, r"labels must be in \[0, 3\), received 0 to 3"),
            ([-1], 0, r"labels must be in \[0, 3\), received -1 to -1"),
            ([], 0, "at least one integer"),
            ([0.5], 0, "at least one integer, received float64"),
            ([0], -1, "seed must be >= 0, received -1"),
            ([0], 2**31, r"seed must be < 2\*\*31"),
        ],
    )
    def test_labels_and_seeds_outside_their_range_are_refused(self, sampler, labels, seed, message):
        with pytest.raises(UsageError, match=message):
            sampler.sample(labels, seed)


class TestDecode:
    def test_images_are_those_of_the_onnx_model(self, model_dir, sampler):
        z = np.random.default_rng(0).random((502, 4), np.float32)  # more than one chunk
        labels = np.arange(502, dtype=np.int32) % 3
        images = sampler.decode(z, labels)
        session = onnxruntime.InferenceSession(str(model_dir / "export" / "generator.onnx"))
        (expected,) = session.run(None, {"z": z, "labels": labels})
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, expected, rtol=0, atol=export.PARITY_TOLERANCE)

    def test_an_image_follows_from_its_own_latent_and_label(self, sampler):
        z = np.random.default_rng(0).random((3, 4))
        together = sampler.decode(z, [2, 0, 1])
        for index, label in enumerate([2, 0, 1]):
            alone = sampler.decode(z[index : index + 1], [label])
            np.testing.assert_allclose(alone[0], together[index], rtol=0, atol=1e-5)  # float32
        assert np.max(np.abs(together - sampler.decode(z, [0, 0, 0]))) > 1e-3

    @pytest.mark.parametrize(
        ("z", "labels", "message"),
        [
            (np.zeros((2, 5)), [0, 1], r"z must be finite numbers \[2, 4\], received \[2, 5\]\."),
            (np.zeros((1, 4)), [0, 1], r"z must be finite numbers \[2, 4\], received \[1, 4\]"),
            (np.full((1, 4), np.nan), [0], "with NaN or infinity"),
            (np.zeros((1, 4)), [3], r"labels must be in \[0, 3\), received 3 to 3"),
            (np.zeros((1, 4)), [], "at least one integer"),
        ],
    )
    def test_latents_and_labels_outside_their_range_are_refused(self, sampler, z, labels, message):
        with pytest.raises(UsageError, match=message):
            sampler.decode(z, labels)
