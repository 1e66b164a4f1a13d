"""The first rounds: each class's mean, the subspace that images vary in, each class's covariance."""

import dataclasses
import math

import numpy as np

from tfdps.learners.per_record import cosine_transform, shrinkage
from tfdps.learners.per_record.image_model import LocalGaussians
from tfdps.learners.per_record.settings import MASS, bands, counts, smooth
from tfdps.learners.per_record.waves import SlowWaves, cosine_basis, image_blocks
from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales

MOST_WAVES = 800  # of the scatter, the slowest: 320,000 numbers; all waves of a 28 x 28 image
# Of their matrix: 341 waves of 256 x 256 pixels in colour; but as many as a run may choose dimensions.
_MOST_NUMBERS, _FEWEST_WAVES = 2**26, 200

# Scales of masses and second moments, see `_ClassRound._second_moments`.
_SCATTER_MASS, _SCATTER_SECOND, _SPREAD_SECOND = 0.1, 6.0, 3.0
_REGION_SIDE = 4  # pixels, of the regions that atoms have spreads in
_SMALLEST_PIXEL_VARIANCE = 1e-4


def num_waves(image_shape):
    """Returns how many waves the scatter is asked in: fewer where images are large, for memory.

    Args:
      image_shape: (height, width, channels).
    """
    pixels = math.prod(image_shape)
    return min(MOST_WAVES, pixels, max(_FEWEST_WAVES, _MOST_NUMBERS // pixels))


class _ClassRound:
    """A round with one atom a class.

    Args:
      settings: the RoundSettings.
    """

    def __init__(self, settings):
        self._settings = settings

    def _second_moments(self, model, basis, *, fourth, mass, second, pooled):
        """(MomentQuery, None): second moments in a basis, around the classes' centres.

        fourth: the mean of ||B delta||^4 that the model expects; mass and second: the channels'
        scales, over and times the root mean square distance of a record from its class's centre.
        """
        settings, root = self._settings, np.sqrt(model.within)
        mass, second = mass * root, second / root
        norm = np.sqrt(mass**2 + model.within + second**2 * fourth)
        atoms = Atoms(
            model.centres[:, None], np.zeros_like(model.weights), settings.regularization, basis
        )
        scales = Scales(float(settings.clip_norm * norm), float(mass), second=float(second))
        return MomentQuery(atoms, scales, pooled), None


class CentreRound(_ClassRound):
    """The mean of every class, and how far records are from it."""

    name = "centre"

    def query(self, model, rng):
        """Returns (MomentQuery, expected): one grey atom a class."""
        settings = self._settings
        pixels = int(np.prod(settings.image_shape))
        # The furthest image, all black and white, has a norm of sqrt(d), and then all three terms.
        root = np.sqrt(pixels)
        mass, energy = root / 3, 0.7 / root
        clip_norm = settings.clip_norm * np.sqrt(mass**2 + pixels + (energy * pixels) ** 2)
        positions = np.zeros([settings.num_classes, 1, pixels])
        atoms = Atoms(positions, positions[..., 0], settings.regularization)
        scales = Scales(float(clip_norm), float(mass), float(energy))
        return MomentQuery(atoms, scales), None

    def update(self, model, query, expected, moments):
        """Returns the LocalGaussians of one point a class, without a subspace yet."""
        pixels = moments.displacement.shape[-1]
        count = counts(moments, self._settings.class_size)[:, 0]
        noise = moments.displacement_stddev / count
        means = moments.displacement[:, 0] / count[:, None]
        centres = np.clip(smooth(means, self._settings.image_shape, noise), -1, 1)
        within = moments.energy[:, 0, 0] / count - np.sum(centres**2, axis=1)
        regions = image_blocks(self._settings.image_shape, _REGION_SIDE)
        return LocalGaussians(
            centres=centres,
            within=float(np.clip(within.mean(), 0.01 * pixels, pixels)),
            basis=np.zeros([0, pixels]),
            variances=np.zeros(0),
            pixel_variances=np.zeros(pixels),
            weights=np.ones([len(count), 1]),
            offsets=np.zeros([len(count), 1, 0]),
            details=np.zeros([len(count), 1, pixels]),
            covariances=np.zeros([len(count), 0, 0]),
            regions=regions,
            spreads=np.ones([len(count), 1, regions.max() + 1]),
        )


class ScatterRound(_ClassRound):
    """The covariance of records around their class's centre, all classes together, in waves."""

    name = "scatter"

    @property
    def _num_waves(self):
        return num_waves(self._settings.image_shape)

    def query(self, model, rng):
        """Returns (MomentQuery, expected): one atom a class at its centre, second moments in waves."""
        waves, _ = cosine_basis(self._settings.image_shape, self._num_waves)
        return self._second_moments(
            model,
            waves,
            fourth=model.within**2,
            mass=_SCATTER_MASS,
            second=_SCATTER_SECOND,
            pooled=True,
        )

    def update(self, model, query, expected, moments):
        """Returns the model with its subspace: every class a Gaussian of the common covariance."""
        settings = self._settings
        waves = SlowWaves(settings.image_shape, self._num_waves)
        records = settings.class_size * settings.num_classes
        second, noise = moments.second / records, moments.second_stddev / records
        values, directions = np.linalg.eigh(shrinkage.blocks(second, waves.rings, noise))
        root = directions * np.sqrt(np.maximum(values, 0))
        pixel_variances = self._pixel_variances(waves, second, noise)
        # Waves are everywhere; the map of variances says where in the image they are.
        factors = _scale_to(pixel_variances, waves.pixel_variances(root @ root.T))
        basis, variances = _principal(waves, root, factors, settings.rank)
        rank, variances = settings.rank, np.maximum(variances, _SMALLEST_PIXEL_VARIANCE)
        return dataclasses.replace(
            model,
            basis=basis,
            variances=variances,
            pixel_variances=pixel_variances,
            offsets=np.zeros([model.num_classes, 1, rank]),
            covariances=np.broadcast_to(np.diag(variances), (model.num_classes, rank, rank)),
        )

    def _pixel_variances(self, waves, second, noise):
        """[d]: how much each pixel varies, a smooth image; less what noise may have left in it."""
        image_shape = self._settings.image_shape
        # The noise on a pixel: white where all waves were asked about, a little less where not.
        coefficients = cosine_transform.to_waves(waves.pixel_variances(second), image_shape)
        ring_of = cosine_transform.rings(image_shape)
        smooth = shrinkage.rings(coefficients[None], ring_of, noise)[0]
        kept = smooth / np.where(coefficients == 0, 1, coefficients)
        left = noise * np.sqrt(np.mean(kept**2))
        variances = cosine_transform.to_images(smooth, image_shape) - left
        return np.clip(variances, _SMALLEST_PIXEL_VARIANCE, 1)


class SpreadRound(_ClassRound):
    """The covariance of every class, in the subspace."""

    name = "spread"

    def query(self, model, rng):
        """Returns (MomentQuery, expected): one atom a class at its centre, seconds in the basis."""
        # E ||B delta||^4 of a Gaussian.
        fourth = model.variances.sum() ** 2 + 2 * np.sum(model.variances**2)
        return self._second_moments(
            model, model.basis, fourth=fourth, mass=MASS, second=_SPREAD_SECOND, pooled=False
        )

    def update(self, model, query, expected, moments):
        """Returns the model with a covariance for every class, and better centres."""
        count = counts(moments, self._settings.class_size)[:, 0]
        means = moments.displacement[:, 0] / count[:, None]
        noise = moments.displacement_stddev / count
        in_basis = means @ model.basis.T
        band_of = bands(model)
        shifts = shrinkage.vector_bands(in_basis, band_of, noise)
        rest = smooth(means - in_basis @ model.basis, self._settings.image_shape, noise)
        second = moments.second[:, 0] / count[:, None, None]
        second -= in_basis[:, :, None] * in_basis[:, None, :]
        second += noise[:, None, None] ** 2 * np.eye(second.shape[-1])  # the square's own noise
        change = second - np.diag(model.variances)
        change_noise = moments.second_stddev / count
        common_noise = np.sqrt(np.sum(change_noise**2)) / len(change_noise)
        common = shrinkage.matrix_bands(change.mean(axis=0), band_of, common_noise)
        change = common + shrinkage.matrix_bands(change - common, band_of, change_noise)
        return dataclasses.replace(
            model,
            centres=model.centres + shifts @ model.basis + rest,
            covariances=np.diag(model.variances) + change,
        )


def _scale_to(wanted, variances):
    """Factors [d] that bring pixels of these variances to the wanted ones, at most to twice as much."""
    return np.sqrt(np.clip(wanted / np.maximum(variances, 1e-9), 0, 4))


def _principal(waves, root, factors, rank):
    """(basis [p, d], variances [p]): where images vary most, the largest first, and how much.

    Of images factors * (waves' root g), g ~ N(0, I): the singular vectors of a matrix [d, m] that is
    not made. Its product with its own transpose, [m, m], says which p mixes of waves to look at; among
    their images, [p, d], directions are found to full precision.

    Args:
      waves: the m SlowWaves.
      root: [m, m], the coefficients' covariance is its product with its transpose.
      factors: [d], of each pixel.
      rank: p, at most m.
    """
    products = root.T @ waves.products(factors**2) @ root
    _, mixes = np.linalg.eigh(products)
    images = factors * waves.to_images((root @ mixes[:, ::-1][:, :rank]).T)
    directions, upper = np.linalg.qr(images.T)
    turned, scales, _ = np.linalg.svd(upper)
    return turned.T @ directions.T, scales**2
