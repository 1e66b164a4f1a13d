import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image

from tfdps.artefacts import export
from tfdps.artefacts.card import ModelCard
from tfdps.checks import UsageError
from tfdps.generators import networks, pixels

QUIET = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
PRIVACY = {"epsilon": 9.99, "delta": 1e-5, "accountant": "rdp", "caveats": ["épsilon"]}
TRAINING = {"steps": 12, "learning_rate": 0.001, "flags": ["--dataset=digits", "--num_steps=12"]}


@dataclasses.dataclass
class Spec:
    """Stands in for data.DatasetSpec."""

    name: str
    image_shape: tuple
    class_names: tuple

    @property
    def num_classes(self):
        return len(self.class_names)


SPEC = Spec("digits", (8, 8, 1), ("zero", "one", "two"))


def trained_generator(name):
    keras.utils.set_random_seed(0)
    model = networks.build(name, image_shape=(8, 8, 1), num_classes=3, latent_dim=4)
    model.compile(optimizer="adam")  # its state must not be shipped
    model.optimizer.build(model.trainable_variables)
    networks.recalibrate(model, num_classes=3, batches=2)
    return model


def write(directory, generator, **changes):
    arguments = {"generator_name": "mlp", "spec": SPEC, "privacy": PRIVACY, "training": TRAINING}
    return export.write_export(directory, generator=generator, **(arguments | changes))


@dataclasses.dataclass
class Exported:
    path: str
    card: ModelCard
    generator: keras.Model
    loaded: object


@pytest.fixture(scope="module", params=["mlp", pytest.param("dcgan", marks=pytest.mark.slow)])
def exported(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "export"
    generator = trained_generator(request.param)
    card = write(path, generator, generator_name=request.param)
    return Exported(path, card, generator, tf.saved_model.load(str(path / "saved_model" / "1")))


@pytest.fixture(scope="module")
def mlp():
    return trained_generator("mlp")


def sample(loaded, labels, seed):
    outputs = loaded.signatures["serving_default"](
        labels=tf.constant(labels, tf.int32), seed=tf.constant(seed, tf.int32)
    )
    return outputs["images"].numpy()


def decode(loaded, z, labels):
    return loaded.signatures["decode"](z=tf.constant(z), labels=tf.constant(labels))["images"]


def test_the_folder_holds_what_the_layout_says_and_nothing_else(exported):
    assert sorted(os.listdir(exported.path)) == [
        "generator.onnx",
        "model_card.json",
        "run.flags",
        "samples.png",
        "saved_model",
    ]
    assert os.listdir(exported.path / "saved_model") == ["1"]
    assert os.listdir(exported.path.parent) == ["export"]


class TestSavedModel:
    def test_endpoints_have_the_promised_names_types_and_shapes(self, exported):
        signatures = exported.loaded.signatures
        assert {"sample", "serving_default", "decode"} == set(signatures)
        for name in ("sample", "serving_default"):
            inputs = signatures[name].structured_input_signature[1]
            assert (inputs["labels"].dtype, inputs["labels"].shape.as_list()) == (tf.int32, [None])
            assert (inputs["seed"].dtype, inputs["seed"].shape.as_list()) == (tf.int32, [2])
            images = signatures[name].structured_outputs["images"]
            assert (images.dtype, images.shape.as_list()) == (tf.uint8, [None, 8, 8, 1])
        inputs = signatures["decode"].structured_input_signature[1]
        assert (inputs["z"].dtype, inputs["z"].shape.as_list()) == (tf.float32, [None, 4])
        assert (inputs["labels"].dtype, inputs["labels"].shape.as_list()) == (tf.int32, [None])
        images = signatures["decode"].structured_outputs["images"]
        assert (images.dtype, images.shape.as_list()) == (tf.float32, [None, 8, 8, 1])

    def test_decode_is_the_generator_in_inference_mode(self, exported):
        z = np.random.default_rng(0).random((6, 4), np.float32)
        labels = np.arange(6, dtype=np.int32) % 3
        expected = exported.generator([z, labels], training=False)
        np.testing.assert_allclose(decode(exported.loaded, z, labels), expected, atol=1e-5)

    def test_sample_is_decode_of_uniform_z_as_bytes(self, exported):
        labels = np.arange(50, dtype=np.int32) % 3
        z = tf.random.stateless_uniform([50, 4], [3, 4], alg="philox").numpy()
        expected = pixels.to_uint8(decode(exported.loaded, z, labels))
        difference = sample(exported.loaded, labels, [3, 4]).astype(int) - expected
        assert np.max(np.abs(difference)) <= 1  # float32 rounding at a tie
        assert np.mean(difference != 0) < 1e-3

    def test_the_seed_and_the_labels_decide_the_images(self, exported):
        labels = [0, 1, 2, 0]
        first = sample(exported.loaded, labels, [1, 2])
        np.testing.assert_array_equal(first, sample(exported.loaded, labels, [1, 2]))
        assert np.any(first != sample(exported.loaded, labels, [1, 3]))
        assert np.any(first != sample(exported.loaded, labels, [2, 2]))
        assert np.any(first != sample(exported.loaded, [1, 1, 2, 0], [1, 2]))
        assert np.any(first[0] != first[3])  # two images of a class are not one image

    def test_an_image_is_the_same_in_a_batch_of_1_and_of_256(self, exported):
        z = np.random.default_rng(0).random((256, 4), np.float32)
        labels = np.arange(256, dtype=np.int32) % 3
        together = decode(exported.loaded, z, labels).numpy()
        for i in (0, 7, 255):
            alone = decode(exported.loaded, z[i : i + 1], labels[i : i + 1])
            # Matrix products sum in another order in another batch size.
            np.testing.assert_allclose(alone[0], together[i], atol=1e-5)

    @pytest.mark.parametrize("label", [-1, 3])
    def test_a_label_outside_the_range_is_refused(self, exported, label):
        with pytest.raises(tf.errors.InvalidArgumentError):
            sample(exported.loaded, [0, label], [0, 0])
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(exported.loaded, np.zeros((2, 4), np.float32), np.int32([0, label]))

    def test_holds_the_generators_weights_and_nothing_else(self, exported):
        variables = exported.path / "saved_model" / "1" / "variables" / "variables"
        stored = [
            tuple(shape)
            for name, shape in tf.train.list_variables(str(variables))
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
        ]
        expected = [tuple(weight.shape) for weight in exported.generator.weights]
        assert sorted(stored) == sorted(expected)


class TestOnnx:
    @pytest.fixture
    def path(self, exported):
        return str(exported.path / "generator.onnx")

    def test_inputs_and_output_have_the_promised_names_and_a_free_batch(self, path):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()}
        assert inputs == {"z": ("tensor(float)", [4]), "labels": ("tensor(int32)", [])}
        assert [o.name for o in session.get_outputs()] == ["images"]
        assert not isinstance(session.get_inputs()[0].shape[0], int)

    @pytest.mark.parametrize("size", [1, 2, 50])
    def test_agrees_with_the_saved_model(self, exported, path, size):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        z = np.random.default_rng(size).random((size, 4), np.float32)
        labels = np.arange(size, dtype=np.int32) % 3
        (images,) = session.run(None, {"z": z, "labels": labels})
        np.testing.assert_allclose(images, decode(exported.loaded, z, labels), atol=1e-5)

    def test_values_have_short_names(self, path):
        names = [name for node in onnx.load(path).graph.node for name in node.output]
        assert len(set(names)) == len(names) > 5
        assert max(map(len, names)) < 40

    def test_is_valid_and_carries_the_card_as_it_is_on_disk(self, exported, path):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        text = (exported.path / "model_card.json").read_text(encoding="utf-8")
        assert metadata == {"tfdps.model_card": text}
        assert {i.domain: i.version for i in model.opset_import}[""] == export.ONNX_OPSET

    @pytest.mark.parametrize("label", [-1, 3])
    def test_a_label_outside_the_range_is_an_error_or_makes_no_image(self, path, label):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {"z": np.zeros((2, 4), np.float32), "labels": np.array([0, label], np.int32)}
        images, said = None, "out of data bounds"
        try:
            (images,) = session.run(None, inputs)
        except Exception as error:  # ONNX Runtime's have no common class but this
            said = str(error)
        assert "out of data bounds" in said
        if images is not None:
            assert np.isfinite(images[0]).all()
            assert np.isnan(images[1]).all()


def test_the_same_card_is_in_the_assets_of_the_saved_model(exported):
    path = exported.path / "saved_model" / "1" / "assets" / "model_card.json"
    assert path.read_bytes() == (exported.path / "model_card.json").read_bytes()


def test_the_card_has_a_hash_of_every_other_file(exported):
    there = [path for path in exported.path.rglob("*") if path.is_file()]
    names = {str(path.relative_to(exported.path)): path for path in there}
    cards = {"model_card.json", "saved_model/1/assets/model_card.json"}
    assert set(exported.card.files) == set(names) - cards
    for name in set(names) - cards - {"generator.onnx"}:
        digest = hashlib.sha256(names[name].read_bytes()).hexdigest()
        assert exported.card.files[name] == digest
    model = onnx.load(names["generator.onnx"])
    del model.metadata_props[:]
    digest = hashlib.sha256(model.SerializeToString()).hexdigest()
    assert exported.card.files["generator.onnx"] == digest


def test_the_flags_are_those_of_the_card(exported):
    lines = (exported.path / "run.flags").read_text().splitlines()
    assert lines == TRAINING["flags"]


def test_the_card_says_what_was_exported(exported):
    text = (exported.path / "model_card.json").read_text(encoding="utf-8")
    assert exported.card.content == json.loads(text)
    assert exported.card.to_json() == text
    assert exported.card.content["privacy"] == PRIVACY
    assert exported.card.content["training"] == TRAINING
    assert exported.card.content["generator"] == {
        "name": exported.generator.name,
        "latent_dim": 4,
        "latent_distribution": "uniform[0,1]",
        "num_classes": 3,
        "class_names": ["zero", "one", "two"],
        "image_shape": [8, 8, 1],
        "dataset": "digits",
    }
    assert 0 <= exported.card.content["parity"]["onnx_max_abs_error"] <= 1e-5
    assert exported.card.content["parity"]["onnx_opset"] == export.ONNX_OPSET
    assert exported.card.created.endswith("+00:00")


def test_the_sample_grid_shows_ten_images_of_each_class(exported):
    images = sample(exported.loaded, np.repeat([0, 1, 2], 10), [0, 0])
    picture = np.asarray(Image.open(exported.path / "samples.png"))
    np.testing.assert_array_equal(picture, pixels.class_grid(images, 10)[..., 0])


class TestReplacing:
    def contents(self, path):
        return {
            str(file.relative_to(path)): file.read_bytes()
            for file in path.rglob("*")
            if file.is_file()
        }

    def test_a_new_export_takes_the_place_of_the_old(self, tmp_path, mlp):
        write(tmp_path / "export", mlp)
        (tmp_path / "export" / "stray").write_text("of the old one")
        card = write(tmp_path / "export", mlp, training={"steps": 13})
        assert card.content["training"] == {"steps": 13}
        assert not (tmp_path / "export" / "stray").exists()
        assert os.listdir(tmp_path) == ["export"]

    @pytest.mark.parametrize("error", [float("nan"), pytest.param(1e-4, marks=pytest.mark.slow)])
    def test_a_failed_parity_leaves_the_old_export(self, tmp_path, mlp, monkeypatch, error):
        write(tmp_path / "export", mlp)
        before = self.contents(tmp_path / "export")
        monkeypatch.setattr(export, "_parity_error", lambda *_: error)
        with pytest.raises(RuntimeError, match="differ by .* nothing was exported"):
            write(tmp_path / "export", mlp)
        assert self.contents(tmp_path / "export") == before
        assert os.listdir(tmp_path) == ["export"]

    def test_a_failed_first_export_leaves_nothing(self, tmp_path, mlp, monkeypatch):
        monkeypatch.setattr(export, "_parity_error", lambda *_: 1.0)
        with pytest.raises(RuntimeError):
            write(tmp_path / "export", mlp)
        assert not os.listdir(tmp_path)

    def test_a_failed_rename_brings_the_old_export_back(self, tmp_path, monkeypatch):
        (tmp_path / "export").mkdir()
        (tmp_path / "export" / "model_card.json").write_text("old")
        rename, calls = os.rename, []

        def second_fails(source, target):
            calls.append(source)
            if len(calls) == 2:
                raise OSError("no space")
            rename(source, target)

        monkeypatch.setattr(os, "rename", second_fails)
        replacing = export._replacing(str(tmp_path / "export"))
        replacing.__enter__()
        with pytest.raises(OSError, match="no space"):
            replacing.__exit__(None, None, None)
        assert self.contents(tmp_path) == {"export/model_card.json": b"old"}
        assert os.listdir(tmp_path) == ["export"]

    def test_what_a_killed_export_left_behind_is_put_right(self, tmp_path):
        (tmp_path / "export.old").mkdir()
        (tmp_path / "export.old" / "model_card.json").write_text("old")
        (tmp_path / "export.new").mkdir()
        replacing = export._replacing(str(tmp_path / "export"))
        folder = replacing.__enter__()
        assert not os.listdir(folder)
        assert (tmp_path / "export" / "model_card.json").read_text() == "old"
        assert replacing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is not True
        assert os.listdir(tmp_path) == ["export"]

    def test_a_folder_that_is_no_export_is_not_replaced(self, tmp_path, mlp):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(UsageError, match="is no export .*not replaced"):
            write(tmp_path, mlp)
        assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("block", ["privacy", "training"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_card_that_is_not_strict_json_is_refused(tmp_path, mlp, block, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "export", mlp, **{block: {"epsilon": value}})
    assert not os.listdir(tmp_path)


def test_a_generator_of_another_image_shape_is_refused(tmp_path, mlp):
    with pytest.raises(ValueError, match=r"\(8, 8, 1\), the data set has \(28, 28, 1\)"):
        write(tmp_path / "export", mlp, spec=dataclasses.replace(SPEC, image_shape=(28, 28, 1)))


def test_the_conversion_is_silent(tmp_path, mlp, caplog, capsys):
    write(tmp_path / "export", mlp)
    assert not caplog.records
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


FRESH = """
import sys
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = loaded.signatures["serving_default"](
    labels=tf.constant([0, 1, 2], tf.int32), seed=tf.constant([5, 6], tf.int32))["images"]
assert not any(name.split(".")[0] == "tfdps" for name in sys.modules)
np.save(sys.argv[2], images.numpy())
"""


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["dcgan"], indirect=True)
def test_a_process_without_tfdps_draws_the_same_images(exported, tmp_path):
    arguments = [str(exported.path / "saved_model" / "1"), str(tmp_path / "images.npy")]
    subprocess.run([sys.executable, "-c", FRESH, *arguments], check=True, env=QUIET, cwd=tmp_path)
    expected = sample(exported.loaded, [0, 1, 2], [5, 6])
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), expected)


@pytest.mark.slow
class TestSession:
    """A session loads it, as TensorFlow Serving and saved_model_cli do."""

    @pytest.fixture(params=["sample", "serving_default"])
    def drawn(self, exported, request):
        """(names of the endpoint's inputs and outputs, labels -> images)."""
        session = tf.compat.v1.Session(graph=tf.Graph())
        with session.graph.as_default():
            folder = str(exported.path / "saved_model" / "1")
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        endpoint = loaded.signature_def[request.param]

        def draw(labels):
            given = {"labels": labels, "seed": [5, 6]}
            tensors = {endpoint.inputs[name].name: values for name, values in given.items()}
            return session.run(endpoint.outputs["images"].name, tensors)

        yield (sorted(endpoint.inputs), sorted(endpoint.outputs)), draw
        session.close()

    def test_samples_the_same_images(self, exported, drawn):
        names, draw = drawn
        assert names == (["labels", "seed"], ["images"])
        expected = sample(exported.loaded, [0, 1, 2], [5, 6])
        np.testing.assert_array_equal(draw([0, 1, 2]), expected)

    def test_refuses_a_label_outside_the_range(self, drawn):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(be|is not) in \[0, 3\)"):
            drawn[1]([0, 3])
