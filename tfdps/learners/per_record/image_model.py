"""LocalGaussians: the public model of the private images that rounds of releases refine.

Every class is a mixture of Gaussians around atoms, in a subspace that all classes share. Whatever is
in it came out of the mechanism, so everything here is post-processing.
"""

import dataclasses
import functools
import io

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans

_DRAWS_AN_ATOM = 40
_FEWEST_DRAWS = 4000
_SMALLEST_VARIANCE = 0.02  # of an atom along a direction, over the basis' median
_LARGEST_WHOLE = 6.0  # how many times a pixel's variance may be what the subspace has of it


@dataclasses.dataclass(frozen=True, eq=False)
class LocalGaussians:
    """L classes of K Gaussians; d pixels, p dimensions. All float64 NumPy, in pixel units.

    The atoms of a class share one covariance: what the class's has beyond that of the atoms' means.
    They differ in how much of it they have in each region of the image.

    Attributes:
      centres: [L, d], the classes' means, without what the atoms add to them.
      within: mean squared distance of a record from its class's centre.
      basis: [p, d], orthonormal rows; [0, d] while there is none.
      variances: [p], a record's variance along each of them, about its class's centre.
      pixel_variances: [d], the same in each pixel.
      weights: [L, K], >= 0, of sum 1 in each class.
      offsets: [L, K, p], where the atoms lie in the basis, from the centre.
      details: [L, K, d], what their means have beside the basis.
      covariances: [L, p, p], of a class's records in the basis, all atoms together.
      regions: int [d], the region of each pixel, from 0 to R - 1.
      spreads: [L, K, R], an atom's variance in a region, over that of the class's atoms.
    """

    centres: np.ndarray
    within: float
    basis: np.ndarray
    variances: np.ndarray
    pixel_variances: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    details: np.ndarray
    covariances: np.ndarray
    regions: np.ndarray
    spreads: np.ndarray

    @property
    def num_classes(self):
        """L."""
        return len(self.centres)

    @property
    def means(self):
        """[L, K, d], the atoms' means in pixel units."""
        return self.centres[:, None] + self.offsets @ self.basis + self.details

    @functools.cached_property
    def factors(self):
        """[L, p, p]: the covariance of an atom of a class in the basis is F F^T."""
        mean = np.einsum("lk,lki->li", self.weights, self.offsets)
        away = self.offsets - mean[:, None]
        between = np.einsum("lk,lki,lkj->lij", self.weights, away, away, optimize=True)
        values, directions = np.linalg.eigh(self.covariances - between)
        smallest = _SMALLEST_VARIANCE * np.median(self.variances)
        return directions * np.sqrt(np.maximum(values, smallest))[:, None, :]

    @property
    def pixel_stddevs(self):
        """Of what images have in the basis: (of a class's Gaussian [L, 1, d], of an atom [L, K, d]).

        An atom's are larger or smaller by its spread in the pixel's region.
        """
        of_class = np.sqrt(self._class_variances)[:, None]
        return of_class, of_class * np.sqrt(self.spreads[..., self.regions])

    @property
    def outside_stddevs(self):
        """[d]: of what images have outside the basis, in each pixel, all classes alike."""
        return np.sqrt(np.maximum(self.pixel_variances - self._explained, 0))

    @property
    def region_variances(self):
        """[L, R]: the variance of the class's atoms in each region, summed over its pixels.

        With what lies outside the basis: as large a part of each class's as it is of all.
        """
        whole = self.pixel_variances / np.maximum(self._explained, 1e-4)
        return self.sums_in_regions(self._class_variances * np.clip(whole, 1, _LARGEST_WHOLE))

    def sums_in_regions(self, pixels):
        """Returns [..., R], the sums over the pixels of each region, of [..., d]."""
        member = sparse.csr_array(
            (np.ones(len(self.regions)), (self.regions, np.arange(len(self.regions))))
        )
        flat = np.reshape(pixels, [-1, len(self.regions)])
        return (member @ flat.T).T.reshape(*np.shape(pixels)[:-1], member.shape[0])

    @functools.cached_property
    def _class_variances(self):
        """[L, d]: of a pixel in the basis, of an atom of spread 1."""
        return np.stack([np.sum((factor.T @ self.basis) ** 2, axis=0) for factor in self.factors])

    @property
    def _explained(self):
        """[d]: what the basis has of `pixel_variances`."""
        return np.einsum("id,i,id->d", self.basis, self.variances, self.basis)

    def draws(self, label, count, rng):
        """Returns `count` points of a class in the basis, from its centre.

        (points [count, p], the atom of each [count]).
        """
        atom = rng.choice(len(self.weights[label]), size=count, p=self.weights[label])
        normal = rng.normal(size=(count, len(self.basis)))
        return self.offsets[label][atom] + normal @ self.factors[label].T, atom

    def proposal(self, num_atoms, rng, *, regularization):
        """Returns the Proposal of `num_atoms` atoms a class: where draws of this model cluster.

        Args:
          num_atoms: K of the proposal.
          rng: a NumPy Generator.
          regularization: lambda of the softmax that shares the draws among the atoms.
        """
        parts = [
            self._class_proposal(label, num_atoms, rng, regularization)
            for label in range(self.num_classes)
        ]
        return Proposal(*(np.stack(part) for part in zip(*parts, strict=True)))

    def _class_proposal(self, label, num_atoms, rng, regularization):
        draws, origin = self.draws(label, max(_FEWEST_DRAWS, _DRAWS_AN_ATOM * num_atoms), rng)
        seed = int(rng.integers(2**31))
        means = KMeans(num_atoms, n_init=1, max_iter=20, random_state=seed).fit(draws)
        atoms = means.cluster_centers_
        distances = np.sum(draws**2, 1)[:, None] + np.sum(atoms**2, 1) - 2 * draws @ atoms.T
        shares = np.exp((distances.min(1, keepdims=True) - distances) / (2 * regularization))
        shares /= shares.sum(1, keepdims=True)
        mass = np.maximum(shares.sum(0), 1e-9)
        shifts = shares.T @ draws / mass[:, None] - atoms
        spreads = shares.T @ self.spreads[label][origin] / mass[:, None]
        within = np.mean(np.sum(shares * distances, axis=1))
        return mass / mass.sum(), atoms, shifts, spreads, within

    def to_bytes(self):
        """Returns all of it as bytes; `from_bytes` reads them."""
        file = io.BytesIO()
        np.savez(file, **dataclasses.asdict(self))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data):
        """Returns the LocalGaussians that `to_bytes` wrote."""
        with np.load(io.BytesIO(data)) as stored:
            fields = {name: stored[name] for name in stored.files}
        return cls(**{**fields, "within": float(fields["within"])})


@dataclasses.dataclass(frozen=True, eq=False)
class Proposal:
    """Atoms to ask about, and what the model expects the answer to be.

    Attributes:
      weights: [L, K], the expected share of the class's records at each atom.
      atoms: [L, K, p], in the basis, from the centre.
      shifts: [L, K, p], where the mean of an atom's records is expected, from the atom.
      spreads: [L, K, R], their expected spreads, as in LocalGaussians.
      within: [L], the expected mean squared distance of a record from its atom, in the basis.
    """

    weights: np.ndarray
    atoms: np.ndarray
    shifts: np.ndarray
    spreads: np.ndarray
    within: np.ndarray
