"""The public grid that per-record contributions are taken on: every element a multiple of a spacing.

No private record comes near this module. Pixels, atoms, a basis and the clip become integers here, so
that `per_record` can compute a record's contribution, and add contributions up, without any rounding
that depends on what else is in the batch.
"""

import dataclasses
import functools
import math

import numpy as np

from tfdps.mechanisms import moments

# Steps of the pixel grid from 0 to 1: y = (2 byte - 255) / 255 = 8 (2 byte - 255) / 2040.
LEVELS = 2040
SHARES = 2**16  # steps of a record's share from 0 to 1
SHARES_OF_SECOND = 2**10  # the same for second moments, whose other factors have many steps
STEPS = 2**11  # of the logarithm to base 2, in which shares are weighed
MOST_ROWS = 2048  # records that are summed in float64 before integers take over
FURTHEST = 64.0  # pixel units, or nearer in huge images: an atom beyond is taken to be there

# Most steps of a coordinate in the basis and of an energy. Sums over rows stay below 2^53, up to which
# float64 has every integer, so that they are exact in any order. One record adds at most 2^38 to an
# element, and so 2^24 records at most 2^62: int64 holds them with the noise.
_IN_BASIS, _ENERGIES = 2**13, 2**22
_BASIS_STEPS = 2**20  # of the basis' elements
_WEIGHTS = 2**30  # of a share before it is divided by the sum
_MARGIN = 1e-3  # how far below C the clip aims: far more than the float64 roundings of the norm
_AT_ONCE = 2**22  # numbers of a basis that are in float64 at a time
FACTORS = (
    "rate",
    "energy_scale",
    "basis_scale",
    "mass_term",
    "distance_factor",
    "energy_factor",
    "second_factor",
    "limit",
)
_FINEST, _COARSEST = 2.0**-30, 2.0**-48  # the norm's unit, of C^2 and of the largest norm


@dataclasses.dataclass(frozen=True, eq=False)
class Lattice:
    """Integers, in float64, and factors that a release is computed from. All public.

    Attributes:
      positions: X [L, K, d], multiples of 1 / 2040.
      offsets: [L, K], an atom's offset in steps of the logarithm.
      basis: float32 [p, d] as the query has it, or None: `in_steps` makes integers of its rows.
      in_basis: Z [L, K, p], the atoms in the basis, in its steps.
      weights: [.]: floor(2^30 2^(-i / 2^11)) for i = 0, 1, ..., ending with 0.
      factors: {name: float}: the constants of `piece_sums`, of the names in FACTORS.
      spacings: {channel: float, or float64 [t] for second}: what one step is of the released vector.
    """

    positions: np.ndarray
    offsets: np.ndarray
    basis: np.ndarray | None
    in_basis: np.ndarray
    weights: np.ndarray
    factors: dict
    spacings: dict


@functools.lru_cache(maxsize=1)  # every part of a draw has the same query, which never changes
def of(query):
    """Returns the Lattice of a MomentQuery; depends on nothing else.

    Guarantee: public in, public out. The bounds that exactness rests on are those of the constants
    above, for images of bytes and up to 2^24 pixels and channels.
    """
    atoms, scales = query.atoms, query.scales
    dimension = atoms.positions.shape[2]
    # The square of a distance is below 2^52 of the pixel grid's steps.
    limit = min(FURTHEST, math.sqrt(2.0**52 / dimension) / LEVELS - 1)
    positions = np.rint(np.clip(atoms.positions.astype(np.float64), -limit, limit) * LEVELS)
    widths = np.bincount(atoms.regions)
    # Of every pixel the furthest that a byte can be from the atom.
    furthest = np.sum((LEVELS + np.abs(positions)) ** 2, axis=2).max()
    per_pixel = (LEVELS + np.abs(positions).max()) ** 2
    energy_shift = _halvings(widths.max() * per_pixel, _ENERGIES)

    # Without a basis in steps of 1/255, which all pixels have.
    basis, raw, raw_unit, stretch = None, positions / 8, 1 / 255, 1.0
    reach = max(255, np.abs(raw).max())
    if atoms.basis is not None:
        basis, (raw, row_sums, stretch) = atoms.basis, _in_basis(atoms.basis, positions)
        raw_unit = 1 / (LEVELS * _BASIS_STEPS)
        reach = max(LEVELS * row_sums.max(), np.abs(raw).max())
    basis_shift = _halvings(reach, _IN_BASIS)
    in_basis = np.floor(raw * 2.0**-basis_shift + 0.5)

    pixel = 1 / LEVELS
    energy_step = scales.energy * pixel**2 * 2.0**energy_shift
    distance = furthest * pixel**2
    # The largest ||B delta||, and what rounding to the basis' steps adds.
    step = raw_unit * 2.0**basis_shift
    second_step = scales.second * step**2
    in_basis_distance = math.sqrt(stretch * distance) + step * math.sqrt(in_basis.shape[2])
    in_second = scales.second * in_basis_distance**2
    # No record's ||h||^2 is larger: what it is with all of the share at the furthest atom.
    largest = scales.mass**2 + distance + (scales.energy * distance) ** 2 + in_second**2
    unit = max(scales.clip_norm**2 * _FINEST, largest * _COARSEST)
    rate = min(pixel**2 / (2 * atoms.regularization * math.log(2)) * STEPS, 2.0**60)
    with np.errstate(over="ignore"):  # infinities are clipped
        offsets = atoms.offsets.astype(np.float64) / (atoms.regularization * math.log(2)) * STEPS
    # Of no second moments there is no triangle either: it has p^2 numbers, and p may be all pixels.
    diagonal = _diagonal(atoms.second_dimension if scales.second else 0)
    return Lattice(
        positions=positions,
        offsets=np.rint(np.clip(offsets, -(2.0**200), 2.0**200)),
        basis=basis,
        in_basis=in_basis,
        weights=_weights(),
        factors={
            "rate": rate,
            "energy_scale": 2.0**-energy_shift,
            "basis_scale": 2.0**-basis_shift / (1 if basis is not None else 8),
            "mass_term": math.ceil(scales.mass**2 / unit),
            "distance_factor": pixel**2 / unit,
            "energy_factor": energy_step**2 / unit,
            "second_factor": second_step**2 / unit,
            "limit": ((1 - _MARGIN) * scales.clip_norm) ** 2 / unit,
        },
        spacings={
            "mass": scales.mass / SHARES,
            "displacement": pixel / SHARES,
            "energy": energy_step / SHARES,
            "second": second_step / SHARES_OF_SECOND * diagonal,
        },
    )


def spacing_of_elements(query):
    """Returns the spacing of each element of a release, float64 [D], in the order of its channels.

    Args:
      query: the MomentQuery that the release answers.
    """
    spacings = of(query).spacings
    return np.concatenate(
        [
            np.broadcast_to(spacings[name], shape).ravel()
            for name, (_, shape) in query.channels.items()
        ]
    )


def _in_basis(basis, positions):
    """(positions B^T [L, K, p], sums over B's rows of |B| [p], ||B||^2 or more), B in its steps.

    A block of rows at a time: in float64 the whole of B may be more than all else of a round. All sums
    are of integers, below 2^53, and so the same whatever the blocks.
    """
    size, dimension = basis.shape
    raw, row_sums = np.empty([*positions.shape[:2], size]), np.empty(size)
    products = np.zeros([size, size])
    for block in blocks_of_rows(size, dimension):
        rows = in_steps(basis[block].astype(np.float64), np.rint)
        row_sums[block] = np.abs(rows).sum(axis=1)
        raw[..., block] = positions @ rows.T
    for block in blocks_of_rows(dimension, size):
        columns = in_steps(basis[:, block].astype(np.float64), np.rint)
        products += columns @ columns.T
    # Rows may miss being orthonormal, many of them in the same direction.
    return raw, row_sums, np.abs(products).sum(axis=1).max() / _BASIS_STEPS**2


def in_steps(rows, rint):
    """Returns elements of a basis, float64, in its steps: integers.

    Args:
      rows: of the basis, float64.
      rint: rounds to the nearest integer, half-way cases to the even one: NumPy's, or TensorFlow's.
    """
    return rint(rows * float(_BASIS_STEPS))


def blocks_of_rows(count, width):
    """Returns slices that cut `count` rows of `width` numbers into blocks of at most 32 MiB, a list."""
    rows = max(1, _AT_ONCE // width)
    return [slice(first, min(first + rows, count)) for first in range(0, count, rows)]


@functools.cache
def _weights():
    return np.append(np.floor(_WEIGHTS * 2.0 ** -(np.arange(30 * STEPS + 1) / STEPS)), 0)


def _diagonal(size):
    """1 on the diagonal of a triangle and sqrt(2) beside it, float64 [p (p + 1) / 2]."""
    return moments.triangle_of(size)[1]


def _halvings(largest, most):
    """How often `largest` must be halved to be at most `most`."""
    return max(0, math.ceil(math.log2(largest / most) + 1e-9))
