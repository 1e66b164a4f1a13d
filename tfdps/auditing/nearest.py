"""Exact nearest neighbours in Euclidean space, by matrix products whose rounding is bounded."""

import numpy as np

from tfdps import checks

_BLOCK = 2048  # queries and points at a time: 16 MB of products
_CROWD = 16  # pairs a query in one block beyond which float32 no longer tells them apart


def pixels(images):
    """Returns float32 points [n, H * W * C] in [0, 1] from uint8 images [n, H, W, C]."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise checks.UsageError(
            "images must be uint8 [n, H, W, C] with n >= 1, "
            f"received {images.dtype} {list(images.shape)}."
        )
    return images.reshape(len(images), -1) / np.float32(255)


def as_points(name, values, *, like=None):
    """Returns `values` as a float32 or float64 array [n, d] of finite numbers, n >= 1 and d >= 1.

    Args:
      name: what an error calls them.
      values: numbers [n, d]; float64 stays, everything else becomes float32.
      like: points [m, d] whose width d these must have; default: any.

    Raises:
      UsageError: for another rank or width, no point, or a number that is not finite.
    """
    values = np.asarray(values)
    values = values if values.dtype == np.float64 else values.astype(np.float32, copy=False)
    width = "d" if like is None else like.shape[1]
    if values.ndim != 2 or not values.size or (like is not None and values.shape[1] != width):
        raise checks.UsageError(
            f"{name} must be points [n, {width}] with n >= 1, received {list(values.shape)}."
        )
    if not np.isfinite(values).all():
        raise checks.UsageError(f"{name} must be finite, received an infinity or NaN.")
    return values


def nearest(queries, points):
    """Returns the distance of each query to its nearest point, and the index of that point.

    The squared distances of a block come from one float32 matrix product, as lower bounds: what
    rounding may have added is taken off. Every pair whose bound does not exceed the best distance
    so far is then measured directly, so a copy is at distance 0 and the winner is the true one.
    Where too many pairs are that close (a collapsed generator), the block's product is repeated
    in float64 and its smallest entry measured: the winner is then nearest up to
    2**-50 * (d + 16) * (largest distance from the centre of the points)**2 in squared distance.
    Memory beyond the arguments: about 100 MB + 60 KB * d. Time: 2 n m d operations in float32.

    Args:
      queries: finite numbers [n, d], n >= 1.
      points: finite numbers [m, d], m >= 1.

    Returns:
      (distances float64 [n], indices int64 [n]); of equally near points any one.

    Raises:
      UsageError: for arrays that are no such points.

    Source of the rounding bound: Higham, Accuracy and Stability of Numerical Algorithms (2002),
    section 3.1, which holds for every order of summation.
    """
    points = as_points("points", points)
    queries = as_points("queries", queries, like=points)
    centre = points.mean(axis=0, dtype=np.float64)  # smaller norms, smaller rounding
    squared = np.full(len(queries), np.inf)
    index = np.zeros(len(queries), np.int64)
    for top in range(0, len(queries), _BLOCK):
        rows = slice(top, top + _BLOCK)
        for left in range(0, len(points), _BLOCK):
            columns = slice(left, left + _BLOCK)
            block = _Block(queries[rows], points[columns], squared[rows], index[rows], left)
            block.search(centre)
    return np.sqrt(squared), index


def share(first, second):
    """Returns first / (first + second) in [0, 1], and 1/2 where both are 0.

    It orders pairs of distances as first / second does, without its infinities.
    """
    total = first + second
    return np.divide(first, total, out=np.full(np.shape(total), 0.5), where=total > 0)


class _Block:
    """Some queries against some points; `squared` and `index` are the best so far, improved here."""

    def __init__(self, queries, points, squared, index, offset):
        self._queries, self._points = queries, points
        self._squared, self._index, self._offset = squared, index, offset

    def search(self, centre):
        lower = self._lower_bounds(centre, np.float32)
        rows, columns = np.arange(len(lower)), lower.argmin(axis=1)
        hopeful = lower[rows, columns] <= self._squared
        self._measure(rows[hopeful], columns[hopeful])
        lower[rows, columns] = np.inf  # measured
        limit = np.nextafter(self._squared.astype(np.float32), np.float32(np.inf))
        close = lower <= limit[:, np.newaxis]
        if np.count_nonzero(close) <= _CROWD * len(rows):
            self._measure(*np.nonzero(close))
        else:
            self._measure(rows, self._lower_bounds(centre, np.float64).argmin(axis=1))

    def _lower_bounds(self, centre, dtype):
        """Returns numbers [n, m] of `dtype` that no squared distance is below.

        With u the unit of rounding, a product of d terms errs by at most about d u |q| |p|; 16
        more u cover the centred coordinates, the norms and the additions here. Since 2 |q| |p| is
        at most |q|**2 + |p|**2, (d + 16) u of the squared norms is enough, and twice that is taken
        off.
        """
        queries = self._queries - centre
        points = self._points - centre
        slack = (len(centre) + 16) * float(np.finfo(dtype).eps)  # eps is 2 u
        query_norms = (1 - slack) * np.einsum("ij,ij->i", queries, queries)
        point_norms = (1 - slack) * np.einsum("ij,ij->i", points, points)
        lower = (-2 * queries).astype(dtype) @ points.astype(dtype).T
        lower += point_norms.astype(dtype)
        lower += query_norms.astype(dtype)[:, np.newaxis]
        return lower

    def _measure(self, rows, columns):
        """Keeps the pairs (rows[k], columns[k]) that are nearer than the best so far."""
        for start in range(0, len(rows), _BLOCK):
            row, column = rows[start : start + _BLOCK], columns[start : start + _BLOCK]
            difference = self._queries[row].astype(np.float64) - self._points[column]
            found = np.einsum("ij,ij->i", difference, difference)
            order = np.lexsort((found, row))  # by row, its nearest first
            row, column, found = row[order], column[order], found[order]
            first = np.append(True, row[1:] != row[:-1])
            better = first & (found < self._squared[row])
            self._squared[row[better]] = found[better]
            self._index[row[better]] = column[better] + self._offset
