"""The mixture generator, and the moments of pixels after the clip."""

import dataclasses
import time

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.integrate
import scipy.special
import tensorflow as tf

from tfdps.artefacts import export
from tfdps.checks import UsageError
from tfdps.generators import mixture, networks, rectified

SHAPE, CLASSES, ATOMS, RANK = (2, 4, 3), 3, 4, 5
PIXELS = 24
# Zero weights first, in the middle and last; a class of one atom.
WEIGHTS = [[0.0, 0.7, 0.0, 0.3], [0.25, 0.25, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0]]
SIGMAS = 5.0  # a false alarm of a test of a sampled number: below 1e-6
LARGEST_Z = np.nextafter(np.float32(1), np.float32(0))


def atoms(seed=0, spread=0.1):
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(PIXELS, RANK)))[0].T
    return {
        "weights": np.array(WEIGHTS),
        "means": random.uniform(-0.9, 0.9, (CLASSES, ATOMS, PIXELS)),
        "factors": spread * random.normal(size=(CLASSES, RANK, RANK)),
        "basis": basis,
        "gains": random.uniform(0, 2, (CLASSES, ATOMS, PIXELS)),
        "grain": np.zeros(PIXELS),
    }


def build(**changes):
    settings = {"image_shape": SHAPE, "num_classes": CLASSES, "latent_dim": 1 + RANK}
    return networks.build("mixture", **(settings | {"num_atoms": ATOMS} | changes))


def with_atoms(given):
    model = build()
    model.get_layer("images").set_atoms(**given)
    return model


def kept(model):
    """What the tables of a model hold, beside the numbers that were given."""
    layer = model.get_layer("images")
    names = ("means", "factors", "basis", "gains")
    return {name: getattr(layer, name).values().numpy() for name in names}


@pytest.fixture(scope="module")
def model():
    return with_atoms(atoms())


def inputs(size, seed=0):
    z = np.random.default_rng(seed).random((size, 1 + RANK), np.float32)
    return tf.constant(z), tf.range(size, dtype=tf.int32) % CLASSES


def picked(model, z, label):
    layer, z = model.get_layer("images"), tf.constant(z, tf.float32)
    return layer.place_of(z, tf.fill(tf.shape(z), label))[0].numpy()


class TestInverseNormal:
    def test_is_scipys_within_1e_5(self):
        probability = np.concatenate(
            [np.linspace(1e-6, 1 - 1e-6, 20_001), np.logspace(-6, -1), 1 - np.logspace(-6, -1)]
        ).astype(np.float32)
        probability = np.clip(probability, np.float32(1e-6), np.float32(1 - 1e-6))
        expected = scipy.special.ndtri(probability.astype(np.float64))
        assert np.abs(mixture.inverse_normal(probability) - expected).max() < 1e-5

    def test_rises(self):
        values = mixture.inverse_normal(np.linspace(0, 1, 5001, dtype=np.float32)).numpy()
        assert np.diff(values[1:-1]).min() > 0
        assert values[2500] == 0

    @pytest.mark.parametrize("compiled", [False, True])
    def test_is_finite_with_finite_slopes_at_every_probability(self, compiled):
        @tf.function(jit_compile=compiled)  # XLA does not hide the NaN of a branch not taken
        def values_and_slopes(probability):
            with tf.GradientTape() as tape:
                tape.watch(probability)
                values = mixture.inverse_normal(probability)
            return values, tape.gradient(values, probability)

        tiny = np.finfo(np.float32).tiny
        probability = tf.constant([0.0, tiny, 1e-8, 1e-6, 0.5, 1 - 1e-6, LARGEST_Z, 1.0])
        values, slopes = values_and_slopes(probability)
        assert np.abs(values).max() == pytest.approx(4.75, abs=0.01)  # ndtri(1e-6)
        assert np.isfinite(slopes).all()

    def test_slope_is_one_over_the_density(self):
        probability = tf.constant(np.linspace(1e-4, 1 - 1e-4, 999), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(probability)
            values = mixture.inverse_normal(probability)
        slope = tape.gradient(values, probability) * np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi)
        # The published polynomials are fitted to values; their slopes are as good as this.
        np.testing.assert_allclose(slope, 1, atol=1e-4)


class TestAtomOf:
    def test_frequencies_are_the_weights(self, model):
        size = 20_000
        z = np.random.default_rng(0).random(size, np.float32)
        for label, weights in enumerate(np.array(WEIGHTS)):
            share = np.bincount(picked(model, z, label), minlength=ATOMS) / size
            assert np.all(
                np.abs(share - weights) <= SIGMAS * np.sqrt(weights * (1 - weights) / size)
            )

    def test_an_atom_of_weight_0_is_never_picked_not_even_at_the_ends(self, model):
        edges = np.cumsum(WEIGHTS, axis=1).astype(np.float32).ravel()
        ends = np.float32([-0.0, 0.0, 1e-38, 1 - 1e-6, LARGEST_Z, 1.0])
        z = np.concatenate([ends, edges, np.nextafter(edges, -1), np.nextafter(edges, 2)])
        for label, weights in enumerate(np.array(WEIGHTS)):
            assert (weights[picked(model, z, label)] > 0).all()

    def test_is_the_inverse_of_the_cumulative_weights(self, model):
        z = np.float32([0.0, 0.2499, 0.25, 0.4999, 0.5, 0.9999, 1.0])
        np.testing.assert_array_equal(picked(model, z, 1), [0, 0, 1, 1, 2, 2, 2])
        np.testing.assert_array_equal(picked(model, [0.0, 0.69, 0.71, 1.0], 0), [1, 1, 3, 3])

    def test_many_small_weights_pick_as_their_float64_sums_do(self):
        weights = np.random.default_rng(0).random((1, 2000))
        weights[:, ::3] = 0
        weights /= weights.sum()
        layer = mixture.MixtureLayer((1, 1, 1), num_classes=1, num_atoms=2000)
        layer.build([(None, 2), (None,)])
        layer.edges.assign(mixture._edges(weights))
        z = np.random.default_rng(1).random(5000, np.float32)
        expected = np.searchsorted(np.cumsum(weights[0]), z, side="right")
        received = layer.place_of(tf.constant(z), tf.zeros(5000, tf.int32))[0].numpy()
        # But for a z within a float32 step of an edge: 2000 edges, 2^24 steps, 5000 draws of z.
        assert np.sum(received != expected) <= 5
        assert (weights[0][received] > 0).all()


class TestGenerator:
    def test_starts_as_mid_grey_noise(self):
        images = build()(list(inputs(300))).numpy()
        assert images.shape == (300, *SHAPE)
        assert abs(images.mean()) < 0.02
        assert 0.15 < images.std() < 0.3

    def test_has_nothing_to_train_and_recalibrate_leaves_it(self, model):
        assert not model.trainable_weights
        before = model.get_weights()
        networks.recalibrate(model, num_classes=CLASSES)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_makes_the_formula_that_it_states(self):
        z, labels = inputs(64)
        given = atoms() | {"grain": np.linspace(0, 0.1, PIXELS)}
        model = with_atoms(given)
        given |= kept(model)
        layer, expected = model.get_layer("images"), []
        directions, phases = layer.noise.directions.values().numpy(), layer.noise.phases.numpy()
        for each, label in zip(z.numpy(), labels.numpy(), strict=True):
            k = layer.place_of(each[None, 0], np.int32([label]))[0].numpy()[0]
            normals = scipy.special.ndtri(each[1:].astype(np.float64))
            deviation = given["factors"][label] @ normals @ given["basis"]
            deviation = given["gains"][label, k] * deviation
            noise = np.sqrt(2) * np.cos(normals @ directions + phases)
            pixels = np.clip(given["means"][label, k] + deviation, -2, 2)
            expected.append(pixels + given["grain"] * noise)
        expected = np.clip(expected, -1, 1).reshape(-1, *SHAPE)
        # Float32, and normals within 1e-5 (coordinates of order 0.2, four radians of grain each).
        np.testing.assert_allclose(model([z, labels]), expected, atol=1e-5)

    def test_sampled_moments_are_the_given_ones(self):
        """Atom means that stay clear of the clip, so that the mixture has moments in closed form."""
        given = atoms(spread=0.02)
        given["means"] *= 0.5
        model = with_atoms(given)
        given |= kept(model)
        size = 20_000
        z, _ = inputs(size)
        rows = np.swapaxes(given["factors"], -1, -2) @ given["basis"]  # [L, p, d]
        variances = given["gains"] ** 2 * np.sum(rows**2, axis=-2)[:, None]
        for label in range(CLASSES):
            weights, means = given["weights"][label][:, None], given["means"][label]
            mean = np.sum(weights * means, axis=0)
            second = np.sum(weights * ((means - mean) ** 2 + variances[label]), axis=0)
            images = model([z, tf.fill([size], label)]).numpy().reshape(size, -1)
            np.testing.assert_array_less(
                np.abs(images.mean(0) - mean), SIGMAS * np.sqrt(second / size) + 1e-6
            )
            fourth = np.mean((images - mean) ** 4, axis=0)
            np.testing.assert_array_less(
                np.abs(np.mean((images - mean) ** 2, axis=0) - second),
                SIGMAS * np.sqrt((fourth - second**2) / size) + 1e-6,
            )

    def test_grain_is_noise_of_its_spread_independent_over_pixels_and_images(self):
        """Of a size as in use: 20 coordinates, more pixels than images can be told apart by."""
        rank, pixels, size = 20, 64, 20_000
        model = build(image_shape=(8, 8, 1), latent_dim=1 + rank)
        grain = np.linspace(0, 0.3, pixels)
        model.get_layer("images").set_atoms(
            **{
                "weights": np.array(WEIGHTS),
                "means": np.zeros((CLASSES, ATOMS, pixels)),
                "factors": np.zeros((CLASSES, rank, rank)),
                "basis": np.eye(rank, pixels),
                "gains": np.ones((CLASSES, ATOMS, pixels)),
                "grain": grain,
            }
        )
        z = np.random.default_rng(0).random((size, 1 + rank), np.float32)
        noise = model([z, np.arange(size, dtype=np.int32) % CLASSES]).numpy().reshape(size, -1)
        np.testing.assert_allclose(noise.std(axis=0), grain, atol=0.005)
        assert np.abs(noise.mean(axis=0)).max() < SIGMAS * 0.3 / np.sqrt(size) + 1e-4
        noise = noise[:, 1:] / grain[1:]
        correlations = noise.T @ noise / size - np.eye(pixels - 1)
        assert np.abs(correlations).max() < 0.15
        assert np.sqrt(np.mean(correlations**2)) < 2 / np.sqrt(size)
        normals = mixture.inverse_normal(z[:, 1:]).numpy()
        assert np.abs(noise.T @ normals / size).max() < SIGMAS / np.sqrt(size) + 0.01
        of_images = noise[1:] @ noise[0] / (pixels - 1)
        assert np.sqrt(np.mean(of_images**2)) == pytest.approx(1 / np.sqrt(pixels - 1), rel=0.3)

    def test_far_beyond_the_range_counts_as_twice_as_far_as_its_end(self):
        """So bends put no more than that between neighbours, and grain does not show on it."""
        z, labels = inputs(64)
        signs, images = np.random.default_rng(3).choice([-1, 1], (CLASSES, ATOMS, PIXELS)), []
        for far in (2, 100):
            given = atoms() | {"means": far * signs, "gains": np.zeros_like(signs)}
            model = with_atoms(given | {"grain": np.full(PIXELS, 0.3)})
            images.append(model([z, labels]).numpy())
            model.get_layer("images").deformation.set(warp=0.7, mirror=False)
            images.append(model([z, labels]).numpy())
        # Means are kept to float32 rounding.
        np.testing.assert_allclose(images[0], images[2], atol=1e-6)
        np.testing.assert_allclose(images[1], images[3], atol=1e-6)
        assert np.abs(images[0]).min() == 1
        assert np.abs(images[1]).min() < 0.5

    def test_an_image_is_the_same_in_a_batch_of_1_and_of_256(self, model):
        z, labels = inputs(256)
        together = model([z, labels]).numpy()
        np.testing.assert_array_equal(together, model([z, labels]))
        for i in (0, 1, 255):
            alone = model([z[i : i + 1], labels[i : i + 1]])
            np.testing.assert_allclose(alone[0], together[i], atol=1e-6)

    def test_gradients_reach_the_coordinates_and_are_finite(self, model):
        z, labels = inputs(32)
        z = tf.concat([tf.zeros([1, 1 + RANK]), tf.ones([1, 1 + RANK]), z[2:]], axis=0)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = tf.reduce_sum(tf.square(model([z, labels])))
        gradient = tape.gradient(loss, z).numpy()
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient[2:, 1:]).max(axis=1) > 0).all()

    def test_a_label_above_the_range_is_refused(self, model):
        """As the embeddings of the other generators refuse it."""
        z, _ = inputs(1)
        with pytest.raises(tf.errors.InvalidArgumentError):
            model([z, tf.constant([CLASSES])])

    def test_saving_and_cloning_keep_the_images(self, model, tmp_path):
        batch = list(inputs(8))
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded(batch), model(batch), atol=1e-6)
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        np.testing.assert_allclose(clone(batch), model(batch), atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("weights", lambda w: w[:2], r"weights must be \(3, 4\), received \(2, 4\)"),
            ("weights", lambda w: 2 * w, "sum 1 in each class, .* sums from 2 to 2"),
            ("weights", lambda w: w - [0.1, -0.1, 0, 0], ">= 0 .* smallest of -0.1"),
            ("weights", lambda w: np.where(w > 0.6, np.nan, w), "weights must be finite"),
            ("means", lambda m: m[..., 1:], r"means must be \(3, 4, 24\), received \(3, 4, 23\)"),
            ("factors", lambda f: f / 0.0, "factors must be finite"),
            ("basis", lambda b: 1.1 * b, r"orthonormal rows, .* differs by 0.21 .*orthonormalise"),
            ("gains", lambda g: -g, "gains must be >= 0, received -"),
            ("grain", lambda g: g - 0.1, "grain must be >= 0, received -0.1"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:divide by zero")
    def test_atoms_that_are_none_are_refused_and_nothing_is_set(self, model, name, change, message):
        before, given = model.get_weights(), atoms(seed=1)
        with pytest.raises(UsageError, match=message):
            model.get_layer("images").set_atoms(**given | {name: change(given[name])})
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"latent_dim": 1}, r"latent_dim = 1 \+ p .*received latent_dim=1"),
            ({"latent_dim": 26}, "p from 1 to the 24 pixels; received latent_dim=26"),
            ({"num_atoms": 0}, "num_atoms must be >= 1, received 0"),
        ],
    )
    def test_an_impossible_mixture_is_refused(self, change, message):
        with pytest.raises(UsageError, match=message):
            build(**change)


@dataclasses.dataclass
class Spec:
    """Stands in for data.DatasetSpec."""

    name = "noise"
    image_shape: tuple
    class_names: tuple

    @property
    def num_classes(self):
        return len(self.class_names)


def exported(model, path, image_shape, num_classes):
    """Exports `model`, checks that ONNX makes its images too, and returns the measured parity."""
    card = export.write_export(
        path,
        generator=model,
        generator_name="mixture",
        spec=Spec(image_shape, tuple("abcdefghij"[:num_classes])),
        privacy={"epsilon": 1.0},
        training={},
    )
    z = np.random.default_rng(5).random((40, model.inputs[0].shape[-1]), np.float32)
    z[:3] = [[0], [1], [LARGEST_Z]]
    labels = np.arange(40, dtype=np.int32) % num_classes
    session = onnxruntime.InferenceSession(str(path / "generator.onnx"))
    (images,) = session.run(["images"], {"z": z, "labels": labels})
    np.testing.assert_allclose(images, model([z, labels]), atol=export.PARITY_TOLERANCE)
    return card.content["parity"]["onnx_max_abs_error"]


@pytest.mark.slow
def test_the_saved_model_and_onnx_make_the_same_images(tmp_path):
    model = with_atoms(atoms() | {"grain": np.full(PIXELS, 0.2)})
    model.get_layer("images").deformation.set(warp=0.5, mirror=True)
    # Float32 rounding of 5 coordinates and of values of order 1.
    assert exported(model, tmp_path / "export", SHAPE, CLASSES) < 5e-6


@pytest.mark.slow
def test_the_onnx_file_keeps_a_table_that_is_used_whole_as_bytes(tmp_path):
    random, pixels = np.random.default_rng(0), 256
    model = networks.build(
        "mixture", image_shape=(16, 16, 1), num_classes=2, latent_dim=65, num_atoms=4
    )
    basis = np.linalg.qr(random.normal(size=(pixels, 64)))[0].T
    model.get_layer("images").set_atoms(
        weights=np.full((2, 4), 0.25),
        means=random.uniform(-1, 1, (2, 4, pixels)),
        factors=0.2 * random.normal(size=(2, 64, 64)),
        basis=basis,
        gains=random.uniform(0, 2, (2, 4, pixels)),
        grain=np.full(pixels, 0.1),
    )
    exported(model, tmp_path / "export", (16, 16, 1), 2)
    constants = onnx.load(tmp_path / "export" / "generator.onnx").graph.initializer
    large = {(tuple(each.dims), each.data_type) for each in constants if np.prod(each.dims) >= 4096}
    byte = onnx.TensorProto.UINT8
    # Factors; basis and the directions of the grain; the bends' bumps.
    assert large == {((2, 64, 64), byte), ((64, pixels), byte), ((25, pixels), byte)}


@pytest.mark.slow
def test_a_large_mixture_with_the_widest_pixels_is_exported(tmp_path):
    """MNIST's size, every pixel at the end of what rectified.match widens: the parity's worst."""
    random, rank, pixels = np.random.default_rng(0), 100, 784
    model = networks.build(
        "mixture", image_shape=(28, 28, 1), num_classes=10, latent_dim=1 + rank, num_atoms=8
    )
    basis = np.linalg.qr(random.normal(size=(pixels, rank)))[0].T
    factors = random.normal(size=(10, rank, rank)) * np.logspace(0, -2, rank)[:, None] * 0.3
    gaussian = np.sqrt(np.sum((np.swapaxes(factors, -1, -2) @ basis) ** 2, axis=-2))
    gaussian = np.repeat(gaussian[:, None], 8, axis=1)
    wanted = np.tanh(random.uniform(-4, 4, gaussian.shape))
    means, gains = rectified.match(wanted, 0.97 * np.sqrt(1 - wanted**2), gaussian)
    assert gains.max() == pytest.approx(rectified.LARGEST_GAIN)
    weights = np.full((10, 8), 1 / 8)
    model.get_layer("images").set_atoms(
        weights=weights,
        means=means,
        factors=factors,
        basis=basis,
        gains=gains,
        grain=np.full(pixels, 0.3),
    )
    model.get_layer("images").deformation.set(warp=1.0, mirror=False)
    # 1e-5 on a CPU: a gate of 5e-5 with room for another machine's rounding.
    assert exported(model, tmp_path / "export", (28, 28, 1), 10) < 2.5e-5


def wanted_moments(size, seed=0):
    """Means and standard deviations over all that can be reached, dense towards its borders."""
    random = np.random.default_rng(seed)
    mean = np.tanh(random.uniform(-1, 1, size) * np.arctanh(rectified.LARGEST_MEAN))
    fraction = random.random(size) ** random.choice([0.2, 1, 4], size)
    return mean, rectified.LARGEST_FRACTION * fraction * np.sqrt(1 - mean**2)


class TestClippedMoments:
    @pytest.mark.parametrize(
        ("mean", "stddev"), [(0, 0.1), (0.3, 1), (-0.97, 0.2), (1.5, 1), (9, 4)]
    )
    def test_are_the_integrals(self, mean, stddev):
        def moment(power):
            return scipy.integrate.quad(
                lambda g: np.clip(mean + stddev * g, -1, 1) ** power * np.exp(-g * g / 2),
                -9,
                9,
                points=np.clip([(-1 - mean) / stddev, (1 - mean) / stddev], -8.9, 8.9),
                epsabs=1e-11,
            )[0] / np.sqrt(2 * np.pi)

        received = rectified.clipped_moments(mean, stddev)
        expected = moment(1), np.sqrt(moment(2) - moment(1) ** 2)
        np.testing.assert_allclose(received, expected, atol=1e-7)  # a root of a difference

    def test_of_a_constant_are_its_clip_and_0(self):
        mean, stddev = rectified.clipped_moments([-3, -0.5, 0, 0.2, 1, 7], 0.0)
        np.testing.assert_allclose(mean, [-1, -0.5, 0, 0.2, 1, 1], atol=1e-9)
        np.testing.assert_allclose(stddev, 0, atol=1e-7)


class TestLatentMoments:
    def test_give_the_wanted_moments_everywhere(self):
        mean, stddev = wanted_moments(100_000)
        received = rectified.clipped_moments(*rectified.latent_moments(mean, stddev))
        # Two Newton steps from the table leave 1e-8; the closed form's own rounding is below that.
        np.testing.assert_allclose(received, (mean, stddev), atol=1e-6)

    def test_give_the_wanted_moments_of_samples(self):
        mean, stddev = wanted_moments(100, seed=1)
        latent_mean, latent_stddev = rectified.latent_moments(mean, stddev)
        normals = np.random.default_rng(2).normal(size=(20_000, 1))
        pixels = np.clip(latent_mean + latent_stddev * normals, -1, 1)
        error = np.abs(pixels.mean(axis=0) - mean)
        # The second term: a pixel that is white once in 2000 draws has a skewed mean.
        assert (error < SIGMAS * stddev / np.sqrt(len(normals)) + 1e-4).all()
        fourth = np.mean((pixels - mean) ** 4, axis=0)
        error = np.abs(np.mean((pixels - mean) ** 2, axis=0) - stddev**2)
        assert (error < SIGMAS * np.sqrt(fourth / len(normals)) + 1e-4).all()

    def test_agree_with_a_damped_fixed_point(self):
        """A second algorithm: move towards what is missing, a few hundred times."""
        random = np.random.default_rng(3)
        mean = random.uniform(-0.9, 0.9, 200)
        stddev = random.uniform(0.05, 0.7, 200) * np.sqrt(1 - mean**2)
        location, scale = mean.copy(), stddev.copy()
        for _ in range(1000):
            first, spread = rectified.clipped_moments(location, scale)
            location += 0.7 * (mean - first) * scale / spread
            scale *= np.sqrt(stddev / spread)
        received = rectified.latent_moments(mean, stddev)
        np.testing.assert_allclose(received, (location, scale), atol=1e-5)

    def test_of_a_spread_that_never_meets_the_clip_are_the_moments_themselves(self):
        mean = np.array([-0.999, -0.5, 0.0, 0.9, 0.99])
        stddev = np.array([0.0, 0.05, 0.1, 0.01, 1e-5])
        received = rectified.latent_moments(mean, stddev)
        np.testing.assert_allclose(received, (mean, stddev), atol=1e-6)

    def test_out_of_reach_are_those_at_the_border(self):
        mean, stddev = np.array([-1, 1, 0, 0.6]), np.array([0, 0, 5.0, 0.8])
        received = rectified.clipped_moments(*rectified.latent_moments(mean, stddev))
        np.testing.assert_allclose(received[0], [-0.999, 0.999, 0, 0.6], atol=1e-6)
        np.testing.assert_allclose(received[1], [0, 0, 0.97, 0.97 * 0.8], atol=1e-6)

    def test_mirror_with_the_mean(self):
        mean, stddev = wanted_moments(1000)
        (one, one_stddev), (other, other_stddev) = (
            rectified.latent_moments(sign * mean, stddev) for sign in (1, -1)
        )
        np.testing.assert_array_equal(one, -other)
        np.testing.assert_array_equal(one_stddev, other_stddev)

    @pytest.mark.parametrize("shape", [(0,), (3,), (2, 3, 4)])
    def test_have_the_shape_of_their_arguments(self, shape):
        for result in (
            *rectified.latent_moments(np.full(shape, 0.9), np.full(shape, 0.3)),
            *rectified.match(np.full(shape, 0.9), np.full(shape, 0.3), np.full(shape, 1e-3)),
        ):
            assert result.shape == shape
            assert np.isfinite(result).all()

    @pytest.mark.slow
    def test_take_less_than_two_seconds_for_a_million_pixels(self):
        mean, stddev = wanted_moments(1_000_000)
        start = time.process_time()
        rectified.latent_moments(mean, stddev)
        assert time.process_time() - start < 2


class TestMatch:
    def test_gives_the_wanted_moments_where_the_gain_allows(self):
        mean, stddev = wanted_moments(10_000)
        gaussian = np.exp(np.random.default_rng(4).uniform(0, 1, 10_000))  # 20 is the widest
        layer_mean, gain = rectified.match(mean, stddev, gaussian)
        assert gain.max() < rectified.LARGEST_GAIN
        received = rectified.clipped_moments(layer_mean, gain * gaussian)
        np.testing.assert_allclose(received, (mean, stddev), atol=1e-6)

    def test_keeps_the_mean_where_the_gain_is_at_its_end(self):
        mean, stddev = wanted_moments(10_000)
        gaussian = np.exp(np.random.default_rng(4).uniform(-16, -1, 10_000))
        layer_mean, gain = rectified.match(mean, stddev, gaussian)
        assert np.mean(gain == rectified.LARGEST_GAIN) > 0.3
        received, spread = rectified.clipped_moments(layer_mean, gain * gaussian)
        np.testing.assert_allclose(received, mean, atol=1e-6)
        assert (spread < stddev + 1e-6).all()

    def test_a_constant_pixel_has_gain_0_and_its_mean(self):
        layer_mean, gain = rectified.match([-1.0, 0.3], [0.2, 0.2], [0.0, 1e-9])
        np.testing.assert_array_equal(gain, 0)
        np.testing.assert_allclose(layer_mean, [-0.999, 0.3])

    def test_pixels_of_the_generator_have_the_wanted_moments(self):
        """The two modules together: clipped for a good part of its draws, every pixel."""
        given, size = atoms(spread=0.3), 20_000
        rows = np.swapaxes(given["factors"], -1, -2) @ given["basis"]
        gaussian = np.repeat(np.sqrt(np.sum(rows**2, axis=-2))[:, None], ATOMS, axis=1)
        mean = np.random.default_rng(6).uniform(-0.95, 0.95, gaussian.shape)
        stddev = 0.8 * np.sqrt(1 - mean**2)
        given["means"], given["gains"] = rectified.match(mean, stddev, gaussian)
        z, _ = inputs(size)
        images = with_atoms(given)([z, tf.fill([size], 2)]).numpy().reshape(size, -1)
        mean, stddev = mean[2, 2], stddev[2, 2]  # the class of one atom
        assert np.mean(np.abs(images) == 1) > 0.3
        assert (np.abs(images.mean(0) - mean) < SIGMAS * stddev / np.sqrt(size)).all()
        fourth = np.mean((images - mean) ** 4, axis=0)
        error = np.abs(np.mean((images - mean) ** 2, axis=0) - stddev**2)
        assert (error < SIGMAS * np.sqrt(fourth / size)).all()
