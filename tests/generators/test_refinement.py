"""The refined generator: range, determinism, that it denoises, and the two forms it is exported in."""

import keras
import numpy as np
import onnxruntime
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from tfdps.artefacts import export
from tfdps.data.dataset import DatasetSpec
from tfdps.generators import networks, refinement
from tfdps.generators.refinement import Refinement, RefinerShape
from tfdps.learners.refiner import pretraining
from tfdps.samplers import saved_model_sampler

SHAPE, CLASSES, LATENT = (9, 12, 1), 3, 6
PIXELS = 9 * 12


def build(image_shape=SHAPE, *, start=0.5, levels=3, width=8):
    refiner = RefinerShape(width=width, start=start, levels=levels)
    model = networks.build(
        "mixture",
        image_shape=image_shape,
        num_classes=CLASSES,
        latent_dim=LATENT,
        num_atoms=2,
        refiner=refiner,
    )
    random, pixels = np.random.default_rng(0), int(np.prod(image_shape))
    model.get_layer("images").set_atoms(
        weights=np.full((CLASSES, 2), 0.5),
        means=random.uniform(-0.9, 0.9, (CLASSES, 2, pixels)),
        factors=0.1 * random.normal(size=(CLASSES, LATENT - 1, LATENT - 1)),
        basis=np.linalg.qr(random.normal(size=(pixels, LATENT - 1)))[0].T,
        gains=np.ones((CLASSES, 2, pixels)),
        grain=np.zeros(pixels),
    )
    return model


def stirred(model):
    """The model, none of whose denoiser's layers does nothing any more."""
    random = np.random.default_rng(1)
    for weight in model.get_layer("refined").denoiser.weights:
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    return model


def inputs(count=12, seed=0):
    z = np.random.default_rng(seed).random((count, LATENT), np.float32)
    return z, np.arange(count, dtype=np.int32) % CLASSES


def mixture_of(model):
    return keras.Model(model.inputs, model.get_layer("images").output)


@pytest.fixture(scope="module")
def model():
    return stirred(build())


@pytest.mark.parametrize("image_shape", [(8, 8, 1), SHAPE, (16, 16, 3)])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_images_have_their_shape_and_lie_between_black_and_white(image_shape, levels):
    images = stirred(build(image_shape, levels=levels))(inputs()).numpy()
    assert images.shape == (12, *image_shape)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert np.ptp(images) > 0.5


def test_a_latent_gives_the_same_image_again_and_another_one_another(model):
    z, labels = inputs()
    once = model([z, labels]).numpy()
    np.testing.assert_array_equal(model([z, labels]), once)
    np.testing.assert_array_equal(model([z, labels], training=False), once)
    other = model([inputs(seed=1)[0], labels]).numpy()
    assert (np.abs(other - once).mean(axis=(1, 2, 3)) > 0.01).all()


def test_an_image_depends_on_its_own_latent_and_label_alone(model):
    z, labels = inputs()
    whole = model([z, labels]).numpy()
    for row in (0, 5, 11):
        kept = np.arange(12) == row
        z_other = np.where(kept[:, None], z, 0.25).astype(np.float32)
        found = model([z_other, np.where(kept, labels, 0).astype(np.int32)]).numpy()
        np.testing.assert_array_equal(found[row], whole[row])


def test_the_label_reaches_the_denoiser(model):
    layer, (z, _) = model.get_layer("refined"), inputs(4)
    images = np.zeros((4, *SHAPE), np.float32)
    one, other = (layer([images, z, np.full(4, label, np.int32)]).numpy() for label in (0, 1))
    assert np.abs(one - other).mean() > 1e-3


def test_the_refiner_changes_what_the_mixture_makes(model):
    z, labels = inputs()
    assert np.abs(model([z, labels]) - mixture_of(model)([z, labels])).mean() > 0.02


def test_images_are_those_of_the_steps_written_out(model):
    """x <- D + (x - D) s' / s, by NumPy around the denoiser; then the clip."""
    layer, (z, labels) = model.get_layer("refined"), inputs(5)
    images = np.random.default_rng(2).uniform(-1, 1, (5, *SHAPE)).astype(np.float32)
    noise = layer.noise(refinement.inverse_normal(z[:, 1:])).numpy().reshape(5, *SHAPE)
    x, levels = images + 0.5 * noise, [0.5, 0.5 * 0.1**0.5, 0.05, 0.0]
    for level, following in zip(levels[:-1], levels[1:], strict=True):
        denoised = layer.denoiser([x, np.full(5, level, np.float32), labels]).numpy()
        x = (denoised + (x - denoised) * (following / level)).astype(np.float32)
    found = layer([images, z, labels]).numpy()
    np.testing.assert_allclose(found, np.clip(x, -1, 1), atol=1e-5)  # float32, three steps


def test_every_pixels_noise_has_mean_0_and_variance_1_over_latents(model):
    """Cosines: twice their squares have variance 1/2, so a variance 1/2 / n."""
    layer, count = model.get_layer("refined"), 4000
    noise = layer.noise(refinement.inverse_normal(inputs(count)[0][:, 1:])).numpy()
    assert noise.shape == (count, PIXELS)
    assert np.abs(noise.mean(axis=0)).max() < 5 / np.sqrt(count)
    assert np.abs(noise.var(axis=0) - 1).max() < 5 * np.sqrt(0.5 / count)


@pytest.mark.parametrize(
    ("start", "levels", "expected"),
    [
        (0.5, 1, [0.5]),
        (0.5, 2, [0.5, 0.05]),
        (0.5, 3, [0.5, 0.5 * 0.1**0.5, 0.05]),
        (0.03, 3, [0.03, 0.03, 0.03]),  # below where the last step begins
    ],
)
def test_levels_fall_in_even_ratios_from_the_start_to_a_twentieth(start, levels, expected):
    found = refinement._falling(start, levels)
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(type(level) is float for level in found)


@pytest.mark.slow
def test_a_short_training_makes_it_take_noise_out(monkeypatch):
    """Strokes with noise on them come back closer: mean squares, against the noise's own."""
    monkeypatch.setattr(pretraining, "NUM_IMAGES", 500)
    model = build((8, 8, 1), levels=1)
    denoiser = model.get_layer("refined").denoiser
    random = np.random.default_rng(9)
    clean = pretraining._made_up("strokes", (8, 8, 1), seed=5)[:200] / np.float32(127.5) - 1
    noise = random.normal(size=clean.shape).astype(np.float32)
    level, labels = np.full(200, 0.5, np.float32), np.full(200, CLASSES, np.int32)

    def error():
        denoised = denoiser([clean + 0.5 * noise, level, labels]).numpy()
        return np.mean((denoised - clean) ** 2)

    before = error()
    pretraining.pretrain(denoiser, "strokes", steps=150)
    after = error()
    # A new one has the best linear shrinkage for sigma_data 0.6, pixel by pixel.
    assert before < 0.25
    assert after < 0.5 * before


def test_no_pretraining_leaves_the_weights_as_they_are(model):
    denoiser = model.get_layer("refined").denoiser
    before = denoiser.get_weights()
    pretraining.pretrain(denoiser, "strokes", steps=0)
    for one, other in zip(denoiser.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_of_a_refinement_is_trained_with_the_generator(model):
    assert not model.get_layer("refined").trainable_weights


def test_a_refinement_survives_its_configuration(model):
    layer = model.get_layer("refined")
    again = Refinement.from_config(layer.get_config())
    assert again.shape == layer.shape == RefinerShape(width=8, start=0.5, levels=3)
    images, (z, labels) = np.zeros((12, *SHAPE), np.float32), inputs()
    again([images, z, labels])  # built
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again([images, z, labels]), layer([images, z, labels]))


def test_a_model_survives_its_keras_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(inputs()), model(inputs()), atol=1e-6)


@pytest.mark.slow
def test_the_saved_model_and_onnx_make_the_same_images(model, tmp_path):
    card = export.write_export(
        tmp_path / "export",
        generator=model,
        generator_name="mixture",
        spec=DatasetSpec(name="own", image_shape=SHAPE, class_names=("a", "b", "c")),
        privacy={"epsilon": 1.0},
        training={},
    )
    z, labels = inputs(40, seed=5)
    z[:2] = [[0], [np.nextafter(np.float32(1), np.float32(0))]]
    expected = model([z, labels]).numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "export" / "generator.onnx"))
    (by_onnx,) = session.run(["images"], {"z": z, "labels": labels})
    np.testing.assert_allclose(by_onnx, expected, atol=export.PARITY_TOLERANCE)
    by_saved_model = saved_model_sampler.load(str(tmp_path / "export")).decode(z, labels)
    np.testing.assert_allclose(by_saved_model, expected, atol=export.PARITY_TOLERANCE)
    # Float32 rounding through three passes of a network with weights of order 1.
    assert card.content["parity"]["onnx_max_abs_error"] < export.PARITY_TOLERANCE
    # The denoiser is in the file once, whatever the number of steps.
    file = saved_model_pb2.SavedModel()
    file.ParseFromString((tmp_path / "export/saved_model/1/saved_model.pb").read_bytes())
    functions = [f.signature.name for f in file.meta_graphs[0].graph_def.library.function]
    assert sum("_denoised" in name for name in functions) == 1
    assert sum("inference_decode" in name for name in functions) == 1
