"""Which rounds a per-record run takes, and what share of the budget each of them has.

Fixed before the run, from public settings alone: the plan and the ledger rest on it.
"""

import typing

import numpy as np

# Of the budget, the sum of 1 / sigma^2; benchmarks/recipe.md has what was tried.
_SHARES = {"centre": 0.12, "scatter": 0.15, "spread": 0.23}
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
    whole = sum(_SHARES.values())
    if num_atoms == 1:
        return [Entry(name, share / whole, 1) for name, share in _SHARES.items()]
    counts = [min(num_atoms, _FIRST_SPLIT)]
    while counts[-1] < num_atoms:
        counts.append(min(num_atoms, _SPLIT * counts[-1]))
    parts = _GROWTH ** np.arange(len(counts))
    shares = (1 - whole) * parts / parts.sum()
    return [
        *(Entry(name, share, 1) for name, share in _SHARES.items()),
        *(Entry("atoms", float(s), k) for s, k in zip(shares, counts, strict=True)),
    ]
