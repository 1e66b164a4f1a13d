"""What a draw that is cut short costs: a share of delta that is kept, and runs it does not cover."""

import math

import pytest

from tfdps import checks
from tfdps.accounting import accountants, overflow
from tfdps.accounting.events import NoiseEvent


def added(steps, epsilon):
    """t (1 + e^epsilon) of the module's text."""
    return steps * overflow.MOST_PARTS * overflow.PROBABILITY * (1 + math.exp(epsilon))


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 10.0, 20.0])
def test_runs_as_they_are_trained_are_covered(epsilon):
    overflow.check(steps=100, epsilon=epsilon, delta=1e-5)
    assert added(100, epsilon) < 2**-20 * 1e-5


@pytest.mark.parametrize("epsilon", [50.0, 700.0, 1e4, math.inf])
def test_a_large_epsilon_is_refused_with_the_way_out(epsilon):
    message = (
        "10000 subsampled steps is beyond .* take a target_epsilon below 20, or a larger delta"
    )
    with pytest.raises(checks.UsageError, match=message):
        overflow.check(steps=10_000, epsilon=epsilon, delta=1e-5)


@pytest.mark.parametrize(("steps", "delta"), [(1, 1e-5), (300, 1e-6), (10_000, 1e-9)])
def test_the_check_is_the_inequality_of_the_guarantee(steps, delta):
    """Where t (1 + e^epsilon) is the share of delta, a thousandth of epsilon to both sides."""
    t = steps * 1e4 * 1e-30
    edge = math.log(2**-20 * delta / t - 1)
    overflow.check(steps=steps, epsilon=0.999 * edge, delta=delta)
    with pytest.raises(checks.UsageError):
        overflow.check(steps=steps, epsilon=1.001 * edge, delta=delta)


def test_epsilon_of_subsampled_steps_is_that_at_what_is_left_of_delta():
    """By both accountants: of subsampled steps at less than delta, of whole ones at delta itself."""
    delta = 1e-5
    for accountant in accountants.ACCOUNTANTS:

        def spent(probability, delta, accountant=accountant):
            charge = NoiseEvent(1.5, probability, 3)
            return accountants.epsilon_of([charge], delta=delta, accountant=accountant)

        found = spent(0.1, delta)
        # An epsilon of 1 moves by 1e-7 or so for a millionth of delta.
        assert found == pytest.approx(spent(0.1, delta * (1 + 1e-9)), rel=1e-7)
        assert spent(0.1, delta * (1 - 2**-20)) >= found >= spent(0.1, delta * (1 + 2**-20))
        assert spent(0.1, delta * (1 - 2**-20)) > spent(0.1, delta * (1 + 2**-20))


def test_the_share_is_taken_from_delta_once_whatever_else_is_composed(monkeypatch):
    """Against a share of nothing: the same charges at delta (1 - 2^-20)."""
    charges = [NoiseEvent(3.0, 1.0, 2), NoiseEvent(1.5, 0.1, 3)]
    whole = charges[:1]
    for accountant in accountants.ACCOUNTANTS:
        found, of_whole = (
            accountants.epsilon_of(each, delta=1e-5, accountant=accountant)
            for each in (charges, whole)
        )
        with monkeypatch.context() as patch:
            patch.setattr(overflow, "SHARE_OF_DELTA", 0.0)
            left = 1e-5 * (1 - 2.0**-20)
            at_left = accountants.epsilon_of(charges, delta=left, accountant=accountant)
            at_delta = accountants.epsilon_of(whole, delta=1e-5, accountant=accountant)
        assert found == at_left
        assert of_whole == at_delta
