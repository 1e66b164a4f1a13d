"""The later rounds: mass, mean and spread of records around a growing number of atoms."""

import dataclasses

import numpy as np

from tfdps import shrinkage
from tfdps.frequencies import cosine_basis
from tfdps.mechanisms.per_record import Atoms, Scales
from tfdps.questions import MASS, Question, bands, counts

_REGION = 0.7  # scale of the regions' energies, so that this is what they add to a contribution
_VARIATION = 2.0  # mean square of a record's energy in a region, over its mean's square
_SPREADS = 0.05, 6.0  # the least and the most


class AtomRound:
    """Mass, mean and, region by region, variance at a number of atoms a class.

    Args:
      settings: the questions.Settings.
      num_atoms: K.
    """

    name = "atoms"

    def __init__(self, settings, num_atoms):
        self._settings, self._num_atoms = settings, num_atoms

    def question(self, model, rng):
        """Returns the Question: atoms where draws of the model cluster."""
        settings = self._settings
        expected = model.proposal(self._num_atoms, rng, regularization=settings.regularization)
        positions = model.centres[:, None] + expected.atoms @ model.basis
        offsets = settings.regularization * np.log(np.maximum(expected.weights, 1e-6))
        atoms = Atoms(positions, offsets, settings.regularization, regions=model.regions)
        within = expected.within.mean() + max(model.within - model.variances.sum(), 0)
        # What atoms have in a region is about what the class has less the means' part, and varies.
        regions = model.region_variances
        regions *= within / regions.sum(axis=1, keepdims=True)
        squares = _VARIATION * np.mean(np.sum(regions**2, axis=1))
        mass, energy = MASS * np.sqrt(within), _REGION * np.sqrt(within / squares)
        clip_norm = settings.clip_norm * np.sqrt(mass**2 + within + energy**2 * squares)
        scales = Scales(float(clip_norm), float(mass), energy=float(energy))
        return Question(atoms, scales, False, expected)

    def absorb(self, model, question, moments):
        """Returns the model with these atoms."""
        expected = question.expected
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
        return dataclasses.replace(model, spreads=self._spreads(model, expected, moments, count))

    def _spreads(self, model, expected, moments, count):
        """[L, K, R]: the atoms' variances in each region over those of the class's atoms."""
        member = np.eye(model.regions.max() + 1)[model.regions]
        means = moments.displacement / count[..., None]
        noise = moments.displacement_stddev / count[..., None]
        # The square of a noisy mean is too large by its noise's variance.
        of_means = means**2 @ member - noise**2 * member.sum(axis=0)
        of_class = np.maximum(model.region_variances, 1e-3 * member.sum(axis=0))[:, None]
        found = (moments.energy / count[..., None] - of_means) / of_class
        change_noise = moments.energy_stddev / count[..., None] / of_class
        change = shrinkage.elements(found - expected.spreads, change_noise)
        return np.clip(expected.spreads + change, *_SPREADS)

    def _outside(self, model, rest, count, noise):
        """(centres, details): what the means have outside the basis, of a class and of its atoms."""
        waves, ring_of = cosine_basis(self._settings.image_shape)
        share = (count / count.sum(axis=1, keepdims=True))[..., None]
        common = np.sum(share * rest, axis=1)
        common_noise = np.sqrt(np.sum((share[..., 0] * noise) ** 2, axis=1, keepdims=True))
        centres = model.centres + shrinkage.rings(common @ waves.T, ring_of, common_noise) @ waves
        own = (rest - common[:, None]) @ waves.T
        details = shrinkage.rings(own, ring_of, noise[..., None]) @ waves
        return centres, details
