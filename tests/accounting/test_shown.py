"""Numbers as texts: claims are never shown smaller than they are, findings never larger."""

import math
import pathlib
import random
import types

import pytest

from tfdps.accounting import shown


def some_numbers():
    """Numbers of all sizes, and the neighbours of those with few digits, where rounding is hardest."""
    draw = random.Random(0)
    for _ in range(2000):
        yield 10 ** draw.uniform(-6, 6)
        few = draw.randrange(1, 10**4) / 10 ** draw.randrange(0, 6)
        yield from (few, math.nextafter(few, 0), math.nextafter(few, math.inf))


def unit(value, digits):
    """One unit of the last of so many significant digits of a number."""
    return 10.0 ** (math.floor(math.log10(value)) - digits + 1)


@pytest.mark.parametrize("digits", [1, 3, 4, 6])
def test_what_is_shown_is_never_on_the_wrong_side_and_at_most_a_unit_away(digits):
    for value in some_numbers():
        above, below = float(shown.up(value, digits)), float(shown.down(value, digits))
        assert below <= value <= above
        # The power of ten of a number just below one is that number's, not the shown one's.
        assert above - below <= 1.0001 * max(unit(value, digits), unit(above, digits))


@pytest.mark.parametrize("decimals", [0, 3, 4])
def test_the_same_holds_for_digits_after_the_point(decimals):
    for value in some_numbers():
        above = shown.up(value, decimals=decimals)
        below = shown.down(value, decimals=decimals)
        assert float(below) <= value <= float(above)
        assert float(above) - float(below) <= 1.0001 * 10**-decimals
        assert len(above.partition(".")[2]) == len(below.partition(".")[2]) == decimals


@pytest.mark.parametrize(
    ("value", "digits", "above", "below"),
    [
        (9.99944, 4, "10", "9.999"),  # to the nearest it would be 9.999
        (9.9994e-1, 4, "1", "0.9999"),
        (10.0, 4, "10", "10"),
        (1, 4, "1", "1"),
        (0.2, 4, "0.2", "0.2"),
        (0.30000000000000004, 4, "0.3001", "0.3"),
        (0.1234, 4, "0.1234", "0.1234"),
        (123.45, 4, "123.5", "123.4"),
        (0.999948, 6, "0.999948", "0.999948"),
        (0.0, 4, "0", "0"),
        ("2.5", 2, "2.5", "2.5"),
        (math.inf, 4, "infinity", "infinity"),
        ("infinity", 4, "infinity", "infinity"),
        (math.nan, 4, "nan", "nan"),
    ],
)
def test_exact_numbers_are_shown_as_they_are_and_others_away_from_the_truth(
    value, digits, above, below
):
    assert (shown.up(value, digits), shown.down(value, digits)) == (above, below)


def test_what_a_run_prints_is_never_below_what_it_spends(monkeypatch):
    """9.99944 and neighbours: the line of the plan, the last line, the account, an audit's lines."""
    from tfdps.accounting import account_lines, plan
    from tfdps.artefacts.card import ModelCard
    from tfdps.auditing import attacks
    from tfdps.config.run_config import RunConfig
    from tfdps.training import plan_lines, run_export

    spent = 9.999441
    monkeypatch.setattr(plan.accountants, "epsilon_of", lambda *args, **options: spent)
    config = RunConfig(mechanism="joint", noise_multiplier=5.0, num_steps=10, target_epsilon=None)
    planned = plan.make_plan(config, 1438)
    assert "epsilon 10 at delta" in plan_lines.of_plan(planned, types.SimpleNamespace(count=1))
    lines = list(account_lines.account(config, planned))
    assert "epsilon by RDP            9.999441" in lines
    names = ("epsilon", "epsilon_rdp", "epsilon_pld")
    privacy = dict.fromkeys(names, spent) | {"private": True, "delta": 1e-5, "steps": 10}
    card = ModelCard({"privacy": privacy | {"accountant": "rdp"}})
    last = next(run_export._summary(types.SimpleNamespace(export=pathlib.Path("x")), card, ""))
    assert "Spent epsilon 10 at delta 1e-05 (RDP; RDP 10, PLD 10)" in last
    found = {"claim": {"epsilon": 2.3456}, "lower_bound": {"epsilon": 2.3456}, "confidence": 0.99}
    found |= {"largest": {"epsilon": 3.4567}}
    assert next(attacks._lines("canaries", found)) == (
        "epsilon at least 2.34 with confidence 0.99; claimed 2.35; with every guess right, guesses "
        "would show 3.45."
    )
