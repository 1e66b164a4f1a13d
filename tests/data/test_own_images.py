"""Own images: what a file means is declared or in its format, and what is left aside is said."""

import dataclasses
import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from tfdps import checks
from tfdps.config.run_config import RunConfig
from tfdps.data import counting, image_files, loading
from tfdps.data.image_files import Reading
from tfdps.training import plan_lines

TWELVE_BITS = np.arange(4096, dtype=np.uint16).reshape(64, 64)
AS_BYTES = np.rint(TWELVE_BITS / 4095 * 255).astype(np.uint8)


def stored(pixels, kind="PNG", **kwargs):
    """The bytes of a file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **kwargs)
    return file.getvalue()


def with_significant_bits(png, *bits):
    chunk = b"sBIT" + bytes(bits)
    whole = struct.pack(">I", len(bits)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + whole + png[33:]  # after the header


def png_of_colour_type(colour_type, values):
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def decoded(content, **reading):
    pixels, met = image_files.decode(content, Reading(**{"image_size": 64, **reading}))
    return pixels, ", ".join(met)


def unusable(content, **reading):
    with pytest.raises(image_files.UnusableError) as caught:
        decoded(content, **reading)
    return str(caught.value)


def save(path, pixels=None, kind=None, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((4, 4), 100, np.uint8) if pixels is None else pixels
    path.write_bytes(stored(pixels, kind or "PNG", **kwargs))


def load(folder, **kwargs):
    return loading.load(f"folder:{folder}", **{"image_size": 4, **kwargs})


def refusal(folder, **kwargs):
    with pytest.raises(checks.UsageError) as caught:
        load(folder, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestSixteenBits:
    def test_are_0_to_65535_unless_something_says_less_and_are_named(self):
        pixels, met = decoded(stored(TWELVE_BITS))
        assert pixels.max() == 16
        assert met == "of 16-bit values, read as 0..65535 (--max_value)"

    def test_of_a_declared_white_are_exact(self):
        pixels, met = decoded(stored(TWELVE_BITS), max_value=4095)
        np.testing.assert_array_equal(pixels[..., 0], AS_BYTES)
        assert "read as 0..4095" in met

    def test_above_the_declared_white_are_refused_not_clipped(self):
        message = unusable(stored(TWELVE_BITS), max_value=4094)
        assert "has values above 4094, which was declared to be white" in message

    @pytest.mark.parametrize(
        "scaled",
        [
            TWELVE_BITS << 4,
            TWELVE_BITS << 4 | TWELVE_BITS >> 8,
            np.rint(TWELVE_BITS * (65535 / 4095)).astype(np.uint16),
        ],
        ids=["zeros", "upper bits", "nearest"],
    )
    def test_are_scaled_back_by_the_chunk_sbit(self, scaled):
        pixels, met = decoded(with_significant_bits(stored(scaled), 12))
        np.testing.assert_array_equal(pixels[..., 0], AS_BYTES)
        assert "read as 0..4095" in met

    def test_that_contradict_their_sbit_are_refused_with_the_fix(self):
        png = with_significant_bits(stored(TWELVE_BITS), 12)
        assert "12 of 16 bits are significant" in unusable(png)
        assert "--max_value=4095" in unusable(png)
        np.testing.assert_array_equal(decoded(png, max_value=4095)[0][..., 0], AS_BYTES)

    def test_of_an_sbit_of_all_bits_are_as_without(self):
        png = with_significant_bits(stored(TWELVE_BITS), 16)
        np.testing.assert_array_equal(decoded(png)[0], decoded(stored(TWELVE_BITS))[0])

    def test_in_tiff_may_mean_white_by_zero(self):
        content = stored(TWELVE_BITS * 16, "TIFF", tiffinfo={262: 0})
        expected = 255 - np.rint(TWELVE_BITS * 16 / 257)
        np.testing.assert_array_equal(decoded(content)[0][..., 0], expected)

    def test_keep_orientation_and_the_value_that_is_transparent(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn clockwise
        values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096
        content = stored(values, exif=exif, transparency=4096)
        pixels, met = decoded(content, image_size=4)
        expected = np.rint(np.rot90(values, -1) / 257)
        expected[1, 3] = 255
        np.testing.assert_array_equal(pixels[..., 0], expected)
        assert "transparent" in met

    @pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 1), (6, 3)])
    def test_in_several_channels_are_0_to_65535_and_no_other_white_can_be_declared(
        self, colour_type, channels
    ):
        values = np.full((4, 4, {2: 3, 4: 2, 6: 4}[colour_type]), 65535, np.uint16)
        values[..., :channels] = 257 * 90
        content = png_of_colour_type(colour_type, values)
        pixels, met = decoded(content, image_size=4)
        assert pixels.shape == (4, 4, channels)
        assert np.all(pixels == 90)
        assert "of 16-bit values, read as 0..65535" in met
        assert "--max_value=4095 cannot be used" in unusable(content, max_value=4095)
        assert decoded(content, image_size=4, max_value=65535)[0].shape == (4, 4, channels)


class TestBackground:
    drawing = np.stack([np.full((4, 4), 255), np.eye(4) * 255], axis=-1).astype(np.uint8)

    def test_white_on_transparent_is_seen_on_black_and_named_either_way(self):
        content = stored(Image.fromarray(self.drawing, "LA"))
        pixels, met = decoded(content, image_size=4, background="black")
        np.testing.assert_array_equal(pixels[..., 0], np.eye(4) * 255)
        assert met == "with transparent pixels, taken as black (--background)"
        pixels, met = decoded(content, image_size=4)
        assert np.all(pixels == 255)
        assert met == "with transparent pixels, taken as white (--background)"

    def test_an_opaque_image_with_alpha_is_not_named(self):
        opaque = self.drawing.copy()
        opaque[..., 1] = 255
        assert decoded(stored(Image.fromarray(opaque, "LA")), image_size=4)[1] == ""


class TestFit:
    wide = np.repeat(np.array([[10, 100, 200, 250]], np.uint8), 16, axis=1).reshape(1, 64)
    wide = np.repeat(wide, 32, axis=0)  # 32 x 64, four stripes

    @pytest.mark.parametrize("turned", [False, True])
    def test_crop_is_the_middle_square(self, turned):
        image = self.wide.T if turned else self.wide
        pixels, met = decoded(stored(image), image_size=32, fit="crop")
        expected = image[16:48] if turned else image[:, 16:48]
        np.testing.assert_array_equal(pixels[..., 0], expected)
        assert met == "not square, cropped (--fit)"

    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize(("background", "level"), [("white", 255), ("black", 0)])
    def test_pad_is_the_whole_image_between_bars_of_the_background(self, turned, background, level):
        image = self.wide.T if turned else self.wide
        pixels, met = decoded(stored(image), image_size=64, fit="pad", background=background)
        upright = pixels[..., 0].T if turned else pixels[..., 0]
        np.testing.assert_array_equal(upright[16:48], self.wide)
        assert np.all(upright[:16] == level)
        assert np.all(upright[48:] == level)
        assert met == "not square, padded (--fit)"

    def test_squash_is_all_of_it_and_the_default(self):
        pixels, met = decoded(stored(self.wide), image_size=32)
        np.testing.assert_array_equal(
            pixels, decoded(stored(self.wide), fit="squash", image_size=32)[0]
        )
        assert pixels[:, 0].max() == 10
        assert pixels[:, -1].min() == 250
        assert met == "not square, squashed (--fit)"

    @pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
    def test_a_square_one_is_as_it_was(self, fit):
        pixels, met = decoded(stored(AS_BYTES), fit=fit)
        np.testing.assert_array_equal(pixels[..., 0], AS_BYTES)
        assert met == ""

    def test_a_line_of_one_pixel_is_padded_in_little_memory(self):
        pixels, _ = decoded(stored(np.zeros((1, 20_000), np.uint8)), image_size=8, fit="pad")
        assert pixels[:, 0, 0].tolist().count(0) == 1


class TestWhatIsSaid:
    def test_the_plan_line_has_number_size_colour_and_classes(self, tmp_path):
        for name in ("bar", "disc", "pole"):
            save(tmp_path / name / "1.png")
            save(tmp_path / name / "2.png")
        found = load(tmp_path)
        expected = "Public: 6 images, 4x4 grey, 3 classes: bar, disc, pole."
        assert plan_lines.of_data(found) == expected
        assert found.notes == ()
        found = load(tmp_path, channels=3, image_size=8)
        assert "6 images, 8x8 colour, 3 classes" in plan_lines.of_data(found)

    def test_what_was_met_is_counted_over_all_parts(self, tmp_path):
        for name in "ab":
            save(tmp_path / name / "1.png", TWELVE_BITS)
            save(tmp_path / name / "2.png", Image.fromarray(TestBackground.drawing, "LA"))
            save(tmp_path / name / "3.png", TestFit.wide)
            frames = [Image.new("L", (4, 4), level) for level in (10, 250)]
            save(
                tmp_path / name / "4.gif", frames[0], "GIF", save_all=True, append_images=frames[1:]
            )
        expected = (
            "Read: 2 not square, squashed (--fit); 2 of 16-bit values, read as 0..65535 (--max_value); "
            "2 of several frames or pages: the first is read; "
            "2 with transparent pixels, taken as white (--background)."
        )
        for how in ({}, {"part": (1, 3)}, {"records_mib": 0}):
            assert load(tmp_path, channels=1, **how).notes == (expected,)

    def test_a_declaration_that_comes_to_nothing_is_said(self, tmp_path):
        save(tmp_path / "a" / "1.png")
        save(tmp_path / "b" / "1.png")
        notes = load(tmp_path, max_value=4095, fit="crop").notes
        assert notes == (
            "Read: none of 16-bit values: --max_value changes nothing; "
            "none not square: --fit changes nothing.",
        )

    def test_grey_stored_in_colour_is_said_where_all_files_are(self, tmp_path):
        for name in "ab":
            save(tmp_path / name / "1.png", np.full((4, 4, 3), 50, np.uint8))
        found = load(tmp_path)
        assert found.spec.image_shape == (4, 4, 3)  # what files hold does not decide
        assert "grey in every pixel: --channels=1 takes them as grey" in found.notes[0]
        found = load(tmp_path, channels=1)
        assert (found.spec.image_shape, found.notes) == ((4, 4, 1), ())
        palette = Image.new("P", (4, 4), 7)
        palette.putpalette([level for level in range(256) for _ in range(3)])
        save(tmp_path / "b" / "2.png", palette)
        assert load(tmp_path, channels=1).images[2, 0, 0, 0] == 7
        almost = np.full((64, 64, 3), 50, np.uint8)
        almost[5, 5, 0] = 51
        save(tmp_path / "b" / "3.png", almost)  # which a smaller image does not show
        assert load(tmp_path).notes == ()

    def test_what_is_left_out_is_counted_by_ending(self, tmp_path):
        for name in "ab":
            save(tmp_path / name / "1.png")
            for number in range(3):
                (tmp_path / name / f"{number}.HEIC").write_text("x")
        save(tmp_path / "loose.png")
        save(tmp_path / "@eaDir" / "1.png")
        save(tmp_path / "a" / ".hidden.png")
        save(tmp_path / ".cache" / "1.png")
        (tmp_path / "b" / "README").write_text("x")
        (tmp_path / "b" / "gone.png").symlink_to("/gone.png")
        (tmp_path / "b" / "around").symlink_to(tmp_path)
        expected = (
            "left out: 6 .heic, 1 .png beside the classes' folders, 1 folder @eaDir, 2 hidden, "
            "1 linked to a folder around it, 1 linked to nothing, 1 without an ending"
        )
        assert load(tmp_path).notes == (f"Read: {expected}.",)
        config = RunConfig(dataset=f"folder:{tmp_path}")
        assert counting.counted_of(config) == (
            2,
            (f"Found: 2 images, 2 classes: a, b; {expected}.",),
        )

    def test_where_there_is_no_image_what_there_is_is_said(self, tmp_path):
        for name in "ab":
            (tmp_path / name).mkdir()
            (tmp_path / name / "1.heic").write_text("x")
        assert "file in a, b (left out: 2 .heic); every sub-folder is a class" in refusal(tmp_path)
        message = refusal(tmp_path / "a")
        assert "has no sub-folders; it needs one a class" in message
        assert "either (left out: 1 .heic)." in message
        assert ".dicom file; left out: 2 .heic." in refusal(tmp_path, label="none")

    def test_deeper_folders_are_read_and_said(self, tmp_path):
        save(tmp_path / "a" / "1.png")
        save(tmp_path / "a" / "p7" / "scans" / "1.png", np.full((4, 4), 7, np.uint8))
        save(tmp_path / "b" / "p8" / "1.png")
        found = load(tmp_path)
        assert found.labels.tolist() == [0, 0, 1]
        assert found.images[1, 0, 0, 0] == 7
        assert found.notes == ("Read: 2 in folders below their class's.",)
        assert counting.dataset_size(f"folder:{tmp_path}") == 3


class TestLayouts:
    @pytest.mark.parametrize(
        "splits",
        [("train", "test"), ("Training", "validation_set"), ("train",), ("val", "test", "x")],
    )
    def test_splits_are_no_classes(self, tmp_path, splits):
        for split in splits:
            for name in ("cat", "dog"):
                save(tmp_path / split / name / "1.png")
        message = refusal(tmp_path)
        assert "by their names splits and not classes" in message
        first = {"train": "train", "Training": "Training", "val": "test"}[splits[0]]
        assert f"--dataset=folder:{tmp_path / first}" in message
        assert load(tmp_path, class_names=splits).spec.num_classes == len(splits)

    def test_one_class_may_be_called_train(self, tmp_path):
        for name in ("car", "train", "plane"):
            save(tmp_path / name / "1.png")
        assert load(tmp_path).spec.class_names == ("car", "plane", "train")

    def test_a_folder_around_the_classes_is_explained(self, tmp_path):
        for name in ("cat", "dog"):
            save(tmp_path / "pets" / name / "1.png")
        message = refusal(tmp_path)
        assert (
            "holds one sub-folder, pets, with images in sub-folders of its own (cat, dog)"
            in message
        )
        assert f"--dataset=folder:{tmp_path / 'pets'}" in message
        assert "--label=none" in message
        assert load(tmp_path, class_names=("pets",)).size == 2
        assert load(tmp_path, label="none").size == 2

    def test_one_sub_folder_is_one_class(self, tmp_path):
        save(tmp_path / "faces" / "1.png")
        assert load(tmp_path).spec.class_names == ("faces",)

    def test_images_without_sub_folders_are_one_class(self, tmp_path):
        save(tmp_path / "faces" / "1.png")
        save(tmp_path / "faces" / "2.png")
        found = load(tmp_path / "faces")
        assert found.spec.class_names == ("faces",)
        assert found.labels.tolist() == [0, 0]
        assert found.notes == ()

    def test_without_labels_all_images_at_any_depth_are_one_class(self, tmp_path):
        folder = tmp_path / "faces"
        for name in ("1.png", "a/1.png", "b/c/1.png"):
            save(folder / name)
        found = load(folder, label="none")
        assert found.spec.class_names == ("faces",)
        assert (len(found), found.labels.tolist()) == (3, [0, 0, 0])
        assert load(folder, label="none", class_names=("face",)).spec.class_names == ("face",)
        message = refusal(folder, label="none", class_names=("a", "b"))
        assert "class_names must be one name with --label=none, received a, b" in message
        assert counting.dataset_size(f"folder:{folder}", label="none") == 3

    def test_digits_without_labels_are_one_class(self):
        found = loading.load("digits", label="none")
        assert found.spec.class_names == ("digits",)
        assert not found.labels.any()

    @pytest.mark.skipif(sys.platform != "linux", reason="names are bytes")
    def test_a_file_whose_name_is_no_utf8_is_read_and_a_class_is_refused(self, tmp_path):
        for name in "ab":
            save(tmp_path / name / "1.png")
        odd = os.fsencode(tmp_path) + b"/a/k\xe4se.png"
        with open(odd, "wb") as file:
            file.write(stored(np.zeros((4, 4), np.uint8)))
        first = load(tmp_path)
        assert first.size == 3
        with open(os.fsencode(tmp_path) + b"/a/x.k\xe4se", "wb"):
            pass
        assert load(tmp_path).notes == (r"Read: left out: 1 .k\xe4se.",)
        os.mkdir(os.fsencode(tmp_path) + b"/k\xe4se")
        assert r"a class must have a name in UTF-8, received the folder 'k\\xe4se'" in refusal(
            tmp_path
        )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("fit", "crop"), ("background", "black"), ("max_value", 4095), ("labels_csv", "x.csv")],
)
def test_settings_of_folders_are_refused_elsewhere(setting, value):
    message = f"{setting} applies to folders of images only, received {value!r} for digits: leave"
    with pytest.raises(checks.UsageError, match=message):
        loading.load("digits", **{setting: value})
    config = RunConfig(**{setting: value})
    for use in (loading.load_of, counting.counted_of):
        with pytest.raises(checks.UsageError, match=message):
            use(config)


def test_a_run_configs_reading_reaches_the_files(tmp_path):
    for name in "ab":
        save(tmp_path / name / "1.png", TWELVE_BITS[:32])
    config = RunConfig(
        dataset=f"folder:{tmp_path}", image_size=64, max_value=4095, fit="pad", background="black"
    )
    found = loading.load_of(config).images[0, ..., 0]
    np.testing.assert_array_equal(found[16:48], AS_BYTES[:32])
    assert not found[:16].any()
    assert loading.load_of(dataclasses.replace(config, background=None)).images[0, 0, 0, 0] == 255


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Folder:/data/pets", "folder:/data/pets"),
        ("folders: pets", "folder:pets"),
        ("/data/pets", "folder:/data/pets"),
        ("./pets", "folder:./pets"),
        ("~/pets", "folder:~/pets"),
        ("C:\\pets", "folder:C:\\pets"),
    ],
)
def test_a_path_without_folder_gets_the_hint(name, meant):
    for use in (loading.load, counting.dataset_size):
        with pytest.raises(checks.UsageError) as caught:
            use(name)
        assert str(caught.value).endswith(f"Did you mean --dataset={meant}?")


def test_a_folder_of_a_name_that_tfds_does_not_know_gets_the_hint(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_pets").mkdir()
    with pytest.raises(checks.UsageError, match="Did you mean --dataset=folder:my_pets"):
        loading.load("my_pets")
