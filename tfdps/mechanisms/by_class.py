"""Records in pieces of one class each, so that each meets the atoms of its class alone."""

import tensorflow as tf


def of_one_class(labels, weights, num_classes, rows):
    """Records sorted by class and cut into pieces of one class each.

    Returns the number of pieces, which follows shapes alone, and a function from a piece's number
    to its (class, indices [rows], which of them count [rows]). Records that must not count sort
    behind the last class, where no piece reaches; pieces beyond the last one are empty.
    """
    labels = tf.cast(labels, tf.int64)
    counts = (weights > 0) & (labels >= 0) & (labels < num_classes)
    sort_key = tf.cast(tf.where(counts, labels, num_classes), tf.int32)
    order = tf.argsort(sort_key, stable=True)
    is_member = sort_key[:, None] == tf.range(num_classes)
    sizes = tf.reduce_sum(tf.cast(is_member, tf.int32), axis=0)
    pieces = (sizes + rows - 1) // rows
    last_pieces, first_pieces = tf.cumsum(pieces), tf.cumsum(pieces, exclusive=True)
    first_records = tf.cumsum(sizes, exclusive=True)

    def piece(trip):
        label = tf.reduce_sum(tf.cast(last_pieces <= trip, tf.int32))
        label = tf.minimum(label, num_classes - 1)
        # tf.gather, never x[label]: XLA would want a slice's place, so all labels, as constants, and
        # compile anew for every batch.
        within = (trip - tf.gather(first_pieces, label)) * rows + tf.range(rows)
        places = tf.minimum(tf.gather(first_records, label) + within, labels.shape[0] - 1)
        return label, tf.gather(order, places), within < tf.gather(sizes, label)

    # Every class fills pieces to the brim but for one.
    return labels.shape[0] // rows + num_classes, piece
