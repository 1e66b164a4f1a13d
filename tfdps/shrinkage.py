"""What is left of a noisy estimate once its noise is accounted for: James-Stein shrinkage.

Every function takes a released value and the standard deviation of its noise, both public, and
returns an estimate of smaller expected error. All of it is post-processing: it costs no privacy.

Source: James & Stein 1961; blocks after Cai 1999 (Annals of Statistics 27); eigenvalues after
Gavish & Donoho 2017 (IEEE Transactions on Information Theory 63), whose optimal shrinkage of a
matrix in white noise is used here for symmetric matrices.

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
      ring_of: int [m], the ring of each wave (`frequencies.cosine_basis`).
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


def spectra(matrices, noise):
    """Returns symmetric matrices [..., p, p] with their eigenvalues shrunk.

    Eigenvalues that the noise alone can make, up to sqrt(2 p) s, are shrunk together, by James and
    Stein; a larger one y becomes sqrt(y^2 - 2 p s^2), its sign kept.

    Args:
      matrices: float [..., p, p].
      noise: s of the symmetric noise, broadcasts against [...].
    """
    size = matrices.shape[-1]
    noise = np.broadcast_to(noise, matrices.shape[:-2])[..., None]
    values, directions = np.linalg.eigh(matrices)
    edge = 2 * size * noise**2
    above = values**2 > edge
    low = np.where(above, 0, values)
    # A symmetric noise has energy s^2 p (p + 1) / 2, spread over p eigenvalues.
    low = vectors(low, noise * np.sqrt((size + 1) / 2))
    high = np.sign(values) * np.sqrt(np.maximum(values**2 - edge, 0))
    return (directions * np.where(above, high, low)[..., None, :]) @ directions.swapaxes(-1, -2)


def _kept(expected, energy):
    return np.clip(1 - expected / np.maximum(energy, 1e-30), 0, 1)


def _by_ring(values, ring_of):
    return np.bincount(ring_of, weights=values)
