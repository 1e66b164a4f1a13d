"""Distances between two clouds of features: FID, KID, precision, recall, density, coverage."""

import dataclasses

import numpy as np
import scipy.linalg
import sklearn.neighbors

from tfdps import checks

_BLOCK = 2**22  # entries of a block of the distance matrix: 32 MiB in float64
_ROUNDING = 1e-12  # of squared distances by matrix product, relative to the squared norms


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """The KID with its evidence.

    Attributes:
      value: the estimate; unbiased, so that it may be a little below 0.
      standard_error: of `value`, for the choice of the records and of the subsets.
      subset_size: points of a subset.
    """

    value: float
    standard_error: float
    subset_size: int


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the FID: the squared Wasserstein-2 distance of the Gaussians fitted to two clouds.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) with unbiased covariances. The FID of
    finite clouds is biased upwards, the more the fewer points: compare at equal sizes only.

    Args:
      real: float features [n, d], n >= 2.
      generated: float features [m, d], m >= 2.

    Raises:
      UsageError: for fewer points, other shapes or features that are not finite.

    Source: Heusel et al., NeurIPS 2017, arXiv 1706.08500, section 4.

    Examples:
      >>> import numpy as np
      >>> from tfdps import evaluation
      >>> features = np.random.default_rng(0).normal(size=[500, 4])
      >>> round(evaluation.frechet_distance(features, features + 1.0), 6)  # |(1, 1, 1, 1)|^2
      4.0
    """
    real, generated = _features(real, generated, 2)
    means = real.mean(0), generated.mean(0)
    roots = [
        (cloud - mean) / np.sqrt(len(cloud) - 1)
        for cloud, mean in zip((real, generated), means, strict=True)
    ]
    variances = sum(np.square(root).sum() for root in roots)
    # With S = R'R the last trace is the sum of the singular values of R1 R2'. No root of a nearly
    # singular matrix is taken, so that nothing is lost where n < d or a feature never varies.
    first, second = (
        scipy.linalg.qr(root, mode="r", overwrite_a=True, check_finite=False)[0][: root.shape[1]]
        for root in roots
    )
    overlap = scipy.linalg.svdvals(first @ second.T, overwrite_a=True, check_finite=False).sum()
    distance = np.square(means[0] - means[1]).sum() + variances - 2 * overlap
    return max(float(distance), 0.0)  # below 0 by rounding only


def kernel_distance(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    subset_size: int = 1000,
    num_subsets: int = 100,
    seed: int = 0,
) -> KernelDistance:
    """Returns the KID as a KernelDistance: the squared MMD of kernel (x.y / d + 1)^3, unbiased.

    The mean over random subsets drawn without replacement; at most half of the smaller cloud makes
    a subset. The standard error adds the spread from drawing finitely many subsets to the delete-d
    jackknife's from having finitely many points; for equal distributions, where the estimator is
    more exact than the jackknife knows, it is about twice too large.

    Args:
      real: float features [n, d], n >= 4.
      generated: float features [m, d], m >= 4.
      subset_size: points of a subset, at least 2.
      num_subsets: how many subsets, at least 2.
      seed: an integer >= 0; the same gives the same subsets.

    Raises:
      UsageError: for fewer points, other shapes, features that are not finite, other numbers.

    Source: Binkowski et al., ICLR 2018, arXiv 1801.01401, section 4; the jackknife: Shao and Wu,
    Annals of Statistics 17 (1989).

    Examples:
      >>> import numpy as np
      >>> from tfdps import evaluation
      >>> one, other = np.random.default_rng(0).normal(size=[2, 500, 4])
      >>> found = evaluation.kernel_distance(one, other)
      >>> abs(found.value) < 4 * found.standard_error
      True
    """
    real, generated = _features(real, generated, 4)
    smaller = min(len(real), len(generated))
    size = min(checks.at_least("subset_size", subset_size, 2), smaller // 2)
    checks.at_least("num_subsets", num_subsets, 2)
    random = np.random.default_rng(checks.at_least("seed", seed, 0))
    values = np.array(
        [
            _squared_mmd(
                real[random.choice(len(real), size, replace=False)],
                generated[random.choice(len(generated), size, replace=False)],
            )
            for _ in range(num_subsets)
        ]
    )
    error = values.std(ddof=1) * np.sqrt(1 / num_subsets + size / (smaller - size))
    return KernelDistance(float(values.mean()), float(error), size)


def precision_recall(real: np.ndarray, generated: np.ndarray, *, k: int = 3) -> dict[str, float]:
    """Returns {"precision", "recall"} of a generated cloud, fractions in [0, 1].

    A ball reaches from each point to its k-th nearest neighbour in its own cloud. precision: the
    fraction of generated points in any real ball, so how many look real; recall: of real points in
    any generated ball, so how many the generator reaches. Both grow with k and change with the
    numbers of points: compare at equal k and equal sizes only. Time grows with n m d.

    Args:
      real: float features [n, d], n > k.
      generated: float features [m, d], m > k; published figures have m = n.
      k: the neighbour that gives the radius, at least 1.

    Raises:
      UsageError: for fewer points, other shapes or features that are not finite.

    Source: Kynkaanniemi et al., NeurIPS 2019, arXiv 1904.06991, equations 1 and 2.

    Examples:
      >>> import numpy as np
      >>> from tfdps import evaluation
      >>> features = np.random.default_rng(0).normal(size=[500, 4])
      >>> evaluation.precision_recall(features, features + 100.0)
      {'precision': 0.0, 'recall': 0.0}
    """
    real, generated = _centred(real, generated, k)
    return {
        "precision": float((_ball_counts(real, generated, k)[0] > 0).mean()),
        "recall": float((_ball_counts(generated, real, k)[0] > 0).mean()),
    }


def density_coverage(real, generated, *, k=5):
    """Returns {"density", "coverage"} of a generated cloud, by balls as `precision_recall` has them.

    density: the mean number of real balls around a generated point, over k (1 for equal
    distributions, more where generated points crowd at modes); coverage: the fraction of real balls
    with a generated point in them.

    Args:
      real: float features [n, d], n > k.
      generated: float features [m, d], m > k.
      k: the neighbour that gives the radius, at least 1.

    Raises:
      UsageError: for fewer points, other shapes or features that are not finite.

    Source: Naeem et al., ICML 2020, arXiv 2002.09797, equations 5 and 6.
    """
    real, generated = _centred(real, generated, k)
    balls_around, points_inside = _ball_counts(real, generated, k)
    return {
        "density": float(balls_around.mean() / k),
        "coverage": float((points_inside > 0).mean()),
    }


def _features(real, generated, fewest):
    """Returns both clouds in float64 once they are [n, d] and [m, d], finite and large enough."""
    clouds = {"real": np.asarray(real), "generated": np.asarray(generated)}
    for name, cloud in clouds.items():
        if cloud.ndim != 2 or len(cloud) < fewest or not cloud.shape[1]:
            raise checks.UsageError(
                f"{name} features must be [n, d] with n >= {fewest} and d >= 1, "
                f"received {list(cloud.shape)}."
            )
        if not np.issubdtype(cloud.dtype, np.floating):
            raise checks.UsageError(f"{name} features must be floats, received {cloud.dtype}.")
        broken = int((~np.isfinite(cloud)).sum())
        if broken:
            raise checks.UsageError(
                f"{name} features must be finite, received {broken} NaN or infinite values."
            )
    if clouds["real"].shape[1] != clouds["generated"].shape[1]:
        raise checks.UsageError(
            "real and generated features must have the same length, received "
            f"{clouds['real'].shape[1]} and {clouds['generated'].shape[1]}."
        )
    return tuple(cloud.astype(np.float64) for cloud in clouds.values())


def _squared_mmd(x, y):
    """Returns the unbiased squared MMD of two clouds of equal size, which may be below 0."""
    size = len(x)
    between = _kernel(x, y).mean()
    within = sum((kernel.sum() - kernel.trace()) for kernel in (_kernel(x, x), _kernel(y, y)))
    return within / (size * (size - 1)) - 2 * between


def _kernel(x, y):
    base = x @ y.T
    base /= x.shape[1]
    base += 1
    return base * base * base


def _centred(real, generated, k):
    """Both clouds of more than k points; far from the origin the norms would drown the distances."""
    real, generated = _features(real, generated, checks.at_least("k", k, 1) + 1)
    centre = real.mean(0)
    return real - centre, generated - centre


def _ball_counts(centres, points, k):
    """Returns (balls around each point, int64 [m]; points in each ball, int64 [n]), rims included.

    A ball reaches from each of the n centres to its k-th nearest neighbour among them.
    """
    # Distances of copies round to a little above 0: norms a trifle too small let them count as 0.
    centre_norms, point_norms = (
        np.einsum("nd,nd->n", cloud, cloud) * (1 - _ROUNDING) for cloud in (centres, points)
    )
    limits = _squared_radii(centres, k) - centre_norms
    around, inside = np.zeros(len(points), np.int64), np.zeros(len(centres), np.int64)
    rows = max(1, _BLOCK // len(points))
    for start in range(0, len(centres), rows):
        block = slice(start, start + rows)
        within = point_norms - 2 * centres[block] @ points.T <= limits[block, np.newaxis]
        around += within.sum(0)
        inside[block] = within.sum(1)
    return around, inside


def _squared_radii(cloud, k):
    """Returns the squared distance [n] of each point to its k-th nearest neighbour but itself."""
    neighbours = sklearn.neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(cloud)
    return neighbours.kneighbors()[0][:, -1] ** 2
