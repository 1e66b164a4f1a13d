"""One DICOM file: its first frame as an image, and whose it is. pydicom reads it; no TensorFlow.

Read are the pixels and the tags that say how to show them, `SHOWN`, and where --person=dicom asks for
it the PatientID, which leaves this module as a hash alone. No other tag is read or written. What is
drawn into the pixels, a name in a corner say, is part of the image.
"""

import functools
import io
import warnings

import numpy as np

from tfdps import checks
from tfdps.data import dicom_greys, keyed_hash
from tfdps.data.unusable import UnusableError

EXTENSIONS = (".dcm", ".dicom")
SHOWN = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration"),
    *("PhotometricInterpretation", "PixelRepresentation", "BitsAllocated", "BitsStored", "HighBit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(
        f"{colour}PaletteColorLookupTable{what}"
        for colour in ("Red", "Green", "Blue", "Alpha")
        for what in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *("SegmentedAlphaPaletteColorLookupTableData", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "PixelData"),
)
_MARK, _MARK_AT, _HEAD = b"DICM", 128, 132
_FOLDERS_LIST = "DICOMDIR"  # has the mark, and no image
_PATIENT = 0x00100020
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_OTHER_COLOURS = _COLOURS[1:]  # which the decoder turns into RGB, with 8 bits
_PALETTE = "PALETTE COLOR"
COLOUR = "DICOM in colour"


def has_ending(file):
    """Returns whether a file, a pathlib.Path that counts as an image, is DICOM's by its name.

    Without an ending, or with a number for one, it counts as an image by its mark alone.
    """
    ending = file.suffix.lower()
    return ending in EXTENSIONS or not ending or ending[1:].isdecimal()


def has_mark(stored):
    """Returns whether the bytes of a file, or the first 132 of them, are DICOM's."""
    return stored[_MARK_AT:_HEAD] == _MARK


def is_marked(file):
    """Returns whether a file has DICOM's mark and may be an image: reads its first 132 bytes.

    Args:
      file: pathlib.Path; what cannot be read has no mark.
    """
    if file.name.upper() == _FOLDERS_LIST:
        return False
    try:
        with file.open("rb") as opened:
            return has_mark(opened.read(_HEAD))
    except OSError:
        return False


def image(stored, *, window=None, several_frames="of several frames"):
    """Returns (the first frame, a Pillow image in mode L or RGB; phrases on what was met).

    Args:
      stored: the bytes of the file, which has the mark.
      window: the declared (center, width) of grey images; None: the file's own.
      several_frames: the phrase for a file that has them.

    Raises:
      UnusableError: the file is damaged, compressed in a way that nothing here decodes, or no image
        of whole numbers.
      UsageError: pydicom is not installed.
    """
    from PIL import Image

    header = _header(stored)
    kind, frames = _checked(header), int(header.get("NumberOfFrames") or 1)
    met = [several_frames] if frames > 1 else []
    pixels = _library().pixels.pixel_array(header, index=0)
    if kind == _PALETTE:
        pixels, phrase = _by_palette(pixels, header), f"{COLOUR}, by its palette"
    elif kind in _COLOURS:
        pixels, phrase = _of_depth(pixels, int(header.BitsStored)), COLOUR
    else:
        pixels, phrase = dicom_greys.to_eight_bits(pixels, header, window)
    return Image.fromarray(pixels), [*met, phrase]


def patient(file):
    """Returns what stands for the PatientID of a DICOM file, text; None where it has none.

    Guarantee: a hash under a public key (`keyed_hash`), equal for files of one PatientID and of no
    other. The PatientID itself is in no result, error, warning or log, also where it is ill-formed: the
    tag's bytes are read as they are, and not by pydicom's checks, whose words quote what they check.

    Args:
      file: pathlib.Path.

    Raises:
      UsageError: pydicom is not installed.
    """
    pydicom = _library()
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[_PATIENT])
        raw = header.get_item(_PATIENT).value or b""
        encodings = header.original_character_set or ["iso8859"]
        encodings = [encodings] if isinstance(encodings, str) else list(encodings)
        text = pydicom.charset.decode_bytes(raw, encodings, set()).strip(" \0")
    except Exception:  # of many kinds for a damaged file, and none of their words is for a log
        return None
    return keyed_hash.digest(text.encode(), keyed_hash.PERSON)[:16].hex() if text else None


def _header(stored):
    """A pydicom Dataset of the tags SHOWN."""
    pydicom = _library()
    header = pydicom.dcmread(io.BytesIO(stored), specific_tags=list(SHOWN))
    if "PixelData" not in header:
        raise UnusableError("is a DICOM file without an image of whole numbers; remove it")
    return header


def _checked(header):
    """The photometric interpretation; refuses what would be read wrongly, or not at all."""
    from PIL import Image

    kind, pydicom = str(header.PhotometricInterpretation), _library()
    syntax = header.file_meta.TransferSyntaxUID
    try:
        can_decode = pydicom.pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        can_decode = False
    if not can_decode:
        raise UnusableError(
            f"is compressed as {syntax.name}, which nothing here decodes; decompress it, or install "
            "a decoder of pydicom's: pip install python-gdcm"
        )
    if kind not in (*_COLOURS, _PALETTE, "MONOCHROME1", "MONOCHROME2"):
        raise UnusableError(
            f"has the photometric interpretation {kind!r}, which is not read; convert it to RGB"
        )
    colour = kind in _COLOURS
    if colour and (header.get("PixelRepresentation") or int(header.BitsStored) > 16):
        raise UnusableError("has signed numbers or more than 16 bits a channel in colour")
    if kind in _OTHER_COLOURS and int(header.BitsStored) != 8:
        raise UnusableError(f"has colours as {kind} of other than 8 bits; convert it to RGB")
    if int(header.Rows) * int(header.Columns) > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
        raise UnusableError(f"has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller")
    return kind


def _by_palette(pixels, header):
    """uint8 [H, W, 3]"""
    coloured = _library().pixels.apply_color_lut(pixels, header)
    if coloured.shape[-1] != 3:
        raise UnusableError("has a palette with transparency, which is not read; convert it to RGB")
    return _of_depth(coloured, int(header.RedPaletteColorLookupTableDescriptor[2]))


def _of_depth(pixels, bits):
    """uint8 [H, W, 3] of unsigned values that have so many bits."""
    white = 2**bits - 1
    if pixels.max() > white:
        raise UnusableError(f"contradicts itself: it has values above {white}, in {bits} bits")
    return pixels if white == 255 else np.rint(pixels * (255 / white)).astype(np.uint8)


@functools.cache
def _library():
    """The module pydicom."""
    try:
        import pydicom
        import pydicom.charset
        import pydicom.pixels
    except ImportError as error:
        raise checks.UsageError(
            'DICOM files need pydicom: pip install "tfdps[dicom]", or take them out of the data set.'
        ) from error
    # Its warnings quote values of private files.
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    return pydicom
