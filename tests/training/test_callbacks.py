"""What a run shows while it trains: the epsilon of what its ledger covers, not of what was taken."""

import io
import re
import types

import numpy as np
import pytest
import tensorflow as tf

from tfdps.accounting import accountants, ledger
from tfdps.accounting.plan import make_plan
from tfdps.config.run_config import RunConfig
from tfdps.training import callbacks


@pytest.fixture
def of(tmp_path):
    """A plan of ten steps of an accountant and its ledger, which covers as many as told."""
    opened = []

    def make(accountant, covered=0, batch_size=50):
        config = RunConfig(
            mechanism="joint",
            accountant=accountant,
            num_steps=10,
            target_epsilon=3.0,
            batch_size=batch_size,
        )
        plan = make_plan(config, 1438)
        opened.append(ledger.open_ledger(tmp_path / f"ledger.{len(opened)}", plan))
        for charge in plan.charges(0, covered):
            opened[-1].append(charge)
        return plan, opened[-1]

    yield make
    for each in opened:
        each.close()


def model(taken):
    return types.SimpleNamespace(noisy_steps=tf.Variable(taken, dtype=tf.int64))


def shown_by(plan, open_ledger, *, taken, at_end=False):
    """(the sign before it or "", epsilon) that the bar shows in the middle or at the end."""
    bar = callbacks.Progress(plan, open_ledger, file=io.StringIO())
    bar.set_model(model(taken))
    bar.on_train_begin()
    bar.on_train_batch_end(0)
    bar._bar.refresh()  # else it waits for half a minute in a log
    if at_end:
        bar.on_train_end()
    sign, epsilon = re.findall(r"epsilon (<= )?([\d.]+)", bar._file.getvalue())[-1]
    return sign.strip(), float(epsilon)


@pytest.mark.parametrize(("accountant", "batch_size"), [("rdp", 50), ("pld", 1438)])
@pytest.mark.parametrize("covered", [4, 10])
def test_the_bar_shows_what_the_ledger_covers_whatever_was_taken(
    of, accountant, batch_size, covered
):
    plan, open_ledger = of(accountant, covered, batch_size)
    for taken in (0, 3):
        sign, epsilon = shown_by(plan, open_ledger, taken=taken)
        assert sign == ""
        assert plan.epsilon(covered) <= epsilon <= plan.epsilon(covered) + 1e-3
        assert epsilon <= 3.0


@pytest.mark.slow
def test_where_pld_is_slow_the_bar_shows_a_bound_and_at_the_end_the_number(of, monkeypatch):
    plan, open_ledger = of("pld", 6)
    slow = []
    spent = accountants.epsilon_of

    def watched(charges, *, delta, accountant):
        slow.append(accountant == "pld")
        return spent(charges, delta=delta, accountant=accountant)

    monkeypatch.setattr(callbacks.accountants, "epsilon_of", watched)
    sign, bound = shown_by(plan, open_ledger, taken=2)
    assert sign == "<="
    assert plan.epsilon(6) <= bound <= 3.0
    assert slow[:2] == [True, False]  # once for the plan, and never again while training
    sign, epsilon = shown_by(plan, open_ledger, taken=6, at_end=True)
    assert sign == ""
    assert plan.epsilon(6) <= epsilon <= plan.epsilon(6) + 1e-3
    for charge in plan.charges(6, 4):
        open_ledger.append(charge)
    assert shown_by(plan, open_ledger, taken=7)[1] <= 3.0  # RDP alone would be above the plan


@pytest.mark.parametrize(("accountant", "batch_size"), [("rdp", 50), ("pld", 1438)])
def test_the_scalar_is_that_of_the_ledger_by_the_accountant_that_decides_and_not_below_it(
    of, tmp_path, accountant, batch_size
):
    plan, open_ledger = of(accountant, 5, batch_size)
    scalars = callbacks.Scalars(plan, open_ledger, tmp_path / "logs")
    scalars.set_model(model(2))
    scalars.on_train_begin()
    scalars.on_train_end()
    (path,) = (tmp_path / "logs").iterdir()
    found = {
        value.tag: (event.step, tf.make_ndarray(value.tensor).item())
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    step, epsilon = found[f"privacy/epsilon_{accountant}"]
    assert [tag for tag in found if tag.startswith("privacy/")] == [f"privacy/epsilon_{accountant}"]
    assert step == 2
    assert plan.epsilon(5) <= epsilon <= plan.epsilon(5) * (1 + 2e-7)


def test_a_float32_is_never_below_its_number():
    for value in np.random.default_rng(0).uniform(0, 50, 1000):
        assert value <= float(callbacks._float32_up(value)) <= value * (1 + 1.2e-7)
    assert callbacks._float32_up(10.0) == 10.0


def test_a_slow_accountant_is_asked_as_much_more_seldom(of, tmp_path, monkeypatch):
    plan, open_ledger = of("rdp", 5)
    clock, asked = [0.0], []

    def slow(*_, **__):
        asked.append(clock[0])
        clock[0] += 2.0
        return 1.0

    monkeypatch.setattr(callbacks.accountants, "epsilon_of", slow)
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])
    scalars = callbacks.Scalars(plan, open_ledger, tmp_path)
    scalars.set_model(model(2))
    scalars.on_train_begin()
    for _ in range(200):
        clock[0] += 1.0
        scalars.on_train_batch_end(0)
    assert asked[:3] == [10.0, 50.0, 90.0]  # 2 seconds of 40
