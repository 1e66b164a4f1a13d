"""What is left of a noisy estimate once its noise is accounted for: James-Stein shrinkage.

Every function takes a released value and the standard deviation of its noise, both public, and
returns an estimate of smaller expected error. All of it is post-processing: it costs no privacy.

Sources: James & Stein 1961; in blocks, Cai 1999 (Annals of Statistics 27); over many alike, the
empirical Bayes of Efron & Morris 1973 (JASA 68).

A "symmetric noise of s" has standard deviation s on the diagonal and s / sqrt(2) beside it, as a
released second moment has.
"""

import numpy as np


def vectors(values, noise, *, axes=-1):
    """Returns `values` shrunk to zero, each group by 1 - (its noise's energy) / (its energy).

    Args:
      values: float array.
      noise: standard deviation on every element; broadcasts against `values`.
      axes: the axis or axes that form a group.
    """
    energy = np.sum(values**2, axis=axes, keepdims=True)
    expected = np.sum(np.broadcast_to(noise, values.shape) ** 2, axis=axes, keepdims=True)
    return values * _kept(expected, energy)


def rings(waves, ring_of, noise):
    """Returns coefficients of waves, shrunk ring by ring; leading axes share a ring's energy.

    Args:
      waves: float [..., m].
      ring_of: int [m], the ring of each wave (`waves.cosine_basis`).
      noise: standard deviation on every coefficient, broadcasts against [..., 1].
    """
    energy = _by_ring(np.sum(waves**2, axis=tuple(range(waves.ndim - 1))), ring_of)
    variance = np.sum(np.broadcast_to(np.square(noise), (*waves.shape[:-1], 1)))
    expected = _by_ring(np.full(len(ring_of), variance), ring_of)
    return waves * _kept(expected, energy)[ring_of]


def blocks(matrix, ring_of, noise):
    """Returns a symmetric matrix over waves, shrunk in blocks, one for each pair of rings.

    A diagonal block is shrunk to its mean variance, which its trace tells well, and the others to
    zero: waves of different rings count as uncorrelated until the matrix says otherwise.

    Args:
      matrix: float [m, m], symmetric.
      ring_of: int [m].
      noise: s of the symmetric noise.
    """
    count = _by_ring(np.ones(len(ring_of)), ring_of)
    variance = np.maximum(_by_ring(np.diag(matrix), ring_of) / np.maximum(count, 1), 0)
    flat = np.diag(variance[ring_of])
    rest = matrix - flat
    # Sums over blocks are two products with the rings' indicator.
    member = np.eye(len(count))[ring_of]
    energy = member.T @ rest**2 @ member
    expected = np.outer(count, count) * noise**2 / 2
    expected[np.diag_indices_from(expected)] += count * noise**2 / 2
    kept = _kept(expected, energy)
    return flat + rest * kept[np.ix_(ring_of, ring_of)]


def vector_bands(vectors, band_of, noise):
    """Returns vectors [..., p], each band of coordinates shrunk to zero, all vectors alike in law.

    Empirical Bayes: the energy of the signal in a band is what all vectors have there on average,
    less their noise; a vector keeps signal / (signal + its own noise) of the band.

    Args:
      vectors: float [..., p].
      band_of: int [p], the band of each coordinate.
      noise: standard deviation on every element of a vector, broadcasts against [...].
    """
    member = np.eye(band_of.max() + 1)[band_of]
    noise = np.broadcast_to(noise, vectors.shape[:-1])[..., None]
    expected = noise**2 * member.sum(axis=0)
    kept = _posterior(vectors**2 @ member, expected, groups=1)
    return vectors * kept[..., band_of]


def elements(values, noise):
    """Returns values [..., r], each column shrunk to zero, all rows alike in law.

    Empirical Bayes as in `vector_bands`, element by element: rows of less noise say more about what
    the signal's energy is.

    Args:
      values: float [..., r].
      noise: standard deviation on every element, of the same shape.
    """
    leading = tuple(range(values.ndim - 1))
    noise = np.maximum(noise, 1e-12)
    precision = noise**-4.0
    signal = np.sum(precision * (values**2 - noise**2), axis=leading) / precision.sum(axis=leading)
    signal = np.maximum(signal, 0)
    return values * signal / (signal + noise**2)


def matrix_bands(matrices, band_of, noise):
    """Returns symmetric matrices [..., p, p], shrunk as `vector_bands` does, in blocks of two bands.

    Args:
      matrices: float [..., p, p].
      band_of: int [p].
      noise: s of the symmetric noise, broadcasts against [...].
    """
    member = np.eye(band_of.max() + 1)[band_of]
    count = member.sum(axis=0)
    noise = np.broadcast_to(noise, matrices.shape[:-2])[..., None, None]
    expected = noise**2 / 2 * (np.outer(count, count) + np.diag(count))
    kept = _posterior(member.T @ matrices**2 @ member, expected, groups=2)
    return matrices * kept[..., band_of[:, None], band_of]


def _posterior(energy, expected, groups):
    """What to keep of each group (the last `groups` axes), given its energy and its noise's."""
    leading = tuple(range(energy.ndim - groups))
    signal = np.maximum(np.mean(energy - expected, axis=leading), 0)
    return signal / np.maximum(signal + expected, 1e-30)


def _kept(expected, energy):
    return np.clip(1 - expected / np.maximum(energy, 1e-30), 0, 1)


def _by_ring(values, ring_of):
    return np.bincount(ring_of, weights=values)
