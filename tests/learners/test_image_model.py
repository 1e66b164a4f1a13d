"""LocalGaussians: what it draws, what it expects of atoms, how it is stored."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfdps.learners.per_record.image_model import LocalGaussians
from tfdps.mechanisms import lattice
from tfdps.mechanisms.moments import Atoms, MomentQuery, Release, Scales
from tfdps.mechanisms.per_record import PerRecordMechanism

CLASSES, ATOMS, PIXELS, RANK = 2, 3, 16, 4


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=[PIXELS, RANK]))[0].T
    factors = 0.1 * rng.normal(size=[CLASSES, RANK, RANK])
    weights = np.array([[0.5, 0.3, 0.2], [0.1, 0.9, 0.0]])
    offsets = 0.3 * rng.normal(size=[CLASSES, ATOMS, RANK])
    mean = np.einsum("lk,lki->li", weights, offsets)
    between = np.einsum("lk,lki,lkj->lij", weights, offsets, offsets)
    between -= mean[:, :, None] * mean[:, None, :]
    variances = np.array([0.05, 0.03, 0.02, 0.01])
    return LocalGaussians(
        centres=0.2 * rng.normal(size=[CLASSES, PIXELS]),
        within=1.3,
        basis=basis,
        variances=variances,
        pixel_variances=2 * np.einsum("id,i,id->d", basis, variances, basis),
        weights=weights,
        offsets=offsets,
        details=0.01 * rng.normal(size=[CLASSES, ATOMS, PIXELS]),
        covariances=factors @ factors.swapaxes(-1, -2) + between,
        regions=np.arange(PIXELS) // 8,
        spreads=np.array([[[1.0, 1.0], [0.5, 3.0], [1.0, 1.0]]] * CLASSES),
    )


def test_draws_have_the_class_s_mean_and_covariance(model):
    """Whatever the atoms are, the covariance of all together is the one that was released."""
    draws, _ = model.draws(0, 40000, np.random.default_rng(1))
    # Entries are of order 0.1, so 5 standard deviations of 40,000 draws are about 0.005.
    np.testing.assert_allclose(draws.mean(axis=0), model.weights[0] @ model.offsets[0], atol=0.01)
    np.testing.assert_allclose(np.cov(draws.T), model.covariances[0], atol=0.01)


def test_means_that_explain_too_much_leave_a_small_covariance(model):
    apart = dataclasses.replace(model, offsets=5 * model.offsets)
    for factor in apart.factors:
        values = np.linalg.eigvalsh(factor @ factor.T)
        assert 0 < values.min() < 1e-3


def test_an_atom_without_weight_is_never_drawn(model):
    draws, _ = model.draws(1, 5000, np.random.default_rng(2))
    distance = np.linalg.norm(draws - model.offsets[1, 2], axis=1)
    near_others = np.linalg.norm(draws[:, None] - model.offsets[1, :2], axis=2).min(axis=1)
    assert np.mean(distance < near_others) < 0.5


def test_means_and_spreads_of_pixels(model):
    atom = model.centres[0] + model.offsets[0, 1] @ model.basis + model.details[0, 1]
    np.testing.assert_allclose(model.means[0, 1], atom)
    in_basis, wanted = model.pixel_stddevs
    covariance = model.factors[0] @ model.factors[0].T
    variance = np.diag(model.basis.T @ covariance @ model.basis)
    spread = np.repeat([0.5, 3.0], 8)  # of atom 1 in the image's two halves
    np.testing.assert_allclose(in_basis[0, 0] ** 2, variance, atol=1e-12)
    np.testing.assert_allclose(wanted[0, 1] ** 2, spread * variance, atol=1e-12)
    # Half of a pixel's variance is in the basis.
    explained = np.diag(model.basis.T * model.variances @ model.basis)
    np.testing.assert_allclose(model.outside_stddevs**2, explained, atol=1e-12)
    in_regions = [(2 * variance)[model.regions == region].sum() for region in range(2)]
    np.testing.assert_allclose(model.region_variances[0], in_regions, atol=1e-12)


@pytest.mark.parametrize("num_atoms", [1, 5])
def test_a_proposal_expects_what_the_mechanism_would_answer_on_its_draws(model, num_atoms):
    """The expectation is checked against the mechanism itself, on other draws and without noise."""
    rng = np.random.default_rng(3)
    expected = model.proposal(num_atoms, rng, regularization=0.05)
    assert expected.atoms.shape == (CLASSES, num_atoms, RANK)
    np.testing.assert_allclose(expected.weights.sum(axis=1), 1)
    count = 20000
    draws = np.concatenate([model.draws(label, count, rng)[0] for label in range(CLASSES)])
    pixels = np.clip(draws @ model.basis, -1, 1)  # from the grey image, so that few are clipped
    images = np.round((pixels + 1) * 127.5).astype(np.uint8).reshape(-1, 4, 4, 1)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), count)
    atoms = Atoms(expected.atoms @ model.basis, np.zeros([CLASSES, num_atoms]), 0.05, model.basis)
    query = MomentQuery(atoms, Scales(1e4, 1.0, energy=1.0))
    batch = (tf.constant(images), tf.constant(labels), tf.ones([len(labels)]))
    integers = PerRecordMechanism()._contributions(batch, query).numpy()
    found = Release(integers * lattice.spacing_of_elements(query), query, 1e-9).moments()
    np.testing.assert_allclose(found.mass / count, expected.weights, atol=0.05)  # of 4000 draws
    mean = found.displacement @ model.basis.T / found.mass[..., None]
    np.testing.assert_allclose(mean, expected.shifts, atol=0.03)
    within = found.energy[..., 0].sum(axis=1) / count  # all of it is in the basis
    np.testing.assert_allclose(within, expected.within, rtol=0.1)
    # An average over the draws, whose atoms have spreads of 0.5 to 3.
    assert expected.spreads.shape == (CLASSES, num_atoms, 2)
    average = np.einsum("lk,lkr->lr", expected.weights, expected.spreads)
    of_model = np.einsum("lk,lkr->lr", model.weights, model.spreads)
    np.testing.assert_allclose(average, of_model, rtol=0.05)


def test_bytes_and_back(model):
    again = LocalGaussians.from_bytes(model.to_bytes())
    for name in (
        "centres",
        "basis",
        "weights",
        "offsets",
        "details",
        "covariances",
        "variances",
        "regions",
    ):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    assert again.within == model.within
