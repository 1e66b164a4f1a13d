"""Which rounds a per-record run takes, and what share of the budget each of them has.

Fixed before the run, from public settings alone: the plan and the ledger rest on it.
"""

import typing

import numpy as np

# Of the budget, the sum of 1 / sigma^2; benchmarks/recipe.md has what was tried.
_CENTRE_SHARE, _SCATTER_SHARE = 0.12, 0.15
_GROWTH = 2.0  # of the share from one round with atoms to the next
_FIRST_SPLIT, _SPLIT = 8, 4  # most atoms that one becomes in a round


class Entry(typing.NamedTuple):
    """A round: its name (see `rounds`), its share of the budget, its atoms a class."""

    name: str
    share: float
    num_atoms: int


def of(num_atoms):
    """Returns the rounds that end at `num_atoms` atoms a class, a list of Entry.

    Every round with atoms has twice the share of the one before: its atoms have fewer records each.
    """
    counts = [1]
    while counts[-1] < num_atoms:
        split = _FIRST_SPLIT if counts[-1] == 1 else _SPLIT
        counts.append(min(num_atoms, split * counts[-1]))
    parts = _GROWTH ** np.arange(len(counts))
    shares = (1 - _CENTRE_SHARE - _SCATTER_SHARE) * parts / parts.sum()
    return [
        Entry("centre", _CENTRE_SHARE, 1),
        Entry("scatter", _SCATTER_SHARE, 1),
        *(Entry("atoms", float(s), count) for s, count in zip(shares, counts, strict=True)),
    ]
