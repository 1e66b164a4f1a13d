"""A folder of images, one sub-folder a class, as arrays. No TensorFlow."""

import concurrent.futures
import functools
import hashlib
import io
import os
import pathlib

import numpy as np

from tfdps import checks
from tfdps.data import partition

EXTENSIONS = (".png", ".jpg", ".jpeg")


class Records:
    """The PNG and JPEG files below a folder, as labelled images.

    Classes are the sub-folders in sorted order, records the files of each in sorted order. Other
    files, hidden ones and anything deeper are ignored. Images are resized whole, without cropping,
    to a square. Before an image is used all files, those of other parts too, are read once, and
    refused unless they agree on the number of channels.

    Attributes:
      class_names: tuple of str, the sub-folders' names.
      total: N, the number of files of all parts.
      image_shape: (height, width, channels) of every record, also of the other parts'.
      fingerprint: a hash of all files' classes, names and contents, in order. Contents, since a file
        that is replaced by another of equal size is another record; the files are read anyway, and
        decoding them takes many times what hashing takes. It is computed from private records.
      bytes_of_image: of a record in memory, at most.

    Args:
      path: the folder.
      image_size: side of the images in pixels, >= 1.
      channels: 1: a file stored in colour must be grey in every pixel, which converts exactly; 3:
        grey files are repeated, exactly; None: as all files are stored.
      empty_classes: whether a sub-folder may hold no image.
      part: (index, count), see `parts`: every count-th file.

    Raises:
      UsageError: the folder is missing, empty or not of this layout; on reading: a file is unreadable,
        or of other channels than declared or, where none are, than another file.
    """

    def __init__(
        self, path, *, image_size=32, channels=None, empty_classes=False, part=partition.WHOLE
    ):
        classes = _files(path, empty_classes)
        files = [file for members in classes.values() for file in members]
        if not files:
            raise checks.UsageError(f"image folder {path} has no {', '.join(EXTENSIONS)} file.")
        labels = np.repeat(
            np.arange(len(classes), dtype=np.int32), [len(members) for members in classes.values()]
        )
        self._files, self._image_size, self._channels = files, image_size, channels
        self._part = range(len(files))[partition.strided(part)]
        self._labels = labels[partition.strided(part)]
        self.class_names, self.total = tuple(classes), len(files)
        self.bytes_of_image = (channels or 3) * image_size**2

    def __len__(self):
        return len(self._part)

    @property
    def image_shape(self):
        return self._examined[0]

    @property
    def fingerprint(self):
        return self._examined[1]

    def labels(self):
        """Returns the class of every record of the part, int32 [n]."""
        return self._labels

    def read(self):
        """Returns (images uint8 [n, H, W, C], labels int32 [n]) of the part."""
        *self._examined, images = self._examine(self._part)
        return images, self._labels

    def gather(self, indices):
        """Returns the images of some records of the part, uint8 [k, H, W, C]."""
        images = np.empty((len(indices), *self.image_shape), np.uint8)

        def decoded(index):
            file = self._files[self._part[index]]
            return _decode(file, _content(file), self._image_size, images.shape[-1])

        with concurrent.futures.ThreadPoolExecutor() as pool:
            for i, pixels in enumerate(pool.map(decoded, indices)):
                images[i] = pixels
        return images

    @functools.cached_property
    def _examined(self):
        """(image_shape, fingerprint)"""
        return self._examine(range(0))[:2]

    def _examine(self, kept):
        """(image_shape, fingerprint, images of the files numbered in the range `kept`): reads all."""
        listed, images = hashlib.sha256(), None
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for number, (pixels, digest) in enumerate(pool.map(self._examined_file, self._files)):
                if images is None:
                    images = np.empty((len(kept), *pixels.shape), np.uint8)
                if pixels.shape != images.shape[1:]:
                    raise _mixed(self._files[0], self._files[number], pixels.shape[-1])
                if number in kept:
                    images[kept.index(number)] = pixels
                name = os.path.join(*self._files[number].parts[-2:])
                listed.update(hashlib.sha256(os.fsencode(name)).digest() + digest)
        return images.shape[1:], listed.hexdigest()[:16], images

    def _examined_file(self, file):
        """(uint8 [H, W, C], hash of the content) of a file."""
        content = _content(file)
        pixels = _decode(file, content, self._image_size, self._channels)
        return pixels, hashlib.sha256(content).digest()


def count(path):
    """Returns the number of images below a folder, from the file names alone."""
    return sum(len(members) for members in _files(path, empty_classes=True).values())


def resize(image, image_size):
    """Returns a Pillow image of image_size x image_size: the whole image, antialiased.

    Pillow's bilinear filter is tf.image.resize's with antialias=True: a triangle as wide as the
    reduction.
    """
    from PIL import Image

    if image.size == (image_size, image_size):
        return image
    return image.resize((image_size, image_size), Image.Resampling.BILINEAR)


def _files(path, empty_classes):
    """Returns {class name: [file, ...]}, both sorted; raises UsageError if there is no class."""
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
    if empty and not empty_classes:
        raise checks.UsageError(
            f"image folder {folder.absolute()} has no {', '.join(EXTENSIONS)} file in "
            f"{checks.listed(empty)}; every sub-folder is a class and needs images, unless all classes "
            "are declared with --class_names=..."
        )
    return classes


def _images_in(folder):
    return [f for f in _visible(folder) if f.suffix.lower() in EXTENSIONS and f.is_file()]


def _visible(folder):
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _content(file):
    """Returns the bytes of a file; raises UsageError naming it."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error


def _decode(file, content, image_size, channels):
    """Returns uint8 [image_size, image_size, channels], 1 or 3 as it is stored for None.

    Raises:
      UsageError: naming a file that is bad, or has colour where there is to be one channel.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            image = _grey_or_rgb(image)
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise _unreadable(file, error) from error
    if channels == 1 and image.mode == "RGB":
        red, green, blue = image.split()
        if not red.tobytes() == green.tobytes() == blue.tobytes():
            raise checks.UsageError(
                f"image {file.absolute()} must be grey in every pixel, as one channel was declared "
                "(--channels=1), and has colour; --channels=3 takes it as it is, and grey ones too."
            )
        image = red
    elif channels == 3:
        image = image.convert("RGB")
    pixels = np.asarray(resize(image, image_size))
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _unreadable(file, error):
    return checks.UsageError(
        f"image {file.absolute()} is unreadable ({type(error).__name__}); repair or remove the file."
    )


def _mixed(first, other, channels):
    grey, colour = (first, other) if channels == 3 else (other, first)
    return checks.UsageError(
        f"channels must be declared where grey and colour images are mixed: {grey.absolute()} is grey, "
        f"{colour.absolute()} is stored in colour; --channels=1 or --channels=3 (1: all are grey in "
        "every pixel, however they are stored; 3: all are taken as colour)."
    )


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
