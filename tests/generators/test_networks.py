import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdps.checks import UsageError
from tfdps.generators import layers, networks

CASES = [
    ("mlp", (8, 8, 1), 10, 4),
    ("mlp", (5, 7, 3), 3, 6),
    ("dcgan", (8, 8, 1), 10, 4),
    ("dcgan", (12, 20, 3), 3, 6),
    ("biggan", (8, 8, 3), 2, 4),
]
IDS = [f"{name}-{'x'.join(map(str, shape))}" for name, shape, _, _ in CASES]


def inputs(num_classes, latent_dim, size, seed=0):
    random = np.random.default_rng(seed)
    z = random.random((size, latent_dim), np.float32)
    return tf.constant(z), tf.range(size, dtype=tf.int32) % num_classes


def trainable_parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def train_a_little(model, num_classes, latent_dim, steps=3):
    """A few steps towards darker images: the weights and the moving statistics leave their start."""
    optimizer = keras.optimizers.Adam(1e-3)
    for step in range(steps):
        with tf.GradientTape() as tape:
            images = model(inputs(num_classes, latent_dim, 16, seed=step), training=True)
            loss = tf.reduce_mean(tf.square(images + 0.5))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


@pytest.mark.parametrize(("name", "image_shape", "num_classes", "latent_dim"), CASES, ids=IDS)
class TestEveryGenerator:
    @pytest.fixture
    def model(self, name, image_shape, num_classes, latent_dim):
        keras.utils.set_random_seed(0)
        return networks.build(
            name, image_shape=image_shape, num_classes=num_classes, latent_dim=latent_dim
        )

    @pytest.fixture
    def batch(self, num_classes, latent_dim):
        return inputs(num_classes, latent_dim, 6)

    def test_is_built_on_return(self, model, name):
        assert model.built
        assert model.name == name
        assert trainable_parameters(model) > 0

    def test_images_have_the_shape_and_lie_in_the_range(self, model, batch, image_shape):
        for training in (False, True):
            images = model(list(batch), training=training)
            assert images.dtype == tf.float32
            assert images.shape == (6, *image_shape)
            assert np.all(np.abs(images) <= 1)

    def test_a_tuple_and_a_list_of_inputs_give_the_same(self, model, batch):
        z, labels = batch
        np.testing.assert_array_equal(model((z, labels)), model([z, labels]))

    def test_the_gradient_reaches_every_trainable_weight(self, model, batch, num_classes):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(list(batch), training=True) - 0.3))
        for weight, gradient in zip(
            model.trainable_weights, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            assert gradient is not None, weight.path
            gradient = tf.convert_to_tensor(gradient)
            assert np.all(np.isfinite(gradient)), weight.path
            assert np.max(np.abs(gradient)) > 0, weight.path

    def test_the_label_changes_the_image(self, model, batch, num_classes):
        z, labels = batch
        other = (labels + 1) % num_classes
        difference = np.abs(model([z, labels]) - model([z, other]))
        assert np.all(difference.max(axis=(1, 2, 3)) > 1e-3)

    def test_z_changes_the_image(self, model, batch):
        z, labels = batch
        difference = np.abs(model([z, labels]) - model([1 - z, labels]))
        assert np.all(difference.max(axis=(1, 2, 3)) > 1e-3)

    def test_an_image_does_not_depend_on_its_batch_in_inference_mode(
        self, model, num_classes, latent_dim
    ):
        train_a_little(model, num_classes, latent_dim)
        z, labels = inputs(num_classes, latent_dim, 256)
        together = model([z, labels], training=False)
        for index in (0, 1, 255):
            alone = model([z[index : index + 1], labels[index : index + 1]], training=False)
            # Not bit for bit: matrix products sum in another order in another batch size. Images
            # that did depend on the batch would differ by about their spread, 0.1 and more.
            np.testing.assert_allclose(alone[0], together[index], atol=2e-5)

    def test_inference_changes_no_weight(self, model, batch):
        before = model.get_weights()
        model(list(batch), training=False)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_training_mode_leaves_trainable_weights_to_the_optimizer(self, model, batch):
        before = [weight.numpy() for weight in model.trainable_weights]
        model(list(batch), training=True)
        for old, new in zip(before, model.trainable_weights, strict=True):
            np.testing.assert_array_equal(old, new)

    def test_a_clone_with_the_same_weights_makes_the_same_images(self, model, batch):
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        np.testing.assert_allclose(clone(list(batch)), model(list(batch)), atol=1e-6)


def test_dcgan_has_the_published_number_of_trainable_parameters():
    model = networks.build("dcgan", image_shape=(28, 28, 1), num_classes=10, latent_dim=16)
    assert trainable_parameters(model) == 957_969
    assert model.count_params() == 957_969 + 2 * (256 + 128 + 64)  # the moving statistics


def test_biggan_has_the_published_number_of_trainable_parameters():
    model = networks.build("biggan", image_shape=(32, 32, 3), num_classes=2, latent_dim=32)
    assert trainable_parameters(model) == 3_886_595


def test_mlp_has_about_a_million_weights_at_28x28():
    model = networks.build("mlp", image_shape=(28, 28, 1), num_classes=10, latent_dim=16)
    assert 0.9e6 < trainable_parameters(model) < 1.1e6
    assert not model.non_trainable_weights


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        # z and an embedding of 8 labels; three convolutions; their scales and shifts; the last one.
        ("dcgan", 80 + 7 * 7 * 64 * 24 + 16 * (64 * 32 + 32 * 16) + 2 * 112 + 9 * 16 + 1),
        ("mlp", (26 + 1) * 64 + 2 * 65 * 64 + 65 * 784),
    ],
)
def test_a_narrow_generator_has_so_many_weights(name, weights):
    shape = {"image_shape": (28, 28, 1), "num_classes": 10, "latent_dim": 16}
    model = networks.build(name, width=64, **shape)
    assert trainable_parameters(model) == weights
    images = model([np.zeros([3, 16], np.float32), np.array([0, 1, 2])])
    assert images.shape == (3, 28, 28, 1)


def test_a_narrow_biggan_keeps_its_blocks():
    shape = {"image_shape": (16, 16, 3), "num_classes": 2, "latent_dim": 4}
    narrow, wide = networks.build("biggan", width=32, **shape), networks.build("biggan", **shape)
    assert len(narrow.layers) == len(wide.layers)
    assert trainable_parameters(narrow) < trainable_parameters(wide) / 30


@pytest.mark.parametrize("side", [8, 16, 64])
def test_biggan_adds_an_up_block_for_every_doubling(side):
    model = networks.build("biggan", image_shape=(side, side, 3), num_classes=2, latent_dim=4)
    assert model.output_shape == (None, side, side, 3)


@pytest.mark.slow
class TestSpectralConv2D:
    def layer(self):
        keras.utils.set_random_seed(0)
        layer = layers.SpectralConv2D(5, 3, padding="same")
        x = tf.random.normal([2, 4, 4, 3])
        for _ in range(200):  # the power iteration converges
            layer(x, training=True)
        return layer, x

    def effective_kernel(self, layer):
        """What the layer convolves with: its response to one-hot patches."""
        patches = tf.reshape(tf.eye(27), [27, 3, 3, 3])
        return (layer(patches, training=False)[:, 1, 1, :] - layer.bias).numpy()

    def test_the_largest_singular_value_of_what_it_applies_is_one(self):
        layer, _ = self.layer()
        layer.kernel.assign(3 * layer.kernel)
        singular_values = np.linalg.svd(self.effective_kernel(layer), compute_uv=False)
        assert singular_values[0] == pytest.approx(1, abs=1e-4)

    def test_the_length_of_u_does_not_matter(self):
        layer, x = self.layer()
        expected = layer(x, training=False)
        layer.u.assign(0.3 * layer.u)  # as averaging over steps shortens it
        np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)

    def test_the_gradient_is_that_of_the_normalised_kernel(self):
        layer, x = self.layer()
        weights = tf.random.normal([2, 4, 4, 5])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(weights * layer(x, training=False))
        gradient = tape.gradient(loss, layer.kernel.value)
        # Oracle: sigma by a differentiated singular value decomposition.
        kernel = tf.Variable(layer.kernel)
        with tf.GradientTape() as tape:
            sigma = tf.linalg.svd(tf.reshape(kernel, [27, 5]), compute_uv=False)[0]
            outputs = tf.nn.conv2d(x, kernel / sigma, 1, "SAME")
            loss = tf.reduce_sum(weights * outputs)
        expected = tape.gradient(loss, kernel)
        np.testing.assert_allclose(gradient, expected, atol=1e-3 * np.max(np.abs(expected)))
        # A normalised kernel does not change with the kernel's length.
        assert abs(np.sum(gradient * kernel)) < 1e-3 * np.linalg.norm(gradient)

    def test_the_optimizer_keeps_the_effective_norm_at_one_inside_a_tf_function(self):
        layer, x = self.layer()
        optimizer = keras.optimizers.Adam(1e-2)
        optimizer.build(layer.trainable_variables)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(layer(x, training=True) - 1))
            gradients = tape.gradient(loss, layer.trainable_variables)
            optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
            return loss

        losses = [float(step()) for _ in range(100)]
        assert losses[-1] < losses[0]
        singular_values = np.linalg.svd(self.effective_kernel(layer), compute_uv=False)
        # One power iteration a step follows a moving kernel closely, not exactly.
        assert singular_values[0] == pytest.approx(1, abs=0.05)


def test_conditional_batch_normalization_is_gain_one_plus_embedding():
    layer = layers.ConditionalBatchNormalization(2)
    x = tf.random.normal([64, 3, 3, 4], seed=0)
    labels = tf.range(64) % 2
    layer([x, labels])
    layer.gain.assign(tf.repeat([[1.0], [0.0]], 4, axis=1))
    layer.bias.assign(tf.repeat([[0.0], [5.0]], 4, axis=1))
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    expected = (x - mean) / tf.sqrt(variance + 1e-5)
    expected = tf.where(labels[:, None, None, None] == 0, 2 * expected, expected + 5)
    np.testing.assert_allclose(layer([x, labels], training=True), expected, atol=1e-4)


@pytest.mark.slow
class TestRecalibrate:
    def shifted(self, name="dcgan"):
        """A trained model whose weights have been replaced: its statistics belong to others."""
        keras.utils.set_random_seed(0)
        shape, classes, latent = (8, 8, 1), 3, 4
        model = networks.build(name, image_shape=shape, num_classes=classes, latent_dim=latent)
        train_a_little(model, classes, latent)
        for weight in model.trainable_weights:
            weight.assign(weight * 1.5 + 0.01)
        return model

    def distance_of_the_modes(self, model, size=300):
        batch = inputs(3, 4, size)
        inference = model(list(batch), training=False).numpy()
        weights = model.get_weights()
        training = model(list(batch), training=True).numpy()
        model.set_weights(weights)
        return np.sqrt(np.mean((inference - training) ** 2))

    def test_inference_mode_meets_training_mode(self):
        model = self.shifted()
        before = self.distance_of_the_modes(model)
        networks.recalibrate(model, num_classes=3)
        # Either side's statistics carry a sampling error of a few percent.
        assert self.distance_of_the_modes(model) < min(0.05, before / 4)

    def test_trainable_weights_and_momenta_stay(self):
        model = self.shifted()
        before = [weight.numpy() for weight in model.trainable_weights]
        networks.recalibrate(model, num_classes=3, batches=2)
        for old, new in zip(before, model.trainable_weights, strict=True):
            np.testing.assert_array_equal(old, new)
        momenta = [x.momentum for x in model.layers if hasattr(x, "momentum")]
        assert momenta == [0.9] * 3

    def test_a_frozen_model_is_recalibrated_and_stays_frozen(self):
        model = self.shifted()
        frozen = keras.models.clone_model(model)
        frozen.set_weights(model.get_weights())
        frozen.trainable = False
        for each in (model, frozen):
            networks.recalibrate(each, num_classes=3, batches=2)
        assert not frozen.trainable_weights
        for one, other in zip(model.weights, frozen.weights, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    @pytest.mark.slow
    def test_reaches_the_statistics_inside_conditional_layers(self):
        model = self.shifted("biggan")
        before = self.distance_of_the_modes(model, size=100)
        networks.recalibrate(model, num_classes=3, batches=5)
        assert self.distance_of_the_modes(model, size=100) < before / 2

    def test_is_the_same_for_the_same_seed(self):
        model = self.shifted()
        networks.recalibrate(model, num_classes=3, batches=2, seed=1)
        first = model.get_weights()
        networks.recalibrate(model, num_classes=3, batches=2, seed=1)
        for old, new in zip(first, model.get_weights(), strict=True):
            np.testing.assert_allclose(old, new, rtol=1e-5, atol=1e-6)

    def test_leaves_a_model_without_batch_normalisation_as_it_is(self):
        model = networks.build("mlp", image_shape=(4, 4, 1), num_classes=3, latent_dim=4)
        before = model.get_weights()
        networks.recalibrate(model, num_classes=3)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "gan"}, "generator must be one of mlp, dcgan, biggan, mixture; received 'gan'"),
        ({"image_shape": (30, 28, 1)}, "multiples of 4.*(30, 28, 1)"),
        ({"name": "biggan", "image_shape": (28, 28, 1)}, "8, 16, 32, 64.*(28, 28, 1)"),
        ({"name": "biggan", "image_shape": (4, 4, 1)}, "8, 16, 32, 64.*(4, 4, 1)"),
        ({"name": "biggan", "image_shape": (16, 32, 1)}, "square.*(16, 32, 1)"),
        ({"image_shape": (28, 28)}, "image_shape must be .height, width, channels., received"),
        ({"image_shape": (28, 0, 1)}, "image_shape must be >= 1, received 0"),
        ({"num_classes": 0}, "num_classes must be >= 1, received 0"),
        ({"latent_dim": 0}, "latent_dim must be >= 1, received 0"),
    ],
)
def test_an_impossible_generator_is_refused_with_a_reason(change, message):
    arguments = {"name": "dcgan", "image_shape": (8, 8, 1), "num_classes": 2, "latent_dim": 2}
    with pytest.raises(UsageError, match=message.replace("(", r"\(").replace(")", r"\)")):
        networks.build(**(arguments | change))
