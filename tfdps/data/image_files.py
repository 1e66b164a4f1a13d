"""One image file as pixels: which kinds are read, and what is wrong with another. No TensorFlow."""

import dataclasses
import io

import numpy as np

from tfdps import checks
from tfdps.data import deep_pixels, dicom_files, fit
from tfdps.data.unusable import UnusableError

# By its ending a file counts as an image; which format it has, its content says.
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *dicom_files.EXTENSIONS,
)
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_DEEPER = ("I", "F")  # Pillow's modes of 32 bits
_GREY = ("1", "L", "LA")
_GREY_WITH_ALPHA = 4  # a PNG's colour type

GREY_IN_COLOUR = "grey, stored in colour"
TRANSPARENT, NOT_SQUARE, DEEP = "with transparent pixels", "not square", "of 16-bit values"
SEVERAL_FRAMES = "of several frames or pages: the first is read"


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a file becomes pixels; all of it is declared, and public.

    image_size: side in pixels, >= 1.
    channels: 1: grey in every pixel; 3; or None: as it is stored.
    max_value: what is white in 16-bit grey, in [1, 65535]; None: 65535, unless the format says less.
    background: "white" or "black": what is transparent turns into it.
    fit: how an image that is not square becomes one, see `fit.resize`.
    dicom_window: the (center, width) of all grey DICOM images; None: each file's own.
    """

    image_size: int = 32
    channels: int | None = None
    max_value: int | None = None
    background: str = "white"
    fit: str = fit.SQUASH
    dicom_window: tuple[float, float] | None = None


def is_image(file):
    """Returns whether a file counts as an image: by its ending, and without one by DICOM's mark.

    Scanners write DICOM files without endings, or with a number for one: IM0001, 1.2.840.7.

    Args:
      file: pathlib.Path; the first bytes of one without an ending are read.
    """
    ending = file.suffix.lower()
    if ending in EXTENSIONS:
        return file.is_file()
    return dicom_files.has_ending(file) and file.is_file() and dicom_files.is_marked(file)


def content(file):
    """Returns the bytes of a file; raises UnusableError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnusableError(_unreadable(error)) from error


def decode(stored, reading):
    """Returns (an image, upright: uint8 [image_size, image_size, channels], what was met in it).

    Of several frames or pages it is the first. What was met is a tuple of phrases, as private
    as the image.

    Args:
      stored: the bytes of its file.
      reading: the Reading.

    Raises:
      UnusableError: for what is damaged or of another format, for an image that is to be grey and has
        colour, and for values that contradict what is declared.
      UsageError: it is a DICOM file, and pydicom is not installed.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if dicom_files.has_mark(stored):
            image, met = dicom_files.image(
                stored, window=reading.dicom_window, several_frames=SEVERAL_FRAMES
            )
        else:
            image, met = _by_pillow(stored, reading)
    except (UnusableError, checks.UsageError):
        raise
    except Image.DecompressionBombError as error:
        most = 2 * Image.MAX_IMAGE_PIXELS
        raise UnusableError(f"has more than {most:,} pixels; make it smaller") from error
    except UnidentifiedImageError as error:
        raise UnusableError(
            f"is unreadable: by its content it is none of {', '.join((*_FORMATS, 'DICOM'))}; remove "
            "or convert it"
        ) from error
    except Exception as error:  # decoders raise many kinds for a damaged file
        raise UnusableError(_unreadable(error)) from error
    if reading.channels == 1 and image.mode == "RGB":
        image = _first_of_three_alike(image)
    elif reading.channels == 3:
        image = image.convert("RGB")
    if image.width != image.height:
        met.append(f"{NOT_SQUARE}, {fit.DONE[reading.fit]} (--fit)")
    small = fit.resize(image, reading.image_size, fit=reading.fit, background=reading.background)
    pixels = np.asarray(small)
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    if reading.channels is None and pixels.shape[-1] == 3 and _is_grey(small) and _is_grey(image):
        met.append(GREY_IN_COLOUR)
    return pixels, tuple(met)


def _unreadable(error):
    return f"is unreadable ({type(error).__name__}); repair or remove the file"


def _by_pillow(stored, reading):
    """(the upright image in mode L or RGB, what was met)"""
    from PIL import Image

    with Image.open(io.BytesIO(stored), formats=_FORMATS) as image:
        if image.mode in _DEEPER and image.format != "PNG":  # PNG has 16 bits at most
            raise UnusableError(
                "has 32 bits or signed numbers in a pixel; store it with 8 or 16 bits, unsigned"
            )
        met = [SEVERAL_FRAMES] if getattr(image, "is_animated", False) else []
        return _grey_or_rgb(image, stored, reading, met), met


def _grey_or_rgb(image, stored, reading, met):
    """Returns the upright image in mode L or RGB; adds to `met` what was met."""
    from PIL import Image, ImageOps

    deep, format_ = deep_pixels.is_deep(image, stored), image.format
    mode = "L" if image.mode in _GREY else "RGB"
    if format_ == "PNG" and stored[25] == _GREY_WITH_ALPHA:  # with 16 bits Pillow has it in colour
        mode = "L"
    if image.mode.startswith("I"):
        grey, mode = _from_sixteen_bits(image, stored, reading, met), "L"
        grey.info.update(image.info)
        grey.getexif().update(image.getexif())
        image = grey
    elif deep:
        if reading.max_value not in (None, 65535):
            raise UnusableError(
                f"has 16 bits a channel in colour or with transparency, for which "
                f"--max_value={reading.max_value} cannot be used; store it with 8 bits, or in grey"
            )
        met.append(f"{DEEP}, read as 0..65535")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            met.append(f"{TRANSPARENT}, taken as {reading.background} (--background)")
        ground = Image.new("RGBA", image.size, reading.background)
        image = Image.alpha_composite(ground, image)
    return image.convert(mode)


def _from_sixteen_bits(image, stored, reading, met):
    """A grey image of 16 bits as mode L, or LA where one of its values stands for transparent."""
    from PIL import Image

    pixels, white = deep_pixels.to_eight_bits(image, stored, reading.max_value)
    met.append(f"{DEEP}, read as 0..{white} (--max_value)")
    grey = Image.fromarray(pixels)
    transparent = image.info.pop("transparency", None)
    if transparent is not None:
        opaque = np.asarray(image) != transparent
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


def _is_grey(image):
    red, green, blue = (each.tobytes() for each in image.split())
    return red == green == blue


def _first_of_three_alike(image):
    if not _is_grey(image):
        raise UnusableError(
            "must be grey in every pixel, as one channel was declared (--channels=1), and has "
            "colour; --channels=3 takes it as it is, and grey ones too"
        )
    return image.getchannel("R")
