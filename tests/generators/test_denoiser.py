"""The denoiser: an image's output and gradient are its own, bit for bit, and the shapes it takes."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdps.generators import denoiser as denoisers
from tfdps.generators import noted_layers
from tfdps.generators.denoiser import Denoiser, Patches, Unpatched

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (9, 20, 1)]
CLASSES, ROWS = 3, 4


def new(image_shape=(8, 8, 1), width=8):
    return Denoiser(image_shape, num_classes=CLASSES, width=width)


def busy(image_shape=(8, 8, 1), *, count=ROWS, width=8):
    """(a denoiser none of whose layers does nothing, `loss` arguments for `count` images)."""
    random = np.random.default_rng(0)
    made = new(image_shape, width)
    for weight in made.weights:  # a new one's modulation is zero, and its last layer next to it
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    return made, (
        random.uniform(-1, 1, (count, *image_shape)).astype(np.float32),
        random.normal(size=(count, *image_shape)).astype(np.float32),
        denoisers.levels_of(random.random(count, np.float32)),
        (np.arange(count) % (CLASSES + 1)).astype(np.int32),
    )


@functools.cache
def own_of(image_shape, *, rows=ROWS, views=1, width=8):
    """(denoiser, `loss` arguments, these -> (denoised images, of each row its own gradient)).

    Compiled, as the mechanism has it; seconds of work.
    """
    made, inputs = busy(image_shape, count=rows * views, width=width)

    @tf.function(jit_compile=True)
    def own(*inputs):
        found = noted_layers.gradients(lambda: made.loss(*inputs) / views, made.weights, rows)
        images, noise, levels, labels = inputs
        return made([images + noise, levels, labels]), found

    return made, inputs, lambda *inputs: tuple(found.numpy() for found in own(*inputs))


@pytest.mark.parametrize("image_shape", SHAPES)
def test_images_of_any_size_keep_their_shape_and_range(image_shape):
    made, (images, noise, levels, labels) = busy(image_shape)
    found = made([images + noise, levels, labels]).numpy()
    assert found.shape == (ROWS, *image_shape)
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1
    assert np.ptp(found) > 0.1


def replaced(inputs, kept, others):
    """The inputs in which all rows but those kept are others: images and labels."""
    random = np.random.default_rng(1)
    images, _, _, labels = inputs
    other = {
        "zero": np.zeros_like(images),
        "random": random.uniform(-1, 1, images.shape).astype(np.float32),
        "large": np.full_like(images, 1e30),
        "nan": np.full_like(images, np.nan),
    }[others]
    images = np.where(kept[:, None, None, None], images, other)
    return images, *inputs[1:3], np.where(kept, labels, CLASSES - labels).astype(np.int32)


OTHERS = ["zero", "random", "large", "nan"]


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize(
    "image_shape",
    [(9, 20, 1), *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES[:3:2])],
)
def test_an_images_output_and_gradient_are_its_own_bit_for_bit(image_shape, others):
    """What the sensitivity proof rests on: the other rows may be anything, and nothing moves.

    With statistics over the batch, or one product of matrices over several rows, a last bit would
    differ, or a NaN would spread.
    """
    _, inputs, own = own_of(image_shape)
    whole = own(*inputs)
    for row in range(ROWS):
        kept = np.arange(ROWS) == row
        moved = own(*replaced(inputs, kept, others))
        for found, expected in zip(moved, whole, strict=True):
            np.testing.assert_array_equal(found[row], expected[row])
            changed = (found != expected).any(axis=tuple(range(1, found.ndim)))
            np.testing.assert_array_equal(changed, ~kept)


@pytest.mark.slow
@pytest.mark.parametrize("others", OTHERS)
def test_gradients_of_a_runs_size_are_their_own_bit_for_bit(others):
    """A chunk of 64 records of MNIST's size, two views each: work enough for vectors and threads."""
    _, inputs, own = own_of((28, 28, 1), rows=64, views=2, width=32)
    kept = np.random.default_rng(2).random(64) < 0.5
    found, expected = own(*replaced(inputs, np.repeat(kept, 2), others))[1], own(*inputs)[1]
    np.testing.assert_array_equal(found[kept], expected[kept])
    assert (found != expected).any(axis=1)[~kept].all()


def test_new_denoisers_have_the_same_weights_every_time_and_no_two_layers_the_same():
    """Public ones: a run that starts again before its first checkpoint starts where it did."""
    once = new().get_weights()
    np.random.seed(3)
    keras.utils.set_random_seed(4)
    again = new().get_weights()
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)
    drawn = [weight for weight in once if weight.any()]
    assert len(drawn) > 5
    firsts = {weight.ravel()[0] / weight.std() for weight in drawn}
    assert len(firsts) == len(drawn)


def test_a_new_denoiser_at_almost_no_noise_gives_the_image_back():
    """c_skip is 1 and c_out 0 at level 0; at 1e-4 and 0.6 they differ from that by 3e-8 and 1e-4."""
    images = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 8, 8, 1)).astype(np.float32)
    found = new()([images, np.full(2, 1e-4, np.float32), np.array([0, CLASSES])])
    np.testing.assert_allclose(found, images, atol=1e-3)


def test_the_loss_is_finite_and_has_a_gradient_beyond_the_clip():
    """Where all of an image is denoised to beyond -1 the clip alone would have none."""
    made, (images, _, levels, labels) = busy()
    images[:] = -1
    far = -50 * np.ones_like(images)
    noisy = images + levels[:, None, None, None] * far
    assert (made([noisy, levels, labels]).numpy() == -1).mean() > 0.9
    with tf.GradientTape() as tape:
        losses = made.loss(images, far, levels, labels)
    assert np.isfinite(losses).all()
    assert (losses.numpy() > 0).all()
    found = tape.gradient(losses, [weight.value for weight in made.weights])
    assert all(np.isfinite(gradient).all() for gradient in found)
    assert all(np.abs(gradient).max() > 0 for gradient in found)


def test_the_loss_is_the_weighted_mean_square_of_the_error_that_the_clip_leaves():
    """By NumPy from the denoised images, where none reaches the clip."""
    made, (images, noise, levels, labels) = busy()
    images, noise = 0.1 * images, 0.1 * noise
    found = made.loss(images, noise, levels, labels).numpy()
    denoised = made([images + levels[:, None, None, None] * noise, levels, labels]).numpy()
    assert np.abs(denoised).max() < 1
    square = np.mean((denoised - images) ** 2, axis=(1, 2, 3))
    weights = (levels**2 + 0.36) / (0.36 * levels**2)
    np.testing.assert_allclose(found, weights * square, rtol=1e-5)  # float32, 64 terms


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 3])
def test_the_gradient_of_a_row_is_that_of_a_tape_on_its_record_alone(views):
    made, inputs, own = own_of((8, 8, 1), **({"views": views} if views > 1 else {}))
    _, found = own(*inputs)
    weights = [weight.value for weight in made.weights]
    assert found.shape == (ROWS, sum(int(np.prod(weight.shape)) for weight in weights))
    for row in range(ROWS):
        record = [array[row * views : (row + 1) * views] for array in inputs]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(made.loss(*record))
        expected = np.concatenate(
            [gradient.numpy().ravel() for gradient in tape.gradient(loss, weights)]
        )
        # Float32 sums in another order.
        assert np.linalg.norm(found[row] - expected) < 1e-5 * np.linalg.norm(expected)


def test_layers_note_nothing_unless_they_are_asked_to():
    made, (images, _, levels, labels) = busy()
    with noted_layers.noting() as notes:
        made([images, levels, labels])
    assert len(notes) == len(made.weights)
    made([images, levels, labels])
    assert len(notes) == len(made.weights)


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("image_shape", SHAPES)
def test_unpatched_undoes_patches(image_shape, side):
    images = np.random.default_rng(0).normal(size=(2, *image_shape)).astype(np.float32)
    patches = Patches(image_shape, side)(images)
    height, width, channels = image_shape
    rows, columns = (2 * -(-length // (2 * side)) for length in (height, width))
    assert patches.shape == (2, rows, columns, side**2 * channels)
    np.testing.assert_array_equal(Unpatched(image_shape, side)(patches), images)
    # The first square is the corner's, row after row.
    np.testing.assert_array_equal(patches[:, 0, 0], images[:, :side, :side].reshape(2, -1))


@pytest.mark.parametrize("width", [8, 16, 24, 40])
def test_every_width_that_a_run_may_have_can_be_made(width):
    made = new(width=width)
    widths = {weight.shape[-1] for weight in made.weights if len(weight.shape) == 4}
    assert {width, 8 * -(-3 * width // 16)} <= widths  # half as many more, to a multiple of 8


def test_a_denoiser_survives_its_configuration():
    made, (images, _, levels, labels) = busy()
    again = Denoiser.from_config(made.get_config())
    again.set_weights(made.get_weights())
    np.testing.assert_array_equal(again([images, levels, labels]), made([images, levels, labels]))


def test_levels_of_noise_are_as_many_in_each_octave_and_in_the_range():
    levels = denoisers.levels_of(np.random.default_rng(0).random(20_000, np.float32))
    assert levels.dtype == np.float32
    assert levels.min() >= np.float32(0.03)
    assert levels.max() <= 1
    ends = np.geomspace(0.03, 1, 6)
    counts = np.histogram(levels, ends)[0]
    assert np.abs(counts - 4000).max() < 5 * np.sqrt(4000)  # 5 sigma of a binomial count
