"""Which records of a data set a worker has: part (index, count) of them; parts are disjoint."""

WHOLE = (0, 1)


def contiguous(part, num_records):
    """Returns (first, end) of the records of a part: neighbours in the data set's order."""
    index, count = part
    return index * num_records // count, (index + 1) * num_records // count


def strided(part):
    """Returns the slice of the records of a part: every count-th, so that no part has one class."""
    index, count = part
    return slice(index, None, count)
