"""The per-record mechanism: moments of private records around public atoms, each record clipped.

Entropic optimal transport has a semi-dual that is an expectation over single records: given the
atoms and their potentials, a record's column of the plan is a softmax over the atoms of its class.
So every moment of the plan is a sum of terms that one record and public state determine.

Sources: the semi-dual is that of Genevay et al., NeurIPS 2016, arXiv 1605.08527, section 2; clip,
sum and noise are those of Abadi et al., CCS 2016, arXiv 1607.00133, with moments for gradients; sums
of integers on a public grid follow Canonne, Kamath & Steinke 2020 and Kairouz, Liu & Steinke 2021.
"""

import functools
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.accounting import overflow
from tfdps.distributed import replicas
from tfdps.mechanisms import by_class, exact_gaussian, lattice, moments, piece_sums
from tfdps.mechanisms.noisy_sum import NoisySum

_LARGEST_PRODUCT = 2**22  # elements of the largest array over one piece: larger ones run no faster


class PerRecordMechanism:
    """Releases moments of a private batch around public atoms.

    Guarantee:
      Adjacency: zero-out: one record of the private batch counts or does not; shapes are public.
      Mechanism: release(S) = g (sum over y in S of k(y) + round(N)), element by element: k(y) are
        integers that one record and public state determine, g the public spacings of `lattice`, and
        N Gaussian with standard deviation at least sigma C / g (`exact_gaussian`). With c the class
        of y, the pixels of y and atoms in steps of 1/2040, and atom i of class c,
            pi_i  ~ 2^((offset_i - ||x_i - y||^2 / 2) / (lambda ln 2)), in steps of 2^-16,
            P_i   = pi_i min(1, 0.999 C/||h(y)||), rounded down to steps (2^-10 for second moments),
            g k(y) = P_i (w; delta_i; u ||delta_ir||^2; v svec(b_i b_i^T)), delta_i = y - x_i,
        at the atoms of class c, and 0 at all others. delta_ir is delta_i in region r of the image; its
        square is taken in steps too, and so is b_i, which is B delta_i. svec is the upper triangle,
        sqrt(2) times off the diagonal, so ||svec(b b^T)|| = ||b||^2; the blocks lie apart, so
            ||h||^2 = sum_i pi_i^2 (w^2 + ||delta_i||^2 + u^2 sum_r ||delta_ir||^4 + v^2 ||b_i||^4),
        of the integers themselves, every term rounded up. Pooled, the second moments of all classes
        share one block; with one atom a class a record still has one term in it, and the norm is the
        same.
      Sensitivity: k(y) depends on one record and on public state alone, to the last bit: whatever is
        rounded is one element of one record, by operations whose result does not depend on its place;
        what is added up are integers below 2^53, exact in any order, pieces and number of replicas. So
        one record more or less moves the sum by its own k(y) and by nothing else, and ||g k(y)|| <= C
        (not 2C): P_i only rounds down what has that norm. The thousandth that 0.999 leaves pays for
        float64's roundings of norms, of g and of the noise's standard deviation.
        One release is a Gaussian mechanism of noise multiplier sigma, rounded; subsampled if the batch
        is a Poisson draw. Rounds compose adaptively: the atoms, scales and sigma of a round may be any
        functions of earlier releases, for the bound holds whatever public values they take.
      Counts as no record: a weight of 0, a label outside [0, L). Any weight above 0 counts once.
      May be released: the return value of `release`, and everything computed from it and from
        public values alone.
      What breaks it: atoms, offsets, scales, sigma or class sizes computed from records without
        noise; parts whose shape or number follows the draw; a record in two of them; draws that are
        truncated (padded to all N records they never are); `_contributions` used elsewhere, but for
        tests and audits; a device whose float64 sums of integers are not exact (`exactness.check`).

    Args:
      chunk_size: most records worked on at a time, from 1 to 2048. It bounds memory; results do not
        depend on it.
      on: the Replicas that the records lie on; default: one device.

    Raises:
      UsageError: on a setting out of range.

    Examples:
      >>> import tfdps
      >>> mechanism = tfdps.mechanisms.PerRecordMechanism()
      >>> mechanism.private, mechanism.sensitivity_over_clip_norm
      (True, 1.0)
    """

    name = "per_record"
    private = True
    # Neighbours alone are bounded: draws must not be cut short.
    overflow_probability, draws_in_parts = overflow.PROBABILITY, True
    sensitivity_over_clip_norm = 1.0
    sums_integers_in_float64 = True

    def __init__(
        self, *, chunk_size: int = lattice.MOST_ROWS, on: replicas.Replicas | None = None
    ) -> None:
        self.chunk_size = checks.at_least("chunk_size", chunk_size, 1)
        if chunk_size > lattice.MOST_ROWS:
            raise checks.UsageError(
                f"chunk_size must be at most {lattice.MOST_ROWS}, received {chunk_size}: sums of "
                "more records would not be exact."
            )
        self._replicas = on or replicas.Replicas()
        self._noisy_sum = NoisySum(self._replicas)

    def release(
        self,
        draw: Iterable[tuple[tf.Tensor, ...]],
        query: moments.MomentQuery,
        *,
        noise_multiplier: float,
    ) -> moments.Release:
        """Returns the Release of the sanitised sum of contributions. See the class's guarantee.

        Args:
          draw: its parts, an iterable of batches (images uint8 [P, H, W, C], labels int32 [P],
            weights float32 [P] of 0 or 1), the private records; pixel value = images / 127.5 - 1.
          query: the MomentQuery, from public values only.
          noise_multiplier: sigma > 0, noise standard deviation over C.

        Raises:
          UsageError: on an argument out of range or shapes that do not fit.
        """
        checks.positive("noise_multiplier", noise_multiplier)
        spacings = lattice.spacing_of_elements(query)
        stddev = noise_multiplier * query.scales.clip_norm
        noise = self._noise(spacings, stddev) if self._replicas.is_chief else None
        noisy = self._noisy_sum.add_up(
            draw, lambda batch: self._contributions(batch, query), noise=noise
        )
        return moments.Release(noisy.numpy() * spacings, query, noise_multiplier)

    @staticmethod
    def _noise(spacings, stddev):
        """The integers that the chief adds to a sum, int64 [D]: of each element in its own steps."""
        noise = np.empty(len(spacings), np.int64)
        for spacing in np.unique(spacings):
            (places,) = np.nonzero(spacings == spacing)
            noise[places] = exact_gaussian.draw(len(places), stddev / spacing)
        return noise

    def _contributions(self, batch, query):
        """Returns the sum without its noise, int64 [D]: PRIVATE, for tests and audits alone."""
        atoms, layout = query.atoms, query.channels
        records = _checked(batch, atoms)
        rows = min(self.chunk_size, rows_of_piece(query, records[0].shape[0]))
        public = _public(query)
        # A concrete one: TensorFlow would take rounds of other shapes for needless tracing.
        sums = _compiled_sums(tuple(layout), query.pooled, rows).get_concrete_function(
            records, *public
        )
        sums = sums(records, *public)
        if "second" in layout:
            places, _ = moments.triangle_of(atoms.second_dimension)
            matrices = tf.reshape(sums["second"], [-1, atoms.second_dimension**2])
            sums["second"] = tf.gather(matrices, places, axis=1)
        return tf.concat([tf.reshape(sums[name], [-1]) for name in layout], 0)


def rows_of_piece(query, num_records):
    """Returns how many records are worked on at a time; of shapes alone.

    At most as many as a class has on average: a piece is of one class, and padded to its rows, so that
    of many small classes most rows would be padding.

    Args:
      query: the MomentQuery.
      num_records: of a batch, with its padding.
    """
    num_classes, num_atoms, dimension = query.atoms.positions.shape
    in_second = query.atoms.second_dimension if "second" in query.channels else 1
    width = max(dimension, num_atoms * max(query.atoms.num_regions, in_second))
    of_class = -(-num_records // num_classes)
    return max(1, min(lattice.MOST_ROWS, of_class, _LARGEST_PRODUCT // width))


def _checked(batch, atoms):
    """The batch as tensors, images flattened. Looks at shapes and types, never at values."""
    images, labels, weights = (tf.convert_to_tensor(array) for array in batch)
    pixels, dimension = images.shape[1:].num_elements(), atoms.positions.shape[2]
    if images.dtype != tf.uint8 or pixels != dimension:
        raise checks.UsageError(
            f"images must be uint8 [P, H, W, C] with H W C = {dimension}, the atoms' dimension; "
            f"received {images.dtype.name} {tuple(images.shape)}."
        )
    if not images.shape[0] or not (labels.shape == weights.shape == images.shape[:1]):
        raise checks.UsageError(
            "labels and weights must have one element an image, and a batch at least one row, with "
            f"weight 0 if it is empty; received {images.shape[0]} images, labels {tuple(labels.shape)} "
            f"and weights {tuple(weights.shape)}."
        )
    return tf.reshape(images, [-1, dimension]), labels, weights


def _places(regions):
    """int32 [R, S]: the pixels of each region; d, where a region has fewer than the largest."""
    sizes = np.bincount(regions)
    places = np.full([len(sizes), sizes.max()], len(regions), np.int32)
    for region, size in enumerate(sizes):
        places[region, :size] = np.flatnonzero(regions == region)
    return tf.constant(places)


def _public(query):
    """What `_clipped_sums` needs of a MomentQuery, as tensors."""
    grid = lattice.of(query)
    positions, offsets, in_basis = (
        tf.constant(array, tf.float64) for array in (grid.positions, grid.offsets, grid.in_basis)
    )
    return (
        (positions, offsets, _in_blocks(grid.basis), in_basis),
        _places(query.atoms.regions),
        tf.constant(grid.weights, tf.float64),
        {name: tf.constant(value, tf.float64) for name, value in grid.factors.items()},
    )


def _in_blocks(basis):
    """A basis [p, d] as float32 [b, r, d], blocks of r rows, as many as fit into 32 MiB of float64."""
    if basis is None:
        return None
    rows = lattice.blocks_of_rows(*basis.shape)[0].stop
    while len(basis) % rows:
        rows -= 1
    return tf.constant(basis.reshape(-1, rows, basis.shape[1]))


@functools.lru_cache
def _compiled_sums(names, pooled, rows):
    """_clipped_sums of these settings; of one function for all TensorFlow would say it retraces."""

    def sums(records, atoms, places, weights, factors):
        settings = {"names": names, "pooled": pooled, "rows": rows}
        return _clipped_sums(records, atoms, places, weights, factors, **settings)

    return tf.function(sums, jit_compile=True)


def _clipped_sums(records, atoms, places, share_weights, factors, *, names, pooled, rows):
    """Sums of the clipped channels `names`, in steps of the lattice: {name: int64 [L, K, ...]}.

    Second moments are whole matrices [L, K, p, p], or [1, 1, p, p] when pooled. A loop over pieces
    of at most `rows` records of one class, each against the atoms of that class alone.
    """
    images, labels, weights = records
    positions, offsets, basis, in_basis = atoms
    num_classes, num_atoms, dimension = positions.shape
    num_pieces, piece = by_class.of_one_class(labels, weights, num_classes, rows)

    def add_piece(trip, totals):
        label, indices, counted = piece(trip)
        x, offset, z = (tf.gather(array, label) for array in (positions, offsets, in_basis))
        y = 8 * (2 * tf.cast(tf.gather(images, indices), tf.float64) - 255)
        of_class = (x, offset, basis, z, places, share_weights)
        sums = piece_sums.of(y, of_class, factors, counted, names)
        place = {"second": label * (0 if pooled else 1)}
        totals = {
            name: tf.tensor_scatter_nd_add(total, [[place.get(name, label)]], sums[name][None])
            for name, total in totals.items()
        }
        return trip + 1, totals

    p = in_basis.shape[2]
    shapes = {
        "mass": [num_classes, num_atoms],
        "displacement": [num_classes, num_atoms, dimension],
        "energy": [num_classes, num_atoms, places.shape[0]],
        "second": [1 if pooled else num_classes, num_atoms, p, p],
    }
    zeros = {name: tf.zeros(shapes[name], tf.int64) for name in names}
    return tf.while_loop(lambda trip, _: trip < num_pieces, add_piece, [0, zeros])[1]
