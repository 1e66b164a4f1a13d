"""Contributions are integers: what one record adds, exactly, whatever else is in the batch."""

import fractions

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdps.mechanisms import dp_adam, gradient_grid, joint, lattice
from tfdps.mechanisms.joint import JointMechanism
from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales
from tfdps.mechanisms.per_record import PerRecordMechanism

NUM_CLASSES, NUM_RECORDS, SHAPE, DIMENSION, BASIS_SIZE = 3, 24, (2, 2, 3), 12, 4
REGIONS = np.array([0, 1, 1, 1, 0, 0, 2, 2, 2, 2, 2, 1])
MECHANISM, IN_FIVES = PerRecordMechanism(), PerRecordMechanism(chunk_size=5)
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=20, deadline=None, derandomize=True)


def records(random):
    """Images of every kind, labels in and out of range, all of weight 1."""
    images = random.integers(0, 256, (NUM_RECORDS, *SHAPE), dtype=np.uint8)
    corners = random.choice(np.array([0, 255], np.uint8), (NUM_RECORDS, *SHAPE))
    images = np.where(random.random((NUM_RECORDS, 1, 1, 1)) < 0.5, images, corners)
    images[:4] = images[0]
    labels = random.integers(-1, NUM_CLASSES + 1, NUM_RECORDS).astype(np.int32)
    labels[0] = random.integers(0, NUM_CLASSES)
    return images, labels, np.ones(NUM_RECORDS, np.float32)


def atoms_of(random, *, num_atoms=2, with_basis=True):
    """Atoms of every kind: stray, equal, dead; any regularization, basis and regions."""
    size = (NUM_CLASSES, num_atoms)
    positions = random.uniform(-1, 1, (*size, DIMENSION))
    positions *= 10.0 ** random.choice([-3, 0, 0, 0, 1, 2, 6], size=(*size, 1))
    positions[0] = positions[0, :1]
    offsets = random.normal(size=size) * 10.0 ** random.uniform(-2, 6)
    offsets[1, 0] = random.choice([-1e30, 1e30, 0])
    basis = None
    if with_basis:
        basis = np.linalg.qr(random.normal(size=(DIMENSION, BASIS_SIZE)))[0].T
        if random.random() < 0.3:
            basis = np.eye(DIMENSION)[random.choice(DIMENSION, BASIS_SIZE, replace=False)]
    return Atoms(
        positions, offsets, 10 ** random.uniform(-4, 4), basis, random.permutation(REGIONS)
    )


def scales_of(random):
    """Some clip every record and some none."""
    clip_norm = 10 ** random.uniform(-3, 5)
    return Scales(clip_norm, *(clip_norm * 10 ** random.uniform([-12, -12, -12], [4, 2, 2])))


def contributions(batch, atoms, scales, mechanism=MECHANISM, pooled=False):
    return mechanism._contributions(batch, MomentQuery(atoms, scales, pooled)).numpy()


def counting(batch, chosen):
    """The batch in which the chosen records count."""
    images, labels, _ = batch
    return images, labels, np.isin(np.arange(len(labels)), chosen).astype(np.float32)


def squared_norm(integers, atoms, scales, pooled=False):
    """Of g k, as a fraction: rounds nothing."""
    spacings = lattice.spacing_of_elements(MomentQuery(atoms, scales, pooled))
    assert len(spacings) == len(integers)
    return sum(
        (fractions.Fraction(float(spacing)) * int(k)) ** 2
        for spacing, k in zip(spacings, integers, strict=True)
        if k
    )


def check_one_record(batch, others, atoms, scales, record, pooled=False):
    """What one record adds is its own, in two batches, and within C."""
    alone = contributions(counting(batch, [record]), atoms, scales, pooled=pooled)
    everyone = np.arange(NUM_RECORDS)
    for company in (others, everyone):
        with_it, without = (
            contributions(counting(batch, chosen), atoms, scales, pooled=pooled)
            for chosen in (np.union1d(company, [record]), np.setdiff1d(company, [record]))
        )
        np.testing.assert_array_equal(with_it - without, alone)
    assert squared_norm(alone, atoms, scales, pooled) <= fractions.Fraction(scales.clip_norm) ** 2
    return alone


@EXAMPLES
@given(seed=SEEDS)
def test_a_record_adds_its_own_integers_and_at_most_the_clip_norm_in_any_company(seed):
    random = np.random.default_rng(seed)
    batch, atoms, scales = records(random), atoms_of(random), scales_of(random)
    company = random.choice(NUM_RECORDS, 9, replace=False)
    for record in (0, random.integers(1, NUM_RECORDS)):
        check_one_record(batch, company, atoms, scales, record)


@EXAMPLES
@given(seed=SEEDS)
def test_pooled_and_without_a_basis_it_is_the_same(seed):
    random = np.random.default_rng(seed)
    batch, scales = records(random), scales_of(random)
    atoms = atoms_of(random, num_atoms=1, with_basis=False)
    company = random.choice(NUM_RECORDS, 9, replace=False)
    check_one_record(batch, company, atoms, scales, 0, pooled=True)


@EXAMPLES
@given(seed=SEEDS)
def test_the_total_is_the_same_in_any_order_pieces_padding_and_parts(seed):
    random = np.random.default_rng(seed)
    batch, atoms, scales = records(random), atoms_of(random), scales_of(random)
    total = contributions(batch, atoms, scales)
    order = random.permutation(NUM_RECORDS)
    mixed = tuple(array[order] for array in batch)
    padding = random.integers(0, 256, (9, *SHAPE)), random.integers(0, 3, 9), np.zeros(9)
    padded = tuple(
        np.concatenate([array, more.astype(array.dtype)])
        for array, more in zip(mixed, padding, strict=True)
    )
    for found in (
        contributions(mixed, atoms, scales),
        contributions(mixed, atoms, scales, IN_FIVES),
        contributions(padded, atoms, scales),
        sum(
            contributions(tuple(array[part] for array in mixed), atoms, scales)
            for part in (slice(0, 12), slice(12, 24))
        ),
    ):
        np.testing.assert_array_equal(found, total)


def written_out(batch, record, atoms, scales):
    """What the guarantee says that a record adds, by NumPy, in int64 but for the clip."""
    grid = lattice.of(MomentQuery(atoms, scales))
    factors = grid.factors
    label = batch[1][record]
    mass = np.zeros((NUM_CLASSES, 2), np.int64)
    displacement = np.zeros((NUM_CLASSES, 2, DIMENSION), np.int64)
    energy = np.zeros((NUM_CLASSES, 2, 3), np.int64)
    upper = np.triu_indices(BASIS_SIZE)
    second = np.zeros((NUM_CLASSES, 2, len(upper[0])), np.int64)
    if 0 <= label < NUM_CLASSES:
        y = 8 * (2 * batch[0][record].ravel().astype(np.int64) - 255)
        delta = y - grid.positions[label].astype(np.int64)
        in_regions = np.stack(
            [(delta[:, atoms.regions == r] ** 2).sum(axis=1) for r in range(3)], axis=1
        )
        energies = np.floor(in_regions * factors["energy_scale"])
        squares = in_regions.sum(axis=1)
        logits = grid.offsets[label] - np.floor(squares * factors["rate"])
        behind = np.minimum(logits.max() - logits, len(grid.weights) - 1).astype(int)
        weights = grid.weights[behind]
        shares = np.floor(weights * 2.0**16 / weights.sum())
        basis = np.rint(grid.basis.astype(np.float64) * 2**20)
        a = np.floor(basis @ y * factors["basis_scale"] + 0.5)
        b = (a - grid.in_basis[label]).astype(np.int64)
        terms = factors["mass_term"] + np.ceil(squares * factors["distance_factor"])
        terms += np.ceil(energies * energies * factors["energy_factor"]).sum(axis=1)
        in_basis = (b**2).sum(axis=1).astype(float)
        terms += np.ceil(in_basis * in_basis * factors["second_factor"])
        norm = np.ceil(shares * shares * terms / 2.0**32).sum()
        if norm > factors["limit"]:
            shares = np.floor(shares * np.sqrt(factors["limit"] / norm))
        plan = shares.astype(np.int64)
        mass[label], displacement[label] = plan, plan[:, None] * delta
        energy[label] = plan[:, None] * energies.astype(np.int64)
        products = b[:, upper[0]] * b[:, upper[1]]
        second[label] = (plan // 2**6)[:, None] * products
    return np.concatenate([part.ravel() for part in (mass, displacement, energy, second)])


@EXAMPLES
@given(seed=SEEDS)
def test_the_integers_are_those_that_the_guarantee_writes_out(seed):
    random = np.random.default_rng(seed)
    batch, atoms, scales = records(random), atoms_of(random), scales_of(random)
    expected = sum(written_out(batch, record, atoms, scales) for record in range(NUM_RECORDS))
    np.testing.assert_array_equal(contributions(batch, atoms, scales), expected)


def test_some_records_are_clipped_and_some_are_not():
    """The examples are worth something: contributions of a norm of C less a thousandth, and of less."""
    shares = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        batch, atoms, scales = records(random), atoms_of(random), scales_of(random)
        alone = contributions(counting(batch, [0]), atoms, scales)
        shares.append(float(squared_norm(alone, atoms, scales)) ** 0.5 / scales.clip_norm)
    shares = np.array(shares)
    assert (shares <= 0.999).all()
    assert np.mean(shares > 0.98) > 0.2
    assert np.mean((shares > 0) & (shares < 0.9)) > 0.1


@pytest.mark.parametrize("corner", [0, 255])
def test_sums_of_as_many_records_as_there_may_be_are_exact(corner):
    """Records as far as can be from atoms as far as can be: 2,048 of them are 2,048 times one."""
    shape, rows = (8, 8, 1), lattice.MOST_ROWS
    positions = np.full((2, 2, 64), -1e6 if corner else 1e6)
    positions[:, 1] *= -1
    regions = np.arange(64) // 63
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 5)))[0].T
    basis[0] = 1 / 8  # every pixel's: the largest coordinate
    basis[1:] -= basis[1:].mean(axis=1, keepdims=True)
    basis = np.concatenate([basis[:1], np.linalg.qr(basis[1:].T)[0].T])
    # The nearer atom has all of the share unless offsets say otherwise.
    atoms = Atoms(positions, np.array([[1e30, 0], [0, 1e30]]), 1.0, basis, regions)
    scales = Scales(1e9, 1.0, 1.0, 1.0)
    images, labels = np.full((rows, *shape), corner, np.uint8), np.zeros(rows, np.int32)
    images[:, ::3] ^= 255 if corner == 0 else 0
    labels[1::2] = 1
    batch = images, labels, np.ones(rows, np.float32)
    one, other = (
        contributions(counting(batch, [record]), atoms, scales) for record in (0, rows - 1)
    )
    assert one.any()
    assert other.any()
    total = contributions(batch, atoms, scales)
    np.testing.assert_array_equal(total, rows // 2 * (one + other))
    assert np.abs(total).max() > 2**46  # what is added to it in float64 is larger, below 2^53


@pytest.mark.slow
@pytest.mark.parametrize("basis_size", [0, 20])
def test_records_of_mnists_size_add_the_same_wherever_they_stand(basis_size):
    """Rows and atoms enough that XLA works in vectors, threads and leftovers of them."""
    random = np.random.default_rng(basis_size)
    count = 700
    images = random.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    labels = random.integers(0, 3, count).astype(np.int32)
    basis = np.linalg.qr(random.normal(size=(784, basis_size)))[0].T if basis_size else None
    regions = np.arange(784) // 16 % 49
    atoms = Atoms(
        random.uniform(-1, 1, (3, 13, 784)), random.normal(size=(3, 13)), 30.0, basis, regions
    )
    scales = Scales(20.0, 3.0, 0.4, 0.1 if basis_size else 0.0)
    batch = images, labels, np.ones(count, np.float32)
    total = contributions(batch, atoms, scales)
    assert np.count_nonzero(total) > 0.9 * len(total)
    for chunk_size in (2048, 101, 16):
        order = random.permutation(count)
        mixed = tuple(array[order] for array in batch)
        mechanism = PerRecordMechanism(chunk_size=chunk_size)
        np.testing.assert_array_equal(contributions(mixed, atoms, scales, mechanism), total)
    alone = contributions(counting(batch, [count // 2]), atoms, scales)
    without = np.setdiff1d(np.arange(count), [count // 2])
    less = contributions(counting(batch, without), atoms, scales)
    np.testing.assert_array_equal(total - less, alone)


JOINT = JointMechanism(clip_norm=0.5, noise_multiplier=1.0)


def steps(gradient, mechanism=JOINT):
    """The release of the joint mechanism without its noise, in steps of its grid."""
    noise = tf.zeros(gradient.shape, tf.int64)
    finite = joint.finite_or_zero(gradient)
    return dp_adam.clip_and_noise(mechanism.optimizer, finite, noise)


IN_GRAPH, COMPILED = tf.function(steps), tf.function(steps, jit_compile=True)


def gradients(random):
    """Of every norm that float32 has, and some that it has not."""
    gradient = random.normal(size=60) * 10 ** random.uniform(-3, 3, 60) ** random.choice([0, 1, 5])
    exponent = random.uniform(-45, 38)
    with np.errstate(over="ignore"):
        gradient = (gradient / np.abs(gradient).max() * 10**exponent).astype(np.float32)
    kind = random.integers(0, 6)
    if kind == 0:
        gradient[random.integers(60)] = random.choice([np.nan, np.inf, -np.inf, 3e38, 1e19, -2e19])
    if kind == 1:
        gradient[:] = np.float32(10**exponent)
    return tf.constant(gradient)


@EXAMPLES
@given(seed=SEEDS)
def test_joint_integers_lie_in_a_ball_and_no_two_are_further_apart_than_its_diameter(seed):
    random = np.random.default_rng(seed)
    found = []
    for _ in range(4):
        gradient = gradients(random)
        for integers in (IN_GRAPH(gradient), COMPILED(gradient)):
            integers = [float(k) for k in integers.numpy()]
            assert all(k.is_integer() for k in integers)
            found.append([int(k) for k in integers])
            assert sum(k**2 for k in found[-1]) <= gradient_grid.STEPS**2
    for one in found:
        for other in found:
            apart = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
            assert apart <= (JOINT.sensitivity_over_clip_norm * gradient_grid.STEPS) ** 2


@pytest.mark.parametrize("clip_norm", [1e-300, 1e-30, 1e-3, 1e3, 1e30])
@pytest.mark.parametrize("size", [1e-45, 1e-20, 1.0, 1e18, 3e38])
def test_joint_integers_lie_in_the_ball_of_any_clip_norm(clip_norm, size):
    mechanism = JointMechanism(clip_norm=clip_norm, noise_multiplier=1.0)
    gradient = tf.constant(np.linspace(-size, size, 50), tf.float32)
    integers = [int(k) for k in steps(gradient, mechanism).numpy()]
    assert sum(k**2 for k in integers) <= gradient_grid.STEPS**2
