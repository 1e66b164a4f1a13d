"""One image file as pixels: which kinds are read, and what is wrong with another. No TensorFlow."""

import io

import numpy as np

# By its ending a file counts as an image; which of these formats it has, its content says.
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".tif", ".tiff", ".bmp", ".webp", ".gif"),
)
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_DEEP = ("I", "F")  # Pillow's modes of 32 bits


class UnusableError(Exception):
    """What is wrong with a file; the text goes on after its name, and has no full stop."""


def content(file):
    """Returns the bytes of a file; raises UnusableError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnusableError(_unreadable(error)) from error


def decode(stored, image_size, channels):
    """Returns an image, upright and resized: uint8 [image_size, image_size, channels].

    Of several frames or pages the first. What is transparent turns white, 16-bit grey is divided by
    257.

    Args:
      stored: the bytes of its file.
      image_size: side in pixels, >= 1.
      channels: 1: grey in every pixel; 3; or None: as it is stored.

    Raises:
      UnusableError: for what is damaged or of another format, and for an image that is to be grey and
        has colour.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(stored), formats=_FORMATS) as image:
            if image.mode in _DEEP and image.format != "PNG":  # PNG has 16 bits at most
                raise UnusableError("has 32 bits a pixel; store it with 8 or 16")
            image = _grey_or_rgb(image)
    except UnusableError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * Image.MAX_IMAGE_PIXELS
        raise UnusableError(f"has more than {most:,} pixels; make it smaller") from error
    except UnidentifiedImageError as error:
        raise UnusableError(
            f"is unreadable: by its content it is none of {', '.join(_FORMATS)}; remove or convert it"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise UnusableError(_unreadable(error)) from error
    if channels == 1 and image.mode == "RGB":
        red, green, blue = image.split()
        if not red.tobytes() == green.tobytes() == blue.tobytes():
            raise UnusableError(
                "must be grey in every pixel, as one channel was declared (--channels=1), and has "
                "colour; --channels=3 takes it as it is, and grey ones too"
            )
        image = red
    elif channels == 3:
        image = image.convert("RGB")
    pixels = np.asarray(resize(image, image_size))
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _unreadable(error):
    return f"is unreadable ({type(error).__name__}); repair or remove the file"


def resize(image, image_size):
    """Returns a Pillow image of image_size x image_size: the whole image, antialiased.

    Pillow's bilinear filter is tf.image.resize's with antialias=True: a triangle as wide as the
    reduction.
    """
    from PIL import Image

    if image.size == (image_size, image_size):
        return image
    return image.resize((image_size, image_size), Image.Resampling.BILINEAR)


def _grey_or_rgb(image):
    """Returns the upright image in mode L or RGB; what is transparent turns white."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey: 65535 / 257 = 255
        sixteen_bit = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.rint(sixteen_bit / 257).astype(np.uint8))
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
