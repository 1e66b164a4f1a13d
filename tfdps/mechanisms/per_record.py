"""The per-record mechanism: moments of private records around public atoms, each record clipped.

Entropic optimal transport has a semi-dual that is an expectation over single records: given the
atoms and their potentials, a record's column of the plan is a softmax over the atoms of its class.
So every moment of the plan is a sum of terms that one record and public state determine.

Sources: the semi-dual is that of Genevay et al., NeurIPS 2016, arXiv 1605.08527, section 2; clip,
sum and noise are those of Abadi et al., CCS 2016, arXiv 1607.00133, with moments for gradients.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tfdps import checks, replicas
from tfdps.mechanisms import moments, pieces
from tfdps.mechanisms.moments import Atoms, Moments, Scales
from tfdps.mechanisms.noisy_sum import NoisySum

__all__ = ["Atoms", "Moments", "PerRecordMechanism", "Scales"]

# The clip aims this far below C, so that rounding cannot carry a record above it. Everything private
# is float64: n terms sum with an error of at most n^2 2^-53 times the largest, 4e-7 for 60,000.
_ROUNDING_MARGIN = 1e-3
_LARGEST_PRODUCT = 2**22  # elements of the largest array over one piece: larger ones run no faster


class PerRecordMechanism:
    """Releases moments of a private batch around public atoms.

    Guarantee:
      Adjacency: add or remove one record of the private batch; the batch's shape is public.
      Mechanism: release(S) = sum over y in S of h(y) min(1, C/||h(y)||), plus N(0, (sigma C)^2) on
        every element. With c the class of y, pi the softmax over the atoms i of class c of
        (offset_i - ||x_i - y||^2 / 2) / lambda, delta_i = y - x_i, and B the basis,
            h(y) = (w pi_i; pi_i delta_i; u pi_i ||delta_ir||^2; v pi_i svec(B delta_i delta_i^T B^T))
        at the atoms of class c, and 0 at all others. delta_ir is delta_i in region r of the image.
        svec is the upper triangle, sqrt(2) times off the diagonal, so ||svec(b b^T)|| = ||b||^2; the
        blocks of h lie apart, so
            ||h||^2 = sum_i pi_i^2 (w^2 + ||delta_i||^2 + u^2 sum_r ||delta_ir||^4
                                    + v^2 ||B delta_i||^4):
        a by-product of the cost matrix. Pooled, the second moments of all classes share one block;
        with one atom a class a record still has one term in it, and the norm is the same.
      Sensitivity: h depends on one record and on public state alone, so one record more or less
        moves the sum by that record's clipped h and by nothing else: at most C in L2 (not 2C),
        however many parts and replicas the sum is over (`NoisySum`). One release is a Gaussian
        mechanism of noise multiplier sigma, subsampled if the batch is a Poisson draw. Rounds
        compose adaptively: the atoms, scales and sigma of a round may be any functions of earlier
        releases, for the bound holds whatever public values they take.
      Counts as no record: a weight of 0, a label outside [0, L), a contribution that is not finite.
        Any weight above 0 counts once.
      May be released: the return value of `release`, and everything computed from it and from
        public values alone.
      What breaks it: atoms, offsets, scales, sigma or class sizes computed from records without
        noise; parts whose shape or number follows the draw; a record in two of them; draws that are
        truncated (padded to all N records they never are); `_contributions` used elsewhere, but for
        tests and audits; noise that somebody can reproduce (its generator is keyed by the operating
        system, its state is never saved).
      Rounding: sums are float64 and the clip aims at 0.999 C, which is far more than their error;
        what is then rounded to float32 already carries the noise.

    Args:
      chunk_size: most records worked on at a time. It bounds memory; results do not depend on it.
      on: the Replicas that the records lie on; default: one device.

    Raises:
      UsageError: on a setting out of range.
    """

    name = "per_record"
    private = True
    bounds_any_batches = False  # neighbours alone: draws must not be truncated
    sensitivity_over_clip_norm = 1.0

    def __init__(self, *, chunk_size=2048, on=None):
        self.chunk_size = checks.at_least("chunk_size", chunk_size, 1)
        self._noisy_sum = NoisySum(on or replicas.Replicas())

    def release(self, draw, atoms, scales, *, noise_multiplier, pooled=False):
        """Returns the sanitised sum of contributions, float32 [D]. See the class's guarantee.

        Args:
          draw: its parts, an iterable of batches (images uint8 [P, H, W, C], labels int32 [P],
            weights float32 [P] of 0 or 1), the private records; pixel value = images / 127.5 - 1.
          atoms: Atoms, from public values only.
          scales: Scales, likewise.
          noise_multiplier: sigma > 0, noise standard deviation over C.
          pooled: add up the second moments of all classes; for one atom a class.

        Raises:
          UsageError: on an argument out of range or shapes that do not fit.
        """
        checks.positive("noise_multiplier", noise_multiplier)
        noisy = self._noisy_sum.of(
            draw,
            lambda batch: self._contributions(batch, atoms, scales, pooled=pooled),
            clip_norm=scales.clip_norm,
            stddev=noise_multiplier * scales.clip_norm,
        )
        return tf.cast(noisy, tf.float32)

    def noise_sample(self, size):
        """Returns the next numbers of this replica's noise, float64 [size], which no release has."""
        return self._noisy_sum.sample(size)

    def moments(self, vector, atoms, scales, *, noise_multiplier, pooled=False):
        """Returns the Moments in a value of `release`: public post-processing.

        Args:
          vector: what `release` returned for the same other arguments.

        Raises:
          UsageError: when the vector's length does not fit the other arguments.
        """
        return moments.from_vector(
            vector, atoms, scales, noise_multiplier=noise_multiplier, pooled=pooled
        )

    def _contributions(self, batch, atoms, scales, *, pooled=False):
        """Returns the sum without its noise, float64 [D]: PRIVATE, for tests and audits alone."""
        records = _checked(batch, atoms)
        layout = moments.channels(atoms, scales, pooled)
        width = atoms.positions.shape[1] * max(
            atoms.num_regions,
            atoms.second_dimension if "second" in layout else 1,
        )
        rows = max(1, min(self.chunk_size, records[0].shape[0], _LARGEST_PRODUCT // width))
        basis = None if atoms.basis is None else tf.constant(atoms.basis)
        public = (
            (*map(tf.constant, (atoms.positions, atoms.offsets)), basis, _places(atoms.regions)),
            tf.constant(atoms.regularization, tf.float64),
            {name: tf.constant(s, tf.float64) for name, s in dataclasses.asdict(scales).items()},
        )
        # A concrete one: TensorFlow would take rounds of other shapes for needless tracing.
        sums = _compiled_sums(tuple(layout), pooled, rows).get_concrete_function(records, *public)
        sums = sums(records, *public)
        if "second" in layout:
            places, factors = moments.triangle_of(atoms.second_dimension)
            matrices = tf.reshape(sums["second"], [-1, atoms.second_dimension**2])
            sums["second"] = factors * tf.gather(matrices, places, axis=1)
        return tf.concat([s * tf.reshape(sums[name], [-1]) for name, (s, _) in layout.items()], 0)


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


@functools.lru_cache
def _compiled_sums(names, pooled, rows):
    """_clipped_sums of these settings; of one function for all TensorFlow would say it retraces."""

    def sums(records, atoms, regularization, scales):
        settings = {"names": names, "pooled": pooled, "rows": rows}
        return _clipped_sums(records, atoms, regularization, scales, **settings)

    return tf.function(sums, jit_compile=True)


def _clipped_sums(records, atoms, regularization, scales, *, names, pooled, rows):
    """Sums of the clipped channels `names`, not yet scaled: {name: float64 [L, K, ...]}.

    Second moments are whole matrices [L, K, p, p], or [1, 1, p, p] when pooled. A loop over pieces
    of at most `rows` records of one class, each against the atoms of that class alone.
    """
    images, labels, weights = records
    positions, offsets, basis, places = atoms
    num_classes, num_atoms, dimension = positions.shape
    num_pieces, piece = pieces.of_one_class(labels, weights, num_classes, rows)

    def add_piece(trip, totals):
        label, indices, counted = piece(trip)
        x = tf.cast(tf.gather(positions, label), tf.float64)
        # Moving atoms and records alike changes nothing but rounding, for the better. A centre
        # within the range of pixels keeps a stray atom from spoiling the others' distances.
        center = tf.reduce_mean(tf.clip_by_value(x, -1, 1), axis=0)
        y = tf.cast(tf.gather(images, indices), tf.float64) / 127.5 - 1
        offset = tf.cast(tf.gather(offsets, label), tf.float64)
        atoms_of_class = (x - center, offset, basis, places)
        sums = _piece_sums(y - center, atoms_of_class, regularization, scales, counted)
        place = {"second": label * (0 if pooled else 1)}
        totals = {
            name: tf.tensor_scatter_nd_add(total, [[place.get(name, label)]], sums[name][None])
            for name, total in totals.items()
        }
        return trip + 1, totals

    p = dimension if basis is None else basis.shape[0]
    shapes = {
        "mass": [num_classes, num_atoms],
        "displacement": [num_classes, num_atoms, dimension],
        "energy": [num_classes, num_atoms, places.shape[0]],
        "second": [1 if pooled else num_classes, num_atoms, p, p],
    }
    zeros = {name: tf.zeros(shapes[name], tf.float64) for name in names}
    return tf.while_loop(lambda trip, _: trip < num_pieces, add_piece, [0, zeros])[1]


def _piece_sums(y, atoms, regularization, scales, counted):
    """Clipped sums of every channel over records y [B, d] of one class with its atoms, x [K, d]."""
    x, offset, basis, places = atoms
    in_regions = _squared_distances(_split(y, places), _split(x, places))
    squares = tf.reduce_sum(in_regions, axis=0)
    a, z = (y, x) if basis is None else (_project(y, basis), _project(x, basis))
    squares_in_basis = squares if basis is None else _squared_distances(a, z)
    plan = tf.nn.softmax((offset - squares / 2) / regularization, axis=1)
    terms = (
        scales["mass"] ** 2
        + squares
        + scales["energy"] ** 2 * tf.reduce_sum(in_regions**2, axis=0)
        + (scales["second"] * squares_in_basis) ** 2
    )
    norm = tf.sqrt(tf.reduce_sum(plan**2 * terms, axis=1))
    limit = (1 - _ROUNDING_MARGIN) * scales["clip_norm"]
    factor = tf.where(norm > limit, limit / norm, 1)
    counted = counted & tf.math.is_finite(norm)
    plan = tf.where(counted[:, None], plan * factor[:, None], 0)

    mass = tf.reduce_sum(plan, axis=0)
    displacement = tf.matmul(plan, y, transpose_a=True) - mass[:, None] * x
    # sum pi (a - z)(a - z)^T = sum pi a a^T - g z^T - z g^T - sum pi z z^T, with g = sum pi (a - z).
    # One product for all atoms: [K p, B] [B, p].
    weighted = tf.reshape(plan[:, :, None] * a[:, None, :], [y.shape[0], -1])
    raw = tf.reshape(tf.matmul(weighted, a, transpose_a=True), [*z.shape, z.shape[1]])
    g = displacement if basis is None else _project(displacement, basis)
    cross = g[:, :, None] * z[:, None, :]
    second = (
        raw
        - cross
        - tf.linalg.matrix_transpose(cross)
        - mass[:, None, None] * z[:, :, None] * z[:, None, :]
    )
    energy = tf.transpose(tf.reduce_sum(plan * in_regions, axis=1))
    return {"mass": mass, "displacement": displacement, "energy": energy, "second": second}


def _project(points, basis):
    return tf.matmul(points, tf.cast(basis, tf.float64), transpose_b=True)


def _split(points, places):
    """The points [n, d] region by region, [R, n, S], with zeros where a region has fewer pixels."""
    padded = tf.pad(points, [[0, 0], [0, 1]])
    return tf.transpose(tf.gather(padded, places, axis=1), [1, 0, 2])


def _squared_distances(y, x):
    """||y_j - x_i||^2, [..., B, K]. Unlike `costs.cost_matrix`, no record enters another's rounding."""
    squares = tf.reduce_sum(y * y, axis=-1)[..., None] + tf.reduce_sum(x * x, axis=-1)[..., None, :]
    return tf.maximum(squares - 2 * tf.matmul(y, x, transpose_b=True), 0)
