"""Records that stay on disk, and workers' parts of them: the same draws as in memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, small_config
from tfdps.accounting import overflow
from tfdps.data import loading, partition, tfds_builder
from tfdps.mechanisms import batches, poisson
from tfdps.mechanisms.joint import StepNoise
from tfdps.training import job

NUM_RECORDS = 403


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A tfds set in four files: (data_dir, images [403, 8, 8, 1], labels), in the files' order."""
    tfds = tfds_builder.import_tfds()
    random = np.random.default_rng(0)
    images = random.integers(0, 256, [NUM_RECORDS, 8, 8, 1], dtype=np.uint8)
    labels = random.integers(0, 3, NUM_RECORDS)

    class FourFiles(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(NUM_RECORDS):
                yield i, {"image": images[i], "label": int(labels[i])}

    folder = tmp_path_factory.mktemp("tfds")
    with tfds_builder.quiet():
        config = tfds.download.DownloadConfig(num_shards=4)
        FourFiles(data_dir=str(folder)).download_and_prepare(download_config=config)
    assert len(list((folder / "four_files" / "1.0.0").glob("*tfrecord*"))) == 4
    return str(folder), images, labels


def load(shards, **how):
    return loading.load("four_files", data_dir=shards[0], **how)


def test_a_set_that_is_too_large_for_memory_stays_on_disk_and_reads_the_same(shards):
    _, images, labels = shards
    limit = NUM_RECORDS * 64 / 2**20
    assert load(shards, records_mib=1.01 * limit).in_memory
    streamed = load(shards, records_mib=0.99 * limit)
    assert not streamed.in_memory
    assert len(streamed) == streamed.size == NUM_RECORDS
    assert streamed.spec == load(shards).spec
    np.testing.assert_array_equal(streamed.labels, labels)
    random = np.random.default_rng(1)
    for wanted in (
        np.arange(NUM_RECORDS),
        np.array([], np.int64),
        np.array([NUM_RECORDS - 1]),
        np.sort(random.choice(NUM_RECORDS, 50, replace=False)),
    ):
        np.testing.assert_array_equal(streamed.gather(wanted), images[wanted])


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("records_mib", [np.inf, 1e-3])
def test_the_parts_of_workers_are_disjoint_and_all_of_the_set(shards, count, records_mib):
    _, images, labels = shards
    seen = [load(shards, part=(i, count), records_mib=records_mib) for i in range(count)]
    assert {part.size for part in seen} == {NUM_RECORDS}
    assert max(map(len, seen)) - min(map(len, seen)) <= 1
    found = [image.tobytes() for part in seen for image in part.gather(np.arange(len(part)))]
    assert sorted(found) == sorted(image.tobytes() for image in images)
    of_image = {
        image.tobytes(): label for image, label in zip(images, labels, strict=True)
    }  # all differ
    for part in seen:
        pairs = zip(part.gather(np.arange(len(part))), part.labels, strict=True)
        assert all(of_image[image.tobytes()] == label for image, label in pairs)


def test_copies_of_a_data_set_are_told_apart_by_their_files(shards, tmp_path):
    from PIL import Image

    def copy(name, size):
        for label in ("a", "b"):
            (tmp_path / name / label).mkdir(parents=True)
            Image.new("L", (size, 8)).save(tmp_path / name / label / "0.png", compress_level=0)
        return loading.load(f"folder:{tmp_path / name}").fingerprint

    assert copy("one", 8) == copy("two", 8) != copy("three", 80)
    file, other = (tmp_path / "two" / label / "0.png" for label in ("a", "b"))
    kept = file.read_bytes()
    Image.new("L", (8, 8), 1).save(file, compress_level=0)  # another record
    assert len(file.read_bytes()) == len(kept)
    assert loading.load(f"folder:{tmp_path / 'two'}").fingerprint != copy("four", 8)
    file.write_bytes(kept)
    other.rename(other.with_name("1.png"))
    assert loading.load(f"folder:{tmp_path / 'two'}").fingerprint != copy("five", 8)
    assert load(shards).fingerprint == load(shards, records_mib=1e-3).fingerprint
    assert load(shards, part=(1, 2)).fingerprint == load(shards).fingerprint
    assert load(shards).fingerprint != loading.load("digits").fingerprint


def test_parts_of_a_folder_and_of_the_digits_have_all_classes():
    whole = loading.load("digits")
    halves = [loading.load("digits", part=(i, 2)) for i in range(2)]
    np.testing.assert_array_equal(halves[1].images, whole.images[1::2])
    assert all(set(half.labels) == set(range(10)) for half in halves)
    assert partition.strided((1, 3)) == slice(1, None, 3)


def test_a_folder_that_is_too_large_stays_on_disk(tmp_path):
    from PIL import Image

    random = np.random.default_rng(0)
    for name, shape in (("grey", (9, 9)), ("red", (9, 9, 3))):
        (tmp_path / name).mkdir()
        for i in range(5):
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    whole = loading.load(f"folder:{tmp_path}", image_size=8, channels=3)
    for part in ((0, 1), (1, 2)):
        how = {"image_size": 8, "channels": 3, "part": part}
        streamed = loading.load(f"folder:{tmp_path}", records_mib=1e-4, **how)
        assert streamed.fingerprint == loading.load(f"folder:{tmp_path}", **how).fingerprint
        assert not streamed.in_memory
        assert streamed.spec == whole.spec
        assert streamed.size == 10
        chosen = partition.strided(part)
        np.testing.assert_array_equal(
            streamed.gather(np.arange(len(streamed))), whole.images[chosen]
        )
        np.testing.assert_array_equal(streamed.labels, whole.labels[chosen])


def batches_of(dataset, steps, **how):
    """[step][part][shard] of batches as NumPy arrays."""
    draws = batches.PoissonBatches(dataset, 0.1, **how)
    found = [tuple(map(np.asarray, batch)) for batch in draws.dataset(steps)]
    shards, parts_ = how.get("shards", 1), draws.parts_per_step
    assert len(found) == steps * parts_ * shards
    result = np.empty([len(found), 3], object)
    for row, batch in zip(result, found, strict=True):
        row[:] = batch
    return result.reshape(steps, parts_, shards, 3)


@pytest.mark.parametrize(
    ("records_mib", "truncated"),
    [
        (np.inf, True),
        (np.inf, False),
        (1e-3, True),
        pytest.param(1e-3, False, marks=pytest.mark.slow),
    ],
)
def test_each_record_is_in_one_batch_of_its_shard_at_most_and_drawn_as_often_as_stated(
    shards, monkeypatch, records_mib, truncated
):
    """Two shards, and parts where draws are not truncated; on disk several draws are read at once."""
    monkeypatch.setattr(batches, "_PART_BYTES", 64 * 50)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 64 * 1000)
    _, images, labels = shards
    number = {image.tobytes(): i for i, image in enumerate(images)}
    dataset = load(shards, records_mib=records_mib)
    steps = 40 if truncated or dataset.in_memory else 8  # of which every part is a read of its own
    overflow_probability = poisson.OVERFLOW_PROBABILITY if truncated else overflow.PROBABILITY
    found = batches_of(
        dataset,
        steps,
        overflow_probability=overflow_probability,
        in_parts=not truncated,
        shards=2,
    )
    assert len({batch.shape for batch in found[..., 0].ravel()}) == 1
    assert found.shape[1] == (1 if truncated else 2)
    times = np.zeros(NUM_RECORDS, int)
    for step in found:
        drawn = []
        for part in step:
            for shard, (pixels, classes, weights) in enumerate(part):
                count = int(weights.sum())
                assert (weights[:count] == 1).all()
                assert not pixels[count:].any()
                ids = [number[image.tobytes()] for image in pixels[:count]]
                assert all(i % 2 == shard for i in ids)
                np.testing.assert_array_equal(classes[:count], labels[ids])
                drawn += ids
        assert len(set(drawn)) == len(drawn)
        times[drawn] += 1
    expected, spread = steps * 0.1, np.sqrt(steps * 0.1 * 0.9)
    assert abs(times.mean() - expected) < 5 * spread / np.sqrt(NUM_RECORDS)
    assert abs(times.var() / spread**2 - 1) < 5 * np.sqrt(3 / NUM_RECORDS)  # a binomial's kurtosis


def test_every_batch_comes_with_noise_of_its_own(shards):
    """Also where batches wait in a queue, of two shards, and where the data set starts again."""
    noise = StepNoise((5, 3), 2.0**45)
    draws = batches.PoissonBatches(load(shards), 0.1, shards=2, noise=noise)
    dataset = draws.dataset(20)
    assert dataset.element_spec[3] == tf.TensorSpec([5, 3], tf.int64)
    found = [batch[3].numpy() for _ in range(2) for batch in dataset.repeat(2)]
    assert len(found) == 2 * 2 * 20 * 2
    assert len(np.unique(found)) == len(found) * 15  # by chance: once in 10^7


def test_a_draw_of_everything_has_every_record_once(shards, monkeypatch):
    monkeypatch.setattr(batches, "_PART_BYTES", 64 * 100)
    draws = batches.PoissonBatches(
        load(shards), 1.0, overflow_probability=overflow.PROBABILITY, in_parts=True, shards=3
    )
    assert draws.parts_per_step == 2
    found = [image for images, _, weights in draws.dataset(1) for image in images[weights > 0]]
    assert sorted(i.numpy().tobytes() for i in found) == sorted(i.tobytes() for i in shards[1])


@pytest.mark.slow
def test_real_digits_are_trained_on_from_disk(tmp_path, tfds_dir):
    settings = {"dataset": "mnist", "data_dir": tfds_dir, "records_mib": 8.0}
    card = job.train(small_config(tmp_path / "run", num_steps=10, **settings))
    assert card.dataset_size == 60_000
    assert card.steps == card.generator_updates
    assert 9.9 < card.epsilon <= 10


SIMULATED = """
import resource, sys
import numpy as np
from tfdps.mechanisms import batches
from tfdps.data.dataset import DatasetSpec, StreamedDataset

def images(indices):
    pixels = np.arange(1024, dtype=np.uint32) * np.uint32(40503)
    result = np.empty([len(indices), 1024], np.uint8)
    for start in range(0, len(indices), 1000):
        rows = indices[start : start + 1000].astype(np.uint32)[:, None]
        result[start : start + 1000] = (rows * np.uint32(2654435761) + pixels) >> np.uint32(13)
    return result.reshape(-1, 32, 32, 1)

size = 10_000_000
spec = DatasetSpec("simulated", (32, 32, 1), tuple("0123456789"))
labels = (np.arange(size, dtype=np.int32) % 10)
dataset = StreamedDataset(images, labels, spec, size)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def count(draws, steps, most):
    seen = 0
    for number, (_, _, weights) in zip(range(most), draws.dataset(steps)):
        seen += int(weights.numpy().sum())
    return seen

for _ in batches.PoissonBatches(dataset, 1e-6).dataset(1):  # TensorFlow's own memory
    pass
before = peak()
drawn = count(batches.PoissonBatches(dataset, 50 / size), 200, 10**9)
everything = batches.PoissonBatches(
    dataset, 1.0, overflow_probability=1e-30, in_parts=True, shards=2
)
passed = count(everything, 1, 4)
print(drawn, everything.parts_per_step, passed, round(peak() - before))
"""


@pytest.mark.slow
def test_ten_million_records_take_no_more_memory_than_a_few_parts():
    """200 steps of 50 of them, and the first parts of a pass over all; 10 GB of images."""
    result = subprocess.run(
        [sys.executable, "-c", SIMULATED],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    drawn, parts_per_step, passed, mib = map(int, result.stdout.split())
    assert abs(drawn - 10_000) < 5 * np.sqrt(10_000)
    assert parts_per_step == 20
    assert passed == 4 * 250_000
    assert mib < 2000  # of 10 GB: a few parts of 256 MiB, and the records of a block
