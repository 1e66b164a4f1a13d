"""One clip for all images of a person: the sum that they add has at most the norm of the clip."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdps import checks
from tfdps.auditing.contributions import Contributions
from tfdps.mechanisms import lattice, unit_clip
from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales
from tfdps.mechanisms.per_record import PerRecordMechanism

SHAPE, NUM_CLASSES, MOST = (2, 3, 1), 3, 4
SCALES = Scales(clip_norm=2.0, mass=1.0, energy=0.4, second=0.7)
QUERIES = ("atoms", "pooled", "classes")


def query_of(kind, scales=SCALES, seed=1):
    """As of the rounds of a run: several atoms, one with shared second moments, one with its own."""
    random, num_atoms = np.random.default_rng(seed), 3 if kind == "atoms" else 1
    atoms = Atoms(
        positions=random.uniform(-1, 1, (NUM_CLASSES, num_atoms, 6)),
        offsets=random.normal(size=(NUM_CLASSES, num_atoms)),
        regularization=1.0,
        basis=np.linalg.qr(random.normal(size=(6, 3)))[0].T,
        regions=np.array([0, 1, 1, 0, 0, 1]),
    )
    return MomentQuery(atoms, scales, pooled=kind == "pooled")


def persons_of(count, seed=0, most=MOST):
    """(batch, units): persons of 0 to `most` images of all classes, in places of their own."""
    random = np.random.default_rng(seed)
    rows = count * most
    images = random.choice(np.array([0, 7, 128, 255], np.uint8), size=(rows, *SHAPE))
    labels = random.integers(0, NUM_CLASSES, rows).astype(np.int32)
    weights = (random.random(rows) < 0.7).astype(np.float32)
    units = np.where(weights > 0, np.arange(rows), -1).reshape(count, most)
    return (images, labels, weights), units


def integers_of(batch, query, most=MOST, **options):
    return PerRecordMechanism(images_per_unit=most, **options)._contributions(batch, query).numpy()


def norm_of(integers, query):
    return np.linalg.norm(integers * lattice.spacing_of_elements(query))


@pytest.mark.parametrize("kind", QUERIES)
def test_the_sum_is_the_auditors_own(kind):
    batch, units = persons_of(9)
    query = query_of(kind)
    released = integers_of(batch, query) * lattice.spacing_of_elements(query)
    own = Contributions(query).total(*batch[:2], units)
    np.testing.assert_allclose(released, own, atol=1e-9)
    assert np.linalg.norm(own) > 1


@pytest.mark.parametrize("kind", QUERIES)
@settings(max_examples=25, deadline=None)
@given(
    pixels=st.lists(st.integers(0, 255), min_size=6 * MOST, max_size=6 * MOST),
    labels=st.lists(st.integers(-1, NUM_CLASSES), min_size=MOST, max_size=MOST),
    counted=st.lists(st.booleans(), min_size=MOST, max_size=MOST),
    clip_norm=st.sampled_from([0.01, 0.7, 2.0, 100.0]),
)
def test_a_person_adds_at_most_the_clip(kind, pixels, labels, counted, clip_norm):
    query = query_of(kind, dataclasses.replace(SCALES, clip_norm=clip_norm))
    images = np.array(pixels, np.uint8).reshape(MOST, *SHAPE)
    batch = images, np.array(labels, np.int32), np.array(counted, np.float32)
    assert norm_of(integers_of(batch, query), query) <= clip_norm


@pytest.mark.parametrize("kind", QUERIES)
def test_the_same_image_many_times_adds_nearly_the_clip(kind):
    """The worst that a person can do: all of its images pull one way."""
    query = query_of(kind)
    images = np.full((MOST, *SHAPE), 255, np.uint8)
    batch = images, np.zeros(MOST, np.int32), np.ones(MOST, np.float32)
    assert 0.99 * SCALES.clip_norm < norm_of(integers_of(batch, query), query) <= SCALES.clip_norm


def test_images_of_classes_of_their_own_are_clipped_for_what_they_add_together():
    """Their contributions lie apart: the norm of four is twice that of one, and so is what is left."""
    random = np.random.default_rng(0)
    atoms = Atoms(np.zeros((4, 1, 6)), np.zeros((4, 1)), 1.0)
    query = MomentQuery(atoms, Scales(clip_norm=0.5, mass=1.0))
    image = random.integers(0, 256, SHAPE, np.uint8)
    alone = integers_of((image[None], np.zeros(1, np.int32), np.ones(1, np.float32)), query, most=1)
    labels = np.arange(4, dtype=np.int32)
    all_four = np.repeat(image[None], 4, axis=0), labels, np.ones(4, np.float32)
    together = integers_of(all_four, query, most=4)
    assert norm_of(together, query) == pytest.approx(0.5, rel=2e-3)
    mass, of_class = together[:4], alone[0]
    np.testing.assert_allclose(mass, of_class / 2, rtol=1e-3)  # a clip for each would leave all


@pytest.mark.parametrize("kind", QUERIES)
def test_a_person_adds_its_own_integers_in_any_company(kind):
    query = query_of(kind)
    batch, _ = persons_of(7, seed=3)
    whole = integers_of(batch, query)
    for person in range(7):
        own = slice(MOST * person, MOST * (person + 1))
        alone = integers_of(tuple(values[own] for values in batch), query)
        weights = batch[2].copy()
        weights[own] = 0
        without = integers_of((*batch[:2], weights), query)
        np.testing.assert_array_equal(whole - without, alone)


@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_the_sum_is_the_same_in_pieces_of_any_size_and_order(chunk_size):
    query = query_of("atoms")
    batch, _ = persons_of(8, seed=5)
    whole = integers_of(batch, query)
    np.testing.assert_array_equal(integers_of(batch, query, chunk_size=chunk_size), whole)
    order = np.random.default_rng(0).permutation(8)
    rows = (MOST * order[:, None] + np.arange(MOST)).ravel()
    moved = tuple(values[rows] for values in batch)
    np.testing.assert_array_equal(integers_of(moved, query), whole)


def test_a_person_of_one_image_adds_what_the_image_would():
    """But for a step of the lattice in the norm, of 2^15."""
    query = query_of("atoms")
    images, labels, _ = persons_of(6, seed=2)[0]
    first = (np.arange(len(labels)) % MOST == 0).astype(np.float32)
    persons = integers_of((images, labels, first), query)
    alone = integers_of((images[::MOST], labels[::MOST], np.ones(6, np.float32)), query, most=1)
    spacings = lattice.spacing_of_elements(query)
    np.testing.assert_allclose(persons * spacings, alone * spacings, atol=2e-3)


@pytest.mark.parametrize(("count", "told"), [(0, ">= 1"), (101, "at most 100")])
def test_a_number_of_images_out_of_range_is_refused(count, told):
    with pytest.raises(checks.UsageError, match=told):
        PerRecordMechanism(images_per_unit=count)


def test_a_batch_that_is_not_of_whole_persons_is_refused():
    batch, _ = persons_of(2)
    with pytest.raises(checks.UsageError, match="4 rows a unit, received 7"):
        integers_of(tuple(values[:7] for values in batch), query_of("atoms"))


def test_lengths_of_as_many_images_as_there_may_be_fit_into_an_int64():
    lengths = np.full((unit_clip.MOST_IMAGES, 1, 1), 2**24 + 1, np.int32)
    labels = np.zeros(unit_clip.MOST_IMAGES, np.int32)
    limit = np.float64(2**30)
    found = unit_clip.factors(lengths, labels, unit_clip.MOST_IMAGES, limit).numpy()
    expected = 2**15 / (unit_clip.MOST_IMAGES * (2**24 + 1))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
