"""The per-record mechanism, sentence by sentence of its guarantee."""

import dataclasses

import keras
import noise_judge
import numpy as np
import pytest
import tensorflow as tf

from tfdps import checks
from tfdps.mechanisms import clipped_sums, lattice, per_record
from tfdps.mechanisms.moments import Atoms, MomentQuery, Release, Scales
from tfdps.mechanisms.per_record import PerRecordMechanism

SHAPE, NUM_CLASSES, NUM_RECORDS = (2, 2, 3), 3, 24
DIMENSION, BASIS_SIZE = 12, 4
SCALES = Scales(clip_norm=3.0, mass=2.0, energy=0.4, second=0.7)
REGIONS = np.array([0, 1, 1, 1, 0, 0, 2, 2, 2, 2, 2, 1])
UNCLIPPED = dataclasses.replace(SCALES, clip_norm=1e4)
SIGMAS = 5.0  # a false alarm of a noise test: below 1e-6
LIMIT = 1 - lattice._MARGIN
MECHANISM = PerRecordMechanism()
# Of a moment, relative: shares are weighed in steps of 2^-11 of a logarithm, atoms lie on a grid of
# 1/2040. And absolute, of 24 records: their shares of second moments are in steps of 2^-10.
GRID = {"rtol": 1e-3, "atol": 0.02}


def batch_of(num_records=NUM_RECORDS, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (num_records, *SHAPE), dtype=np.uint8)
    labels = random.integers(0, NUM_CLASSES, num_records).astype(np.int32)
    return images, labels, np.ones(num_records, np.float32)


def atoms_of(num_atoms=2, *, basis_size=BASIS_SIZE, regularization=2.0, regions=REGIONS, seed=1):
    random = np.random.default_rng(seed)
    basis = None
    if basis_size:
        basis = np.linalg.qr(random.normal(size=(DIMENSION, basis_size)))[0].T
    return Atoms(
        positions=random.uniform(-1, 1, (NUM_CLASSES, num_atoms, DIMENSION)),
        offsets=random.normal(size=(NUM_CLASSES, num_atoms)),
        regularization=regularization,
        basis=basis,
        regions=regions,
    )


def bare(batch, atoms, scales=SCALES, *, mechanism=MECHANISM, pooled=False):
    """The release without its noise, float64."""
    integers = integers_of(batch, atoms, scales, mechanism=mechanism, pooled=pooled)
    return integers * lattice.spacing_of_elements(MomentQuery(atoms, scales, pooled))


def integers_of(batch, atoms, scales=SCALES, *, mechanism=MECHANISM, pooled=False):
    """The integers that noise is added to."""
    return mechanism._contributions(batch, MomentQuery(atoms, scales, pooled)).numpy()


def query_of(atoms=None, scales=SCALES):
    return MomentQuery(atoms or atoms_of(), scales)


def moments_of(vector, atoms, scales, *, noise_multiplier=1.0, pooled=False):
    return Release(vector, MomentQuery(atoms, scales, pooled), noise_multiplier).moments()


def pixels_of(batch):
    return batch[0].reshape(len(batch[0]), -1) / 127.5 - 1


def shares_and_deltas(batch, atoms):
    """pi [N, L, K], 0 outside a record's class, and y - x_i [N, L, K, d]; float64."""
    deltas = pixels_of(batch)[:, None, None] - atoms.positions.astype(np.float64)
    logits = (atoms.offsets - (deltas**2).sum(axis=3) / 2) / atoms.regularization
    shares = np.exp(logits - logits.max(axis=2, keepdims=True))
    shares /= shares.sum(axis=2, keepdims=True)
    return shares * np.eye(NUM_CLASSES)[batch[1]][:, :, None], deltas


def energies_of(shares, deltas, regions):
    """The shares' ||delta_r||^2, [..., R]."""
    in_regions = [(deltas[..., regions == r] ** 2).sum(axis=-1) for r in range(regions.max() + 1)]
    return shares[..., None] * np.stack(in_regions, axis=-1)


def second_moments(shares, deltas, basis):
    """Sums over records and, or, atoms of the shares' (B delta)(B delta)^T."""
    projected = deltas if basis is None else deltas @ basis.astype(np.float64).T
    return np.einsum("...,...p,...q->...pq", shares, projected, projected)


def brute_force(batch, atoms, scales, pooled=False):
    """Every record's contribution written out, clipped by its own norm, added up; float64."""
    upper = np.triu_indices(atoms.second_dimension)
    root = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    total = 0
    for weight, share, delta in zip(batch[2], *shares_and_deltas(batch, atoms), strict=True):
        second = second_moments(share, delta, atoms.basis)[..., upper[0], upper[1]] * root
        channels = [scales.mass * share, share[..., None] * delta]
        if scales.energy:
            channels.append(scales.energy * energies_of(share, delta, atoms.regions))
        if scales.second:
            channels.append(scales.second * (second.sum(axis=(0, 1)) if pooled else second))
        h = np.concatenate([channel.ravel() for channel in channels])
        total = total + weight * h * min(1, LIMIT * scales.clip_norm / np.linalg.norm(h))
    return total


@pytest.mark.parametrize(
    ("num_atoms", "basis_size", "regularization", "scales", "pooled", "chunk_size"),
    [
        (2, BASIS_SIZE, 2.0, SCALES, False, 2048),
        (2, BASIS_SIZE, 2.0, dataclasses.replace(SCALES, clip_norm=9.0), False, 2048),
        (2, BASIS_SIZE, 0.01, UNCLIPPED, False, 2048),
        (2, BASIS_SIZE, 500.0, SCALES, False, 2048),
        pytest.param(*(3, None, 2.0, SCALES, False, 5), marks=pytest.mark.slow),
        (1, None, 2.0, SCALES, True, 5),
    ],
)
def test_the_sum_is_that_of_each_records_clipped_contribution(
    num_atoms, basis_size, regularization, scales, pooled, chunk_size
):
    batch = batch_of()
    atoms = atoms_of(num_atoms, basis_size=basis_size, regularization=regularization)
    mechanism = PerRecordMechanism(chunk_size=chunk_size)
    expected = brute_force(batch, atoms, scales, pooled)
    found = bare(batch, atoms, scales, mechanism=mechanism, pooled=pooled)
    # A record's shares are off by a step of 2^-11 of their logarithm, its atoms by 1/4080: by less
    # than a two thousandth of its contribution, which is 10 or C at the most.
    tolerance = NUM_RECORDS / 2000 * min(scales.clip_norm, 10)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_mass_and_displacement_are_the_jacobian_of_the_semi_dual():
    """S = sum over records of -lambda log sum_i exp((f_i - c(x_i, y)) / lambda), by autodiff."""
    batch, atoms = batch_of(), atoms_of()
    positions = tf.constant(atoms.positions, tf.float64)
    offsets = tf.constant(atoms.offsets, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([positions, offsets])
        x, f = tf.gather(positions, batch[1]), tf.gather(offsets, batch[1])
        costs = tf.reduce_sum((x - pixels_of(batch)[:, None]) ** 2, axis=2) / 2
        exponents = (f - costs) / atoms.regularization
        semi_dual = -atoms.regularization * tf.reduce_sum(tf.reduce_logsumexp(exponents, axis=1))
    gradients = tape.gradient(semi_dual, [positions, offsets])
    by_position, by_offset = (tf.convert_to_tensor(gradient) for gradient in gradients)
    found = moments_of(bare(batch, atoms, UNCLIPPED), atoms, UNCLIPPED)
    np.testing.assert_allclose(found.mass, -by_offset, **GRID)
    np.testing.assert_allclose(found.displacement, -by_position, **GRID)


def without(batch, record):
    images, labels, weights = batch
    return (
        images,
        labels,
        np.where(np.isin(np.arange(len(weights)), record), np.float32(0), weights),
    )


@pytest.mark.parametrize("seed", range(6))
def test_one_record_moves_the_sum_by_at_most_the_clip_norm(seed):
    """Neighbouring batches with atoms, potentials and scales of every kind, stray atoms included."""
    random = np.random.default_rng(seed)
    images, labels, weights = batch_of(seed=seed)
    images[: NUM_RECORDS // 2] = random.choice([0, 255])  # copies, in a corner of the cube
    atoms = atoms_of(regularization=10 ** random.uniform(-3, 3), seed=seed)
    atoms.positions[:] *= 10.0 ** random.choice([-3, 0, 6, 30], size=(NUM_CLASSES, 2, 1))
    scales = Scales(1.0, *10 ** random.uniform(-6, 6, size=3))
    batch = images, labels, weights
    whole = bare(batch, atoms, scales)
    assert np.isfinite(whole).all()
    for record in range(0, NUM_RECORDS, 5):
        assert np.linalg.norm(whole - bare(without(batch, record), atoms, scales)) <= 1.0


def test_a_far_record_reaches_the_clip_norm():
    """The bound is tight: noise for less than C would not do."""
    whole, less = (bare(batch, atoms_of()) for batch in (batch_of(), without(batch_of(), 3)))
    assert 0.99 * SCALES.clip_norm <= np.linalg.norm(whole - less) <= SCALES.clip_norm


def test_pooled_second_moments_have_the_same_sensitivity():
    batch, atoms = batch_of(), atoms_of(1, basis_size=None)
    mechanism = PerRecordMechanism(chunk_size=5)
    whole, less = (
        bare(b, atoms, mechanism=mechanism, pooled=True) for b in (batch, without(batch, 3))
    )
    assert 0.99 * SCALES.clip_norm <= np.linalg.norm(whole - less) <= SCALES.clip_norm


@pytest.mark.parametrize(
    "distance", [0.0, 1e-30, 1e-6, 1e-3, 0.5, 1.0, 1.3, 2.0, 10.0, 1e3, 1e10, 1e30]
)
def test_the_clip_bounds_every_norm_and_leaves_small_ones_alone(distance):
    """A record at a known distance from both atoms of its class."""
    images, labels, weights = batch_of()
    images[0] = 255
    step = np.zeros((2, DIMENSION))
    step[0, 0], step[1, 1] = distance, distance
    atoms = atoms_of(regions=None)
    atoms.positions[labels[0]], atoms.offsets[labels[0]] = 1 + step, 0
    only = images, labels, (np.arange(NUM_RECORDS) == 0).astype(np.float32)
    moved = atoms.positions[labels[0]].astype(np.float64) - 1  # as float32 can tell it from 1
    squares = (moved**2).sum(axis=1)
    in_basis = ((moved @ atoms.basis.T.astype(np.float64)) ** 2).sum(axis=1)
    terms = SCALES.mass**2 + squares + (SCALES.energy * squares) ** 2
    share = np.exp(-(squares - squares.min()) / 2 / atoms.regularization)
    share /= share.sum()
    norm = np.sqrt((share**2 * (terms + (SCALES.second * in_basis) ** 2)).sum())
    expected = min(norm, LIMIT * SCALES.clip_norm)
    found = np.linalg.norm(bare(only, atoms))
    # Further away a share is clipped to fewer steps, and rounded down.
    assert found == pytest.approx(expected, rel=1e-4 if distance < 3 else 0.05)
    assert found <= LIMIT * SCALES.clip_norm


@pytest.mark.parametrize("label", [-1, NUM_CLASSES, 2**31 - 1, -(2**31)])
def test_a_label_out_of_range_contributes_nothing(label):
    images, labels, weights = batch_of()
    labels[3] = label
    np.testing.assert_array_equal(
        bare((images, labels, weights), atoms_of()), bare(without(batch_of(), 3), atoms_of())
    )


@pytest.mark.slow
def test_a_wide_label_does_not_wrap_into_range():
    images, labels, weights = batch_of()
    wide = np.where(np.arange(NUM_RECORDS) == 3, labels + 2**32, labels)
    np.testing.assert_array_equal(
        bare((images, wide, weights), atoms_of()), bare(without(batch_of(), 3), atoms_of())
    )


@pytest.mark.parametrize("regularization", [5e-324, 1e-320, 1e-100])
def test_a_regularization_that_overflows_every_exponent_gives_a_record_to_one_atom(regularization):
    atoms = atoms_of(regularization=regularization)
    found = moments_of(bare(batch_of(), atoms, UNCLIPPED), atoms, UNCLIPPED)
    np.testing.assert_array_equal(found.mass, np.rint(found.mass))
    np.testing.assert_array_equal(found.mass.sum(axis=1), np.bincount(batch_of()[1]))


def test_records_of_weight_zero_change_nothing_to_the_bit():
    images, labels, weights = batch_of()
    weights[::3] = 0
    noise, other_labels, _ = batch_of(seed=9)
    dropped = weights == 0
    changed = (
        np.where(dropped[:, None, None, None], noise, images),
        np.where(dropped, other_labels, labels),
        weights,
    )
    np.testing.assert_array_equal(
        bare(changed, atoms_of()), bare((images, labels, weights), atoms_of())
    )


def test_any_weight_above_zero_counts_once():
    images, labels, weights = batch_of()
    changed = images, labels, np.linspace(1e-6, 50, NUM_RECORDS, dtype=np.float32)
    np.testing.assert_array_equal(bare(changed, atoms_of()), bare(batch_of(), atoms_of()))
    nothing = images, labels, np.full(NUM_RECORDS, np.nan, np.float32)
    assert not bare(nothing, atoms_of()).any()


def test_padding_changes_nothing_and_a_channel_that_is_off_is_absent():
    images, labels, weights = batch_of()
    padded = (
        np.concatenate([images, np.full((9, *SHAPE), 7, np.uint8)]),
        np.concatenate([labels, np.zeros(9, np.int32)]),
        np.concatenate([weights, np.zeros(9, np.float32)]),
    )
    scales = Scales(clip_norm=2.5, mass=1.0)
    found = bare(padded, atoms_of(), scales)
    assert found.shape == (NUM_CLASSES * 2 * (1 + DIMENSION),)
    np.testing.assert_array_equal(found, bare(batch_of(), atoms_of(), scales))
    expected = brute_force(batch_of(), atoms_of(), scales)
    np.testing.assert_allclose(found, expected, **GRID)
    found = moments_of(found, atoms_of(), scales)
    assert [found.energy, found.second, found.energy_stddev, found.second_stddev] == [None] * 4


def test_a_class_touches_its_own_atoms_alone():
    images, labels, weights = batch_of()
    labels[:] = 1
    found = moments_of(bare((images, labels, weights), atoms_of()), atoms_of(), SCALES)
    for channel in (found.mass, found.displacement, found.energy, found.second):
        assert not channel[[0, 2]].any()
        assert channel[1].all()


def test_an_empty_batch_gives_pure_noise_of_the_same_shape():
    images, labels, weights = batch_of()
    empty = images, labels, 0 * weights
    assert not bare(empty, atoms_of()).any()
    some, none = (
        MECHANISM.release([batch], query_of(), noise_multiplier=1.0).vector
        for batch in (batch_of(), empty)
    )
    assert some.shape == none.shape
    assert none.dtype == np.float32
    assert np.all(none)


def test_masses_add_up_to_the_number_of_records_where_nothing_is_clipped():
    batch = without(batch_of(), 5)
    found = moments_of(bare(batch, atoms_of(), UNCLIPPED), atoms_of(), UNCLIPPED)
    expected = np.bincount(batch[1], batch[2])
    missing = expected - found.mass.sum(axis=1)  # two atoms' shares are rounded down twice
    assert (missing >= 0).all()
    assert (missing <= 4 * expected / lattice.SHARES).all()


def test_equal_atoms_share_alike_and_equal_records_add_up():
    images, labels, weights = batch_of()
    atoms = atoms_of()
    atoms.positions[:, 1], atoms.offsets[:, 1] = atoms.positions[:, 0], atoms.offsets[:, 0]
    found = moments_of(bare(batch_of(), atoms, UNCLIPPED), atoms, UNCLIPPED)
    np.testing.assert_array_equal(found.mass[:, 0], found.mass[:, 1])
    np.testing.assert_array_equal(found.second[:, 0], found.second[:, 1])

    half = NUM_RECORDS // 2
    images[half:], labels[half:] = images[:half], labels[:half]
    once = images, labels, np.where(np.arange(NUM_RECORDS) < half, np.float32(1), np.float32(0))
    np.testing.assert_array_equal(
        integers_of((images, labels, weights), atoms), 2 * integers_of(once, atoms)
    )


def test_moments_are_those_of_the_records():
    batch, atoms = batch_of(), atoms_of()
    found = moments_of(bare(batch, atoms, UNCLIPPED), atoms, UNCLIPPED)
    shares, deltas = shares_and_deltas(batch, atoms)
    energies = energies_of(shares, deltas, atoms.regions)
    np.testing.assert_allclose(found.mass, shares.sum(axis=0), **GRID)
    np.testing.assert_allclose(found.displacement, (shares[..., None] * deltas).sum(axis=0), **GRID)
    np.testing.assert_allclose(found.energy, energies.sum(axis=0), **GRID)
    second = second_moments(shares, deltas, atoms.basis).sum(axis=0)
    np.testing.assert_allclose(found.second, second, **GRID)


def test_without_regions_energies_are_squared_distances():
    batch, atoms = batch_of(), atoms_of(regions=None)
    found = moments_of(bare(batch, atoms, UNCLIPPED), atoms, UNCLIPPED)
    shares, deltas = shares_and_deltas(batch, atoms)
    expected = (shares * (deltas**2).sum(axis=3)).sum(axis=0)
    np.testing.assert_allclose(found.energy[..., 0], expected, **GRID)


@pytest.mark.parametrize(
    "regions",
    [
        REGIONS[:-1],
        REGIONS.astype(np.float32),
        REGIONS - 1,
        np.where(REGIONS == 1, 3, REGIONS),  # nobody is in region 1
    ],
)
def test_regions_that_do_not_cover_the_pixels_are_refused(regions):
    with pytest.raises(checks.UsageError, match=r"regions must be integers \[12\]"):
        atoms_of(regions=regions)


def test_pooled_second_moments_are_summed_over_the_classes():
    batch, atoms = batch_of(), atoms_of(1, basis_size=None)
    mechanism = PerRecordMechanism(chunk_size=5)
    vector = bare(batch, atoms, UNCLIPPED, mechanism=mechanism, pooled=True)
    found = moments_of(vector, atoms, UNCLIPPED, pooled=True)
    second = second_moments(*shares_and_deltas(batch, atoms), None).sum(axis=(0, 1, 2))
    # Without a basis atoms are taken to lie on a grid of 1/255.
    np.testing.assert_allclose(found.second, second, rtol=1e-3, atol=0.1)


@pytest.fixture(scope="module")
def draws():
    """Noise of many releases of one batch, float64 [draws, D]."""
    batch, query = batch_of(), query_of()
    noisy = [
        MECHANISM.release([batch], query, noise_multiplier=1.3).vector.astype(np.float64)
        for _ in range(200)
    ]
    return np.stack(noisy) - bare(batch, query.atoms)


def deviates_as(noise, stddev):
    """Standard deviation within 5 sigma / sqrt(2 n)."""
    return abs(noise.std() / stddev - 1) < SIGMAS / np.sqrt(2 * noise.size)


def test_noise_has_mean_zero_and_sigma_times_the_clip_norm(draws):
    stated = 1.3 * SCALES.clip_norm
    assert abs(draws.mean()) < SIGMAS * stated / np.sqrt(draws.size)
    assert deviates_as(draws, stated)
    assert not deviates_as(draws, 0.95 * stated)
    assert not deviates_as(draws, 1.05 * stated)


def test_noise_on_the_moments_is_as_stated(draws):
    """Channel by channel; off-diagonal second moments carry theirs over sqrt(2)."""
    found = [moments_of(d, atoms_of(), SCALES, noise_multiplier=1.3) for d in draws]
    second = np.stack([m.second for m in found])
    np.testing.assert_array_equal(second, np.swapaxes(second, -1, -2))
    diagonal = np.arange(BASIS_SIZE)
    above = np.triu_indices(BASIS_SIZE, 1)
    for noise, stddev in [
        (np.stack([m.mass for m in found]), found[0].mass_stddev),
        (np.stack([m.displacement for m in found]), found[0].displacement_stddev),
        (np.stack([m.energy for m in found]), found[0].energy_stddev),
        (second[..., diagonal, diagonal], found[0].second_stddev),
        (second[..., above[0], above[1]], found[0].second_stddev / np.sqrt(2)),
    ]:
        assert abs(noise.mean()) < SIGMAS * stddev / np.sqrt(noise.size)
        assert deviates_as(noise, stddev)
        assert not deviates_as(noise, 1.25 * stddev)  # 1,200 values in the smallest


def test_every_element_gets_its_own_noise_every_time(draws):
    spread = draws.std(axis=0)
    assert np.abs(spread / spread.mean() - 1).max() < 6 / np.sqrt(2 * len(draws))
    for one, other in [(draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1])]:
        correlation = np.mean(one * other) / draws.var()
        assert abs(correlation) < SIGMAS / np.sqrt(one.size)


def test_no_seed_and_no_second_instance_repeats_the_noise():
    def draw(mechanism):
        keras.utils.set_random_seed(7)
        return mechanism.release([batch_of()], query_of(), noise_multiplier=1.0).vector

    values = [draw(m) for m in (MECHANISM, MECHANISM, PerRecordMechanism(), PerRecordMechanism())]
    # A few float32 values may coincide by chance; a repeated stream would share them all.
    assert len(np.unique(values)) > 3.9 * len(values[0])


def test_noise_is_added_once_to_integers_and_leaves_no_trace_of_them(monkeypatch):
    """To the last bit, on the public grid whatever is in the batch: low bits are uniform."""
    added, noise_of = [], MECHANISM._noise

    def noise(*args):
        added.append(noise_of(*args))
        return added[-1]

    monkeypatch.setattr(MECHANISM, "_noise", noise)
    totals, noisy_sum = [], MECHANISM._noisy_sum.add_up

    def add_up(*args, **kwargs):
        totals.append(noisy_sum(*args, **kwargs))
        return totals[-1]

    monkeypatch.setattr(MECHANISM._noisy_sum, "add_up", add_up)
    batch, query = batch_of(60), query_of()
    halves = [tuple(array[part] for array in batch) for part in (slice(0, 30), slice(30, 60))]
    nothing = [without(batch, np.arange(60))]
    for draw in (halves, nothing):
        low, bare = 0, sum(integers_of(part, query.atoms) for part in draw)
        for _ in range(30):
            released = MECHANISM.release(draw, query, noise_multiplier=1.3).vector
            np.testing.assert_array_equal(totals[-1].numpy() - added[-1], bare)
            expected = totals[-1].numpy() * lattice.spacing_of_elements(query)
            np.testing.assert_array_equal(released, expected.astype(np.float32))
            low = low + noise_judge.low_bits(totals[-1].numpy())
        assert noise_judge.are_uniform(low)
    assert len(added) == 60


def test_the_noise_has_the_stated_deviation_in_steps_of_each_element():
    spacings = lattice.spacing_of_elements(query_of())
    noise = np.stack([MECHANISM._noise(spacings, 3.9) for _ in range(300)])
    assert len(np.unique(spacings)) == 5
    for spacing in np.unique(spacings):
        of_spacing = noise[:, spacings == spacing] * spacing
        assert deviates_as(of_spacing, 3.9)
        assert not deviates_as(of_spacing, 1.2 * 3.9)


def test_the_sum_is_not_clipped_again():
    whole = bare(batch_of(), atoms_of())
    assert np.linalg.norm(whole) > 2 * SCALES.clip_norm
    released = MECHANISM.release([batch_of()], query_of(), noise_multiplier=1e-9).vector
    np.testing.assert_allclose(released, whole, rtol=1e-6, atol=1e-6)  # float32


@pytest.mark.parametrize("images_per_unit", [1, 3])
def test_the_program_is_compiled_for_shapes_and_not_for_labels(images_per_unit):
    """Labels that XLA took for constants would make it compile anew, visibly, for each batch."""
    batch, query = batch_of(), query_of()
    names = tuple(query.channels)
    compiled = clipped_sums._compiled_sums(names, False, NUM_RECORDS, images_per_unit)
    program = compiled.experimental_get_compiler_ir(
        per_record._checked(batch, query.atoms, images_per_unit),
        *clipped_sums._public(query),
    )(stage="hlo")
    assert f"s32[{NUM_RECORDS}]{{0}} parameter(1)" in program


def test_blocks_of_a_basis_change_no_bit(monkeypatch):
    whole = integers_of(batch_of(), atoms_of())
    monkeypatch.setattr(lattice, "_AT_ONCE", 2 * DIMENSION)  # two of four rows at a time
    lattice.of.cache_clear()
    np.testing.assert_array_equal(integers_of(batch_of(), atoms_of()), whole)


def test_work_grows_with_records_and_not_with_classes():
    """All rows of all pieces: of 100 classes they were 40 times as many as there are records."""
    for num_classes in (1, 10, 100, 1000):
        atoms = Atoms(np.zeros((num_classes, 4, 12)), np.zeros((num_classes, 4)), 1.0)
        rows = clipped_sums.rows_of_piece(MomentQuery(atoms, SCALES), 5000)
        pieces = 5000 // rows + num_classes
        assert rows * pieces <= 2 * 5000 + num_classes + rows


def test_rows_of_large_images_are_few():
    atoms = Atoms(np.zeros((2, 1, 128 * 128 * 3)), np.zeros((2, 1)), 1.0)
    rows = clipped_sums.rows_of_piece(MomentQuery(atoms, Scales(1.0, 1.0)), 5000)
    assert rows * 128 * 128 * 3 <= 2**22


@pytest.mark.slow
def test_pieces_of_a_large_batch_add_up():
    """5,000 images of MNIST's size against an independent float64 sum over whole classes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5000, 28, 28, 1), dtype=np.uint8)
    labels = random.integers(0, 10, 5000).astype(np.int32)
    basis = np.linalg.qr(random.normal(size=(784, 20)))[0].T
    atoms = Atoms(random.uniform(-1, 1, (10, 8, 784)), np.zeros((10, 8)), 50.0, basis)
    scales = Scales(1e4, 1.0, 1.0, 1.0)
    batch = images, labels, np.ones(5000, np.float32)
    found = moments_of(bare(batch, atoms, scales), atoms, scales)
    for label in range(10):
        y = images[labels == label].reshape(-1, 784) / 127.5 - 1
        delta = y[:, None] - atoms.positions[label].astype(np.float64)
        logits = -(delta**2).sum(axis=2) / 2 / 50.0
        plan = np.exp(logits - logits.max(axis=1, keepdims=True))
        plan /= plan.sum(axis=1, keepdims=True)
        a = delta @ atoms.basis.T.astype(np.float64)
        # Shares of 500 records, each rounded down to 2^-10; moments are of order 10^2 to 10^5.
        close = {"rtol": 5e-3, "atol": 2.0}
        np.testing.assert_allclose(found.mass[label], plan.sum(axis=0), **close)
        second = np.einsum("bk,bkp,bkq->kpq", plan, a, a)
        np.testing.assert_allclose(found.second[label], second, **close)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((3, 12))}, r"positions must have shape \[L, K, d\]"),
        ({"positions": np.full((3, 2, 12), np.nan)}, "positions must be finite"),
        ({"positions": np.full((3, 2, 12), 1e39)}, "positions must be finite"),
        ({"offsets": np.zeros((2, 3))}, r"offsets must have shape \[3, 2\]"),
        ({"offsets": np.full((3, 2), -np.inf)}, "offsets must be finite"),
        ({"regularization": 0.0}, "regularization must be > 0"),
        ({"basis": np.ones((4, 12))}, "basis must have orthonormal rows"),
        ({"basis": np.eye(4)}, r"basis must have shape \[p, 12\]"),
    ],
)
def test_atoms_that_do_not_fit_are_refused(changes, message):
    settings = {"positions": np.zeros((3, 2, 12)), "offsets": np.zeros((3, 2)), "regularization": 1}
    with pytest.raises(checks.UsageError, match=message), np.errstate(over="ignore"):
        Atoms(**{**settings, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be >= 0.001"),
        ({"clip_norm": np.nan}, "clip_norm must be >= 0.001"),
        ({"clip_norm": np.inf}, "clip_norm must be >= 0.001"),
        ({"mass": 0.0}, "mass must be > 0"),
        ({"energy": -1.0}, "energy must be >= 0"),
        ({"second": np.nan}, "second must be >= 0"),
        ({"second": 1e7}, "second must be <= 1e6 clip_norm"),
    ],
)
def test_scales_without_a_guarantee_are_refused(changes, message):
    with pytest.raises(checks.UsageError, match=message):
        Scales(**{"clip_norm": 1.0, "mass": 1.0, **changes})


@pytest.mark.parametrize(
    ("batch", "settings", "message"),
    [
        (batch_of(), {"noise_multiplier": 0.0}, "noise_multiplier must be > 0"),
        ((batch_of()[0] / 255.0, *batch_of()[1:]), {}, "images must be uint8"),
        ((batch_of()[0][:, :1], *batch_of()[1:]), {}, "H W C = 12"),
        ((*batch_of()[:2], np.ones(3, np.float32)), {}, "one element an image"),
        (batch_of(0), {}, "a batch at least one row"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(batch, settings, message):
    with pytest.raises(checks.UsageError, match=message):
        MECHANISM.release([batch], query_of(), **{"noise_multiplier": 1.0, **settings})


def test_second_moments_of_several_atoms_are_not_pooled():
    with pytest.raises(checks.UsageError, match="pooled must be False with more than one atom"):
        MomentQuery(atoms_of(), SCALES, pooled=True)


def test_a_query_crosses_to_other_workers_as_it_is():
    for query in (
        query_of(),
        MomentQuery(atoms_of(1, basis_size=None, regions=None), Scales(2.0, 0.5), pooled=True),
    ):
        again = MomentQuery.from_bytes(query.to_bytes())
        assert again.to_bytes() == query.to_bytes()
        assert again.scales == query.scales
        assert again.pooled == query.pooled
        for name, value in vars(query.atoms).items():
            np.testing.assert_array_equal(getattr(again.atoms, name), value)


def test_a_vector_of_another_layout_is_refused():
    with pytest.raises(checks.UsageError, match="vector must have shape"):
        moments_of(np.zeros(7), atoms_of(), SCALES)


def test_a_chunk_has_at_least_one_record_and_no_more_than_are_summed_exactly():
    with pytest.raises(checks.UsageError, match="chunk_size must be >= 1"):
        PerRecordMechanism(chunk_size=0)
    with pytest.raises(checks.UsageError, match="chunk_size must be at most 2048, received 2049"):
        PerRecordMechanism(chunk_size=2049)
