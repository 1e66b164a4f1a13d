"""The per-record mechanism: moments of private records around public atoms, each record clipped.

Entropic optimal transport has a semi-dual that is an expectation over single records: given the
atoms and their potentials, a record's column of the plan is a softmax over the atoms of its class.
So every moment of the plan is a sum of terms that one record and public state determine.

Sources: the semi-dual is that of Genevay et al., NeurIPS 2016, arXiv 1605.08527, section 2; clip,
sum and noise are those of Abadi et al., CCS 2016, arXiv 1607.00133, with moments for gradients; sums
of integers on a public grid follow Canonne, Kamath & Steinke 2020 and Kairouz, Liu & Steinke 2021.
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.accounting import overflow
from tfdps.distributed import replicas
from tfdps.mechanisms import clipped_sums, exact_gaussian, lattice, moments, unit_clip
from tfdps.mechanisms.noisy_sum import NoisySum


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
      Persons: with images_per_unit m > 1 a person has m places of a batch, one after the other, and
        counts or does not as a whole. All of a person's records are scaled by one factor, that of
        `unit_clip`, in the place of their own min(1, 0.999 C/||h(y)||): so the sum of their g k(y) has
        norm at most C, and one person more or less moves a release by at most C. What is said here of
        a record then holds for a person.
      Composition: one release is a Gaussian mechanism of noise multiplier sigma, rounded; subsampled if
        the batch is a Poisson draw. Rounds compose adaptively: the atoms, scales and sigma of a round
        may be any functions of earlier releases, for the bound holds whatever public values they take.
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
      images_per_unit: m, how many places of a batch a unit of privacy has: 1, or as many as a person
        may have images, up to 100.
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
        self,
        *,
        chunk_size: int = lattice.MOST_ROWS,
        images_per_unit: int = 1,
        on: replicas.Replicas | None = None,
    ) -> None:
        self.chunk_size = checks.at_least("chunk_size", chunk_size, 1)
        self.images_per_unit = unit_clip.checked(images_per_unit)
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
        # Few of them, in runs: to sort them all would take a fifth of the time.
        firsts = np.append(True, spacings[1:] != spacings[:-1])
        for spacing in np.unique(spacings[firsts]):
            (places,) = np.nonzero(spacings == spacing)
            noise[places] = exact_gaussian.draw(len(places), stddev / spacing)
        return noise

    def _contributions(self, batch, query):
        """Returns the sum without its noise, int64 [D]: PRIVATE, for tests and audits alone."""
        atoms, layout = query.atoms, query.channels
        records = _checked(batch, atoms, self.images_per_unit)
        kinds = tuple(tf.TensorSpec(array.shape, array.dtype) for array in records)
        sums = clipped_sums.of(
            query, kinds, chunk_size=self.chunk_size, images_per_unit=self.images_per_unit
        )(records)
        if "second" in layout:
            places, _ = moments.triangle_of(atoms.second_dimension)
            matrices = tf.reshape(sums["second"], [-1, atoms.second_dimension**2])
            sums["second"] = tf.gather(matrices, places, axis=1)
        return tf.concat([tf.reshape(sums[name], [-1]) for name in layout], 0)


def _checked(batch, atoms, images_per_unit):
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
    if images.shape[0] % images_per_unit:
        raise checks.UsageError(
            f"a batch must have {images_per_unit} rows a unit, received {images.shape[0]} rows."
        )
    return tf.reshape(images, [-1, dimension]), labels, weights
