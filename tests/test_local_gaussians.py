"""LocalGaussians: what it draws, what it expects of atoms, how it is stored."""

import numpy as np
import pytest
import tensorflow as tf

from tfdps.local_gaussians import LocalGaussians
from tfdps.mechanisms.per_record import Atoms, PerRecordMechanism, Scales

CLASSES, ATOMS, PIXELS, RANK = 2, 3, 16, 4


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=[PIXELS, RANK]))[0].T
    factors = 0.1 * rng.normal(size=[CLASSES, ATOMS, RANK, RANK])
    variances = np.array([0.5, 0.3, 0.2, 0.1])
    return LocalGaussians(
        centres=0.2 * rng.normal(size=[CLASSES, PIXELS]),
        within=1.3,
        basis=basis,
        variances=variances,
        pixel_variances=2 * np.einsum("id,i,id->d", basis, variances, basis),
        weights=np.array([[0.5, 0.3, 0.2], [0.1, 0.9, 0.0]]),
        offsets=0.3 * rng.normal(size=[CLASSES, ATOMS, RANK]),
        details=0.01 * rng.normal(size=[CLASSES, ATOMS, PIXELS]),
        factors=factors,
    )


def test_draws_have_the_mixture_s_mean_and_covariance(model):
    draws = model.draws(0, 40000, np.random.default_rng(1))
    weights, offsets, factors = model.weights[0], model.offsets[0], model.factors[0]
    mean = weights @ offsets
    second = np.einsum("k,kij->ij", weights, factors @ factors.swapaxes(-1, -2))
    second += np.einsum("k,ki,kj->ij", weights, offsets, offsets)
    # Entries are of order 0.1, so 5 standard deviations of 40,000 draws are about 0.005.
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.01)
    np.testing.assert_allclose(draws.T @ draws / len(draws), second, atol=0.01)


def test_an_atom_without_weight_is_never_drawn(model):
    draws = model.draws(1, 5000, np.random.default_rng(2))
    distance = np.linalg.norm(draws - model.offsets[1, 2], axis=1)
    near_others = np.linalg.norm(draws[:, None] - model.offsets[1, :2], axis=2).min(axis=1)
    assert np.mean(distance < near_others) < 0.5


def test_means_and_spreads_of_pixels(model):
    atom = model.centres[0] + model.offsets[0, 1] @ model.basis + model.details[0, 1]
    np.testing.assert_allclose(model.means[0, 1], atom)
    in_basis, wanted = model.pixel_stddevs
    covariance = model.factors[0, 1] @ model.factors[0, 1].T
    variance = np.diag(model.basis.T @ covariance @ model.basis)
    np.testing.assert_allclose(in_basis[0, 1] ** 2, variance, atol=1e-12)
    np.testing.assert_allclose(wanted[0, 1] ** 2, 2 * variance, atol=1e-12)  # half is in the basis


@pytest.mark.parametrize("num_atoms", [1, 5])
def test_a_proposal_expects_what_the_mechanism_would_answer_on_its_draws(model, num_atoms):
    """The expectation is checked against the mechanism itself, on other draws and without noise."""
    rng = np.random.default_rng(3)
    expected = model.proposal(num_atoms, rng, regularization=0.05)
    assert expected.atoms.shape == (CLASSES, num_atoms, RANK)
    np.testing.assert_allclose(expected.weights.sum(axis=1), 1)
    count = 20000
    draws = np.concatenate([model.draws(label, count, rng) for label in range(CLASSES)])
    pixels = np.clip(draws @ model.basis, -1, 1)  # from the grey image, so that few are clipped
    images = np.round((pixels + 1) * 127.5).astype(np.uint8).reshape(-1, 4, 4, 1)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), count)
    atoms = Atoms(expected.atoms @ model.basis, np.zeros([CLASSES, num_atoms]), 0.05, model.basis)
    scales, mechanism = Scales(1e4, 1.0, second=1.0), PerRecordMechanism()
    batch = (tf.constant(images), tf.constant(labels), tf.ones([len(labels)]))
    total = mechanism._contributions(batch, atoms, scales).numpy()
    found = mechanism.moments(total, atoms, scales, noise_multiplier=1e-9)
    np.testing.assert_allclose(found.mass / count, expected.weights, atol=0.05)  # of 4000 draws
    mean = found.displacement @ model.basis.T / found.mass[..., None]
    np.testing.assert_allclose(mean, expected.shifts, atol=0.03)
    covariance = found.second / found.mass[..., None, None] - np.einsum("lki,lkj->lkij", mean, mean)
    np.testing.assert_allclose(covariance, expected.covariances, atol=0.03)


def test_bytes_and_back(model):
    again = LocalGaussians.from_bytes(model.to_bytes())
    for name in ("centres", "basis", "weights", "offsets", "details", "factors", "variances"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    assert again.within == model.within
