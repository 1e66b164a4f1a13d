"""Which round a step asks, whatever was lost before it."""

import itertools

import pytest

from tfdps.accounting import round_shares


def ask(entries, lost):
    """(what each step asked, the indices that were answered) where these steps are lost."""
    asked, learned = [], []
    for step in range(len(entries)):
        asked.append(round_shares.next_round(entries, learned, step))
        if step not in lost:
            learned.append(asked[-1])
    return asked, learned


@pytest.mark.parametrize("num_atoms", [1, 2, 32, 512])
def test_without_losses_step_k_asks_round_k(num_atoms):
    entries = round_shares.of(num_atoms)
    asked, learned = ask(entries, ())
    assert asked == learned == list(range(len(entries)))
    assert round_shares.never_asked(entries, learned, len(entries)) == []


@pytest.mark.parametrize("num_atoms", [1, 2, 32, 512])
def test_every_loss_costs_one_round_and_never_one_that_others_rest_on_while_it_can_be_asked(
    num_atoms,
):
    entries = round_shares.of(num_atoms)
    steps = range(len(entries))
    for lost in itertools.chain.from_iterable(itertools.combinations(steps, n) for n in steps):
        asked, learned = ask(entries, lost)
        assert len(set(learned)) == len(learned) == len(entries) - len(lost)
        # As many of the first three as there are answers, in their order, before any atoms.
        first = min(3, len(learned))
        assert learned[:first] == list(range(first))
        assert learned == sorted(learned)
        # A round with atoms is asked by its own step alone, so with its own noise.
        assert all(index == step for step, index in enumerate(asked) if index >= 3)
        if len(learned) > 3 and len(entries) - 1 not in lost:
            assert learned[-1] == len(entries) - 1
        missing = round_shares.never_asked(entries, learned, len(entries))
        assert len(missing) == len(lost)
        assert [e for e in entries if e not in missing] == [entries[i] for i in learned]


def test_what_will_not_be_asked_is_known_when_the_step_is_lost():
    entries = round_shares.of(128)
    assert [entry.title for entry in entries] == [
        "centre",
        "scatter",
        "spread",
        "with 8 atoms",
        "with 32 atoms",
        "with 128 atoms",
    ]

    def lost(learned, steps):
        return [entry.title for entry in round_shares.never_asked(entries, learned, steps)]

    assert lost([0], 2) == ["with 8 atoms"]  # scatter and spread take a step more
    assert lost([0, 1, 2], 4) == ["with 8 atoms"]
    assert lost([0, 1, 2, 3], 5) == ["with 32 atoms"]
    assert lost([0, 1, 2, 3, 4], 6) == ["with 128 atoms"]
    assert lost([], 5) == ["scatter", "spread", "with 8 atoms", "with 32 atoms", "with 128 atoms"]
    assert lost([0, 1], 2) == []  # a run that is not at its end has lost nothing
