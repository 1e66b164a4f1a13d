"""What records of one class add to a release: clipped, and summed without rounding.

All arrays are integers in float64 (see `lattice`) and every sum of them is below 2^53, so that its
order does not matter. A product that is not an integer is rounded to one before anything is added to
it, so that no compiler can fuse the two: what is computed of a record is the same wherever it stands.
"""

import tensorflow as tf

from tfdps.mechanisms import lattice


def of(y, of_class, factors, counted, names, unit_factors=None):
    """Returns the clipped sums of the channels `names` of one piece, {name: int64}, un-noised: PRIVATE.

    Args:
      y: records of one class, in steps of the pixel grid, float64 [B, d].
      of_class: of the class: its atoms [K, d] in the same steps, their offsets [K] in steps of the
        logarithm, the basis (float32 [b, r, d], b blocks of its rows) or None, the atoms in it [K, p],
        the pixels of each region [R, S], the weights of shares.
      factors: the Lattice's.
      counted: bool [B], which records count.
      names: of channels, from "mass", "displacement", "energy", "second", whose sums are
        [K], [K, d], [K, R] and [K, p, p].
      unit_factors: float64 [B], what each record is scaled by, see `unit_clip`; None: each record is
        clipped for itself.
    """
    x, z = of_class[0], of_class[3]
    shares, energies, a, own, second = _seen(y, of_class, factors, names)
    factor = unit_factors
    if factor is None:
        norms = tf.math.ceil(shares * shares * (own + second) * (1 / lattice.SHARES**2))
        norm = tf.reduce_sum(norms, axis=1)  # squared, in units of the lattice's
        factor = tf.where(norm > factors["limit"], tf.sqrt(factors["limit"] / norm), 1)
    plan = tf.where(counted[:, None], tf.floor(shares * factor[:, None]), 0)

    mass = tf.reduce_sum(plan, axis=0)
    displacement = tf.matmul(plan, y, transpose_a=True) - mass[:, None] * x
    sums = {"mass": mass, "displacement": displacement}
    if "energy" in names:
        sums["energy"] = tf.transpose(tf.reduce_sum(plan * energies, axis=1))
    sums = {name: tf.cast(value, tf.int64) for name, value in sums.items()}
    if "second" in names:
        coarse = tf.floor(plan * (lattice.SHARES_OF_SECOND / lattice.SHARES))
        sums["second"] = _second_moments(coarse, a, z)
    return sums


def lengths(y, of_class, factors, counted, names, *, apart):
    """Returns the lengths of what records add to each atom, rounded up, int32 [B, K, 1 or 2]: PRIVATE.

    In units whose squares are the lattice's; 0 for records that do not count.

    Args:
      y, of_class, factors, counted, names: as for `of`.
      apart: whether second moments have lengths of their own, beside those of all else.
    """
    shares, _, _, own, second = _seen(y, of_class, factors, names)
    terms = tf.stack([own, second], axis=2) if apart else (own + second)[..., None]
    squares = tf.math.ceil((shares * shares)[..., None] * terms * (1 / lattice.SHARES**2))
    found = tf.cast(tf.math.ceil(tf.sqrt(squares)), tf.int32)
    return tf.where(counted[:, None, None], found, 0)


def _seen(y, of_class, factors, names):
    """What records look like from the atoms, in steps.

    Their shares [B, K], energies [R, B, K], coordinates in the basis [B, p] or None, and the squared
    lengths of what an atom gets of each, for a share of 1: of all but second moments [B, K], and of
    those.
    """
    x, offset, basis, z, places, share_weights = of_class
    in_regions = _squared_distances(_split(y, places), _split(x, places))
    squares = tf.reduce_sum(in_regions, axis=0)
    energies = tf.floor(in_regions * factors["energy_scale"])
    shares = _shares(offset - tf.floor(squares * factors["rate"]), share_weights)
    own = factors["mass_term"] + tf.math.ceil(squares * factors["distance_factor"])
    if "energy" in names:
        squared = energies * energies * factors["energy_factor"]
        own += tf.reduce_sum(tf.math.ceil(squared), axis=0)
    if "second" not in names:
        return shares, energies, None, own, tf.zeros_like(own)
    a = y if basis is None else _products(y, basis)
    a = tf.floor(a * factors["basis_scale"] + 0.5)  # a power of two: exact but for the floor
    squared = _squared_distances(a, z)
    second = tf.math.ceil(squared * squared * factors["second_factor"])
    return shares, energies, a, own, second


def _products(y, blocks):
    """y B^T [B, b r], of the blocks [b, r, d] of B, one after the other in float64: integers, exact."""

    def product(block):
        rows = lattice.in_steps(tf.cast(block, tf.float64), tf.round)
        return tf.matmul(y, rows, transpose_b=True)

    products = tf.map_fn(product, blocks, fn_output_signature=tf.float64)
    return tf.reshape(tf.transpose(products, [1, 0, 2]), [y.shape[0], -1])


def _second_moments(plan, a, z):
    """sum P (a - z)(a - z)^T of every atom, int64 [K, p, p].

    It is sum P a a^T - g z^T - z g^T - mass z z^T, with g = sum P (a - z): one product for all atoms,
    [K p, B] [B, p]. Each term is exact in float64; their sum may not be, so they are added as int64.
    """
    mass = tf.reduce_sum(plan, axis=0)
    weighted = tf.reshape(plan[:, :, None] * a[:, None, :], [a.shape[0], -1])
    raw = tf.reshape(tf.matmul(weighted, a, transpose_a=True), [*z.shape, z.shape[1]])
    g = tf.matmul(plan, a, transpose_a=True) - mass[:, None] * z
    cross = tf.cast(g[:, :, None] * z[:, None, :], tf.int64)
    of_atoms = tf.cast(mass[:, None, None] * z[:, :, None] * z[:, None, :], tf.int64)
    return tf.cast(raw, tf.int64) - cross - tf.linalg.matrix_transpose(cross) - of_atoms


def _shares(logits, share_weights):
    """The softmax to base 2 of integers [B, K] in steps of 2^-11, in steps of 2^-16, rounded down."""
    behind = tf.reduce_max(logits, axis=1, keepdims=True) - logits
    behind = tf.minimum(behind, float(share_weights.shape[0] - 1))
    weights = tf.gather(share_weights, tf.cast(behind, tf.int32))
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.floor(weights * float(lattice.SHARES) / total)


def _split(points, places):
    """The points [n, d] region by region, [R, n, S], with zeros where a region has fewer pixels."""
    padded = tf.pad(points, [[0, 0], [0, 1]])
    return tf.transpose(tf.gather(padded, places, axis=1), [1, 0, 2])


def _squared_distances(y, x):
    """||y_j - x_i||^2, [..., B, K], of integers: exact."""
    squares = tf.reduce_sum(y * y, axis=-1)[..., None] + tf.reduce_sum(x * x, axis=-1)[..., None, :]
    return squares - 2 * tf.matmul(y, x, transpose_b=True)
