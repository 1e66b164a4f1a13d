"""Poisson draws: rate, independence, freshness, padding, overflow, empty draws."""

import numpy as np
import pytest
from scipy import stats

from tfdps import checks
from tfdps.mechanisms import poisson
from tfdps.mechanisms.poisson import PoissonSampler

FALSE_ALARM = 1e-7  # probability that a right sampler fails the rate test
SIGMAS = 5.5  # 4e-8 a comparison, where sums are long enough to be normal


def draw_matrix(sampler, draws):
    """0/1 [draws, N]: which records each draw holds."""
    matrix = np.zeros([draws, sampler.dataset_size], bool)
    for row in matrix:
        row[sampler.draw()] = True
    return matrix


@pytest.mark.parametrize(("size", "rate"), [(40, 0.1), (40, 0.6), (1000, 0.01)])
def test_every_record_is_drawn_at_the_stated_rate(size, rate):
    draws = 4000
    counts = draw_matrix(PoissonSampler(size, rate), draws).sum(axis=0)
    # The exact binomial's quantiles: at a small rate its tail is heavier than a normal one's.
    low, high = stats.binom.interval(1 - FALSE_ALARM / size, draws, rate)
    assert low <= counts.min()
    assert counts.max() <= high


def test_records_are_drawn_independently_of_one_another_and_of_earlier_steps():
    draws, rate = 20_000, 0.3
    matrix = draw_matrix(PoissonSampler(12, rate), draws).astype(float)
    centered = (matrix - rate) / np.sqrt(rate * (1 - rate))
    within = centered.T @ centered / np.sqrt(draws)  # each pair: standard normal if independent
    across = centered[1:].T @ centered[:-1] / np.sqrt(draws - 1)
    assert np.abs(within[~np.eye(12, dtype=bool)]).max() < SIGMAS
    assert np.abs(across).max() < SIGMAS


def test_the_number_drawn_is_binomial():
    """A fixed batch size, or a rounded one, has no variance to speak of."""
    draws, size, rate = 5000, 600, 0.05
    counts = np.array([len(PoissonSampler(size, rate).draw()) for _ in range(draws)])
    variance = size * rate * (1 - rate)
    assert abs(counts.mean() - size * rate) < SIGMAS * np.sqrt(variance / draws)
    assert abs(counts.var() / variance - 1) < SIGMAS * np.sqrt(2 / draws)


def test_a_rate_five_per_cent_off_fails_the_rate_test():
    draws, rate = 4000, 0.6
    counts = draw_matrix(PoissonSampler(40, 0.95 * rate), draws).sum(axis=0)
    deviation = np.sqrt(draws * rate * (1 - rate) / 40)
    assert abs(counts.mean() - draws * rate) > SIGMAS * deviation


def test_no_seed_makes_draws_repeat():
    def draws():
        np.random.seed(0)
        return [tuple(PoissonSampler(1000, 0.05).draw()) for _ in range(3)]

    assert draws() != draws()
    assert len(set(draws())) == 3


def test_draws_hold_no_record_twice_and_stay_in_range():
    for rate in (0.001, 0.5, 1.0):
        drawn = PoissonSampler(200, rate).draw()
        assert len(set(drawn)) == len(drawn)
        assert all(0 <= index < 200 for index in drawn)
    assert sorted(PoissonSampler(200, 1.0).draw()) == list(range(200))


def test_draws_that_fit_are_not_truncated(monkeypatch):
    sampler = PoissonSampler(60_000, 50 / 60_000)
    for drawn in (0, 1, 49, sampler.padded_size):
        monkeypatch.setattr(sampler, "draw", lambda k=drawn: np.arange(5, 5 + k))
        assert list(sampler.draw_truncated()) == list(range(5, 5 + drawn))


def test_the_padded_size_overflows_as_seldom_as_stated():
    for size, rate in ((60_000, 50 / 60_000), (1438, 0.01), (162_770, 200 / 162_770), (50, 0.9)):
        padded = PoissonSampler(size, rate).padded_size
        assert padded <= size
        assert stats.binom.sf(padded, size, rate) <= poisson.OVERFLOW_PROBABILITY


@pytest.mark.parametrize(
    ("size", "rate"), [(60_000, 0.05), (1438, 200 / 1438), (60_000, 50 / 60_000), (1000, 0.5)]
)
def test_a_pad_for_all_but_1e_30_has_that_room_and_hardly_more(size, rate):
    """Far beyond 1e-16, where scipy's own inverse ends; by its survival function, in logarithms."""
    padded = PoissonSampler(size, rate, overflow_probability=1e-30).padded_size
    assert padded < size
    assert padded % 8 == 0
    assert 0 < stats.binom.sf(padded, size, rate) <= 1e-30
    assert stats.binom.logsf(padded, size, rate) <= -30 * np.log(10)
    assert stats.binom.sf(padded - 9, size, rate) > 1e-30  # by a multiple of 8 at most
    assert padded > PoissonSampler(size, rate).padded_size


@pytest.mark.parametrize("size", [1, 7, 50, 1438])
@pytest.mark.parametrize("overflow_probability", [1e-4, 1e-30])
def test_draws_of_all_records_have_room_for_all(size, overflow_probability):
    sampler = PoissonSampler(size, 1.0, overflow_probability=overflow_probability)
    assert sampler.padded_size == size
    np.testing.assert_array_equal(sampler.draw_truncated(), np.arange(size))


@pytest.mark.parametrize(("size", "rate"), [(5, 0.5), (60, 0.9), (2000, 1 - 1e-12)])
def test_where_all_records_are_likely_enough_there_is_room_for_all(size, rate):
    """All of five are drawn in 3 % of the draws, so no pad below five will do."""
    assert rate**size > 1e-30
    assert PoissonSampler(size, rate, overflow_probability=1e-30).padded_size == size


def test_an_overflowing_draw_keeps_a_uniform_choice():
    sampler = PoissonSampler(100, 0.05)
    sampler.sampling_probability = 0.5  # draws about 50 records into a pad of about 16
    kept, rounds = np.zeros(100), 4000
    for _ in range(rounds):
        drawn = sampler.draw_truncated()
        assert len(drawn) == sampler.padded_size
        kept[drawn] += 1
    rate = sampler.padded_size / 100
    assert np.abs(kept - rounds * rate).max() < SIGMAS * np.sqrt(rounds * rate * (1 - rate))


@pytest.mark.parametrize(("size", "rate"), [(0, 0.5), (10, 0.0), (10, 1.1), (10, -0.1)])
def test_bad_sizes_and_rates_are_refused(size, rate):
    with pytest.raises(checks.UsageError):
        PoissonSampler(size, rate)
