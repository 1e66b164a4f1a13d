"""The later rounds: mass, mean and spread of records around a growing number of atoms."""

import dataclasses

import numpy as np

from tfdps.learners.per_record import shrinkage
from tfdps.learners.per_record.settings import MASS, bands, counts, smooth
from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales

_REGION = 0.7  # scale of the regions' energies, so that this is what they add to a contribution
_VARIATION = 2.0  # mean square of a record's energy in a region, over its mean's square
_SPREADS = 0.05, 6.0  # the least and the most


class AtomRound:
    """Mass, mean and, region by region, variance at a number of atoms a class.

    Args:
      settings: the RoundSettings.
      num_atoms: K.
    """

    name = "atoms"

    def __init__(self, settings, num_atoms):
        self._settings, self._num_atoms = settings, num_atoms

    def query(self, model, rng):
        """Returns (MomentQuery, expected): atoms where draws of the model cluster."""
        settings = self._settings
        expected = model.proposal(self._num_atoms, rng, regularization=settings.regularization)
        positions = model.centres[:, None] + expected.atoms @ model.basis
        offsets = settings.regularization * np.log(np.maximum(expected.weights, 1e-6))
        atoms = Atoms(positions, offsets, settings.regularization, regions=model.regions)
        within = expected.within.mean() + max(model.within - model.variances.sum(), 0)
        # What atoms have in a region is about what the class has less the means' part, and varies.
        of_class = model.region_variances
        regions = of_class * (within / of_class.sum(axis=1, keepdims=True))
        squares = _VARIATION * np.mean(np.sum(regions**2, axis=1))
        mass, energy = MASS * np.sqrt(within), _REGION * np.sqrt(within / squares)
        clip_norm = settings.clip_norm * np.sqrt(mass**2 + within + energy**2 * squares)
        scales = Scales(float(clip_norm), float(mass), energy=float(energy))
        return MomentQuery(atoms, scales), expected

    def update(self, model, query, expected, moments):
        """Returns the model with these atoms; `expected` is what `query` returned."""
        expected_mass = expected.weights * self._settings.class_size
        mass = expected_mass + shrinkage.vectors(moments.mass - expected_mass, moments.mass_stddev)
        weights = np.maximum(mass, 0.1 * expected_mass)
        count = counts(moments, expected_mass, mass)
        means = moments.displacement / count[..., None]
        noise = moments.displacement_stddev / count
        in_basis = means @ model.basis.T
        shifts = expected.shifts + shrinkage.vector_bands(
            in_basis - expected.shifts, bands(model), noise
        )
        centres, details = self._outside(model, means - in_basis @ model.basis, count, noise)
        model = dataclasses.replace(
            model,
            centres=centres,
            details=details,
            weights=weights / weights.sum(axis=1, keepdims=True),
            offsets=expected.atoms + shifts,
        )
        # Of the means as shrunk: the squares of the released ones are mostly noise.
        of_means = model.sums_in_regions((model.means - query.atoms.positions) ** 2)
        energies = moments.energy / count[..., None] - of_means
        energy_noise = moments.energy_stddev / count[..., None]
        spreads = _spreads(model, expected.spreads, energies, energy_noise)
        return dataclasses.replace(model, spreads=spreads)

    def _outside(self, model, rest, count, noise):
        """(centres, details): what the means have outside the basis, of a class and of its atoms."""
        image_shape = self._settings.image_shape
        share = count / count.sum(axis=1, keepdims=True)
        common = np.sum(share[..., None] * rest, axis=1)
        common_noise = np.sqrt(np.sum((share * noise) ** 2, axis=1))
        centres = model.centres + smooth(common, image_shape, common_noise)
        return centres, smooth(rest - common[:, None], image_shape, noise)


def _spreads(model, expected, energies, noise):
    """[L, K, R]: the atoms' variances in each region over those of the class's atoms.

    energies: the variances, summed over a region's pixels; noise: on each of them.
    """
    smallest = 1e-3 * np.bincount(model.regions)
    of_class = np.maximum(model.region_variances, smallest)[:, None]
    change = shrinkage.elements(energies / of_class - expected, noise / of_class)
    return np.clip(expected + change, *_SPREADS)
