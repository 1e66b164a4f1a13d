"""What one record adds to a per-record release, by the auditor's own hand.

NumPy, one record at a time, from the formulas in the guarantees of `mechanisms/per_record.py` and
`mechanisms/lattice.py` and from none of their code: an error there cannot hide here. A query is a
`MomentQuery`, public values.
"""

import math

import numpy as np

_PIXEL = 2040  # steps of a pixel from 0 to 1
_SHARE, _SHARE_OF_SECOND = 2**16, 2**10  # of a record's share
_LOGARITHM = 2**11  # of a share's logarithm to base 2
_WEIGHT = 2**30
_MOST_IN_BASIS, _MOST_ENERGY, _BASIS = 2**13, 2**22, 2**20
_CLIP = 0.999  # of C: where the guarantee says that the clip aims


class Contributions:
    """The records' contributions to the release that answers a query.

    Attributes:
      size: D, how many numbers the release has.
      spacings: float64 [D]: every number is a multiple of its own, noise included.

    Args:
      query: a MomentQuery.
    """

    def __init__(self, query):
        self._query, atoms, scales = query, query.atoms, query.scales
        furthest = min(64.0, math.sqrt(2.0**52 / atoms.positions.shape[2]) / _PIXEL - 1)
        positions = np.clip(atoms.positions.astype(np.float64), -furthest, furthest)
        self._x = np.rint(positions * _PIXEL)
        octave = atoms.regularization * math.log(2)
        self._rate = min(1 / _PIXEL**2 / (2 * octave) * _LOGARITHM, 2.0**60)
        offsets = atoms.offsets.astype(np.float64) / octave * _LOGARITHM
        self._offsets = np.rint(np.clip(offsets, -(2.0**200), 2.0**200))
        furthest = np.abs(self._x).max()
        widest = np.bincount(atoms.regions).max() * (_PIXEL + furthest) ** 2
        self._energy_unit = _power_of_two(widest / _MOST_ENERGY)
        if atoms.basis is None:
            self._basis, raw, unit, self._stretch = None, self._x / 8, 1 / 255, 1.0
            reach = max(255, furthest / 8)
        else:
            self._basis = np.rint(atoms.basis.astype(np.float64) * _BASIS)
            raw, unit = self._x @ self._basis.T, 1 / (_PIXEL * _BASIS)
            products = self._basis @ self._basis.T
            self._stretch = np.abs(products).sum(axis=1).max() / _BASIS**2
            reach = max(_PIXEL * np.abs(self._basis).sum(axis=1).max(), np.abs(raw).max())
        self._basis_unit = _power_of_two(reach / _MOST_IN_BASIS)
        self._z = np.floor(raw / self._basis_unit + 0.5)
        self._step = unit * self._basis_unit  # of a coordinate in the basis, in pixel units
        self._triangle = np.triu_indices(self._z.shape[2] if scales.second else 0)
        beside = np.where(self._triangle[0] == self._triangle[1], 1, np.sqrt(2))
        # What one step of each channel is worth.
        self._mass, self._displacement = scales.mass / _SHARE, 1 / _PIXEL / _SHARE
        self._energy = scales.energy * self._energy_unit / _PIXEL**2 / _SHARE
        self._second = scales.second * self._step**2 / _SHARE_OF_SECOND * beside
        self._unit = self._unit_of_norm()
        ones = np.ones(len(self._x[0])), np.ones(self._x.shape[1:])
        regions = np.ones([len(self._x[0]), atoms.num_regions])
        steps = self._channels(*ones, regions, np.ones([len(self._x[0]), len(beside)]))
        self.size = sum(width * (1 if common else len(self._x)) for width, common in self._blocks())
        self.spacings = np.empty(self.size)
        for label in range(len(self._x)):
            self.spacings[self.places(label)] = steps

    def of(self, image, label):
        """Returns a record's clipped contribution at `places(label)`, float64 [m].

        Args:
          image: uint8 [H, W, C] of the atoms' dimension.
          label: its class, in [0, L).
        """
        shares, own, second, steps = self._unclipped(image, label)
        norm = np.ceil(shares * shares * (own + second) * (1 / _SHARE**2)).sum()
        return self._clipped(shares, steps, self._factor(norm))

    def of_unit(self, images, labels):
        """Returns what the images of one person add together, float64 [D]: one clip for all of them.

        Args:
          images: uint8 [m, H, W, C], m >= 1.
          labels: int [m].
        """
        found, seen = np.zeros(self.size), []
        num_classes, num_atoms, _ = self._x.shape
        lengths, of_seconds = np.zeros([num_classes, num_atoms]), np.zeros(num_atoms)
        for image, label in zip(images, labels, strict=True):
            shares, own, second, steps = self._unclipped(image, label)
            if not self._query.pooled:
                own = own + second
            lengths[label] += np.ceil(np.sqrt(np.ceil(shares * shares * own * (1 / _SHARE**2))))
            if self._query.pooled:
                squares = np.ceil(shares * shares * second * (1 / _SHARE**2))
                of_seconds += np.ceil(np.sqrt(squares))
            seen.append((label, shares, steps))
        factor = self._factor((lengths**2).sum() + (of_seconds**2).sum())
        for label, shares, steps in seen:
            found[self.places(label)] += self._clipped(shares, steps, factor)
        return found

    def shares(self, image, label):
        """Returns how a record is shared among its class's atoms, float64 [K], of a sum of almost 1."""
        return self._seen(image, label)[1] / _SHARE

    def places(self, label):
        """Returns where in a release the records of a class add to it, int64 [m]."""
        found, start = [], 0
        for width, common in self._blocks():
            found.append(start + (0 if common else label * width) + np.arange(width))
            start += width * (1 if common else len(self._x))
        return np.concatenate(found)

    def total(self, images, labels, units=None):
        """Returns the sum of the records' contributions, float64 [D]: a release without its noise.

        units: int [n, m], the records of each person, -1 where there is none; None: of each one.
        """
        found = np.zeros(self.size)
        if units is not None:
            for own in (unit[unit >= 0] for unit in units):
                found += self.of_unit(images[own], labels[own])
            return found
        for image, label in zip(images, labels, strict=True):
            found[self.places(label)] += self.of(image, label)
        return found

    def _unclipped(self, image, label):
        """(shares [K], squared lengths of a share of 1: of all but second moments, of those; _seen)."""
        scales = self._query.scales
        delta, shares, energies, in_basis = seen = self._seen(image, label)
        own, second = np.full(len(shares), float(math.ceil(scales.mass**2 / self._unit))), 0.0
        own += np.ceil((delta**2).sum(axis=1) * (1 / _PIXEL**2 / self._unit))
        if scales.energy:
            worth = (self._energy * _SHARE) ** 2 / self._unit
            own += np.ceil(energies * energies * worth).sum(axis=1)
        if scales.second:
            squares = (in_basis**2).sum(axis=1)
            worth = (scales.second * self._step**2) ** 2 / self._unit
            second = np.ceil(squares * squares * worth)
        return shares, own, second, seen

    def _factor(self, norm):
        """What a contribution of a squared norm is scaled by."""
        limit = (_CLIP * self._query.scales.clip_norm) ** 2 / self._unit
        return math.sqrt(limit / norm) if norm > limit else 1.0

    def _clipped(self, shares, seen, factor):
        """A record's contribution at the places of its class, float64 [m], scaled by a factor."""
        delta, _, energies, in_basis = seen
        plan = np.floor(shares * factor)
        coarse = np.floor(plan * (_SHARE_OF_SECOND / _SHARE))[:, None]
        rows, columns = self._triangle
        products = in_basis[:, rows] * in_basis[:, columns] if self._query.scales.second else coarse
        return self._channels(
            plan, plan[:, None] * delta, plan[:, None] * energies, coarse * products
        )

    def _seen(self, image, label):
        """(y - x [K, d], shares [K], energies [K, R], y - x in the basis [K, p]), each in its steps."""
        y = 8 * (2 * np.ravel(image).astype(np.float64) - 255)
        delta = y - self._x[label]
        regions = self._query.atoms.regions
        energies = np.stack([np.bincount(regions, weights=one) for one in delta**2])
        logits = self._offsets[label] - np.floor((delta**2).sum(axis=1) * self._rate)
        behind = np.minimum(logits.max() - logits, 30 * _LOGARITHM + 1)
        weights = np.floor(_WEIGHT * 2.0 ** -(behind / _LOGARITHM))  # 0 from 2^-30 on
        shares = np.floor(weights * _SHARE / weights.sum())
        raw = y / 8 if self._basis is None else self._basis @ y
        in_basis = np.floor(raw / self._basis_unit + 0.5) - self._z[label]
        return delta, shares, np.floor(energies / self._energy_unit), in_basis

    def _channels(self, mass, displacement, energy, second):
        """The channels that there are, from their steps, as one vector."""
        scales = self._query.scales
        channels = [self._mass * mass, self._displacement * displacement]
        if scales.energy:
            channels.append(self._energy * energy)
        if scales.second:
            channels.append(self._second * second)
        return np.concatenate([np.ravel(channel) for channel in channels])

    def _unit_of_norm(self):
        """What squared norms are rounded up to multiples of."""
        scales = self._query.scales
        distance = ((_PIXEL + np.abs(self._x)) ** 2).sum(axis=2).max() / _PIXEL**2
        in_basis = math.sqrt(self._stretch * distance) + self._step * math.sqrt(self._z.shape[2])
        largest = scales.mass**2 + distance + (scales.energy * distance) ** 2
        largest += (scales.second * in_basis**2) ** 2
        return max(scales.clip_norm**2 * 2.0**-30, largest * 2.0**-48)

    def _blocks(self):
        """[(numbers of one class, whether all classes share them)] of the channels, in order."""
        _, num_atoms, dimension = self._x.shape
        scales, pooled = self._query.scales, self._query.pooled
        widths = [(num_atoms, False), (num_atoms * dimension, False)]
        if scales.energy:
            widths.append((num_atoms * self._query.atoms.num_regions, False))
        if scales.second:
            triangle = len(self._triangle[0])
            widths.append((triangle if pooled else num_atoms * triangle, pooled))
        return widths


def _power_of_two(ratio):
    """The smallest power of two, 1 at least, that is not below `ratio`."""
    return 2.0 ** max(0, math.ceil(math.log2(ratio) + 1e-9))
