"""A folder of images, one sub-folder a class, as arrays. No TensorFlow."""

import concurrent.futures
import functools
import hashlib
import os
import pathlib
import re

import numpy as np

from tfdps import checks
from tfdps.data import image_files, partition

# Made by network storage, archives and file systems; nobody's classes. Hidden folders are none either.
_NO_CLASSES = ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information")
_MOST_NAMED = 5  # of the files that cannot be used


class Records:
    """The image files below a folder, as labelled images.

    Classes are the sub-folders in natural order (2 before 10), records the files of each in sorted
    order. Other files, hidden ones, folders that systems make and anything deeper are ignored. Images
    are resized whole, without cropping, to a square. Before an image is used all files, those of other
    parts too, are read once, and refused unless they agree on the number of channels.

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
      UsageError: the folder is missing, empty or not of this layout; on reading: files are unreadable,
        or of other channels than declared, all of them counted and the first named; or, where none are
        declared, of other channels than another file.
    """

    def __init__(
        self, path, *, image_size=32, channels=None, empty_classes=False, part=partition.WHOLE
    ):
        classes = _files(path, empty_classes)
        files = [file for members in classes.values() for file in members]
        if not files:
            raise checks.UsageError(
                f"image folder {path} has no {', '.join(image_files.EXTENSIONS)} file."
            )
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
            try:
                return image_files.decode(
                    image_files.content(file), self._image_size, images.shape[-1]
                )
            except image_files.UnusableError as error:  # it changed since it was examined
                raise _unusable([(file, error)]) from error

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
        listed, images, unusable = hashlib.sha256(), None, []
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for number, (pixels, digest) in enumerate(pool.map(self._examined_file, self._files)):
                if isinstance(pixels, image_files.UnusableError):
                    unusable.append((self._files[number], pixels))
                    continue
                if images is None:
                    images = np.empty((len(kept), *pixels.shape), np.uint8)
                    first = self._files[number]
                if pixels.shape != images.shape[1:]:
                    raise _mixed(first, self._files[number], pixels.shape[-1])
                if number in kept:
                    images[kept.index(number)] = pixels
                name = os.path.join(*self._files[number].parts[-2:])
                listed.update(hashlib.sha256(os.fsencode(name)).digest() + digest)
        if unusable:
            raise _unusable(unusable)
        return images.shape[1:], listed.hexdigest()[:16], images

    def _examined_file(self, file):
        """(uint8 [H, W, C] or the UnusableError, hash of the content) of a file."""
        try:
            content = image_files.content(file)
            pixels = image_files.decode(content, self._image_size, self._channels)
        except image_files.UnusableError as error:
            return error, b""
        return pixels, hashlib.sha256(content).digest()


def count(path):
    """Returns the number of images below a folder, from the file names alone."""
    return sum(len(members) for members in _files(path, empty_classes=True).values())


def _files(path, empty_classes):
    """Returns {class name: [file, ...]}, both in order; raises UsageError if there is no class."""
    folder = pathlib.Path(path).expanduser()
    if not str(path):
        raise checks.UsageError("folder: needs a path, as in folder:/data/pets.")
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise checks.UsageError(f"image folder {folder.absolute()} {what}.")
    names = sorted((f.name for f in _visible(folder) if f.is_dir()), key=_natural)
    classes = {n: _images_in(folder / n) for n in names if n not in _NO_CLASSES}
    if not classes:
        raise checks.UsageError(
            f"image folder {folder.absolute()} has no sub-folders; it needs one a class."
        )
    empty = [name for name, files in classes.items() if not files]
    if empty and not empty_classes:
        raise checks.UsageError(
            f"image folder {folder.absolute()} has no {', '.join(image_files.EXTENSIONS)} file in "
            f"{checks.listed(empty)}; every sub-folder is a class and needs images, unless all classes "
            "are declared with --class_names=..."
        )
    return classes


def _images_in(folder):
    endings = image_files.EXTENSIONS
    return [f for f in _visible(folder) if f.suffix.lower() in endings and f.is_file()]


def _natural(name):
    """A key to sort by that takes runs of digits as numbers."""
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def _visible(folder):
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _unusable(files):
    """The UsageError for [(file, UnusableError)]."""
    named = "; ".join(f"image {f.absolute()} {why}" for f, why in files[:_MOST_NAMED])
    if len(files) == 1:
        return checks.UsageError(f"{named}.")
    more = f"; and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    return checks.UsageError(f"{len(files)} images cannot be used: {named}{more}.")


def _mixed(first, other, channels):
    grey, colour = (first, other) if channels == 3 else (other, first)
    return checks.UsageError(
        f"channels must be declared where grey and colour images are mixed: {grey.absolute()} is grey, "
        f"{colour.absolute()} is stored in colour; --channels=1 or --channels=3 (1: all are grey in "
        "every pixel, however they are stored; 3: all are taken as colour)."
    )
