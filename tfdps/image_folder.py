"""A folder of images, one sub-folder a class, as arrays. No TensorFlow."""

import concurrent.futures
import functools
import hashlib
import pathlib

import numpy as np

from tfdps import checks, parts

EXTENSIONS = (".png", ".jpg", ".jpeg")


class Records:
    """The PNG and JPEG files below a folder, as labelled images.

    Classes are the sub-folders in sorted order, records the files of each in sorted order. Other
    files, hidden ones and anything deeper are ignored. Images are resized whole, without cropping,
    to a square. If every image is grey they have one channel, otherwise three.

    Attributes:
      class_names: tuple of str, the sub-folders' names.
      total: N, the number of files of all parts.
      bytes_of_image: of a record in memory.
      fingerprint: a hash of all files' names and sizes, in order.

    Args:
      path: the folder.
      image_size: side of the images in pixels, >= 1.
      part: (index, count), see `parts`: every count-th file.

    Raises:
      UsageError: the folder is missing, empty or not of this layout, or a file is unreadable.
    """

    def __init__(self, path, *, image_size=32, part=parts.WHOLE):
        classes = _files(path)
        files = [file for members in classes.values() for file in members]
        labels = np.repeat(
            np.arange(len(classes), dtype=np.int32), [len(members) for members in classes.values()]
        )
        self._all_files, self._image_size = files, image_size
        self._files, self._labels = files[parts.strided(part)], labels[parts.strided(part)]
        self.class_names, self.total = tuple(classes), len(files)
        self.bytes_of_image = 3 * image_size**2

    def __len__(self):
        return len(self._files)

    @property
    def fingerprint(self):
        listed = hashlib.sha256()
        for file in self._all_files:
            listed.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\n".encode())
        return listed.hexdigest()[:16]

    @functools.cached_property
    def image_shape(self):
        """(height, width, channels) of every record, also of the other parts'."""
        channels = 1
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for pixels in pool.map(self._decoded, self._all_files):
                channels = max(channels, pixels.shape[-1])
        return self._image_size, self._image_size, channels

    def labels(self):
        """Returns the class of every record of the part, int32 [n]."""
        return self._labels

    def read(self):
        """Returns (images uint8 [n, H, W, C], labels int32 [n]) of the part."""
        if len(self) < self.total:  # channels are those of all files
            return self.gather(np.arange(len(self))), self._labels
        return self._images(self._files, 1), self._labels

    def gather(self, indices):
        """Returns the images of some records of the part, uint8 [k, H, W, C]."""
        return self._images([self._files[index] for index in indices], self.image_shape[-1])

    def _images(self, files, channels):
        """The images of files, of as many channels or, if there is a colour image, three."""
        images = np.empty((len(files), self._image_size, self._image_size, channels), np.uint8)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for i, pixels in enumerate(pool.map(self._decoded, files)):
                if pixels.shape[-1] > images.shape[-1]:  # the first colour image
                    images = np.repeat(images, 3, axis=-1)
                images[i] = pixels
        return images

    def _decoded(self, file):
        return _decode(file, self._image_size)


def count(path):
    """Returns the number of images below a folder, from the file names alone."""
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
