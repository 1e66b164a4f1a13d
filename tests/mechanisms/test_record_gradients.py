"""The refiner's mechanism, sentence by sentence of its guarantee: clip, sensitivity, noise."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdps import checks
from tfdps.generators import denoiser as denoisers
from tfdps.generators import noted_layers
from tfdps.mechanisms import exact_gaussian, gradient_grid
from tfdps.mechanisms.record_gradients import RecordGradientMechanism

SHAPE, ROWS, SIZE = (4, 4, 1), 24, 40
STEPS = gradient_grid.STEPS  # of the grid, to norm 1
SOFTENING = RecordGradientMechanism.SOFTENING
SIGMAS = 5.0  # a false alarm of a noise test: below 1e-6
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=20, deadline=None, derandomize=True)
MIXING = tf.constant(np.random.default_rng(0).normal(size=(16, SIZE)), tf.float32)


def gradients(images, labels, weights, places):
    """float32 [n, SIZE]: of each record its own, of norms from 0 to 1e6; noise by place."""
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, 16]) / 255
    noise = tf.random.stateless_normal([SIZE], [7, 8]) * tf.cast(places, tf.float32)[:, None]
    size = 10.0 ** (6 * tf.reduce_mean(pixels, axis=1, keepdims=True) - 3)
    found = size * tf.reduce_sum(pixels[:, :, None] * MIXING, axis=1) + 1e-3 * noise
    return tf.where(labels[:, None] < 3, found, 0)  # a gradient of nothing


def of(function=gradients, *, size=SIZE, chunk_size=64):
    return RecordGradientMechanism(
        function, lambda places, *public: (places,), size=size, chunk_size=chunk_size
    )


MECHANISM, IN_FIVES = of(), of(chunk_size=5)


def batch_of(seed=0, rows=ROWS, shape=SHAPE):
    """Records: noise, and all black, all white and half of each, labels 0 to 3."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (rows, *shape), dtype=np.uint8)
    images[0], images[1], images[2] = 0, 255, 0
    images[2, ::2] = 255
    images[3:6] = images[3]
    images[6] = random.choice([0, 255], shape)
    return images, random.integers(0, 4, rows).astype(np.int32), np.ones(rows, np.float32)


def counting(batch, chosen):
    images, labels, _ = batch
    return images, labels, np.isin(np.arange(len(labels)), chosen).astype(np.float32)


def integers(batch, mechanism=MECHANISM):
    """What noise is added to, int64 [SIZE]."""
    return mechanism._sum(batch).numpy()


def exact_square(row):
    """Of integers, without rounding."""
    return sum(int(k) ** 2 for k in row)


class TestClip:
    """gradient_grid.clip_rows."""

    CLIP = staticmethod(tf.function(gradient_grid.clip_rows, jit_compile=True))

    def clip(self, rows, counted=None):
        rows = tf.constant(rows, tf.float32)
        counted = tf.ones(len(rows), tf.bool) if counted is None else tf.constant(counted)
        found = self.CLIP(rows, counted, softening=SOFTENING)
        assert found.dtype == tf.int64
        return found.numpy()

    @EXAMPLES
    @given(seed=SEEDS)
    def test_every_row_is_within_the_ball_exactly_and_follows_its_own_gradient_alone(self, seed):
        random = np.random.default_rng(seed)
        rows = random.normal(size=(8, 50)) * 10 ** random.uniform(-3, 3, (8, 50))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows = (rows * 10 ** random.uniform(-45, 38, (8, 1))).astype(np.float32)
        rows[random.integers(8), random.integers(50)] = random.choice([np.nan, np.inf, 3e38, -3e38])
        found = self.clip(rows)
        assert all(exact_square(row) <= STEPS**2 for row in found)
        kept = random.integers(8)
        others = np.where(np.arange(8)[:, None] == kept, rows, random.choice([np.nan, 0.0, 1e38]))
        np.testing.assert_array_equal(self.clip(others)[kept], found[kept])

    @pytest.mark.parametrize("norm", [0.0, 1e-45, 1e-10, 0.02, 0.5, 1.0, 30.0, 1e10, 3e38])
    def test_a_row_is_its_gradient_over_its_norm_and_the_softening(self, norm):
        direction = np.zeros((2, 60))
        direction[0, 7], direction[1] = 1, np.linspace(-1, 1, 60)
        direction[1] /= np.linalg.norm(direction[1])
        rows = (norm * direction).astype(np.float32).astype(float)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        expected = rows / (norms + SOFTENING) * (1 - 1e-6) * STEPS
        found = self.clip(rows)
        # Rounded towards 0, and float64's rounding of a product.
        assert (np.abs(found) <= np.abs(expected) * (1 + 1e-12)).all()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1 + 1e-6)

    def test_the_bound_is_reached_and_softening_keeps_what_is_tiny_small(self):
        norms = np.sqrt([exact_square(row) for row in self.clip(np.diag([1e9, 1.0, 0.02, 1e-4]))])
        expected = [1, 1 / 1.02, 0.5, 1e-4 / 0.0201]
        # Less a millionth, and rounded down by less than a step.
        np.testing.assert_allclose(norms / STEPS, expected, rtol=1e-6, atol=1 / STEPS)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_gradient_that_is_not_finite_counts_as_nothing(self, value):
        rows = np.ones((3, 20), np.float32)
        rows[1, 4] = value
        found = self.clip(rows)
        assert not found[1].any()
        np.testing.assert_array_equal(found[0], found[2])
        assert found[0].all()

    def test_a_row_that_does_not_count_is_zero_whatever_it_is(self):
        rows = np.ones((4, 20), np.float32)
        rows[1], rows[2] = np.nan, 1e38
        found = self.clip(rows, [False, False, False, True])
        assert not found[:3].any()
        assert found[3].all()


class TestSensitivity:
    @EXAMPLES
    @given(seed=SEEDS)
    def test_a_record_adds_its_own_integers_of_norm_one_at_most_in_any_company(self, seed):
        random, batch = np.random.default_rng(seed), batch_of(seed)
        everyone, mechanism = np.arange(ROWS), [MECHANISM, IN_FIVES][seed % 2]
        for record in (0, 1, 2, random.integers(3, ROWS)):
            alone = integers(counting(batch, [record]), mechanism)
            assert exact_square(alone) <= STEPS**2
            for company in (everyone, random.choice(ROWS, 9, replace=False)):
                with_it, without = (
                    integers(counting(batch, chosen), mechanism)
                    for chosen in (np.union1d(company, [record]), np.setdiff1d(company, [record]))
                )
                np.testing.assert_array_equal(with_it - without, alone)

    @pytest.mark.slow
    @EXAMPLES
    @given(seed=SEEDS)
    def test_what_is_zeroed_out_may_be_any_record_and_any_label(self, seed):
        """Of weight 0, or black and of weight 0 as padding is: it makes no difference."""
        random, batch = np.random.default_rng(seed), batch_of(seed)
        record = random.integers(ROWS)
        without = counting(batch, np.setdiff1d(np.arange(ROWS), [record]))
        images, labels, weights = (array.copy() for array in without)
        images[record], labels[record] = random.choice([0, 255], SHAPE), random.integers(-5, 9)
        np.testing.assert_array_equal(integers((images, labels, weights)), integers(without))

    def test_the_bound_is_tight(self):
        """Noise for less than 1 would not do: white records have gradients of norm 1e3 and more."""
        batch = batch_of()
        batch[1][1] = 0
        alone = integers(counting(batch, [1]))
        assert 0.99 * STEPS < np.sqrt(exact_square(alone)) <= STEPS

    def test_a_sum_is_that_of_each_records_own_gradient(self):
        """Written out in NumPy, at the records' own places."""
        images, labels, weights = batch_of()
        weights[::5] = 0
        compiled = tf.function(gradients, jit_compile=True)  # whose public noise is XLA's
        found = compiled(images, labels, weights, tf.range(ROWS)).numpy().astype(float)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        scaled = found / (norms + SOFTENING) * (1 - 1e-6) * STEPS
        expected = np.trunc(scaled)[weights > 0].sum(axis=0)
        # Float32 sums that are compiled together with the clip may be in another order: by a few
        # steps of a record's 2^20.
        atol = 4 * ROWS
        np.testing.assert_allclose(integers((images, labels, weights)), expected, rtol=0, atol=atol)

    @pytest.mark.parametrize("chunk_size", [1, 5, 7, ROWS, 64, 1000])
    def test_chunks_and_padding_change_nothing(self, chunk_size):
        """A place is that in the whole batch, whatever chunk it is in; so is its public noise."""
        batch = batch_of()
        mechanism = of(chunk_size=chunk_size)
        expected = integers(batch)
        np.testing.assert_array_equal(integers(batch, mechanism), expected)
        padding = np.full((9, *SHAPE), 77, np.uint8), np.full(9, 1, np.int32), np.zeros(9)
        padded = tuple(
            np.concatenate([array, more.astype(array.dtype)])
            for array, more in zip(batch, padding, strict=True)
        )
        np.testing.assert_array_equal(integers(padded, mechanism), expected)

    def test_gradients_are_asked_for_by_place_and_chunk(self):
        asked = []

        def noting(images, labels, weights, places):
            asked.append(images.shape)
            return tf.cast(places[:, None] == tf.range(12), tf.float32)

        # Ten records in chunks of four: one shape, compiled once, and two places beyond the batch.
        found = integers(batch_of(rows=10), of(noting, size=12, chunk_size=4))
        assert asked == [(4, *SHAPE)]
        assert (found[:10] > 0.97 * STEPS).all()
        assert not found[10:].any()

    def test_gradients_get_the_public_values_of_the_time_of_the_release(self):
        weight = tf.Variable([1.0, 0.0])

        def follows(images, labels, weights, places, weight):
            return tf.tile(weight[None], [images.shape[0], 1])

        mechanism = RecordGradientMechanism(
            follows, lambda places, *public: (places,), size=2, public=lambda: [weight]
        )
        once = integers(batch_of(), mechanism)
        weight.assign([0.0, 2.0])
        again = integers(batch_of(), mechanism)
        assert once[0] > 0.97 * ROWS * STEPS > once[1] == 0
        assert again[1] > 0.97 * ROWS * STEPS > again[0] == 0

    def test_replicas_run_it_in_a_graph_and_it_is_the_same(self):
        """A slice by a tensor has no static shape there."""
        batch = batch_of()
        found = tf.function(IN_FIVES._sum, autograph=False)(batch).numpy()
        np.testing.assert_array_equal(found, integers(batch))

    def test_all_that_is_not_finite_counts_as_nothing(self):
        def broken(images, labels, weights, places):
            return tf.where(
                labels[:, None] == 1, np.nan, gradients(images, labels, weights, places)
            )

        images, labels, weights = batch_of()
        found = integers((images, labels, weights), of(broken))
        expected = integers((images, labels, np.where(labels == 1, np.float32(0), weights)))
        np.testing.assert_array_equal(found, expected)


class TestTheDenoisersGradients:
    """The real ones: of a small denoiser, as `private_steps` asks for them."""

    @pytest.fixture(scope="class")
    def mechanism(self):
        made = denoisers.Denoiser((8, 8, 1), num_classes=3, width=8)
        random = np.random.default_rng(0)
        for weight in made.weights:
            weight.assign(weight + 0.1 * random.normal(size=weight.shape))
        noise = tf.constant(random.normal(size=(16, 8, 8, 1)), tf.float32)
        levels = tf.constant(denoisers.levels_of(random.random(16, np.float32)))

        def of_denoiser(images, labels, weights, places):
            clean = tf.cast(images, tf.float32) / 127.5 - 1
            own = tf.gather(noise, places), tf.gather(levels, places)
            return noted_layers.gradients(
                lambda: made.loss(clean, *own, labels), made.weights, images.shape[0]
            )

        size = sum(int(np.prod(weight.shape)) for weight in made.weights)
        return of(of_denoiser, size=size, chunk_size=4)

    @pytest.mark.slow
    def test_a_record_moves_the_sum_by_its_own_integers_of_norm_one_at_most(self, mechanism):
        batch = batch_of(rows=14, shape=(8, 8, 1))
        whole = integers(batch, mechanism)
        norms = []
        for record in range(14):
            alone = integers(counting(batch, [record]), mechanism)
            without = integers(counting(batch, np.setdiff1d(np.arange(14), [record])), mechanism)
            np.testing.assert_array_equal(whole - without, alone)
            assert exact_square(alone) <= STEPS**2
            norms.append(np.sqrt(exact_square(alone)) / STEPS)
        assert max(norms) > 0.9  # adversarial enough to be clipped

    @pytest.mark.slow
    def test_another_record_in_a_place_moves_the_sum_by_what_the_two_add(self, mechanism):
        batch = batch_of(rows=14, shape=(8, 8, 1))
        images, labels, weights = (array.copy() for array in batch)
        images[5], labels[5] = 255 - images[5], (labels[5] + 1) % 3
        changed = images, labels, weights
        difference = integers(changed, mechanism) - integers(batch, mechanism)
        one, other = (integers(counting(each, [5]), mechanism) for each in (changed, batch))
        np.testing.assert_array_equal(difference, one - other)
        assert difference.any()


def spread(noise, stddev):
    """(mean, standard deviation over what it should be, each in its own standard errors)."""
    count = noise.size
    return (
        noise.mean() / stddev * np.sqrt(count),
        (noise.std() / stddev - 1) * np.sqrt(2 * count),
    )


class TestNoise:
    SIZE, SIGMA = 20_000, 0.7

    @pytest.fixture(scope="class")
    def wide(self):
        """A mechanism of many elements, whose gradients are a pixel's in each."""

        def repeated(images, labels, weights, places):
            rows = tf.reshape(tf.cast(images, tf.float32), [images.shape[0], -1])
            return tf.tile(rows, [1, self.SIZE // 16])

        return of(repeated, size=self.SIZE)

    @pytest.fixture(scope="class")
    def noises(self, wide):
        """Noise of four releases in units of the clip norm, float64 [4, SIZE]."""
        batch = batch_of()
        bare = integers(batch, wide) / STEPS
        assert np.abs(bare).max() > 0.01
        draws = ([batch] for _ in range(4))
        released = [wide.release(draw, noise_multiplier=self.SIGMA).vector for draw in draws]
        assert all(vector.dtype == np.float32 for vector in released)
        return np.array(released, float) - bare

    def test_a_release_is_the_sum_and_gaussian_noise_of_the_stated_deviation(self, noises):
        """Mean, standard deviation; the sharper test of the law itself is test_noise_law's."""
        for noise in noises:
            mean, scale = spread(noise, self.SIGMA)
            assert abs(mean) < SIGMAS
            assert abs(scale) < SIGMAS
        # One in 1e3 lies beyond 3.29 sigma.
        beyond = np.mean(np.abs(noises) > 3.29 * self.SIGMA)
        assert abs(beyond - 1e-3) < SIGMAS * np.sqrt(1e-3 / noises.size)

    @pytest.mark.parametrize("wrong", [0.95, 1.05])
    def test_a_scale_five_per_cent_off_would_show(self, noises, wrong):
        for noise in noises:
            assert abs(spread(wrong * noise, self.SIGMA)[1]) > SIGMAS

    def test_the_noise_of_a_release_is_independent_of_every_other(self, noises):
        between = np.corrcoef(noises)
        np.fill_diagonal(between, 0)
        assert np.abs(between).max() < SIGMAS / np.sqrt(self.SIZE)

    def test_it_is_drawn_by_exact_gaussian_for_each_release_and_added_as_integers(
        self, monkeypatch
    ):
        asked, noise = [], np.arange(SIZE) - 7

        def draw(size, stddev):
            asked.append((size, stddev))
            return noise

        monkeypatch.setattr(exact_gaussian, "draw", draw)
        batch = batch_of()
        for sigma in (0.5, 3.0):
            vector = MECHANISM.release([batch], noise_multiplier=sigma).vector
            expected = ((integers(batch) + noise) / STEPS).astype(np.float32)
            np.testing.assert_array_equal(vector, expected)
        assert asked == [(SIZE, 0.5 * STEPS), (SIZE, 3.0 * STEPS)]

    def test_a_draw_in_parts_has_one_noise_and_the_sum_of_its_parts(self, monkeypatch):
        noise = np.arange(SIZE)
        monkeypatch.setattr(exact_gaussian, "draw", lambda size, stddev: noise)
        parts = [batch_of(seed) for seed in range(3)]
        vector = MECHANISM.release(parts, noise_multiplier=1.0).vector
        expected = (sum(integers(part) for part in parts) + noise) / STEPS
        np.testing.assert_array_equal(vector, expected.astype(np.float32))

    def test_an_empty_draw_gives_pure_noise(self):
        vector = MECHANISM.release([counting(batch_of(), [])], noise_multiplier=1.0).vector
        assert vector.shape == (SIZE,)
        assert vector.all()
        assert np.abs(vector).max() < 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size must be >= 1, received 0"),
        ({"size": 2**22 + 1}, r"size must be at most 4194304, received 4194305: .* refiner_width"),
        ({"chunk_size": 0}, "chunk_size must be >= 1, received 0"),
    ],
)
def test_sizes_out_of_range_are_refused(changes, message):
    with pytest.raises(checks.UsageError, match=message):
        of(**changes)
    of(size=2**22)


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.inf])
def test_a_release_without_noise_is_refused_before_a_record_is_read(sigma):
    def unread():
        pytest.fail("private records were read")
        yield

    with pytest.raises(checks.UsageError, match="noise_multiplier must be > 0"):
        MECHANISM.release(unread(), noise_multiplier=sigma)


def test_it_says_that_it_is_private_and_of_what_sensitivity():
    assert MECHANISM.private
    assert MECHANISM.sensitivity == 1.0
