"""Records that a program passes: what is taken, what is refused and how, and what names them."""

import dataclasses
import re

import numpy as np
import pytest

from tfdps import checks
from tfdps.config.run_config import RunConfig
from tfdps.data import counting, loading
from tfdps.data.dataset import Dataset, DatasetSpec, StreamedDataset

IMAGES = np.random.default_rng(0).integers(0, 256, [12, 6, 5, 3], dtype=np.uint8)
LABELS = np.arange(12) % 2
CLASSES = ("cat", "dog")
SPEC = DatasetSpec("whatever", (6, 5, 3), CLASSES)


def load(records=(IMAGES, LABELS), name="arrays:pets", class_names=CLASSES, **declared):
    return loading.load(name, records=records, class_names=class_names, **declared)


def refusal(*args, **kwargs):
    with pytest.raises(checks.UsageError) as caught:
        load(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pairs(images=IMAGES, labels=LABELS):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((images, labels))


def test_arrays_are_a_data_set_with_the_declared_classes():
    dataset = load()
    assert dataset.spec == DatasetSpec("arrays:pets", (6, 5, 3), CLASSES)
    np.testing.assert_array_equal(dataset.images, IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.labels.dtype == np.int32
    assert len(dataset) == dataset.size == 12


def test_grey_images_need_no_channel_axis():
    assert load((IMAGES[..., 0], LABELS)).spec.image_shape == (6, 5, 1)


def test_all_kinds_of_the_same_records_are_the_same_data_set():
    kinds = [(IMAGES, LABELS), pairs(), Dataset(IMAGES, LABELS.astype(np.int32), SPEC)]
    kinds.append((np.asfortranarray(IMAGES), LABELS.astype(np.uint8)))
    loaded = [load(records) for records in kinds]
    assert len({dataset.fingerprint for dataset in loaded}) == 1
    for dataset in loaded:
        np.testing.assert_array_equal(dataset.images, IMAGES)
        assert dataset.spec == loaded[0].spec


def test_the_fingerprint_knows_every_pixel_label_and_the_order():
    changed_image, changed_label = IMAGES.copy(), LABELS.copy()
    changed_image[7, 1, 2, 0] ^= 1
    changed_label[7] ^= 1
    others = [(changed_image, LABELS), (IMAGES, changed_label), (IMAGES[::-1], LABELS[::-1])]
    others.append((IMAGES.reshape(12, 5, 6, 3), LABELS))
    found = {load(records).fingerprint for records in [(IMAGES, LABELS), *others]}
    assert len(found) == 5


def test_a_datasets_spec_declares_the_classes():
    dataset = Dataset(IMAGES, LABELS, SPEC)
    assert load(dataset, class_names=None).spec.class_names == CLASSES
    assert "in that order" in refusal(dataset, class_names=CLASSES[::-1])


def test_parts_are_disjoint_and_together_all_with_one_fingerprint():
    parts = [load(part=(index, 3)) for index in range(3)]
    assert sorted(np.concatenate([part.images[:, 0, 0, 0] for part in parts])) == sorted(
        IMAGES[:, 0, 0, 0]
    )
    assert {(part.size, part.fingerprint) for part in parts} == {(12, load().fingerprint)}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ((IMAGES / 255, LABELS), "images must be uint8, 0 to 255, received float64: numbers in"),
        ((IMAGES[:, 0, 0], LABELS), re.escape("with C 1 or 3, none of them 0; received [12, 3]")),
        ((IMAGES[..., :2], LABELS), re.escape("received [12, 6, 5, 2]")),
        ((IMAGES[:0], LABELS[:0]), re.escape("received [0, 6, 5, 3]")),
        (([IMAGES[0], IMAGES[0, :3]], [0, 1]), "images must be one array, all of one shape"),
        ((IMAGES, LABELS[:-1]), re.escape("one for each of the 12 images, received int64 [11]")),
        ((IMAGES, LABELS[:, None]), re.escape("received int64 [12, 1]")),
        (
            (IMAGES, LABELS * 1.0),
            re.escape("integers, one for each of the 12 images, received float"),
        ),
        (
            (IMAGES, LABELS + 1),
            re.escape("labels must lie in [0, 1], one number for each class of"),
        ),
        ((IMAGES, LABELS - 1), "number them from 0"),
        (IMAGES, "records must be .images, labels., .* a tf.data.Dataset .* received ndarray"),
        (None, "no file has them"),
    ],
)
def test_other_records_are_refused_with_what_came_and_what_is_allowed(records, said):
    assert re.search(said, refusal(records))


def test_batches_and_endless_ones_and_other_elements_of_tf_data_are_refused():
    assert "unbatch()" in refusal(pairs().batch(3))
    assert "no repeat()" in refusal(pairs().repeat())
    assert "map them to pairs" in refusal(pairs().map(lambda image, label: {"image": image}))


def test_parts_of_a_data_set_and_streamed_ones_are_refused():
    assert "received 12 of 24" in refusal(Dataset(IMAGES, LABELS, SPEC, total=24))
    streamed = StreamedDataset(lambda indices: IMAGES[indices], LABELS, SPEC, 12)
    assert "received StreamedDataset" in refusal(streamed)


def test_classes_are_declared_never_found():
    said = refusal(class_names=None)
    assert "the classes that the labels happen to have are private" in said
    assert "RunConfig(class_names=" in said


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"dataset_size": 13}, "dataset_size must be 12"),
        ({"channels": 1}, "channels must be 3"),
        ({"image_size": 6}, "must be image_size x image_size, 6 x 6, received 6 x 5"),
        ({"label": "Male"}, "label applies to tfds data sets only"),
        ({"split": "test"}, "split must be one of train"),
    ],
)
def test_records_that_contradict_a_declaration_are_refused(declared, said):
    assert said in refusal(**declared)


@pytest.mark.parametrize(
    "name", ["arrays:", "arrays:/home/me/x", "arrays:a\n--x", "digits", "mnist"]
)
def test_only_a_plain_name_of_arrays_goes_with_records(name):
    with pytest.raises(checks.UsageError, match="dataset must be arrays or arrays:NAME where"):
        load(name=name)


def test_the_number_of_records_is_not_asked_of_records_that_are_not_there():
    with pytest.raises(checks.UsageError, match="Give --dataset_size"):
        counting.dataset_size("arrays")


def test_a_config_names_the_data_set_and_declares_its_classes():
    config = RunConfig(dataset="arrays", class_names="cat, dog", dataset_size=12, channels=3)
    assert loading.load_of(config, records=(IMAGES, LABELS)).spec == dataclasses.replace(
        SPEC, name="arrays"
    )
