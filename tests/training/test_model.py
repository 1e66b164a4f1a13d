"""The step: what enters, what leaves, what it refuses; on real digits through the real mechanism."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from tfdps import checks
from tfdps.accounting.plan import make_plan
from tfdps.data import loading
from tfdps.mechanisms import batches, dp_adam
from tfdps.mechanisms.poisson import PoissonSampler
from tfdps.sinkhorn import divergence
from tfdps.training import builders

BATCH = 10


@pytest.fixture(scope="module")
def digits():
    return loading.load("digits")


def model_of(digits, **changes):
    config = small_config("unused", batch_size=BATCH, **changes)
    model = builders.build_model(config, digits.spec, make_plan(config, len(digits)))
    if model.mechanism.private:
        model.authorize(10**6)
    return model


@pytest.fixture(scope="module")
def model(digits):
    return model_of(digits)


def batch_of(digits, records):
    """A padded batch of the given records, as the sampler would make it."""
    size = PoissonSampler(len(digits), BATCH / len(digits)).padded_size
    indices, weights = np.zeros(size, np.int32), np.zeros(size, np.float32)
    indices[: len(records)], weights[: len(records)] = records, 1
    return digits.images[indices], digits.labels[indices], weights


def noisy_batch_of(digits, records, model):
    """A batch with the noise of a step, as `fit` has it."""
    return *batch_of(digits, records), model.learner.noise.draw()


def bare_release(model, batch, z_seed=0):
    """The real step's release of the image gradient with the noise, and nothing else, taken out."""
    tf.random.set_seed(z_seed)
    z, labels = model.learner.latents()
    tf.random.set_seed(None)
    images = model.generator([z, labels], training=True)
    _, gradient = model.learner.image_gradients(images, labels, *batch)
    return model.mechanism.release(gradient, tf.zeros(gradient.shape, tf.int64)).numpy()


def weights_of(model):
    return np.concatenate([w.numpy().ravel() for w in model.generator.trainable_variables])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"loss": "plain"}, marks=pytest.mark.slow),
        pytest.param({"cost": "l1+l2", "regularization": 1}, marks=pytest.mark.slow),
    ],
)
def test_neighbouring_batches_move_the_bare_release_by_at_most_the_sensitivity(digits, settings):
    model = model_of(digits, **settings)
    random = np.random.default_rng(0)
    base = list(random.choice(len(digits), 9, replace=False))
    changed = [base[:-1], [*base, 17], base[:1], [], list(range(12))]
    release = bare_release(model, batch_of(digits, base))
    for records in changed:
        other = bare_release(model, batch_of(digits, records))
        moved = np.linalg.norm(release.astype(np.float64) - other)
        assert moved <= model.mechanism.sensitivity
        assert moved > 0


@pytest.mark.slow
def test_the_release_does_not_depend_on_what_lies_in_the_padding(digits, model):
    images, labels, weights = batch_of(digits, [1, 2, 3])
    other_images, other_labels = images.copy(), labels.copy()
    other_images[3:], other_labels[3:] = 255 - images[3:], 9
    one = bare_release(model, (images, labels, weights))
    other = bare_release(model, (other_images, other_labels, weights))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_an_empty_draw_is_a_step_of_noise_alone(digits, model):
    assert not bare_release(model, batch_of(digits, [])).any()
    taken, before = int(model.noisy_steps), weights_of(model)
    model.train_step([noisy_batch_of(digits, [], model)])
    assert int(model.noisy_steps) == taken + 1
    assert np.abs(weights_of(model) - before).max() > 0


def test_a_private_step_returns_its_number_and_nothing_else(digits, model):
    assert set(model.train_step([noisy_batch_of(digits, [1, 2], model)])) == {"noisy_steps"}


def test_a_step_without_authorisation_is_refused_and_changes_nothing(digits):
    model = model_of(digits)
    model.authorize(1)
    batch = noisy_batch_of(digits, [1, 2], model)
    step = tf.function(model.train_step)
    step([batch])
    before, taken = weights_of(model), int(model.noisy_steps)
    with pytest.raises(tf.errors.InvalidArgumentError, match="in no ledger"):
        step([batch])
    assert int(model.noisy_steps) == taken == 1
    np.testing.assert_array_equal(weights_of(model), before)


def test_a_compiled_step_is_refused_because_xla_drops_the_ledgers_check(digits):
    model = model_of(digits)
    model.compile(jit_compile=True)
    with pytest.raises(checks.UsageError, match="jit_compile must be off"):
        model.train_step([noisy_batch_of(digits, [1, 2], model)])


def test_fit_without_a_ledger_is_refused(digits):
    config = small_config("unused", batch_size=BATCH)
    model = builders.build_model(config, digits.spec, make_plan(config, len(digits)))
    draws = batches.PoissonBatches(digits, BATCH / len(digits), noise=model.learner.noise).dataset(
        5
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="in no ledger"):
        model.fit(draws, steps_per_epoch=5, verbose=0, shuffle=False)


@pytest.mark.slow
def test_the_update_is_adam_on_the_release_pulled_back_through_the_generator(digits, monkeypatch):
    """An oracle of the step: the same latents, the same release, plain TensorFlow."""
    model = model_of(digits, weight_decay=0.01, learning_rate=0.1)
    z, labels = model.learner.latents()
    release = tf.random.normal([BATCH, 8, 8, 1])
    monkeypatch.setattr(model.learner, "latents", lambda: (z, labels))
    monkeypatch.setattr(model.mechanism, "release", lambda gradient, noise: release)
    monkeypatch.setattr(model.mechanism, "limit_public", lambda gradient: tf.zeros_like(gradient))
    # The optimizer insists on having been asked.
    dp_adam.clip_and_noise(model.learner.optimizer, tf.zeros([1]), tf.zeros([1], tf.int64))
    variables = model.generator.trainable_variables
    with tf.GradientTape() as tape:
        images = model.generator([z, labels], training=True)
        target = tf.reduce_sum(images[:BATCH] * release) + 0.005 * sum(
            tf.reduce_sum(v.value**2) for v in variables
        )
    gradients = tape.gradient(target, [v.value for v in variables])
    expected = [tf.Variable(v.value) for v in variables]
    adam = keras.optimizers.Adam(0.1)
    adam.apply_gradients(zip(gradients, expected, strict=True))
    model.train_step([noisy_batch_of(digits, [1, 2], model)])
    for ours, theirs in zip(variables, expected, strict=True):
        # Adam's first step is the gradient's sign, so rounding shows where it is nearly zero.
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-3)


@pytest.mark.slow
def test_the_learning_rate_falls_by_half_a_cosine(digits):
    model = model_of(digits, learning_rate=0.1, learning_rate_schedule="cosine", num_steps=4)
    rates = []
    for _ in range(4):
        rates.append(float(model.learner.optimizer.learning_rate))
        model.train_step([noisy_batch_of(digits, [1, 2], model)])
    expected = [0.05 * (1 + np.cos(np.pi * step / 4)) for step in range(4)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert float(model.learner.optimizer.learning_rate) == pytest.approx(0, abs=1e-7)


@pytest.mark.slow
def test_the_loss_sees_pixels_from_minus_one_to_one_and_scaled_labels(digits, model):
    images, labels, weights = batch_of(digits, [4, 7, 11])
    z, own = model.learner.latents()
    generated = model.generator([z, own], training=True)
    loss, gradient = model.learner.image_gradients(generated, own, images, labels, weights)
    eye = 15.0 * np.eye(10, dtype=np.float32)

    def features(pixels, classes):
        flat = np.asarray(pixels, np.float32).reshape(len(classes), -1)
        return tf.constant(np.concatenate([flat, eye[np.asarray(classes)]], axis=1))

    points = [
        features(generated[:BATCH], own[:BATCH]),
        features(generated[BATCH:], own[BATCH:]),
    ]
    with tf.GradientTape() as tape:
        tape.watch(points)
        expected = divergence.semi_debiased_loss(
            *points, features(images[:3] / 127.5 - 1, labels[:3]), regularization=10.0
        )
    of_images, of_fresh = (g[:, :64] for g in tape.gradient(expected, points))
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    # The largest is 0.8. The two solves may stop an iteration apart: in one draw of 80 an element was
    # off by more than 1e-5, and in 1,300 draws one by 1e-3 at most, all of them by 4e-4 of their norm.
    gradient = np.reshape(gradient, [BATCH, 64])
    np.testing.assert_allclose(gradient, of_images, rtol=1e-3, atol=5e-3)
    assert np.linalg.norm(gradient - of_images) < 2e-3 * np.linalg.norm(of_images)
    fresh_gradient = model.learner.fresh_gradient(generated, own)
    np.testing.assert_allclose(np.reshape(fresh_gradient, [2, 64]), of_fresh, rtol=1e-3, atol=1e-5)
    assert np.abs(of_images).max() > 0.1
    assert np.abs(of_fresh).max() > 1e-3
    assert list(own[BATCH:]) == list(own[:2])


def test_latents_are_uniform_and_fresh(model):
    draws = np.stack([model.learner.latents()[0].numpy() for _ in range(200)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 5 * np.sqrt(1 / 12 / draws.size)
    assert len(np.unique(draws[:, 0, 0])) > 190


@pytest.mark.slow
def test_the_average_forgets_the_first_weights_and_follows(digits):
    model = model_of(digits, mechanism="none", ema_decay=0.5)
    step = tf.function(model.train_step)
    average = [w.numpy() for w in model.averaged_generator.weights]
    for number in range(1, 12):
        step([batch_of(digits, [1, 2, 3])])
        memory = min(0.5, (1 + number) / (10 + number))
        average = [
            memory * a + (1 - memory) * w.numpy()
            for a, w in zip(average, model.generator.weights, strict=True)
        ]
    for ours, expected in zip(model.averaged_generator.weights, average, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)


@pytest.mark.slow
def test_training_without_noise_brings_the_samples_to_the_data(digits):
    model = model_of(digits, mechanism="none")
    labels = tf.range(200) % 10
    z = tf.random.uniform([200, model.learner.config.latent_dim])
    real = tf.constant(digits.images[:200].reshape(200, -1) / 127.5 - 1, tf.float32)

    def distance():
        images = tf.reshape(model([z, labels]), [200, -1])
        return float(divergence.sinkhorn_divergence(images, real, regularization=5.0).value)

    before, step = distance(), tf.function(model.train_step)
    for batch in batches.PoissonBatches(digits, BATCH / len(digits)).dataset(150):
        step([batch])
    assert distance() < 0.5 * before


def test_batches_are_the_sampled_records_with_their_labels(digits):
    by_image = {
        image.tobytes(): label for image, label in zip(digits.images, digits.labels, strict=True)
    }
    shapes = set()
    for images, labels, weights in batches.PoissonBatches(digits, 0.02).dataset(20):
        shapes.add(images.shape)
        for image, label, weight in zip(
            images.numpy(), labels.numpy(), weights.numpy(), strict=True
        ):
            assert weight in (0, 1)
            if weight:
                assert by_image[image.tobytes()] == label
            else:  # no record, not the first one either, may stand in for the missing
                assert not image.any()
                assert label == 0
    assert len(shapes) == 1
