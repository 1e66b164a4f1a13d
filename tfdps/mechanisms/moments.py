"""The public side of the per-record mechanism: a query, and the release that answers it.

No private record comes near this module. A release is one flat vector of channels, each multiplied
by its public scale; here is its layout, and the way back from a vector to moments.
"""

import dataclasses
import io
import math

import numpy as np

from tfdps import checks

_SMALLEST_CLIP_NORM = 1e-3  # pixel units; two grey levels are 8e-3 apart
_LARGEST_SCALE = 1e6  # times C; far below it a step of the grid is already larger than C


@dataclasses.dataclass(frozen=True, eq=False)
class Atoms:
    """The points that moments are taken around, class by class. All of it public.

    Attributes:
      positions: float32 [L, K, d], in pixel units: K atoms of each of L classes.
      offsets: float32 [L, K], f_i + regularization * log(a_i), in units of the cost: an atom's
        potential and weight. A dead atom has a very low one, such as -1e30.
      regularization: lambda > 0 of the cost ||x - y||^2 / 2.
      basis: float32 [p, d], orthonormal rows, in which second moments are taken; None: the pixels.
      regions: int32 [d], the number of each pixel's region, from 0 to R - 1, in which energies are
        taken; None: one region, the whole image.

    Raises:
      UsageError: on a shape that does not fit, or a value that is not finite.
    """

    positions: np.ndarray
    offsets: np.ndarray
    regularization: float
    basis: np.ndarray | None = None
    regions: np.ndarray | None = None

    def __post_init__(self):
        checks.positive("regularization", self.regularization)
        positions = _finite_array("positions", self.positions, ("L", "K", "d"))
        offsets = _finite_array("offsets", self.offsets, positions.shape[:2])
        basis = self.basis
        if basis is not None:
            basis = _orthonormal(_finite_array("basis", basis, ("p", positions.shape[2])))
        regions = _regions(self.regions, positions.shape[2])
        for name, value in (
            ("positions", positions),
            ("offsets", offsets),
            ("basis", basis),
            ("regions", regions),
        ):
            object.__setattr__(self, name, value)

    @property
    def num_regions(self):
        """R, how many regions energies are taken in."""
        return int(self.regions.max()) + 1

    @property
    def second_dimension(self):
        """p, the dimension that second moments are taken in."""
        return self.positions.shape[2] if self.basis is None else len(self.basis)


@dataclasses.dataclass(frozen=True)
class Scales:
    """Where a record's contribution is clipped, and what multiplies its channels. All public.

    Attributes:
      clip_norm: C >= 1e-3, in pixel units.
      mass: w > 0.
      energy: u >= 0; with 0 there is no such channel.
      second: v >= 0; with 0 there is no such channel.

    Raises:
      UsageError: on a scale out of range, or above 1e6 C, where rounding leaves nothing.
    """

    clip_norm: float
    mass: float
    energy: float = 0.0
    second: float = 0.0

    def __post_init__(self):
        if not _SMALLEST_CLIP_NORM <= self.clip_norm < math.inf:
            raise checks.UsageError(
                f"clip_norm must be >= {_SMALLEST_CLIP_NORM} and finite, received {self.clip_norm!r}."
            )
        checks.positive("mass", self.mass)
        for name in ("mass", "energy", "second"):
            value = checks.not_negative(name, getattr(self, name))
            if value > _LARGEST_SCALE * self.clip_norm:
                raise checks.UsageError(
                    f"{name} must be <= 1e6 clip_norm = {_LARGEST_SCALE * self.clip_norm:g}, "
                    f"received {value!r}."
                )


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Released sums over records, un-scaled, each with noise of its own; NumPy float32.

    With pi_i(y) the share of atom i in record y, scaled down where y was clipped, and
    delta = y - x_i: mass = sum pi_i; displacement = sum pi_i delta; energy = sum pi_i ||delta_r||^2,
    delta_r being delta in region r; second = sum pi_i (B delta)(B delta)^T. Noise makes masses
    negative and second moments indefinite: whoever divides by them or factors them must expect it.

    Attributes:
      mass: [L, K].
      displacement: [L, K, d].
      energy: [L, K, R], or None where the channel is off.
      second: [L, K, p, p], symmetric; [p, p] when pooled over the classes; None where off.
      mass_stddev, displacement_stddev, energy_stddev: the noise on an element of each.
      second_stddev: the noise on a diagonal element; off the diagonal it is that over sqrt(2).
    """

    mass: np.ndarray
    displacement: np.ndarray
    energy: np.ndarray | None
    second: np.ndarray | None
    mass_stddev: float
    displacement_stddev: float
    energy_stddev: float | None
    second_stddev: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class MomentQuery:
    """What a round asks of the mechanism. All of it public.

    Attributes:
      atoms: the Atoms that moments are taken around.
      scales: the Scales of the channels.
      pooled: whether the second moments of all classes are added up; for one atom a class.

    Raises:
      UsageError: when second moments of several atoms a class are to be pooled: one record would add
        several terms to the same elements, and the norm that is clipped would not be its own.
    """

    atoms: Atoms
    scales: Scales
    pooled: bool = False

    def __post_init__(self):
        num_atoms = self.atoms.positions.shape[1]
        if self.pooled and num_atoms > 1:
            raise checks.UsageError(
                f"pooled must be False with more than one atom a class, received {num_atoms} atoms. "
                "Pool the released second moments afterwards."
            )

    @property
    def channels(self):
        """The layout of a release: {name of a channel: (scale, shape)}, in order."""
        atoms, scales = self.atoms, self.scales
        num_classes, num_atoms, dimension = atoms.positions.shape
        groups = () if self.pooled else (num_classes, num_atoms)
        triangle = atoms.second_dimension * (atoms.second_dimension + 1) // 2
        layout = {
            "mass": (scales.mass, (num_classes, num_atoms)),
            "displacement": (1.0, (num_classes, num_atoms, dimension)),
            "energy": (scales.energy, (num_classes, num_atoms, atoms.num_regions)),
            "second": (scales.second, (*groups, triangle)),
        }
        return {name: channel for name, channel in layout.items() if channel[0] > 0}

    def to_bytes(self):
        """Returns the query as bytes."""
        fields = {"pooled": np.array(self.pooled)}
        for kind, settings in (("atoms", self.atoms), ("scales", self.scales)):
            for name, value in dataclasses.asdict(settings).items():
                if value is not None:
                    fields[f"{kind}.{name}"] = value
        file = io.BytesIO()
        np.savez(file, **fields)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data):
        """Returns the MomentQuery that `to_bytes` wrote."""
        kinds = {"atoms": {}, "scales": {}}
        with np.load(io.BytesIO(data)) as stored:
            for key in set(stored.files) - {"pooled"}:
                kind, name = key.split(".")
                value = stored[key]
                kinds[kind][name] = value if value.ndim else float(value)
            pooled = bool(stored["pooled"])
        return cls(Atoms(**kinds["atoms"]), Scales(**kinds["scales"]), pooled)


@dataclasses.dataclass(frozen=True, eq=False)
class Release:
    """What the mechanism released, and what for: all that follows from it is post-processing.

    Attributes:
      vector: float32 NumPy [D], the channels of the query one after the other.
      query: the MomentQuery that it answers.
      noise_multiplier: sigma, noise standard deviation over the query's clip norm.

    Raises:
      UsageError: when the vector's length is not that of an answer to the query.
    """

    vector: np.ndarray
    query: MomentQuery
    noise_multiplier: float

    def __post_init__(self):
        vector, size = np.asarray(self.vector, np.float32), sum(self._sizes)
        if vector.shape != (size,):
            raise checks.UsageError(
                f"vector must have shape ({size},), received {vector.shape}. "
                "Pass the query that it was released for."
            )
        object.__setattr__(self, "vector", vector)

    @property
    def _sizes(self):
        return [math.prod(shape) for _, shape in self.query.channels.values()]

    def moments(self):
        """Returns the Moments that were released."""
        layout, scales = self.query.channels, self.query.scales
        fields = dict.fromkeys(field.name for field in dataclasses.fields(Moments))
        pieces = np.split(self.vector, np.cumsum(self._sizes)[:-1])
        for piece, (name, (scale, shape)) in zip(pieces, layout.items(), strict=True):
            fields[name] = piece.reshape(shape) / np.float32(scale)
            fields[f"{name}_stddev"] = self.noise_multiplier * scales.clip_norm / scale
        if "second" in layout:
            fields["second"] = _symmetric(fields["second"], self.query.atoms.second_dimension)
        return Moments(**fields)


def triangle_of(size):
    """Returns how a symmetric [p, p] matrix becomes a vector of the same norm, and in what order.

    Two arrays [p (p + 1) / 2]: places in the flattened matrix, int64, and factors, float64: the
    upper triangle, its off-diagonal elements times sqrt(2).
    """
    rows, columns = np.triu_indices(size)
    return rows * size + columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def _symmetric(vectors, size):
    """The matrices [..., p, p] whose triangles are `vectors` [..., p (p + 1) / 2]."""
    places, factors = triangle_of(size)
    matrices = np.zeros((*vectors.shape[:-1], size * size), np.float32)
    matrices[..., places] = vectors / factors.astype(np.float32)
    matrices = matrices.reshape(*vectors.shape[:-1], size, size)
    lower = np.tril_indices(size, -1)
    matrices[..., lower[0], lower[1]] = matrices[..., lower[1], lower[0]]
    return matrices


def _finite_array(name, value, shape):
    """`value` as float32; letters in `shape` stand for any length."""
    array = np.asarray(value, np.float32)
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == length
        for wanted, length in zip(shape, array.shape, strict=True)
    )
    if not fits or not array.size:
        wanted = ", ".join(str(length) for length in shape)
        raise checks.UsageError(f"{name} must have shape [{wanted}], received {array.shape}.")
    if not np.isfinite(array).all():
        raise checks.UsageError(f"{name} must be finite, received NaN or infinity in float32.")
    return array


def _regions(regions, dimension):
    """`regions` as int32 [d], every number from 0 to the largest taken; default all 0."""
    if regions is None:
        return np.zeros(dimension, np.int32)
    regions = np.asarray(regions)
    whole = regions.shape == (dimension,) and np.issubdtype(regions.dtype, np.integer)
    if not whole or regions.min() < 0 or not np.bincount(regions).all():
        raise checks.UsageError(
            f"regions must be integers [{dimension}], each from 0 to the largest taken, received "
            f"{regions.dtype} {list(regions.shape)}"
            + (f" from {regions.min()} to {regions.max()}." if whole else ".")
        )
    return regions.astype(np.int32)


def _orthonormal(basis):
    error = np.abs(basis @ basis.T - np.eye(len(basis))).max()
    if error > 1e-3:  # float32 rows of a QR or an SVD miss by 1e-6
        raise checks.UsageError(
            f"basis must have orthonormal rows, received rows whose products miss the identity by "
            f"{error:.2g}. Use numpy.linalg.qr(basis.T)[0].T."
        )
    return basis
