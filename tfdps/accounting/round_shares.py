"""Which rounds a per-record run takes, and what share of the budget each of them has.

Fixed before the run, from public settings alone: the plan and the ledger rest on it. Step k has the
share, so the noise, of round k, and asks round k unless an earlier step was lost: paid for, then
killed before a checkpoint had its answer. What a lost round changes depends on what was lost alone.
"""

import typing

import numpy as np

# Of the budget, the sum of 1 / sigma^2; benchmarks/recipe.md has what was tried.
_SHARES = {"centre": 0.12, "scatter": 0.15, "spread": 0.23}
_GROWTH = 2.0  # of the share from one round with atoms to the next
_FIRST_SPLIT, _SPLIT = 8, 4  # most atoms that one becomes in a round


class RoundShare(typing.NamedTuple):
    """A round: its name (see `rounds`), its share of the budget, its atoms a class."""

    name: str
    share: float
    num_atoms: int

    @property
    def title(self):
        """What tells it from the run's others: "spread", "with 8 atoms"."""
        return f"with {self.num_atoms} atoms" if self.name == "atoms" else self.name


def next_round(rounds, learned, step):
    """Returns the index of the round that a step asks.

    The first of centre, scatter and spread that has no answer yet: later rounds cannot do without.
    Where they are there it is the step's own round, with the noise that was planned for it: a lost
    round with atoms is passed over, so that the last and largest is asked all the same.

    Args:
      rounds: the run's rounds, from `of`.
      learned: the indices of those that have an answer.
      step: the step's number, from 0.
    """
    for index, each in enumerate(rounds):
        if each.name != "atoms" and index not in learned:
            return index
    return step


def never_asked(rounds, learned, steps):
    """Returns the rounds that have no answer and will get none, a list of RoundShare.

    As many as steps were lost: every step that is left asks a round that has no answer yet.

    Args:
      rounds: the run's rounds, from `of`.
      learned: the indices of those that have an answer.
      steps: how many steps are spent.
    """
    answered = set(learned)
    for step in range(steps, len(rounds)):
        answered.add(next_round(rounds, answered, step))
    return [each for index, each in enumerate(rounds) if index not in answered]


def of(num_atoms):
    """Returns the rounds that end at `num_atoms` atoms a class, a list of RoundShare.

    Every round with atoms has twice the share of the one before: its atoms have fewer records each.
    """
    whole = sum(_SHARES.values())
    if num_atoms == 1:
        return [RoundShare(name, share / whole, 1) for name, share in _SHARES.items()]
    counts = [min(num_atoms, _FIRST_SPLIT)]
    while counts[-1] < num_atoms:
        counts.append(min(num_atoms, _SPLIT * counts[-1]))
    parts = _GROWTH ** np.arange(len(counts))
    shares = (1 - whole) * parts / parts.sum()
    return [
        *(RoundShare(name, share, 1) for name, share in _SHARES.items()),
        *(RoundShare("atoms", float(s), k) for s, k in zip(shares, counts, strict=True)),
    ]
