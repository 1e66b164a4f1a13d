import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, SHARED
from tfdps import checks
from tfdps.config.run_config import RunConfig
from tfdps.data import counting, declared, digits, fit, loading, tfds_builder
from tfdps.data.dataset import DatasetSpec

PREPARED = SHARED / "tfds"
NUM_FACES = 12


def refusal(name, **kwargs):
    """Returns the message of the UsageError that loading raises."""
    with pytest.raises(checks.UsageError) as caught:
        loading.load(name, **kwargs)
    return str(caught.value)


# Digits


def test_digits_are_eight_by_eight_with_every_fifth_record_held_out():
    train, test = loading.load("digits"), loading.load("digits", split="test")
    assert train.images.shape == (1438, 8, 8, 1)
    assert test.images.shape == (359, 8, 8, 1)
    assert train.images.dtype == np.uint8
    assert train.labels.dtype == np.int32
    assert train.spec == DatasetSpec("digits", (8, 8, 1), tuple("0123456789"))
    assert train.spec.num_classes == 10
    assert len(train) == counting.dataset_size("digits") == 1438
    assert len(test) == counting.dataset_size("digits", split="test") == 359


def test_digits_pixels_are_sklearns_sixteenths_as_bytes():
    import sklearn.datasets

    source = sklearn.datasets.load_digits()
    assert len(source.images) == digits.SIZE
    images = loading.load("digits", split="test").images[..., 0].astype(float)
    assert images.max() == 255
    # Rounding is off by at most 1/2 of 1/255: back in sixteenths 0.032, so rounding inverts it.
    np.testing.assert_array_equal(np.rint(images * 16 / 255), source.images[4::5])
    np.testing.assert_array_equal(loading.load("digits", split="test").labels, source.target[4::5])


def test_digits_of_double_size_are_resized():
    assert loading.load("digits", image_size=16).images.shape == (1438, 16, 16, 1)


def test_digits_have_train_and_test_only():
    assert "train, test" in refusal("digits", split="validation")


def test_a_label_is_refused_where_it_has_no_meaning():
    assert "label applies to tfds" in refusal("digits", label="Male")


def test_an_image_size_of_zero_is_refused():
    assert "image_size must be >= 1" in refusal("digits", image_size=0)


def test_labels_outside_the_classes_are_refused_with_both_ranges():
    spec = DatasetSpec("x", (1, 1, 1), ("a", "b"))
    with pytest.raises(checks.UsageError, match=r"\[0, 1\], received \[0, 2\]"):
        declared.check_labels(np.array([0, 2]), spec, "train")


def test_digits_and_folders_do_not_import_tensorflow(tmp_path):
    two_classes(tmp_path)
    program = (
        "import sys; from tfdps.data import counting, loading; loading.load('digits'); "
        f"loading.load('folder:{tmp_path}'); counting.dataset_size('folder:{tmp_path}'); "
        "assert not {'tensorflow', 'tensorflow_datasets', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# Folders


def save(path, array, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **kwargs)


def two_classes(folder, size=32):
    """Writes one grey image in each of two classes; returns the first one's pixels."""
    pixels = np.arange(size * size).reshape(size, size).astype(np.uint8)
    save(folder / "a" / "1.png", pixels)
    save(folder / "b" / "1.png", 255 - pixels)
    return pixels


def first_image(folder, **kwargs):
    return loading.load(f"folder:{folder}", **kwargs).images[0]


def test_a_folder_keeps_pixels_and_sorts_classes_and_files(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    files = ("zebra/2.PNG", "ant/1.png", "zebra/10.png", "ant/0.png")
    for file, image in zip(files, pixels, strict=True):
        save(tmp_path / file, image)
    dataset = loading.load(f"folder:{tmp_path}")
    assert dataset.spec.class_names == ("ant", "zebra")
    assert dataset.spec.image_shape == (32, 32, 3)
    np.testing.assert_array_equal(dataset.images, pixels[[3, 1, 2, 0]])
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1])
    assert dataset.labels.dtype == np.int32
    assert counting.dataset_size(f"folder:{tmp_path}") == 4


@pytest.mark.parametrize("records_mib", [np.inf, 1e-4], ids=["in memory", "streamed"])
class TestChannelsOfAFolder:
    """How many there are is declared, or what all files have: no record decides for the others."""

    def images(self, folder, records_mib, **kwargs):
        dataset = loading.load(f"folder:{folder}", records_mib=records_mib, **kwargs)
        assert dataset.in_memory == (records_mib > 1)
        images = dataset.gather(np.arange(len(dataset)))
        assert images.shape[1:] == dataset.spec.image_shape
        return images

    def test_all_grey_is_one_and_all_colour_is_three(self, tmp_path, records_mib):
        pixels = two_classes(tmp_path / "grey")
        images = self.images(tmp_path / "grey", records_mib)
        np.testing.assert_array_equal(images[0], pixels[..., np.newaxis])
        for name in "ab":
            save(tmp_path / "colour" / name / "1.png", np.stack([pixels] * 3, axis=-1))
        assert self.images(tmp_path / "colour", records_mib).shape == (2, 32, 32, 3)

    def test_a_mixture_is_refused_with_a_file_of_each_kind(self, tmp_path, records_mib):
        two_classes(tmp_path)
        save(tmp_path / "b" / "2.jpeg", np.full((32, 32, 3), (200, 0, 0), np.uint8))
        for part in ((0, 1), (0, 2), (1, 2)):  # every worker, whichever records it has
            message = refusal(f"folder:{tmp_path}", records_mib=records_mib, part=part)
            assert f"{tmp_path}/a/1.png is grey, {tmp_path}/b/2.jpeg is stored in colour" in message
            assert "--channels=1 or --channels=3" in message

    def test_declared_three_repeats_grey_files(self, tmp_path, records_mib):
        pixels = two_classes(tmp_path)
        save(tmp_path / "b" / "2.jpeg", np.full((32, 32, 3), (200, 0, 0), np.uint8))
        images = self.images(tmp_path, records_mib, channels=3)
        assert images.shape == (3, 32, 32, 3)
        np.testing.assert_array_equal(images[0], np.stack([pixels] * 3, axis=-1))
        assert images[2, ..., 0].min() > 190  # JPEG is lossy

    def test_declared_one_takes_grey_files_as_they_are_stored_exactly(self, tmp_path, records_mib):
        pixels = two_classes(tmp_path, size=40)
        rgb = Image.fromarray(np.stack([pixels] * 3, axis=-1))
        palette = Image.fromarray(pixels).convert("P")
        assert palette.mode == "P"
        for number, image in enumerate((rgb, palette, rgb.convert("RGBA"))):
            save(tmp_path / "c" / f"{number}.png", image)
        save(tmp_path / "d" / "1.jpg", rgb)
        grey, _, *others, jpeg = self.images(tmp_path, records_mib, channels=1)
        for image in others:
            np.testing.assert_array_equal(image, grey)
        assert jpeg.shape == grey.shape  # JPEG is lossy

    def test_declared_one_refuses_a_file_with_colour_by_name(self, tmp_path, records_mib):
        two_classes(tmp_path)
        almost = np.zeros((32, 32, 3), np.uint8)
        almost[31, 31, 2] = 1
        save(tmp_path / "b" / "2.png", almost)
        for part in ((0, 1), (0, 2), (1, 2)):
            how = {"channels": 1, "part": part, "records_mib": records_mib}
            message = refusal(f"folder:{tmp_path}", **how)
            assert f"{tmp_path}/b/2.png must be grey in every pixel" in message
            assert "--channels=3" in message


def test_other_sets_have_their_own_channels():
    assert loading.load("digits", channels=1).spec.image_shape == (8, 8, 1)
    message = refusal("digits", channels=3)
    assert message.startswith("channels must be 1, as digits has them, received 3")


class TestDeclaredClasses:
    def test_those_there_are_in_the_order_of_the_sub_folders(self, tmp_path):
        two_classes(tmp_path)
        assert loading.load(f"folder:{tmp_path}", class_names=("b", "a")).spec.class_names == (
            "a",
            "b",
        )

    def test_one_may_have_no_image_and_keeps_its_number(self, tmp_path):
        two_classes(tmp_path)
        (tmp_path / "aa").mkdir()
        assert "unless all classes are declared with --class_names" in refusal(f"folder:{tmp_path}")
        dataset = loading.load(f"folder:{tmp_path}", class_names=("a", "aa", "b"))
        assert dataset.spec.class_names == ("a", "aa", "b")
        np.testing.assert_array_equal(dataset.labels, [0, 2])
        size = counting.dataset_size(f"folder:{tmp_path}", class_names=("a", "aa", "b"))
        assert size == 2

    def test_others_and_missing_ones_are_refused_by_name_before_an_image_is_read(self, tmp_path):
        two_classes(tmp_path)
        (tmp_path / "a" / "1.png").write_text("no image")
        message = refusal(f"folder:{tmp_path}", class_names=("a", "c"))
        assert "sub-folders of folder:" in message
        assert "must be the declared classes, a, c; received no c and also b" in message
        assert "--class_names=" in message
        message = refusal(f"folder:{tmp_path}", class_names=("a", "b", "c"))
        assert "received no c:" in message

    def test_a_folder_without_any_image_is_refused(self, tmp_path):
        for name in "ab":
            (tmp_path / name).mkdir()
        assert "has no .png, .jpg, .jpeg, .jpe, .jfif, .tif" in refusal(
            f"folder:{tmp_path}", class_names=("a", "b")
        )

    def test_of_the_digits_are_its_own(self):
        names = tuple("9876543210")
        assert loading.load("digits", class_names=names).spec.class_names == tuple("0123456789")
        assert "received also 0" in refusal("digits", class_names=names[:9])


def test_a_declared_size_is_held_against_the_records_before_an_image_is_read(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "a" / "1.png").write_text("no image")
    message = refusal(f"folder:{tmp_path}", dataset_size=3, part=(1, 2))
    assert message.startswith("dataset_size must be 2, the number of records of folder:")
    assert "received 3" in message
    assert len(loading.load("digits", dataset_size=1438, part=(1, 2))) == 719
    assert "dataset_size must be 1438" in refusal("digits", dataset_size=1437)


def test_a_run_configs_declarations_reach_the_loader(tmp_path):
    two_classes(tmp_path)
    config = RunConfig(dataset=f"folder:{tmp_path}", channels=3, class_names="b, a", dataset_size=2)
    assert loading.load_of(config).spec.image_shape == (32, 32, 3)
    for change in ({"class_names": "a,c"}, {"dataset_size": 3}):
        with pytest.raises(checks.UsageError, match=f"{next(iter(change))}|declared classes"):
            loading.load_of(dataclasses.replace(config, **change))
    # N is that of the split that is trained on.
    assert len(loading.load_of(RunConfig(dataset_size=1438), split="test")) == 359


def test_a_folder_is_resized_whole_to_32_or_image_size(tmp_path):
    halves = np.zeros((40, 100), np.uint8)
    halves[:, 50:] = 255
    save(tmp_path / "a" / "1.png", halves)
    save(tmp_path / "b" / "1.png", halves)
    assert first_image(tmp_path).shape == (32, 32, 1)
    image = first_image(tmp_path, image_size=8)[..., 0]
    np.testing.assert_array_equal(image[:, :3], 0)  # both ends are there: nothing was cropped
    np.testing.assert_array_equal(image[:, 5:], 255)


def test_resizing_averages_fine_patterns_instead_of_skipping_pixels():
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = np.asarray(fit.resize(Image.fromarray(checkerboard), 8)).astype(int)
    assert np.abs(small - 127.5).max() <= 2  # the mean; the filter's cut edge moves it a little


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("P", (4, 4), 1), (10, 20, 30)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), (255, 255, 255)),  # transparent: white
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("LA", (4, 4), (7, 255)), (7,)),
        (Image.new("1", (4, 4), 1), (255,)),
        (Image.fromarray(np.full((4, 4), 257 * 200, np.uint16)), (200,)),
    ],
    ids=["palette", "transparent", "opaque", "grey-alpha", "bilevel", "16-bit"],
)
def test_png_modes_become_grey_or_rgb(tmp_path, image, expected):
    if image.mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    save(tmp_path / "a" / "1.png", image)
    save(tmp_path / "b" / "1.png", image)
    np.testing.assert_array_equal(
        first_image(tmp_path, image_size=4), np.broadcast_to(expected, (4, 4, len(expected)))
    )


@pytest.mark.parametrize(
    ("ending", "stored_as"),
    [
        (".jfif", "JPEG"),
        (".JPE", "JPEG"),
        (".tif", "TIFF"),
        (".tiff", "TIFF"),
        (".bmp", "BMP"),
        (".webp", "WEBP"),
        (".gif", "GIF"),
        (".png", "WEBP"),  # its content counts, whatever it is called
    ],
)
def test_images_of_these_kinds_are_read(tmp_path, ending, stored_as):
    for name, level in (("a", 40), ("b", 200)):
        (tmp_path / name).mkdir()
        image = Image.new("L", (8, 8), level)
        image.save(tmp_path / name / f"1{ending}", stored_as)
    found = loading.load(f"folder:{tmp_path}", image_size=8, channels=1).images
    assert counting.dataset_size(f"folder:{tmp_path}") == len(found) == 2
    assert np.abs(found[0].astype(int) - 40).max() <= 3  # JPEG and WebP are lossy
    assert np.abs(found[1].astype(int) - 200).max() <= 3


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.new("L", (4, 4), level) for level in (10, 250)]
    for name, ending in (("a", "gif"), ("b", "tif")):
        (tmp_path / name).mkdir()
        frames[0].save(tmp_path / name / f"1.{ending}", save_all=True, append_images=frames[1:])
    found = loading.load(f"folder:{tmp_path}", image_size=4, channels=1).images
    np.testing.assert_array_equal(found, 10)


def test_sixteen_bits_in_tiff_are_read_as_in_png_and_more_are_refused(tmp_path):
    deep = Image.fromarray(np.full((4, 4), 257 * 200, np.uint16))
    for name in "ab":
        save(tmp_path / name / "1.tif", deep)
    np.testing.assert_array_equal(first_image(tmp_path, image_size=4), 200)
    save(tmp_path / "b" / "1.tif", Image.fromarray(np.full((4, 4), 0.5, np.float32)))
    assert (
        "b/1.tif has 32 bits or signed numbers in a pixel; store it with 8 or 16 bits, unsigned."
        in refusal(f"folder:{tmp_path}")
    )


def test_classes_named_by_numbers_are_in_the_order_of_the_numbers(tmp_path):
    for number in (10, 2, 1):
        save(tmp_path / f"week {number}" / "1.png", np.full((4, 4), number, np.uint8))
    dataset = loading.load(f"folder:{tmp_path}", image_size=4)
    assert dataset.spec.class_names == ("week 1", "week 2", "week 10")
    assert dataset.images[:, 0, 0, 0].tolist() == [1, 2, 10]


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN"])
def test_folders_that_systems_make_are_no_classes(tmp_path, name):
    two_classes(tmp_path)
    save(tmp_path / name / "1.png", np.zeros((2, 2), np.uint8))
    assert loading.load(f"folder:{tmp_path}").spec.class_names == ("a", "b")


def test_cmyk_jpegs_become_rgb(tmp_path):
    for name in "ab":
        save(tmp_path / name / "1.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    red, green, blue = first_image(tmp_path, image_size=8).mean(axis=(0, 1))
    assert red > 240  # JPEG is lossy
    assert max(green, blue) < 15


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: turn clockwise, so the top row becomes the right column
    sideways = np.zeros((32, 32), np.uint8)
    sideways[:8] = 255
    for name in "ab":
        save(tmp_path / name / "1.jpg", sideways, exif=exif)
    image = first_image(tmp_path)[..., 0]
    assert image[:, 24:].min() > 240
    assert image[:, :24].max() < 15


def test_a_truncated_file_is_named(tmp_path):
    two_classes(tmp_path)
    file = tmp_path / "b" / "1.png"
    file.write_bytes(file.read_bytes()[:60])
    message = refusal(f"folder:{tmp_path}")
    assert str(file) in message
    assert "unreadable" in message


def test_text_named_png_is_named(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "a" / "2.png").write_text("text")
    assert str(tmp_path / "a" / "2.png") in refusal(f"folder:{tmp_path}")


def test_all_files_that_cannot_be_used_are_said_at_once(tmp_path):
    two_classes(tmp_path)
    for number in range(2, 9):
        (tmp_path / "b" / f"{number}.png").write_text("text")
    message = refusal(f"folder:{tmp_path}")
    assert message.startswith(
        f"7 images cannot be used: image {tmp_path / 'b' / '2.png'} is unread"
    )
    assert message.count("by its content it is none of PNG, JPEG, TIFF, BMP, WEBP, GIF") == 5
    assert message.endswith("; and 2 more.")


def test_files_that_cannot_be_used_come_before_a_mixture_of_grey_and_colour(tmp_path):
    two_classes(tmp_path)
    save(tmp_path / "a" / "0.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "b" / "2.png").write_text("text")
    assert f"image {tmp_path / 'b' / '2.png'} is unreadable" in refusal(f"folder:{tmp_path}")


def test_a_picture_that_is_too_large_is_called_that(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    two_classes(tmp_path, size=8)
    save(tmp_path / "a" / "2.png", np.zeros((11, 10), np.uint8))
    # Those of 64 pixels are read all the same, and Pillow's warnings, of private files, are not shown.
    message = refusal(f"folder:{tmp_path}")
    assert message == f"image {tmp_path / 'a' / '2.png'} has more than 100 pixels; make it smaller."


def test_folders_of_another_layout_are_refused(tmp_path):
    assert "does not exist" in refusal(f"folder:{tmp_path / 'missing'}")
    assert "needs a path" in refusal("folder:")
    assert "no sub-folders" in refusal(f"folder:{tmp_path}")
    file = tmp_path / "1.png"
    save(file, np.zeros((2, 2), np.uint8))
    assert "is not a folder" in refusal(f"folder:{file}")
    save(tmp_path / "cat" / "1.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "dog").mkdir()
    assert "file in dog" in refusal(f"folder:{tmp_path}")


def test_a_folder_has_no_test_split(tmp_path):
    two_classes(tmp_path)
    assert "split must be one of train" in refusal(f"folder:{tmp_path}", split="test")


# tfds: the real sets


@pytest.mark.parametrize(
    ("name", "shape", "size", "mean"),
    [  # the sets' published means, in [0, 1]
        pytest.param("mnist", (28, 28, 1), 60_000, (0.1307,), marks=pytest.mark.slow),
        pytest.param("fashion_mnist", (28, 28, 1), 60_000, (0.2860,), marks=pytest.mark.slow),
        pytest.param(
            "cifar10", (32, 32, 3), 50_000, (0.4914, 0.4822, 0.4465), marks=pytest.mark.slow
        ),
    ],
    ids=["mnist", "fashion_mnist", "cifar10"],
)
def test_real_sets_have_their_published_size_shape_and_mean(name, shape, size, mean):
    skip_unless_prepared()
    dataset = loading.load(name, data_dir=str(PREPARED))
    assert dataset.images.shape == (size, *shape)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int32
    assert dataset.spec.image_shape == shape
    assert dataset.spec.num_classes == 10
    # The means are published to four digits; shared/tfds has CIFAR-10 as JPEG, which moves it by
    # up to 0.0051 (tfds's own is PNG).
    tolerance = 0.006 if name == "cifar10" else 1e-4
    np.testing.assert_allclose(dataset.images.mean(axis=(0, 1, 2)) / 255, mean, atol=tolerance)
    counts = np.bincount(dataset.labels, minlength=10)
    if name == "mnist":
        np.testing.assert_array_equal(
            counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        )
    else:
        np.testing.assert_array_equal(counts, size // 10)
    assert counting.dataset_size(name, data_dir=str(PREPARED)) == size
    assert counting.dataset_size(name, data_dir=str(PREPARED), split="test") == 10_000


def test_class_names_are_those_the_set_ships():
    skip_unless_prepared()
    fashion = loading.load("fashion_mnist", data_dir=str(PREPARED), split="test")
    assert fashion.spec.class_names[::9] == ("T-shirt/top", "Ankle boot")


@pytest.mark.slow
def test_a_named_version_is_found_and_resized():
    skip_unless_prepared()
    small = loading.load("mnist:3.0.1", data_dir=str(PREPARED), split="test", image_size=14)
    assert small.images.shape == (10_000, 14, 14, 1)
    # Resizing keeps the mean; MNIST's border is black, so the cut edge does not matter.
    full = loading.load("mnist", data_dir=str(PREPARED), split="test")
    assert small.images.mean() == pytest.approx(full.images.mean(), rel=5e-3)


def test_a_missing_split_is_refused_with_those_there_are():
    skip_unless_prepared()
    assert "train, test; received 'x'" in refusal("mnist", data_dir=str(PREPARED), split="x")
    with pytest.raises(checks.UsageError, match="train, test"):
        counting.dataset_size("mnist", data_dir=str(PREPARED), split="x")


def skip_unless_prepared():
    if not PREPARED.is_dir():
        pytest.skip(f"no prepared tfds sets in {PREPARED}")


# tfds: sets made here


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip("tensorflow_datasets")


def make_set(tfds, data_dir, features, records, split="train"):
    """Prepares the set "made" from the records; tfds then knows it from its files alone."""
    with tfds_builder.quiet():
        tfds.dataset_builders.store_as_tfds_dataset(
            name="made",
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets={split: list(enumerate(records))},
            data_dir=str(data_dir),
            disable_shuffling=True,
        )
    return {"name": "made", "data_dir": str(data_dir), "split": split}


def grey(size=4, value=0):
    return np.full((size, size, 1), value, np.uint8)


def made_refusal(tfds, data_dir, features, records=None, **kwargs):
    if records is None:
        empty = {
            n: grey() if isinstance(f, tfds.features.Image) else 0 for n, f in features.items()
        }
        records = [empty]
    return refusal(**make_set(tfds, data_dir, features, records), **kwargs)


@pytest.fixture(scope="module")
def faces(tfds, tmp_path_factory):
    """Prepares a set with celeb_a's features from a builder; returns (data_dir, images, male)."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (NUM_FACES, 6, 5, 3), dtype=np.uint8)
    size = (178, 218)
    images = [np.asarray(Image.fromarray(c).resize(size, Image.Resampling.BICUBIC)) for c in coarse]
    male = [i % 3 == 0 for i in range(NUM_FACES)]

    class TinyFaces(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(218, 178, 3), encoding_format="png"),
                "attributes": {"Male": np.bool_, "Smiling": np.bool_},
                "landmarks": {"nose_x": np.int64},
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(NUM_FACES):
                attributes = {"Male": male[i], "Smiling": False}
                yield (
                    i,
                    {"image": images[i], "attributes": attributes, "landmarks": {"nose_x": i}},
                )

    folder = tmp_path_factory.mktemp("tfds")
    with tfds_builder.quiet():
        TinyFaces(data_dir=str(folder)).download_and_prepare()
    return str(folder), images, male


@pytest.mark.parametrize("label", ["Male", "attributes/Male"])
def test_a_nested_attribute_is_the_label(faces, label):
    data_dir, images, male = faces
    dataset = loading.load("tiny_faces", data_dir=data_dir, label=label, image_size=32)
    assert dataset.images.shape == (NUM_FACES, 32, 32, 3)
    assert dataset.spec.class_names == ("not Male", "Male")
    np.testing.assert_array_equal(dataset.labels, np.array(male, np.int32))
    assert counting.dataset_size("tiny_faces", data_dir=data_dir) == NUM_FACES
    # A second implementation of the same filter; its weights are fixed point, so one level apart.
    oracle = np.stack([fit.resize(Image.fromarray(image), 32) for image in images])
    assert np.abs(dataset.images.astype(int) - oracle).max() <= 1


def test_images_that_agree_need_no_image_size(faces):
    data_dir, images, _ = faces
    dataset = loading.load("tiny_faces", data_dir=data_dir, label="Smiling")
    np.testing.assert_array_equal(dataset.images, images)


def test_several_labels_are_listed_when_none_is_chosen(faces):
    message = refusal("tiny_faces", data_dir=faces[0])
    assert "--label=...: attributes/Male, attributes/Smiling." in message


@pytest.mark.parametrize("label", ["Old", "nose_x", "image"])
def test_a_label_that_is_no_class_is_refused_with_those_that_are(faces, label):
    message = refusal("tiny_faces", data_dir=faces[0], label=label)
    assert f"attributes/Male, attributes/Smiling for tiny_faces, received '{label}'" in message


def test_the_only_class_label_is_the_label(tfds, tmp_path):
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "kind": tfds.features.ClassLabel(names=["cat", "dog"]),
        "indoors": np.bool_,
    }
    records = [{"image": grey(value=i), "kind": i, "indoors": True} for i in range(2)]
    dataset = loading.load(**make_set(tfds, tmp_path, features, records))
    assert dataset.spec == DatasetSpec("made", (4, 4, 1), ("cat", "dog"))
    np.testing.assert_array_equal(dataset.labels, [0, 1])
    np.testing.assert_array_equal(dataset.images[:, 0, 0, 0], [0, 1])
    how = {"name": "made", "data_dir": str(tmp_path)}
    found = loading.load(**how, channels=1, class_names=("dog", "cat"), dataset_size=2)
    assert found.spec == dataset.spec
    assert "channels must be 1, as made has them, received 3" in refusal(**how, channels=3)
    assert "dataset_size must be 2" in refusal(**how, dataset_size=3)
    message = refusal(**how, class_names=("cat", "cow"))
    assert "the classes of made must be the declared classes, cat, cow; received no cow" in message


def test_images_of_several_shapes_need_an_image_size(tfds, tmp_path):
    features = {
        "image": tfds.features.Image(shape=(None, None, 1)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    records = [{"image": grey(size, 9), "label": 0} for size in (4, 5)]
    made = make_set(tfds, tmp_path, features, records)
    assert "--image_size=" in refusal(**made)
    images = loading.load(**made, image_size=3).images
    np.testing.assert_array_equal(images, np.full((2, 3, 3, 1), 9))


def test_shapes_that_change_between_batches_need_an_image_size(tfds, tmp_path, monkeypatch):
    monkeypatch.setattr("tfdps.data.tfds_images.BATCH", 1)
    features = {
        "image": tfds.features.Image(shape=(None, None, 1)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    records = [{"image": grey(size), "label": 0} for size in (4, 5)]
    assert "--image_size=" in made_refusal(tfds, tmp_path, features, records)


def test_a_set_without_images_is_refused(tfds, tmp_path):
    features = {"label": tfds.features.ClassLabel(num_classes=2), "age": np.int64}
    assert "must have one image feature" in made_refusal(tfds, tmp_path, features)


def test_images_of_floats_or_of_four_channels_are_refused(tfds, tmp_path):
    label = tfds.features.ClassLabel(num_classes=2)
    floats = tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)
    records = [{"image": np.zeros((4, 4, 1), np.float32), "label": 0}]
    features = {"image": floats, "label": label}
    message = made_refusal(tfds, tmp_path / "floats", features, records)
    assert "must be uint8 with 1 or 3 channels, received float32" in message
    features = {"image": tfds.features.Image(shape=(4, 4, 4)), "label": label}
    records = [{"image": np.zeros((4, 4, 4), np.uint8), "label": 0}]
    message = made_refusal(tfds, tmp_path / "alpha", features, records)
    assert "received uint8 of shape (4, 4, 4)" in message


def test_a_set_without_labels_is_refused(tfds, tmp_path):
    features = {"image": tfds.features.Image(shape=(4, 4, 1)), "age": np.int64}
    assert "no ClassLabel or bool feature" in made_refusal(tfds, tmp_path, features)


def test_a_set_of_one_class_is_read_and_so_is_one_without_labels(tfds, tmp_path):
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(names=["only"]),
    }
    how = make_set(tfds, tmp_path / "one", features, [{"image": grey(), "label": 0}])
    assert loading.load(**how).spec.class_names == ("only",)
    features = {"image": tfds.features.Image(shape=(4, 4, 1)), "age": np.int64}
    how = make_set(tfds, tmp_path / "none", features, [{"image": grey(), "age": 7}] * 3)
    for records_mib in (np.inf, 0):
        found = loading.load(**how, label="none", records_mib=records_mib)
        assert found.spec.class_names == ("made",)
        assert found.labels.tolist() == [0, 0, 0]
        np.testing.assert_array_equal(found.gather(np.array([1])), [grey()])
    found = loading.load(**how, label="none", class_names=("thing",))
    assert found.spec.class_names == ("thing",)


def test_an_unlabelled_split_is_refused_with_both_ranges(tfds, tmp_path):
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    records = [{"image": grey(), "label": -1}]
    message = made_refusal(tfds, tmp_path, features, records)
    assert "must lie in [0, 2], received [-1, -1]" in message


def with_stated_size(tfds, data_dir, size):
    """Prepares a set of one record whose description states `size` records."""
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    made = make_set(tfds, data_dir, features, [{"image": grey(), "label": 0}])
    file = data_dir / "made" / "1.0.0" / "dataset_info.json"
    info = json.loads(file.read_text())
    info["splits"][0]["shardLengths"] = [str(size)]
    file.write_text(json.dumps(info))
    return made


def test_an_empty_split_is_refused(tfds, tmp_path):
    assert "split train of made is empty" in refusal(**with_stated_size(tfds, tmp_path, 0))


def test_a_set_with_fewer_records_than_it_states_is_refused(tfds, tmp_path):
    assert "made/1.0.0 is damaged" in refusal(**with_stated_size(tfds, tmp_path, 2))


def test_a_cut_file_is_refused(tfds, tmp_path):
    made = with_stated_size(tfds, tmp_path, 1)
    (file,) = tmp_path.glob("made/1.0.0/*.tfrecord*")
    file.write_bytes(file.read_bytes()[:-3])
    assert "made/1.0.0 is damaged" in refusal(**made)


# tfds: sets that cannot be had


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.create_connection", refuse)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)


def test_an_unknown_name_is_refused_with_close_ones(tmp_path):
    message = refusal("cifra10", data_dir=str(tmp_path))
    assert "cifar10" in message
    assert "received 'cifra10'" in message


@pytest.mark.parametrize("name", ["mnist:9.9.9", "mnist/unheard_of", "!!", ""])
def test_a_name_tfds_cannot_build_is_refused(tmp_path, name):
    assert f"tfds cannot build {name!r}" in refusal(name, data_dir=str(tmp_path))


def test_a_set_that_cannot_be_downloaded_says_where_why_and_what_to_do(
    tmp_path, monkeypatch, no_network, capfd
):
    monkeypatch.chdir(tmp_path)
    message = refusal("mnist", data_dir="new/tfds")
    assert f"mnist is not prepared in {tmp_path / 'new' / 'tfds'}" in message
    assert "Name or service not known" in message
    assert "--data_dir=" in message
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_size_of_an_unprepared_set_is_refused(tmp_path):
    with pytest.raises(checks.UsageError) as caught:
        counting.dataset_size("mnist", data_dir=str(tmp_path))
    assert f"not prepared in {tmp_path}" in str(caught.value)
    assert "--dataset_size=N" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_preparation_leaves_only_what_was_there(tfds, tmp_path, monkeypatch, capfd):
    class Broken(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="big"),)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict({"age": np.int64})
            )

        def _split_generators(self, dl_manager):
            part = tmp_path / "tfds" / "downloads" / "broken" / "file.tmp.1234"
            part.mkdir(parents=True)
            (part / "half").write_text("half")
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"age": 1}
            raise RuntimeError("the mirror is gone")

    monkeypatch.setattr(tfds_builder, "_probe_network", lambda urls: None)
    keep = tmp_path / "tfds" / "downloads" / "other" / "file"
    keep.parent.mkdir(parents=True)
    keep.write_text("whole")
    before = sorted(tmp_path.rglob("*"))
    message = refusal("broken", data_dir=str(tmp_path / "tfds"))
    assert "could not be downloaded: RuntimeError: the mirror is gone" in message
    assert sorted(tmp_path.rglob("*")) == before
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) <= 1  # the one line that says what is under way


def test_one_reachable_host_or_a_proxy_is_network_enough(monkeypatch, no_network):
    urls = ["https://one.example/a", "ftp://two.example/b"]
    with pytest.raises(OSError, match="one.example, storage.googleapis.com, two.example"):
        tfds_builder._probe_network(urls)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    tfds_builder._probe_network(urls)
