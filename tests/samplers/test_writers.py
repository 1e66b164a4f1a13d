"""What samples are written to: whole or not at all, and in bounded memory."""

import io
import json
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tfdps.checks import UsageError
from tfdps.data import loading
from tfdps.generators import pixels
from tfdps.samplers import folder_names, writers

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
LABELS = np.array([0, 1, 0, 1, 1])
NAMES = ("T - shirt / top", "Bag", "Never drawn")


def save(out, images=IMAGES, labels=LABELS, count=5, names=NAMES):
    """In two batches, as they come."""
    writer = writers.open_writer(
        str(out), count=count, image_shape=images.shape[1:], class_names=names
    )
    with writer as write:
        write(images[:2], labels[:2])
        write(images[2:], labels[2:])


def test_png_is_a_grid(tmp_path):
    save(tmp_path / "grid.PNG")
    picture = np.asarray(Image.open(tmp_path / "grid.PNG"))
    np.testing.assert_array_equal(picture, pixels.class_grid(IMAGES, 10))


def test_npz_holds_images_and_labels(tmp_path):
    save(tmp_path / "new" / "out.npz")
    with np.load(tmp_path / "new" / "out.npz") as arrays:
        assert set(arrays) == {"images", "labels", "class_names"}
        assert arrays["class_names"].tolist() == list(NAMES)
        np.testing.assert_array_equal(arrays["images"], IMAGES)
        np.testing.assert_array_equal(arrays["labels"], LABELS)
        assert arrays["labels"].dtype == np.int32
    assert os.listdir(tmp_path / "new") == ["out.npz"]


def test_the_file_for_dpimagebench_holds_floats_with_channels_first(tmp_path):
    writer = writers.open_benchmark_writer(
        tmp_path / "gen.npz", count=5, image_shape=IMAGES.shape[1:]
    )
    with writer as write:
        write(IMAGES[:2], LABELS[:2])
        write(IMAGES[2:], LABELS[2:])
    with np.load(tmp_path / "gen.npz") as arrays:
        assert set(arrays) == {"x", "y"}
        assert (arrays["x"].dtype, arrays["y"].dtype) == (np.float32, np.int64)
        assert arrays["x"].shape == (5, 3, 8, 8)
        for channel in range(3):
            expected = IMAGES[..., channel] / 255
            np.testing.assert_allclose(arrays["x"][:, channel], expected, rtol=1e-7)
        np.testing.assert_array_equal(arrays["y"], LABELS)
    assert os.listdir(tmp_path) == ["gen.npz"]


def test_the_file_for_dpimagebench_is_whole_or_not_there(tmp_path):
    writer = writers.open_benchmark_writer(tmp_path / "gen.npz", count=6, image_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="6 images were to come, received 5"), writer as write:
        write(IMAGES, LABELS)
    assert not os.listdir(tmp_path)


def test_parquet_holds_rows_of_an_image_and_its_label(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    save(tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column("label").to_pylist() == LABELS.tolist()
    pictures = [Image.open(io.BytesIO(row["bytes"])) for row in table.column("image").to_pylist()]
    np.testing.assert_array_equal(np.stack(pictures), IMAGES)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": list(NAMES), "_type": "ClassLabel"}
    assert features["image"] == {"_type": "Image"}


@pytest.mark.parametrize("out", ["folder", "folder.v1/"])
def test_a_folder_has_a_sub_folder_for_each_class_that_is_drawn(tmp_path, out):
    save(f"{tmp_path}/{out}")
    folder = tmp_path / out
    assert sorted(os.listdir(folder)) == ["Bag", "T - shirt_top"]
    for index, name in enumerate(["T - shirt_top", "Bag", "T - shirt_top", "Bag", "Bag"]):
        picture = np.asarray(Image.open(folder / name / f"{index:06d}.png"))
        np.testing.assert_array_equal(picture, IMAGES[index])
    assert os.listdir(tmp_path) == [folder.name]


@pytest.mark.parametrize(
    ("out", "path"), [("npz", "samples.npz"), ("png", "samples.png"), ("folder", "samples/")]
)
def test_a_bare_kind_has_a_usual_name(out, path):
    assert writers.path_of(out) == path
    assert writers.path_of(f"my.{out}") == f"my.{out}"


@pytest.mark.parametrize("out", ["folder/", "out.npz", "out.png", "out.parquet"])
class TestWholeOrNotAtAll:
    @pytest.mark.parametrize("count", [4, 6])
    def test_another_number_of_images_is_an_error_that_leaves_nothing(self, tmp_path, out, count):
        pytest.importorskip("pyarrow")
        with pytest.raises(ValueError, match=rf"{count} images .*were to come, received|a label"):
            save(f"{tmp_path}/{out}", count=count)
        assert not os.listdir(tmp_path)

    def test_an_error_while_drawing_leaves_what_was_there(self, tmp_path, out):
        pytest.importorskip("pyarrow")
        path = f"{tmp_path}/{out}"
        if not out.endswith("/"):
            save(path)
            before = (tmp_path / out).read_bytes()

        def broken():
            writer = writers.open_writer(path, count=5, image_shape=(8, 8, 3), class_names=NAMES)
            with writer as write:
                write(IMAGES[:2], LABELS[:2])
                raise RuntimeError("out of luck")

        with pytest.raises(RuntimeError, match="out of luck"):
            broken()
        if out.endswith("/"):
            assert not os.listdir(tmp_path)
        else:
            assert os.listdir(tmp_path) == [out]
            assert (tmp_path / out).read_bytes() == before


class TestRefusals:
    def test_a_folder_that_is_not_empty_is_left_alone(self, tmp_path):
        (tmp_path / "kept").touch()
        with pytest.raises(UsageError, match="exists and is not empty"):
            save(f"{tmp_path}/")
        assert os.listdir(tmp_path) == ["kept"]

    def test_another_suffix(self, tmp_path):
        with pytest.raises(
            UsageError, match=r"must end in .png, .npz, .parquet or.* received .*jpg"
        ):
            save(tmp_path / "out.jpg")

    def test_a_grid_of_too_many(self, tmp_path):
        with pytest.raises(UsageError, match=r"at most 10000 images, received 10001: .*\.npz"):
            save(tmp_path / "out.png", count=10_001)

    def test_parquet_without_pyarrow(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(UsageError, match=r'pip install "tfdps\[parquet\]"'):
            save(tmp_path / "out.parquet")

    def test_two_channels_as_a_picture(self, tmp_path):
        with pytest.raises(UsageError, match="1, 3 or 4 channels, received 2"):
            save(f"{tmp_path}/folder/", images=IMAGES[..., :2])
        assert not os.listdir(tmp_path)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    images, labels = np.repeat(IMAGES, 100, axis=0), np.repeat(LABELS, 100)

    def peak(batches):
        tracemalloc.start()
        writer = writers.open_writer(
            str(tmp_path / f"{batches}.npz"),
            count=500 * batches,
            image_shape=(8, 8, 3),
            class_names=NAMES,
        )
        with writer as write:
            for _ in range(batches):
                write(images, labels)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    # 200 batches are 19 MB of images; what a batch takes is a tenth of one.
    assert peak(200) < peak(2) + 1_000_000


def test_class_names_that_would_share_a_folder_are_numbered():
    assert folder_names.of(["a/b", "a / b", "c"]) == ["000_a_b", "001_a_b", "002_c"]
    assert folder_names.of(["A", "a"]) == ["000_A", "001_a"]
    assert folder_names.of(["..", "x"]) == ["000_", "001_x"]


def test_classes_keep_the_names_of_the_folders_they_came_from():
    names = ["<5mm", ">5mm", "a b", "c,d", "100 %", "Übergröße", "_x", "y.z-"]
    assert folder_names.of(names) == names
    assert folder_names.of([".hidden", "tab\there"]) == ["hidden", "tab_here"]


def test_a_folder_of_samples_is_a_data_set_with_the_same_classes(tmp_path):
    names = ("2 mm", "<5mm", ">5mm")
    kind = {"image_shape": (4, 4, 1), "class_names": names}
    with writers.open_writer(f"{tmp_path}/out/", count=6, **kind) as write:
        write(np.zeros((6, 4, 4, 1), np.uint8), np.arange(6) % 3)
    loaded = loading.load(f"folder:{tmp_path}/out", image_size=4)
    assert loaded.spec.class_names == names
    assert loaded.labels.tolist() == [0, 0, 1, 1, 2, 2]
