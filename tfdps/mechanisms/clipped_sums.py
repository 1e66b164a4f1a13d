"""The clipped sums of a batch as one compiled program: pieces of one class, each against its atoms."""

import functools

import numpy as np
import tensorflow as tf

from tfdps.mechanisms import by_class, lattice, piece_sums, unit_clip

_LARGEST_PRODUCT = 2**22  # elements of the largest array over one piece: larger ones run no faster


@functools.lru_cache(maxsize=8)  # every part of a draw, and every release of an audit, asks alike
def of(query, kinds, *, chunk_size, images_per_unit):
    """Returns a function from a batch's records to their clipped sums: PRIVATE.

    (images [n, d], labels [n], weights [n]) -> {name of a channel: int64 [L, K, ...]}, in steps of the
    lattice; second moments as whole matrices.

    Args:
      query: the MomentQuery.
      kinds: the tf.TensorSpec of each array of the records, a tuple.
      chunk_size: the most records that are worked on at a time.
      images_per_unit: see `per_record`.
    """
    rows = min(chunk_size, rows_of_piece(query, kinds[0].shape[0]))
    program = _compiled_sums(tuple(query.channels), query.pooled, rows, images_per_unit)
    with tf.init_scope():  # what is kept must not belong to the graph of a replica
        public = _public(query)
        # A concrete one: TensorFlow would take rounds of other shapes for needless tracing.
        concrete = program.get_concrete_function(kinds, *public)
    return lambda records: concrete(records, *public)


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


def _places(regions):
    """int32 [R, S]: the pixels of each region; d, where a region has fewer than the largest."""
    sizes = np.bincount(regions)
    places = np.full([len(sizes), sizes.max()], len(regions), np.int32)
    for region, size in enumerate(sizes):
        places[region, :size] = np.flatnonzero(regions == region)
    return tf.constant(places)


def _public(query):
    """What `_clipped_sums` needs of a MomentQuery, as tensors; as few as can be, each takes time."""
    grid = lattice.of(query)
    positions, offsets, in_basis = (
        tf.constant(array, tf.float64) for array in (grid.positions, grid.offsets, grid.in_basis)
    )
    return (
        (positions, offsets, _in_blocks(grid.basis), in_basis),
        _places(query.atoms.regions),
        tf.constant(grid.weights, tf.float64),
        tf.constant([grid.factors[name] for name in lattice.FACTORS], tf.float64),
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
def _compiled_sums(names, pooled, rows, images_per_unit):
    """_clipped_sums of these settings; of one function for all TensorFlow would say it retraces."""

    def sums(records, atoms, places, weights, factors):
        settings = {
            "names": names,
            "pooled": pooled,
            "rows": rows,
            "images_per_unit": images_per_unit,
        }
        factors = dict(zip(lattice.FACTORS, tf.unstack(factors), strict=True))
        return _clipped_sums(records, atoms, places, weights, factors, **settings)

    return tf.function(sums, jit_compile=True)


def _clipped_sums(
    records, atoms, places, share_weights, factors, *, names, pooled, rows, images_per_unit
):
    """Sums of the clipped channels `names`, in steps of the lattice: {name: int64 [L, K, ...]}.

    Second moments are whole matrices [L, K, p, p], or [1, 1, p, p] when pooled. A loop over pieces
    of at most `rows` records of one class, each against the atoms of that class alone; before it
    another one, for the lengths of what a person's records add, where a unit has several.
    """
    images, labels, weights = records
    positions, offsets, basis, in_basis = atoms
    num_classes, num_atoms, dimension = positions.shape
    num_pieces, piece = by_class.of_one_class(labels, weights, num_classes, rows)

    def of_piece(trip):
        label, indices, counted = piece(trip)
        x, offset, z = (tf.gather(array, label) for array in (positions, offsets, in_basis))
        y = 8 * (2 * tf.cast(tf.gather(images, indices), tf.float64) - 255)
        return label, indices, counted, y, (x, offset, basis, z, places, share_weights)

    def over_pieces(body, start):
        step = [0, start]
        return tf.while_loop(lambda trip, _: trip < num_pieces, body, step)[1]

    unit_factors = None
    if images_per_unit > 1:
        apart = pooled and "second" in names

        def add_lengths(trip, found):
            _, indices, counted, y, of_class = of_piece(trip)
            own = piece_sums.lengths(y, of_class, factors, counted, names, apart=apart)
            # Added to zeros: a row that does not count adds 0, wherever its index points.
            return trip + 1, tf.tensor_scatter_nd_add(found, indices[:, None], own)

        empty = tf.zeros([labels.shape[0], num_atoms, 2 if apart else 1], tf.int32)
        lengths = over_pieces(add_lengths, empty)
        unit_factors = unit_clip.factors(lengths, labels, images_per_unit, factors["limit"])

    def add_piece(trip, totals):
        label, indices, counted, y, of_class = of_piece(trip)
        scaled = None if unit_factors is None else tf.gather(unit_factors, indices)
        sums = piece_sums.of(y, of_class, factors, counted, names, scaled)
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
    return over_pieces(add_piece, {name: tf.zeros(shapes[name], tf.int64) for name in names})
