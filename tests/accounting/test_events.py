"""Charges: shares keep the whole, neighbours merge, parts keep the order."""

import dataclasses
import math

import pytest

from tfdps import checks
from tfdps.accounting import events
from tfdps.accounting.events import NoiseEvent

KINDS = [NoiseEvent(2.0, 1.0, 3), NoiseEvent(4.0, 1.0, 1), NoiseEvent(2.0, 1.0, 2)]
SHARES = (0.1, 0.1, 0.3, 0.3, 0.2)


def planned(steps, shares):
    return events.planned(
        noise_multiplier=1.7, sampling_probability=1.0, steps=steps, shares=shares
    )


def test_shares_divide_the_budget_and_leave_its_sum():
    received = planned(5, SHARES)
    assert [charge.steps for charge in received] == [2, 2, 1]
    whole = 5 / 1.7**2
    for charge, share in zip(received, (0.1, 0.3, 0.2), strict=True):
        assert 1 / charge.noise_multiplier**2 == pytest.approx(share * whole, rel=1e-14)
    total = math.fsum(charge.steps / charge.noise_multiplier**2 for charge in received)
    assert total == pytest.approx(whole, rel=1e-14)  # float64's rounding, no more


def test_equal_shares_are_none():
    (equal,) = planned(4, (0.25,) * 4)
    (none,) = planned(4, None)
    assert equal == none == NoiseEvent(1.7, 1.0, 4)


@pytest.mark.parametrize(
    ("shares", "steps", "message"),
    [
        ((0.5, 0.5), 3, "shares must have an entry a step, received 2 for 3 steps."),
        ((), 5, "received 0 for 5 steps"),
        ((0.5, 0.6, -0.1), 3, "shares[2] must be > 0, received -0.1."),
        ((0.5, math.nan), 2, "shares[1] must be > 0"),
        ((1.0, 0.0), 2, "shares[1] must be > 0, received 0.0."),
        ((0.5, 0.4999), 2, "shares must sum to 1, received a sum of 0.9999"),
    ],
)
def test_shares_that_are_no_division_of_the_budget_are_refused(shares, steps, message):
    with pytest.raises(checks.UsageError) as error:
        planned(steps, shares)
    assert message in str(error.value)


def test_only_neighbours_of_one_kind_are_merged():
    ones = [dataclasses.replace(kind, steps=1) for kind in KINDS for _ in range(kind.steps)]
    assert events.merged(ones) == KINDS
    other_draw = [NoiseEvent(2.0, 1.0, 1), NoiseEvent(2.0, 0.5, 1)]
    assert events.merged(other_draw) == other_draw
    assert events.merged([]) == []


def test_any_part_is_the_steps_it_names():
    def each(some):
        return [c.noise_multiplier for c in some for _ in range(c.steps)]

    for first in range(7):
        for count in range(7 - first):
            received = events.part(KINDS, first, count)
            assert each(received) == each(KINDS)[first : first + count]
            assert all(charge.steps for charge in received)
