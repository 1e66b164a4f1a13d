"""Reads a folder of images, one sub-folder a class, into arrays. No TensorFlow."""

import concurrent.futures
import pathlib

import numpy as np

from tfdps import checks

EXTENSIONS = (".png", ".jpg", ".jpeg")


def read(path, *, image_size=32):
    """Returns (images, labels, class_names) of the PNG and JPEG files below `path`.

    Classes are the sub-folders in sorted order, records the files of each in sorted order. Other
    files, hidden ones and anything deeper are ignored. Images are resized whole, without cropping,
    to a square. If every image is grey they have one channel, otherwise three.

    Args:
      path: the folder.
      image_size: side of the result in pixels, >= 1.

    Returns:
      images: uint8 [N, image_size, image_size, C], C in {1, 3}.
      labels: int32 [N], the class's index in class_names.
      class_names: tuple of str, the sub-folders' names.

    Raises:
      UsageError: the folder is missing, empty or not of this layout, or a file is unreadable.
    """
    classes = _files(path)
    files = [file for members in classes.values() for file in members]
    labels = np.repeat(
        np.arange(len(classes), dtype=np.int32), [len(members) for members in classes.values()]
    )
    images = np.empty((len(files), image_size, image_size, 1), np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for i, pixels in enumerate(pool.map(lambda file: _decode(file, image_size), files)):
            if pixels.shape[-1] > images.shape[-1]:  # the first colour image
                images = np.repeat(images, 3, axis=-1)
            images[i] = pixels
    return images, labels, tuple(classes)


def count(path):
    """Returns the number of images `read` would return, from the file names alone."""
    return sum(len(members) for members in _files(path).values())


def resize(image, image_size):
    """Returns a Pillow image of image_size x image_size: the whole image, antialiased.

    Pillow's bilinear filter is tf.image.resize's with antialias=True: a triangle as wide as the
    reduction.
    """
    from PIL import Image

    if image.size == (image_size, image_size):
        return image
    return image.resize((image_size, image_size), Image.Resampling.BILINEAR)


def _files(path):
    """Returns {class name: [file, ...]}, both sorted; raises UsageError if there is none."""
    folder = pathlib.Path(path).expanduser()
    if not str(path):
        raise checks.UsageError("folder: needs a path, as in folder:/data/pets.")
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise checks.UsageError(f"image folder {folder.absolute()} {what}.")
    classes = {f.name: _images_in(f) for f in _visible(folder) if f.is_dir()}
    if not classes:
        raise checks.UsageError(
            f"image folder {folder.absolute()} has no sub-folders; it needs one a class."
        )
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise checks.UsageError(
            f"image folder {folder.absolute()} has no {', '.join(EXTENSIONS)} file in "
            f"{', '.join(empty)}; every sub-folder is a class and needs images."
        )
    return classes


def _images_in(folder):
    return [f for f in _visible(folder) if f.suffix.lower() in EXTENSIONS and f.is_file()]


def _visible(folder):
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _decode(file, image_size):
    """Returns uint8 [image_size, image_size, 1 or 3]; raises UsageError naming a bad file."""
    from PIL import Image

    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            pixels = np.asarray(resize(_grey_or_rgb(image), image_size))
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise checks.UsageError(
            f"image {file.absolute()} is unreadable ({type(error).__name__}); "
            "repair or remove the file."
        ) from error
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


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
