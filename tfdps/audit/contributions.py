"""What one record adds to a per-record release, by the auditor's own hand.

NumPy and float64, one record at a time, from the formulas in the guarantee of
`mechanisms/per_record.py` and from none of its code: an error there cannot hide here. A question is a
`questions.Question`; of what it holds, only public values are read.
"""

import functools

import numpy as np

_CLIP = 0.999  # of C: where the guarantee says that the clip aims


def contribution(image, label, question):
    """Returns a record's clipped contribution at `places(label, question)`, float64 [m].

    Args:
      image: uint8 [H, W, C] of the atoms' dimension.
      label: its class, in [0, L).
      question: a questions.Question.
    """
    atoms, scales = question.atoms, question.scales
    delta = np.ravel(image) / 127.5 - 1 - atoms.positions[label].astype(np.float64)
    pi = shares(image, label, question)
    inside = delta if atoms.basis is None else delta @ atoms.basis.astype(np.float64).T
    channels = [scales.mass * pi, pi[:, None] * delta]
    if scales.energy:
        in_regions = np.stack([np.bincount(atoms.regions, weights=one) for one in delta**2])
        channels.append(scales.energy * pi[:, None] * in_regions)
    if scales.second:
        rows, columns, twice = _triangle(inside.shape[1])
        channels.append(scales.second * pi[:, None] * twice * inside[:, rows] * inside[:, columns])
    whole = np.concatenate([np.ravel(channel) for channel in channels])
    return whole * min(1, _CLIP * scales.clip_norm / np.linalg.norm(whole))


def shares(image, label, question):
    """Returns how a record is shared among its class's atoms, float64 [K] of sum 1."""
    atoms = question.atoms
    delta = np.ravel(image) / 127.5 - 1 - atoms.positions[label].astype(np.float64)
    logits = (atoms.offsets[label] - np.sum(delta**2, axis=1) / 2) / atoms.regularization
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def places(label, question):
    """Returns where in a release the records of a class add to it, int64 [m]."""
    found, start = [], 0
    for width, common in _widths(question):
        found.append(start + (0 if common else label * width) + np.arange(width))
        start += width * (1 if common else len(question.atoms.positions))
    return np.concatenate(found)


def size(question):
    """Returns D, how many numbers a release has."""
    num_classes = len(question.atoms.positions)
    return sum(width * (1 if common else num_classes) for width, common in _widths(question))


def total(images, labels, question):
    """Returns the sum of the records' contributions, float64 [D]: a release without its noise."""
    found = np.zeros(size(question))
    for image, label in zip(images, labels, strict=True):
        found[places(label, question)] += contribution(image, label, question)
    return found


@functools.lru_cache(maxsize=2)
def _triangle(rank):
    """(rows, columns, factors) of the upper triangle: what lies off the diagonal is there twice."""
    rows, columns = np.triu_indices(rank)
    return rows, columns, np.where(rows == columns, 1, np.sqrt(2))


def _widths(question):
    """[(numbers of one class, whether all classes share them)] of the channels, in order."""
    _, num_atoms, dimension = question.atoms.positions.shape
    basis, scales = question.atoms.basis, question.scales
    rank = dimension if basis is None else len(basis)
    widths = [(num_atoms, False), (num_atoms * dimension, False)]
    if scales.energy:
        widths.append((num_atoms * question.atoms.num_regions, False))
    if scales.second:
        triangle = rank * (rank + 1) // 2
        widths.append((triangle if question.pooled else num_atoms * triangle, question.pooled))
    return widths
