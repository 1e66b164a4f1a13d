"""The rounds: right without noise, robust with it, and nothing in them but public values."""

import numpy as np
import pytest

from tfdps.accounting import round_shares
from tfdps.learners.per_record import rounds
from tfdps.learners.per_record.settings import RoundSettings
from tfdps.learners.per_record.waves import cosine_basis
from tfdps.mechanisms.moments import Moments

SHAPE, CLASSES, COUNT, RANK = (6, 6, 1), 2, 3000, 3
PIXELS = 36


@pytest.fixture(scope="module")
def data():
    """Pixels [L, n, d] of two classes, each of two Gaussians in a smooth subspace, and the mixture."""
    rng = np.random.default_rng(0)
    waves, _ = cosine_basis(SHAPE, 6)
    basis = waves[1:4]
    centres = np.array([[-0.6, 0.0, 0.0], [0.6, 0.0, 0.0]])  # of the two Gaussians, in the basis
    stddev = np.array([0.1, 0.4, 0.2])
    atom = rng.integers(2, size=[CLASSES, COUNT])
    points = centres[atom] + stddev * rng.normal(size=[CLASSES, COUNT, RANK])
    means = np.array([0.1, -0.2])[:, None, None] * np.ones(PIXELS)
    return means + points @ basis, basis, centres, stddev


def settings(**changes):
    return RoundSettings(
        **{
            "image_shape": SHAPE,
            "num_classes": CLASSES,
            "class_size": COUNT,
            "rank": RANK,
            "clip_norm": 10.0,
            "regularization": 0.02,
            **changes,
        }
    )


def answer(records, query, stddev, rng):
    """What a mechanism of this noise (over the clip norm) answers, by plain loops over the atoms."""
    atoms, scales = query.atoms, query.scales
    basis = np.eye(PIXELS) if atoms.basis is None else atoms.basis
    shape, rank = atoms.positions.shape[:2], len(basis)
    member = np.eye(atoms.num_regions)[atoms.regions]
    mass, energy = np.zeros(shape), np.zeros([*shape, atoms.num_regions])
    displacement, second = np.zeros([*shape, PIXELS]), np.zeros([*shape, rank, rank])
    for label, pixels in enumerate(records):
        away = pixels[:, None] - atoms.positions[label]
        squared = np.sum(away**2, axis=2)
        share = atoms.offsets[label] - squared / 2
        share = np.exp((share - share.max(axis=1, keepdims=True)) / atoms.regularization)
        share /= share.sum(axis=1, keepdims=True)
        mass[label] = share.sum(axis=0)
        energy[label] = np.einsum("nk,nkd,dr->kr", share, away**2, member, optimize=True)
        displacement[label] = np.einsum("nk,nkd->kd", share, away)
        if scales.second:
            inside = away @ basis.T
            second[label] = np.einsum("nk,nki,nkj->kij", share, inside, inside)
    second = second.sum(axis=(0, 1)) if query.pooled else second

    def noisy(values, scale, symmetric=False):
        noise = stddev * scales.clip_norm / max(scale, 1e-30) * rng.normal(size=values.shape)
        if symmetric:
            upper = np.triu(noise, 1) / np.sqrt(2)
            noise = upper + upper.swapaxes(-1, -2) + noise * np.eye(rank)
        return values + noise

    stddevs = [
        stddev * scales.clip_norm / max(scale, 1e-30)
        for scale in (scales.mass, 1.0, scales.energy, scales.second)
    ]
    return Moments(
        noisy(mass, scales.mass),
        noisy(displacement, 1.0),
        noisy(energy, scales.energy) if scales.energy else None,
        noisy(second, scales.second, symmetric=True) if scales.second else None,
        *stddevs,
    )


def learned(records, num_atoms, noise, seed=1, **changes):
    rng, model = np.random.default_rng(seed), None
    for entry in round_shares.of(num_atoms):
        step = rounds.make(entry, settings(**changes))
        query, expected = step.query(model, rng)
        stddev = noise / np.sqrt(entry.share)
        model = step.update(model, query, expected, answer(records, query, stddev, rng))
    return model


@pytest.mark.parametrize("num_atoms", [1, 2, 3, 8, 9, 32, 100])
def test_shares_of_the_schedule_sum_to_one(num_atoms):
    entries = round_shares.of(num_atoms)
    assert sum(entry.share for entry in entries) == pytest.approx(1)
    assert [entry.name for entry in entries[:3]] == ["centre", "scatter", "spread"]
    assert {entry.name for entry in entries[3:]} <= {"atoms"}
    counts = [entry.num_atoms for entry in entries[2:]]
    assert counts[0] == 1
    assert counts[-1] == num_atoms
    assert counts == sorted(counts)


def test_without_noise_one_atom_is_the_sample_s_mean_and_covariance(data):
    records, _, _, _ = data
    model = learned(records, 1, 1e-9)
    for label, pixels in enumerate(records):
        np.testing.assert_allclose(model.means[label, 0], pixels.mean(axis=0), atol=1e-4)
        factor = model.factors[label]
        covariance = model.basis.T @ factor @ factor.T @ model.basis
        np.testing.assert_allclose(covariance, np.cov(pixels.T), atol=2e-3)
    assert model.within == pytest.approx(np.mean([np.var(r, axis=0).sum() for r in records]), 0.01)


def test_without_noise_two_atoms_are_the_two_gaussians(data):
    records, basis, centres, stddev = data
    model = learned(records, 2, 1e-9)
    for label in range(CLASSES):
        found = (model.means[label] - records[label].mean(axis=0)) @ basis.T
        found = found[np.argsort(found[:, 0])]
        # Both come from assigning to the nearer atom: of 3000 records a few are the other one's.
        np.testing.assert_allclose(found, centres, atol=0.06)
        np.testing.assert_allclose(model.weights[label], 0.5, atol=0.06)
        factor = model.factors[label]
        spread = np.sqrt(np.diag(basis @ model.basis.T @ factor @ factor.T @ model.basis @ basis.T))
        np.testing.assert_allclose(spread, stddev, atol=0.05)


def test_without_noise_spreads_are_the_atoms_variances_in_each_region():
    """Two atoms that differ in where they vary: one in the upper blocks, the other in the lower."""
    rng = np.random.default_rng(4)
    waves, _ = cosine_basis(SHAPE, PIXELS)
    upper = np.arange(PIXELS) < PIXELS * 2 // 3  # rows 0 to 3: the regions 0 and 1 of four
    records = []
    for _ in range(CLASSES):
        atom = rng.integers(2, size=COUNT)
        stddev = np.where(atom[:, None] == np.where(upper, 0, 1), 0.3, 0.1)
        pattern = np.where(np.arange(PIXELS) % 6 < 3, 0.5, -0.5)
        records.append(
            (2 * atom - 1)[:, None] * pattern + stddev * rng.normal(size=[COUNT, PIXELS])
        )
    model = learned(np.array(records), 2, 1e-9, rank=PIXELS)
    of_class = model.region_variances[:, None] * model.spreads
    pixels = np.bincount(model.regions)
    for label in range(CLASSES):
        first = int(model.means[label, 0, 0] > model.means[label, 1, 0])  # of atom 0: dark at left
        found = of_class[label][[first, 1 - first]] / pixels
        # The floor of the covariance and three thousand records; 0.01 and 0.09 are nine-fold apart.
        np.testing.assert_allclose(found[0], [0.09, 0.09, 0.01, 0.01], rtol=0.15)
        np.testing.assert_allclose(found[1], [0.01, 0.01, 0.09, 0.09], rtol=0.15)


@pytest.mark.parametrize("noise", [0.3, 3.0, 1000.0])
def test_noise_leaves_a_model_that_can_be_sampled(data, noise):
    model = learned(data[0], 4, noise)
    for name in ("centres", "basis", "weights", "offsets", "details", "factors", "spreads"):
        assert np.isfinite(getattr(model, name)).all(), name
    assert (model.weights >= 0).all()
    np.testing.assert_allclose(model.weights.sum(axis=1), 1)
    np.testing.assert_allclose(model.basis @ model.basis.T, np.eye(RANK), atol=1e-5)
    assert np.abs(model.centres).max() < 10  # the centre round bounds them; later ones only shrink


def test_shrinkage_helps_the_means_at_a_noise_that_hides_them(data):
    """Against the raw means of the same noise: a released sum over the class's public size."""
    records = data[0]
    noise, rng = 30.0, np.random.default_rng(2)
    truth = records.mean(axis=1)
    model = learned(records, 1, noise, clip_norm=1.0)
    step = rounds.make(round_shares.of(1)[0], settings(clip_norm=1.0))
    query, _ = step.query(None, rng)
    stddev = noise / np.sqrt(round_shares.of(1)[0].share)
    raw = answer(records, query, stddev, rng).displacement[:, 0] / COUNT
    error = np.linalg.norm(model.centres - truth)
    assert error < 0.5 * np.linalg.norm(raw - truth)


def test_a_dead_atom_keeps_a_little_weight_and_no_wild_mean(data):
    """Noise makes masses negative: the atom falls back on what the model expected of it."""
    rng = np.random.default_rng(3)
    model = learned(data[0], 2, 1e-9)
    step = rounds.make(round_shares.RoundShare("atoms", 0.5, 2), settings())
    query, expected = step.query(model, rng)
    moments = answer(data[0], query, 1e-9, rng)
    moments.mass[0, 0], moments.displacement[0, 0] = -50.0, 3000.0
    again = step.update(model, query, expected, moments)
    assert 0 < again.weights[0, 0] < 0.1
    assert np.isfinite(again.means).all()
    assert np.isfinite(again.factors).all()
