"""Bounds of the audit: exact where counts decide, valid at the claimed rate, strong enough."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from scipy import special, stats

from tfdps import checks
from tfdps.auditing import bounds, counts, one_run

SETTINGS = {"delta": 1e-5, "failure_probability": 1e-4}


def normal_scores(mu, num_trials=10_000, seed=0):
    generator = np.random.default_rng(seed)
    without, with_ = generator.standard_normal((2, num_trials))
    return without, with_ + mu


# Counts.


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (4321, 9000)])
def test_clopper_pearson_is_scipys(successes, trials):
    oracle = stats.binomtest(successes, trials).proportion_ci(0.999, "exact")
    received = bounds.clopper_pearson(successes, trials, failure_probability=0.001)
    # 1e-9: scipy finds the ends by a root search, this by the inverse beta function.
    assert received == pytest.approx(tuple(oracle), rel=1e-9, abs=1e-12)


def test_clopper_pearson_refuses_more_successes_than_trials():
    with pytest.raises(checks.UsageError, match="successes must be <= trials"):
        bounds.clopper_pearson(11, 10, failure_probability=0.1)


@pytest.mark.parametrize(
    ("claim", "parameters"),
    [
        (counts.gaussian_claim(), [0.0, 0.3, 1.0, 2.5]),
        (counts.approximate_claim(0.0), [0.0, 0.5, 1.5, 3.0]),
        (counts.approximate_claim(0.05), [0.0, 0.5, 1.5, 3.0]),
    ],
    ids=["gaussian", "pure", "approximate"],
)
def test_the_bound_from_counts_fails_as_often_as_stated_at_worst(claim, parameters):
    """All outcomes of 9 and 11 trials, weighted by their probabilities: no simulation."""
    failure_probability, false_trials, hit_trials = 0.1, 9, 11
    found = np.array(
        [
            [
                counts.lower_bound(
                    counts.Counts(false, false_trials, hits, hit_trials),
                    claim,
                    failure_probability=failure_probability,
                )
                for hits in range(hit_trials + 1)
            ]
            for false in range(false_trials + 1)
        ]
    )
    worst = []
    for parameter in parameters:
        failures = []
        for rate in np.linspace(0, 1, 101):
            hit_rate = np.clip(claim.ceiling(parameter, rate), 0, 1)
            chance = np.outer(
                stats.binom.pmf(range(false_trials + 1), false_trials, rate),
                stats.binom.pmf(range(hit_trials + 1), hit_trials, hit_rate),
            )
            failures.append(chance[found > parameter].sum())
        worst.append(max(failures))
    assert max(worst) <= failure_probability
    # Not needlessly weak: so few counts leave gaps, yet half of what is allowed is used.
    assert max(worst) >= failure_probability / 2


@pytest.mark.parametrize(("false", "hits"), [(4140, 4860), (40, 2000)])
def test_the_search_by_cells_finds_the_worst_false_alarm_rate(false, hits):
    """Against the probability of all pairs that rank as high, at a fine grid of rates."""
    trials, allowed = 9000, 5e-5
    claim = counts.gaussian_claim()
    observed = counts.Counts(false, trials, hits, trials)
    mu = counts.lower_bound(observed, claim, failure_probability=allowed)

    every = np.arange(trials + 1)
    near = every[abs(every - false) < 12 * math.sqrt(false)]  # 7 deviations beyond the rates below
    pairs = counts.Counts(near[:, None], trials, every, trials)
    lower = counts.evidence(pairs, claim, failure_probability=allowed) < counts.evidence(
        observed, claim, failure_probability=allowed
    )
    fewest = lower.sum(axis=1)
    rates = np.linspace(false - 4.5 * math.sqrt(false), false + 4.5 * math.sqrt(false), 60) / trials
    chance = [
        stats.binom.pmf(near, trials, rate)
        @ stats.binom.sf(fewest - 1, trials, claim.ceiling(mu, rate))
        for rate in rates
    ]
    # Below what is allowed by the 2 % for the range and by the width of cells and blocks, which
    # is worth about 0.1 of the 3.9 standard deviations, or a third of the probability.
    assert allowed / 2 < max(chance) < 0.98 * allowed


@pytest.mark.parametrize(("false", "hits"), [(0, 9000), (9, 3000), (3150, 5850), (4140, 4860)])
def test_the_bound_from_counts_beats_two_separate_intervals(false, hits):
    share = {"failure_probability": 5e-5}
    low = bounds.clopper_pearson(hits, 9000, **share)[0]
    high = bounds.clopper_pearson(false, 9000, **share)[1]
    pair = counts.Counts(false, 9000, hits, 9000)
    mu = counts.lower_bound(pair, counts.gaussian_claim(), **share)
    epsilon = counts.lower_bound(pair, counts.approximate_claim(1e-5), **share)
    assert mu > special.ndtri(low) - special.ndtri(high)
    assert epsilon > math.log((low - 1e-5) / high)


def test_both_constraints_of_approximate_privacy_count():
    """Perfect hits: the likeliest private mechanism errs with 1 / (1 + e^epsilon) on either side."""
    pair = counts.Counts(0, 9000, 9000, 9000)
    received = counts.lower_bound(pair, counts.approximate_claim(0), failure_probability=1e-4)
    exact = special.logit(1e-4 ** (1 / 18_000))  # (1 - rate)^18000 = 1e-4
    # The cells of the search cost the last percent.
    assert 0.99 * exact < received <= exact


# Thresholds.


@pytest.mark.parametrize(("mu", "share"), [(0.5, 0.75), (1, 0.85), (1.7, 0.9), (3, 0.93), (5, 0.9)])
def test_threshold_mu_is_close_to_the_truth(mu, share):
    received = bounds.threshold_bounds(*normal_scores(mu), **SETTINGS)
    assert share * mu < received.mu < mu
    assert 0 < received.epsilon < bounds.gaussian_epsilon(1e-5, mu)


def test_threshold_bounds_hold_at_the_stated_rate(monkeypatch):
    # Coarser cells and blocks: weaker bounds, the same guarantee, a tenth of the time.
    monkeypatch.setattr(counts, "_CELLS", 24)
    monkeypatch.setattr(counts, "_BLOCKS", 40)
    mu, delta, repetitions = 1.0, 1e-2, 150
    epsilon = bounds.gaussian_epsilon(delta, mu)
    wrong = np.zeros(2)
    for seed in range(repetitions):
        received = bounds.threshold_bounds(
            *normal_scores(mu, 150, seed), delta=delta, failure_probability=0.2
        )
        wrong += [received.mu > mu, received.epsilon > epsilon]
    # Each has half of the failure probability. More wrong by chance: one run in a thousand.
    assert max(wrong) <= stats.binom.isf(1e-3, repetitions, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.2, 3.0])
def test_threshold_bounds_hold_at_the_stated_rate_over_many_runs(mu):
    delta, repetitions = 1e-2, 150
    epsilon = bounds.gaussian_epsilon(delta, mu)
    wrong = 0
    for seed in range(repetitions):
        received = bounds.threshold_bounds(
            *normal_scores(mu, 300, seed), delta=delta, failure_probability=0.1
        )
        wrong += received.mu > mu or received.epsilon > epsilon
    assert wrong <= stats.binom.isf(1e-3, repetitions, 0.1)


def test_the_trials_that_choose_are_not_counted():
    without, with_ = normal_scores(1.0)
    before = bounds.threshold_bounds(without, with_, **SETTINGS)
    without[1000:], with_[1000:] = with_[1000:].copy(), without[1000:].copy()
    after = bounds.threshold_bounds(without, with_, **SETTINGS)
    assert after.mu_event.threshold == before.mu_event.threshold
    assert after.mu_event.counts.hits == before.mu_event.counts.false_alarms
    assert after.mu_event.counts.hit_trials == 9000
    assert after.mu == after.epsilon == 0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("exchanged", [False, True])
def test_neither_the_direction_of_the_score_nor_of_the_leak_matters(sign, exchanged):
    without, with_ = normal_scores(1.0)
    pair = (sign * without, sign * with_)
    received = bounds.threshold_bounds(*(pair[::-1] if exchanged else pair), **SETTINGS)
    reference = bounds.threshold_bounds(without, with_, **SETTINGS)
    # At scores on a threshold, < after a change of sign is >: a count may differ by one.
    assert received.mu == pytest.approx(reference.mu, rel=0.02)
    assert received.epsilon == pytest.approx(reference.epsilon, rel=0.05)


def test_equal_distributions_refute_nothing():
    same = bounds.threshold_bounds(*normal_scores(0.0), **SETTINGS)
    constant = bounds.threshold_bounds(np.zeros(1000), np.zeros(1000), **SETTINGS)
    assert same.mu == same.epsilon == constant.mu == constant.epsilon == 0


def test_a_perfect_distinguisher_is_limited_by_the_number_of_trials():
    few, many = (
        bounds.threshold_bounds(np.zeros(n), np.ones(n), **SETTINGS) for n in (1000, 10_000)
    )
    # Ten times the trials bound the error rates ten times as low.
    assert many.epsilon - few.epsilon == pytest.approx(math.log(10), abs=0.05)
    assert many.epsilon > 7
    assert many.mu > 6


@pytest.mark.parametrize("atom_is_with", [False, True])
def test_an_atom_against_continuous_scores_is_told_apart_exactly(atom_is_with):
    """Half of the continuous scores lie above the atom, no score of the atom does."""
    atom, spread = np.zeros(10_000), normal_scores(0.0)[0]
    pair = (spread, atom) if atom_is_with else (atom, spread)
    received = bounds.threshold_bounds(*pair, **SETTINGS)
    assert received.epsilon_event.counts.false_alarms == 0
    assert received.epsilon > 6
    assert received.mu > 3


def test_unlike_numbers_of_trials_are_allowed_and_results_are_plain_numbers():
    received = bounds.threshold_bounds(
        normal_scores(0.0, 400)[0], normal_scores(3.0, 4000, 1)[1].astype(np.float32), **SETTINGS
    )
    assert 1.5 < received.mu < 3
    assert received.mu_event.counts.false_alarm_trials == 360
    json.dumps(dataclasses.asdict(received))


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (np.zeros(99), "scores_without must be a vector of at least 100 scores"),
        (np.zeros((100, 1)), "received shape"),
        (np.append(np.zeros(99), np.nan), "free of NaN, received 1"),
    ],
)
def test_threshold_bounds_refuse_scores_that_prove_nothing(without, message):
    with pytest.raises(checks.UsageError, match=message):
        bounds.threshold_bounds(without, np.zeros(100), **SETTINGS)


# The Gaussian fit.


@pytest.mark.parametrize("num_trials", [10, 25, 60])
@pytest.mark.parametrize("failure_probability", [0.1, 1e-4])
def test_the_fit_inverts_scipys_noncentral_t(num_trials, failure_probability):
    without = np.linspace(-1, 1, num_trials)
    with_ = without + 2
    mu = bounds.gaussian_fit_bound(without, with_, failure_probability=failure_probability)
    statistic = stats.ttest_ind(with_, without).statistic
    noncentrality = mu * math.sqrt(num_trials / 2)
    oracle = stats.nct.sf(statistic, 2 * num_trials - 2, noncentrality)
    # scipy's series holds about six digits this far in the tail.
    assert oracle == pytest.approx(failure_probability, rel=1e-5)


def test_the_fit_at_ten_thousand_trials_agrees_with_the_normal_approximation():
    without, with_ = normal_scores(1.0)
    mu = bounds.gaussian_fit_bound(without, with_, failure_probability=1e-4)
    estimate = (with_.mean() - without.mean()) / math.sqrt((without.var() + with_.var()) / 2)
    # Variance of mu - estimate * u: 2 / n for the means, 1 / (2 * 2 n) for the deviation u.
    deviation = math.sqrt(2 / 10_000 + estimate**2 / 40_000)
    # u is less than 1 by 1 / (4 * 2 n) on average; its skewness is of the same order.
    assert mu == pytest.approx(estimate - stats.norm.isf(1e-4) * deviation, abs=1e-4)


def test_the_fit_at_hardly_any_noise_is_limited_by_the_deviation_alone():
    without, with_ = normal_scores(0.0)
    mu = bounds.gaussian_fit_bound(without, with_ + 1e6, failure_probability=1e-4)
    pooled = math.sqrt((without.var(ddof=1) + with_.var(ddof=1)) / 2)
    chi = math.sqrt(stats.chi2.ppf(1e-4, 19_998) / 19_998)
    assert mu == pytest.approx(
        1e6 / pooled * chi, rel=5e-5
    )  # 2e-6 from the means, and the trapezium rule's steps


@pytest.mark.parametrize("mu", [0.2, 3.0])
def test_the_fit_fails_exactly_as_often_as_stated(mu):
    repetitions = 300
    wrong = sum(
        bounds.gaussian_fit_bound(*normal_scores(mu, 200, seed), failure_probability=0.2) > mu
        for seed in range(repetitions)
    )
    # Outside by chance: one run in a thousand.
    assert stats.binom.ppf(5e-4, repetitions, 0.2) <= wrong
    assert wrong <= stats.binom.isf(5e-4, repetitions, 0.2)


def test_the_fit_refutes_noise_that_is_a_tenth_too_weak_and_not_the_right_one():
    without, with_ = normal_scores(1.7)
    right = bounds.gaussian_fit_bound(without, with_, failure_probability=1e-4)
    weak = bounds.gaussian_fit_bound(0.9 * without, 0.9 * with_ + 0.17, failure_probability=1e-4)
    assert right < 1.7 < weak


def test_the_fit_without_any_noise():
    # 0.1 has no exact mean: naive sums of 1000 and 999 of them differ.
    equal = bounds.gaussian_fit_bound(
        np.full(1000, 0.1), np.full(999, 0.1), failure_probability=1e-4
    )
    different = bounds.gaussian_fit_bound(
        np.full(1000, 0.1), np.full(999, 0.2), failure_probability=1e-4
    )
    assert equal == 0
    assert different == math.inf


def test_with_noise_on_one_side_the_fit_uses_the_noisy_side():
    spread = normal_scores(0.0)[0]
    received = bounds.gaussian_fit_bound(np.zeros(10_000), 2 * spread + 2, failure_probability=1e-4)
    as_if_both = bounds.gaussian_fit_bound(
        2 * spread[::-1], 2 * spread + 2, failure_probability=1e-4
    )
    # The means differ: of the quiet side 0, of the reversed copy as of the noisy side.
    assert received == pytest.approx(as_if_both + spread.mean(), abs=1e-3)
    assert bounds.threshold_bounds(np.zeros(10_000), 2 * spread + 2, **SETTINGS).epsilon > 6


def test_the_fit_is_zero_where_the_means_are_equal_or_run_backwards():
    without, with_ = normal_scores(1.0)
    assert bounds.gaussian_fit_bound(with_, without, failure_probability=1e-4) == 0
    assert bounds.gaussian_fit_bound(without, without, failure_probability=1e-4) == 0


@pytest.mark.parametrize(
    ("with_", "message"),
    [
        (np.append(np.zeros(9), np.nan), "scores_with must be finite, received 1"),
        (np.append(np.zeros(9), np.inf), "scores_with must be finite, received 1"),
        (np.zeros(9), "at least 10 scores"),
    ],
)
def test_the_fit_refuses_scores_that_prove_nothing(with_, message):
    with pytest.raises(checks.UsageError, match=message):
        bounds.gaussian_fit_bound(np.zeros(10), with_, failure_probability=0.1)


# One run.


def chance_by_loops(correct, num_guesses, num_canaries, delta, epsilon):
    """Steinke et al. 2023, corollary 5.4, term by term."""
    law = stats.binom.pmf(range(num_guesses + 1), num_guesses, 1 / (1 + math.exp(-epsilon)))
    tail, steepest, window = sum(law[correct:]), 0.0, 0.0
    for i in range(1, num_canaries + 1):
        window += law[correct - i] if i <= correct else 0
        steepest = max(steepest, window / i)
    return tail + 2 * num_canaries * delta * steepest


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize(("correct", "num_guesses"), [(30, 30), (50, 60), (41, 60), (3, 4)])
def test_one_run_epsilon_is_the_largest_that_the_theorem_refutes(correct, num_guesses, delta):
    received = one_run.one_run_epsilon(
        num_canaries=100,
        num_guesses=num_guesses,
        num_correct=correct,
        delta=delta,
        failure_probability=0.05,
    )
    grid = np.linspace(0, 5, 101)
    refuted = [e for e in grid if chance_by_loops(correct, num_guesses, 100, delta, e) <= 0.05]
    largest = max(refuted, default=0)
    assert largest <= received < largest + grid[1] + 1e-9
    if received > 0:
        at_bound = chance_by_loops(correct, num_guesses, 100, delta, received)
        assert at_bound == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("num_guesses", [20, 100])
def test_one_run_epsilon_is_nearly_tight_for_randomised_response(epsilon, num_guesses):
    failure_probability = 0.1
    law = stats.binom(num_guesses, special.expit(epsilon))
    wrong = 0.0
    for correct in range(num_guesses + 1):
        received = one_run.one_run_epsilon(
            num_canaries=num_guesses,
            num_guesses=num_guesses,
            num_correct=correct,
            delta=0,
            failure_probability=failure_probability,
        )
        wrong += law.pmf(correct) * (received > epsilon)
    assert wrong <= failure_probability
    # The next count to refute would pass the failure probability: counts are whole numbers.
    assert wrong + law.pmf(law.isf(wrong)) > failure_probability


@pytest.mark.parametrize("delta", [1e-4, 1e-2])
def test_the_delta_term_covers_canaries_given_away(delta):
    """Two (epsilon, delta)-private mechanisms: they give away each canary, or all at once."""
    num, epsilon = 50, 1.0
    rate = special.expit(epsilon)
    each = stats.binom.sf(np.arange(num + 1) - 1, num, delta + (1 - delta) * rate)
    at_once = delta + (1 - delta) * stats.binom.sf(np.arange(num + 1) - 1, num, rate)
    for correct, chance in enumerate(np.maximum(each, at_once)):
        assert chance <= chance_by_loops(correct, num, num, delta, epsilon) * (1 + 1e-9)


def test_one_run_epsilon_of_guesses_at_random_is_zero():
    common = {"num_canaries": 1000, "delta": 1e-5, "failure_probability": 1e-3}
    assert one_run.one_run_epsilon(num_guesses=100, num_correct=50, **common) == 0
    assert one_run.one_run_epsilon(num_guesses=100, num_correct=0, **common) == 0
    assert one_run.one_run_epsilon(num_guesses=100, num_correct=100, **common) > 1.5


@pytest.mark.parametrize(("correct", "num_guesses"), [(11, 10), (5, 21), (-1, 10), (1.5, 10)])
def test_one_run_epsilon_refuses_impossible_counts(correct, num_guesses):
    with pytest.raises(checks.UsageError, match="num_"):
        one_run.one_run_epsilon(
            num_canaries=20,
            num_guesses=num_guesses,
            num_correct=correct,
            delta=0,
            failure_probability=0.1,
        )


def test_guesses_counts_both_ends():
    scores = [0.1, 5.0, -3.0, 4.0, -2.0, 0.2]
    included = [True, True, False, False, True, False]
    assert one_run.guesses(scores, included, num_guesses=2) == 2  # 5 and -3
    assert one_run.guesses(scores, included, num_guesses=4) == 2  # 4 and -2 are wrong
    assert one_run.guesses(scores, np.array(included, int), num_guesses=6) == 2  # and 0.2, 0.1


def test_ties_are_counted_at_their_worst():
    """Against every way to break the ties."""
    generator = np.random.default_rng(0)
    for _ in range(40):
        scores = generator.integers(0, 3, 6)
        included = generator.integers(0, 2, 6).astype(bool)
        num_guesses = int(generator.choice([2, 4, 6]))
        half = num_guesses // 2
        fewest = num_guesses
        for order in itertools.permutations(range(6)):
            ranked = sorted(order, key=lambda canary: scores[canary])
            right = included[ranked[-half:]].sum() + (~included[ranked[:half]]).sum()
            fewest = min(fewest, right)
        assert one_run.guesses(scores, included, num_guesses=num_guesses) == fewest


@pytest.mark.parametrize(
    ("scores", "included", "num_guesses", "message"),
    [
        ([1.0, np.nan], [True, False], 2, "free of NaN"),
        ([1.0, 2.0], [True], 2, "one length"),
        ([1.0, 2.0], [1, 2], 2, "True or False"),
        ([1.0, 2.0, 3.0], [1, 0, 1], 3, "even"),
        ([1.0, 2.0], [1, 0], 4, "<= 2"),
    ],
)
def test_guesses_refuses_what_it_cannot_count(scores, included, num_guesses, message):
    with pytest.raises(checks.UsageError, match=message):
        one_run.guesses(scores, included, num_guesses=num_guesses)
