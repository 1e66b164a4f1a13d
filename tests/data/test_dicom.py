"""DICOM files as images: values by hand, by the standard's formulas and by pydicom; whose they are."""

import io
import logging
import warnings

import numpy as np
import pytest
from PIL import Image

from tfdps import checks
from tfdps.config import data_settings
from tfdps.config.run_config import RunConfig
from tfdps.data import counting, dicom_files, dicom_greys, image_files, loading
from tfdps.data.image_files import Reading
from tfdps.training import plan_lines

pydicom = pytest.importorskip("pydicom", reason="reads DICOM: pip install 'tfdps[dicom]'")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import processing  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

GREYS = np.arange(4096, dtype=np.uint16).reshape(64, 64)
SECRET = "Zx-Patient-4711"


def header(pixels, photometric="MONOCHROME2", bits=None, syntax=ExplicitVRLittleEndian, **tags):
    """A pydicom Dataset of one image."""
    pixels, made = np.asarray(pixels), Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.PatientName, made.StudyDate = "Secret^Name", "19700101"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def stored(made, *arguments, **tags):
    """The bytes of a file."""
    made = made if isinstance(made, Dataset) else header(made, *arguments, **tags)
    file = io.BytesIO()
    pydicom.dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()


def decoded(content, **reading):
    size = reading.pop("image_size", 64)
    pixels, met = image_files.decode(content, Reading(image_size=size, **reading))
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels, ", ".join(met)


def unusable(content, **reading):
    with pytest.raises(image_files.UnusableError) as caught:
        decoded(content, **reading)
    return str(caught.value)


def table(entries, first, bits, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 2**16, first, bits])
    if vr == "OW":
        entries = np.asarray(entries, "<u2").tobytes()
    item.add_new("LUTData", vr, entries)
    return Sequence([item])


def scaled(values, black, white):
    return np.rint(255 * np.clip((values - black) / (white - black), 0, 1)).astype(np.uint8)


class TestGreyValues:
    def test_without_a_window_are_those_that_the_bits_can_hold(self):
        pixels, met = decoded(stored(GREYS, bits=12))
        np.testing.assert_array_equal(pixels, scaled(GREYS.astype(float), 0, 4095))
        assert met == (
            "grey DICOM, without a window: all that their bits can hold (--dicom_window)"
        )

    def test_of_monochrome1_are_turned_round(self):
        pixels, _ = decoded(stored(GREYS, "MONOCHROME1", bits=12))
        np.testing.assert_array_equal(pixels, scaled(4095.0 - GREYS, 0, 4095))
        shown, _ = decoded(stored(GREYS, "MONOCHROME1", bits=12), dicom_window=(2048, 2))
        assert (shown[GREYS <= 2047].min(), shown[GREYS > 2047].max()) == (255, 0)

    def test_of_signed_numbers_begin_below_zero(self):
        values = (GREYS.astype(np.int16) - 2048).astype(np.int16)
        pixels, _ = decoded(stored(values, bits=12))
        np.testing.assert_array_equal(pixels, scaled(values.astype(float), -2048, 2047))

    @pytest.mark.parametrize("bits", [1, 8, 16, 32])
    def test_of_other_depths(self, bits):
        if bits == 1:
            made = header(np.full((64, 8), 0b01010101, np.uint8), bits=1)
            made.Columns = 64
            made.BitsAllocated = 1
            pixels, _ = decoded(stored(made))
            assert pixels.ravel()[:4].tolist() == [255, 0, 255, 0]
            return
        values = (GREYS.astype(np.uint64) * (2**bits - 1) // 4095).astype(f"uint{bits}")
        np.testing.assert_array_equal(
            decoded(stored(values))[0], scaled(values.astype(float), 0, 2**bits - 1)
        )

    def test_are_rescaled_before_the_window(self):
        """A CT: Hounsfield units are the stored values less 1024; soft tissue is -160 to 240."""
        content = stored(GREYS, bits=12, RescaleSlope="1", RescaleIntercept="-1024")
        pixels, met = decoded(content, dicom_window=(40, 400))
        # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
        units = GREYS.astype(float) - 1024
        by_hand = np.clip(((units - 39.5) / 399 + 0.5) * 255, 0, 255)
        np.testing.assert_array_equal(pixels, np.rint(by_hand).astype(np.uint8))
        assert pixels.ravel()[[0, 864, 865, 1063, 1264, 4095]].tolist() == [0, 0, 1, 127, 255, 255]
        assert met == "grey DICOM, window 40,400 (--dicom_window)"

    def test_of_a_slope_below_zero_are_not_turned_round_twice(self):
        content = stored(GREYS, bits=12, RescaleSlope="-2", RescaleIntercept="10")
        np.testing.assert_array_equal(decoded(content)[0], scaled(4095.0 - GREYS, 0, 4095))
        content = stored(GREYS, bits=12, RescaleSlope="0", RescaleIntercept="10")
        assert "has a RescaleSlope" in unusable(content)

    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
    def test_of_the_files_own_window_are_pydicoms(self, function):
        tags = {"WindowCenter": ["1000", "5"], "WindowWidth": ["700", "9"]}
        if function:
            tags["VOILUTFunction"] = function
        made = header(GREYS, bits=12, **tags)
        expected = processing.apply_windowing(GREYS, made) / 4095  # the first of two windows
        pixels, met = decoded(stored(made))
        np.testing.assert_allclose(pixels, 255 * expected, atol=0.51)
        assert met == "grey DICOM, by the files' own windows (--dicom_window)"
        declared, met = decoded(stored(made), dicom_window=(2048, 4096))
        np.testing.assert_array_equal(declared, scaled(GREYS.astype(float), 0, 4095))
        assert "window 2048,4096" in met

    def test_of_a_window_of_one_value_are_black_or_white(self):
        pixels, _ = decoded(stored(GREYS, bits=12), dicom_window=(7, 1))
        assert pixels.ravel()[:9].tolist() == [0] * 7 + [255] * 2
        assert "whose width means nothing" in unusable(
            stored(GREYS, bits=12, WindowCenter="7", WindowWidth="0")
        )

    def test_of_half_a_window_have_none(self):
        assert "without a window" in decoded(stored(GREYS, bits=12, WindowCenter="7"))[1]

    @pytest.mark.parametrize("vr", ["US", "OW"])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_go_through_tables(self, vr, bits):
        """Of 300 entries, more than 8 bits can count: pydicom 3.0 wraps those of 8-bit tables."""
        entries = [(7 * k) % 2**bits for k in range(300)]
        content = stored(GREYS, bits=12, VOILUTSequence=table(entries, 1000, bits, vr))
        at = np.clip(GREYS.astype(int) - 1000, 0, 299)
        pixels, met = decoded(content)
        np.testing.assert_array_equal(pixels, scaled(np.array(entries, float)[at], 0, 2**bits - 1))
        assert "by the files' own tables" in met
        content = stored(GREYS, bits=12, ModalityLUTSequence=table(entries, 1000, bits, vr))
        assert np.array_equal(decoded(content)[0], pixels)

    def test_of_an_enhanced_file_have_the_tables_of_its_first_frame(self):
        frame, value, window = Dataset(), Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept = "1", "-1024"
        window.WindowCenter, window.WindowWidth = "40", "400"
        frame.PixelValueTransformationSequence = Sequence([value])
        frame.FrameVOILUTSequence = Sequence([window])
        content = stored(
            GREYS, bits=12, NumberOfFrames=1, PerFrameFunctionalGroupsSequence=Sequence([frame])
        )
        plain = stored(GREYS, bits=12, RescaleSlope="1", RescaleIntercept="-1024")
        expected = decoded(plain, dicom_window=(40, 400))[0]
        np.testing.assert_array_equal(decoded(content)[0], expected)

    def test_linear_is_the_standards_formula_at_its_ends(self):
        values = np.array([0.0, 0.5, 2047.5, 4095.0, 5000.0])
        share = dicom_greys.linear(values, 2048, 4096)
        np.testing.assert_allclose(share, [0, 0.5 / 4095, 0.5, 1, 1])


class TestColours:
    RGB = np.random.default_rng(0).integers(0, 256, [64, 64, 3], np.uint8)

    def test_are_as_they_are(self):
        pixels, met = decoded(stored(self.RGB, "RGB"))
        np.testing.assert_array_equal(pixels, self.RGB)
        assert met == "DICOM in colour"
        by_plane = header(self.RGB, "RGB", PlanarConfiguration=1)
        by_plane.PixelData = self.RGB.transpose(2, 0, 1).tobytes()
        np.testing.assert_array_equal(decoded(stored(by_plane))[0], self.RGB)

    def test_of_sixteen_bits_are_scaled_by_the_bits_stored(self):
        pixels, _ = decoded(stored(self.RGB.astype(np.uint16) * 16, "RGB", bits=12))
        np.testing.assert_array_equal(pixels, scaled(self.RGB * 16.0, 0, 4095))

    def test_of_ybr_become_rgb(self):
        """Pillow's conversion is the second algorithm: both are JFIF's, PS3.3 C.7.6.3.1.2."""
        ybr = np.asarray(Image.fromarray(self.RGB).convert("YCbCr"))
        expected = np.asarray(Image.fromarray(ybr, "YCbCr").convert("RGB"))
        pixels, _ = decoded(stored(ybr, "YBR_FULL"))
        assert np.abs(pixels.astype(int) - expected).max() <= 1

    def test_of_a_palette_are_its_entries(self):
        red, green, blue = ((np.arange(256) * k % 256).astype(np.uint8) for k in (1, 3, 7))
        values = (GREYS % 256).astype(np.uint8)
        tags = {}
        for name, entries in (("Red", red), ("Green", green), ("Blue", blue)):
            tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
            tags[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
        pixels, met = decoded(stored(values, "PALETTE COLOR", **tags))
        expected = np.stack([red[values], green[values], blue[values]], -1)
        np.testing.assert_array_equal(pixels, expected)
        assert met.startswith("DICOM in colour, by its palette")
        for name, entries in (("Red", red), ("Green", green), ("Blue", blue)):
            tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            tags[f"{name}PaletteColorLookupTableData"] = (entries.astype("<u2") * 257).tobytes()
        np.testing.assert_array_equal(decoded(stored(values, "PALETTE COLOR", **tags))[0], expected)

    def test_channels_and_fit_are_those_of_all_images(self):
        grey = np.repeat(self.RGB[..., :1], 3, -1)
        pixels, _ = decoded(stored(grey, "RGB"), channels=1)
        np.testing.assert_array_equal(pixels, grey[..., 0])
        assert "must be grey in every pixel" in unusable(stored(self.RGB, "RGB"), channels=1)
        wide = stored(self.RGB[:32], "RGB")
        assert "not square, padded (--fit)" in decoded(wide, fit="pad")[1]


class TestFiles:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_of_both_plain_syntaxes(self, syntax):
        tags = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
        content = stored(GREYS, bits=12, syntax=syntax, **tags)
        np.testing.assert_array_equal(decoded(content)[0], scaled(GREYS.astype(float), 0, 4095))

    def test_of_compressed_syntaxes_that_are_decoded(self):
        made = header(GREYS, bits=12)
        made.compress(RLELossless, generate_instance_uid=False)
        np.testing.assert_array_equal(
            decoded(stored(made))[0], scaled(GREYS.astype(float), 0, 4095)
        )
        grey = (GREYS // 16).astype(np.uint8)
        for syntax, kind in ((JPEGBaseline8Bit, "JPEG"), (JPEG2000, "JPEG2000")):
            made, file = header(grey, syntax=syntax), io.BytesIO()
            Image.fromarray(grey).save(file, kind)
            made.PixelData = encapsulate([file.getvalue()])
            made["PixelData"].is_undefined_length = True
            pixels = decoded(stored(made))[0]
            assert np.abs(pixels.astype(int) - grey).max() <= 4, kind

    @pytest.mark.parametrize(
        ("syntax", "kind", "photometric", "how", "most"),
        [
            (JPEGBaseline8Bit, "JPEG", "YBR_FULL_422", {"subsampling": 1, "quality": 95}, 6),
            (JPEG2000, "JPEG2000", "YBR_ICT", {"irreversible": True, "mct": 1}, 2),
            (JPEG2000, "JPEG2000", "YBR_RCT", {"mct": 1}, 0),
        ],
    )
    def test_of_compressed_colours_are_rgb(self, syntax, kind, photometric, how, most):
        """`most`: what the compression itself may change in a smooth picture."""
        y, x = np.mgrid[:64, :64]
        colours, file = np.stack([x * 4, y * 4, (x + y) * 2], -1).astype(np.uint8), io.BytesIO()
        Image.fromarray(colours).save(file, kind, **how)
        made = header(colours, photometric, syntax=syntax)
        made.PixelData = encapsulate([file.getvalue()])
        made["PixelData"].is_undefined_length = True
        assert np.abs(decoded(stored(made))[0].astype(int) - colours).max() <= most

    def test_that_nothing_decodes_are_named_with_their_syntax(self):
        made = header(GREYS, bits=12, syntax=JPEGLosslessSV1)
        made.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        made["PixelData"].is_undefined_length = True
        if pydicom.pixels.get_decoder(JPEGLosslessSV1).is_available:
            pytest.skip("a decoder for JPEG Lossless is installed")
        message = unusable(stored(made))
        assert message.startswith("is compressed as JPEG Lossless")
        assert "pip install python-gdcm" in message

    def test_of_several_frames_are_their_first_and_it_is_said(self):
        frames = header(GREYS, bits=12, NumberOfFrames=2)
        frames.PixelData += bytes(GREYS.nbytes)
        pixels, met = decoded(stored(frames))
        np.testing.assert_array_equal(pixels, scaled(GREYS.astype(float), 0, 4095))
        assert image_files.SEVERAL_FRAMES in met

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"PhotometricInterpretation": "HSV"}, "photometric interpretation 'HSV'"),
            ({"PixelData": None}, "without an image of whole numbers"),
            ({"PixelData": b"short"}, "is unreadable (ValueError)"),
            ({"Rows": 40000, "Columns": 40000}, "has more than"),
        ],
    )
    def test_that_cannot_be_used_say_why(self, change, told):
        made = header(GREYS, bits=12)
        for name, value in change.items():
            if value is None:
                delattr(made, name)
            else:
                setattr(made, name, value)
        assert told in unusable(stored(made))

    def test_no_other_tag_is_read(self):
        content = stored(GREYS, bits=12, PatientID=SECRET, WindowCenter="7", WindowWidth="9")
        found = {element.keyword for element in dicom_files._header(content)}
        assert "WindowCenter" in found
        assert found <= {*dicom_files.SHOWN, "SpecificCharacterSet"}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path):
    """Two classes of six patients with two files each, under names that say nothing."""
    root = tmp_path / "scans"
    for kind in ("cat", "dog"):
        for person in range(6):
            name = f"{kind[0]}{17 * person:03d}x"
            grey = np.full((8, 8), 40 * person, np.uint8)
            content = stored(grey, PatientID=f"{SECRET}-{person}")
            write(root / kind / f"{name}{'.dcm' if person % 2 else ''}", content)
    (root / "cat" / "README").write_text("no image")
    write(root / "cat" / "DICOMDIR", stored(np.zeros((8, 8), np.uint8)))
    return root


def load(folder, **settings):
    return loading.load(f"folder:{folder}", image_size=8, **settings)


class TestFolders:
    def test_files_with_the_ending_or_the_mark_are_records(self, folder):
        write(folder / "cat" / "1.2.840.7", stored(np.zeros((8, 8), np.uint8)))
        dataset = load(folder)
        assert len(dataset) == 13
        assert "2 without an ending" in dataset.notes[0]
        assert "13 grey DICOM, without a window" in dataset.notes[0]

    def test_a_csv_file_names_them_too(self, folder):
        lines = [f"dog/{path.name},dog" for path in (folder / "dog").iterdir()]
        (folder / "labels.csv").write_text("\n".join(["file,label", *lines]))
        assert len(load(folder, labels_csv=str(folder / "labels.csv"))) == 6
        (folder / "labels.csv").write_text("file,label\ncat/README,dog")
        with pytest.raises(checks.UsageError, match="README is no image by its ending"):
            load(folder, labels_csv=str(folder / "labels.csv"))

    def test_the_declared_window_is_the_same_for_all_and_max_value_is_not_theirs(self, folder):
        dataset = load(folder, dicom_window="100,2", max_value=4095)
        assert sorted(np.unique(dataset.images)) == [0, 255]
        assert "12 grey DICOM, window 100,2 (--dicom_window)" in dataset.notes[0]
        assert "none of 16-bit values: --max_value changes nothing" in dataset.notes[0]

    def test_a_window_without_such_files_is_said_to_do_nothing(self, tmp_path):
        for name in ("a/1.png", "b/2.png"):
            (tmp_path / name).parent.mkdir()
            Image.new("L", (8, 8)).save(tmp_path / name)
        assert (
            "none grey DICOM: --dicom_window changes nothing"
            in load(tmp_path, dicom_window="40,400").notes[0]
        )
        with pytest.raises(checks.UsageError, match="dicom_window applies to folders"):
            loading.load("digits", dicom_window="40,400")

    @pytest.mark.parametrize("text", ["40", "40,400,4", "a,b", "40,0.5", "nan,400", "40,inf", ""])
    def test_a_window_that_is_none_is_refused(self, text):
        with pytest.raises(checks.UsageError, match="dicom_window must be CENTER,WIDTH"):
            RunConfig(dicom_window=text)
        with pytest.raises(checks.UsageError, match="must be CENTER,WIDTH"):
            data_settings.window(text)

    def test_all_that_cannot_be_used_are_listed_at_once(self, folder):
        write(folder / "cat" / "a.dcm", stored(header(GREYS, "HSV", bits=12)))
        write(folder / "dog" / "b.dcm", b"no DICOM")
        with pytest.raises(checks.UsageError, match="2 images cannot be used: .*a.dcm.*b.dcm"):
            load(folder)

    @pytest.mark.parametrize("settings", [{}, {"person": "dicom"}])
    def test_without_pydicom_one_line_says_what_to_install(self, folder, monkeypatch, settings):
        dicom_files._library.cache_clear()
        monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
        with pytest.raises(checks.UsageError) as caught:
            load(folder, **settings)
        dicom_files._library.cache_clear()
        assert str(caught.value) == (
            'DICOM files need pydicom: pip install "tfdps[dicom]", or take them out of the data set.'
        )


class TestPersons:
    def test_are_the_patients_whatever_the_files_are_called(self, folder):
        dataset = load(folder, person="dicom", images_per_person=4)
        assert (dataset.size, len(dataset)) == (6, 12)
        for row in dataset.units:
            own = row[row >= 0]
            assert len(set(dataset.images[own, 0, 0, 0])) == 1
            assert sorted(dataset.labels[own]) == [0, 1]
        config = RunConfig(dataset=f"folder:{folder}", person="dicom")
        assert counting.counted_of(config)[0] == 6

    def test_without_the_option_a_line_names_it(self, folder):
        assert any(
            "12 are DICOM files" in note and "--person=dicom" in note for note in load(folder).notes
        )

    def test_are_one_in_spite_of_padding_and_character_sets(self, tmp_path):
        name = "Müller 7"
        made = [
            stored(GREYS, bits=12, PatientID=name, SpecificCharacterSet="ISO_IR 192"),
            stored(GREYS, bits=12, PatientID=f" {name} ", SpecificCharacterSet="ISO_IR 100"),
            stored(GREYS, bits=12, PatientID="Muller 7"),
        ]
        found = []
        for number, content in enumerate(made):
            write(tmp_path / f"{number}.dcm", content)
            found.append(dicom_files.patient(tmp_path / f"{number}.dcm"))
        assert found[0] == found[1] != found[2]

    def test_files_that_name_nobody_are_refused_by_their_paths(self, folder):
        write(folder / "cat" / "nobody.dcm", stored(GREYS, bits=12, PatientID=" "))
        Image.new("L", (8, 8)).save(folder / "dog" / "p.png")
        with pytest.raises(checks.UsageError) as caught:
            load(folder, person="dicom")
        assert "must be DICOM with a PatientID; 2 of 14 do not: " in str(caught.value)
        assert "cat/nobody.dcm, dog/p.png" in str(caught.value)

    def test_the_patient_id_is_nowhere_but_in_the_files(self, folder, caplog, capfd):
        """Not in lines, errors, warnings, logs or the loaded data; an ill-formed one neither."""
        caplog.set_level(logging.DEBUG)
        long = SECRET * 9  # LO has 64 characters at most, at which pydicom warns
        write(folder / "cat" / "long.dcm", stored(_raw_id(long)))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            dataset = load(folder, person="dicom", held_out=0.4)
            config = RunConfig(dataset=f"folder:{folder}", person="dicom", held_out=0.4)
            said = [plan_lines.of_data(dataset), *dataset.notes, *counting.counted_of(config)[1]]
            write(folder / "cat" / "damaged.dcm", stored(_raw_id(SECRET))[:-100])
            with pytest.raises(checks.UsageError) as caught:
                load(folder, person="dicom")
        told = capfd.readouterr()
        everything = [*said, caught.value, caplog.text, *told, *(each.message for each in warned)]
        everything += [vars(dataset), config.to_flags()]
        assert "damaged.dcm" in str(caught.value)
        assert SECRET not in " ".join(map(repr, everything))


def _raw_id(text):
    """A header whose PatientID is not held against the standard when it is written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return header(np.zeros((8, 8), np.uint8), PatientID=text)
