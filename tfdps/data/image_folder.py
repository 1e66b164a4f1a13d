"""A folder of images as arrays, whole or record by record. No TensorFlow."""

import collections
import concurrent.futures
import functools
import hashlib
import warnings

import numpy as np

from tfdps import checks
from tfdps.data import dicom_greys, image_files, partition

_MOST_NAMED = 5  # of the files that cannot be used
# Declarations, and how phrases on the files that they are for begin.
_MEANT_FOR = {
    "max_value": image_files.DEEP,
    "fit": image_files.NOT_SQUARE,
    "dicom_window": dicom_greys.GREY,
}


class Records:
    """The image files below a folder, as labelled images.

    Before an image is used all files, those of other parts too, are read once, and refused unless they
    agree on the number of channels.

    Attributes:
      class_names: tuple of str.
      classes_are: what they are, in words.
      total: N, the number of files of all parts.
      image_shape: (height, width, channels) of every record, also of the other parts'.
      fingerprint: a hash of all files' classes, names and contents, in order. Contents, since a file
        that is replaced by another of equal size is another record; the files are read anyway, and
        decoding them takes many times what hashing takes. It is computed from private records.
      listing: the folder_files.Listing.
      persons: whose picture each record of the part is, an array of str [n]; None where nobody says.
      notes: lines on what was met in the files and what was left aside, of all parts; private.
      bytes_of_image: of a record in memory, at most.

    Args:
      listing: the folder_files.Listing of the folder.
      reading: the image_files.Reading: how a file becomes pixels.
      part: (index, count), see `partition`: every count-th file.

    Raises:
      UsageError: there is no image; on reading: files are unreadable, or contradict what is declared,
        all of them counted and the first named; or, where no channels are declared, of other channels
        than another file.
    """

    def __init__(self, listing, reading=None, *, part=partition.WHOLE):
        if not listing.files:
            raise checks.UsageError(
                f"image folder {listing.folder} has no {', '.join(image_files.EXTENSIONS)} file"
                f"{''.join(f'; {what}' for what in listing.aside())}."
            )
        # Pillow's tell what single private files are like; what matters of it is an error here. Before
        # threads decode: they share the list of filters.
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        self.listing, self._reading = listing, reading or image_files.Reading()
        self._part = range(len(listing.files))[partition.strided(part)]
        self._labels = np.asarray(listing.labels, np.int32)[partition.strided(part)]
        self.class_names, self.total = listing.class_names, len(listing.files)
        self.classes_are = "the sub-folders" if listing.by_sub_folder else "the classes"
        self.bytes_of_image = (self._reading.channels or 3) * self._reading.image_size**2

    def __len__(self):
        return len(self._part)

    @property
    def image_shape(self):
        return self._examined[0]

    @property
    def fingerprint(self):
        return self._examined[1]

    @property
    def notes(self):
        phrases = [*self._examined[2], *self.listing.aside()]
        return (f"Read: {'; '.join(phrases)}.",) if phrases else ()

    @property
    def persons(self):
        persons = self.listing.persons
        return None if persons is None else np.asarray(persons)[self._part]

    def names(self):
        """Returns what tells each record of all parts from the others, a list of bytes."""
        return [self.listing.name(number) for number in range(self.total)]

    def labels(self):
        """Returns the class of every record of the part, int32 [n]."""
        return self._labels

    def read(self):
        """Returns (images uint8 [n, H, W, C], labels int32 [n]) of the part."""
        *self._examined, images = self._examine(self._part)
        return images, self._labels

    def gather(self, indices):
        """Returns the images of some records of the part, uint8 [k, H, W, C].

        Raises:
          UsageError: a file is not what it was when the run examined it. Which one is not said: it
            was drawn, and that is private.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)

        def decoded(index):
            file = self.listing.files[self._part[index]]
            try:
                pixels, _ = image_files.decode(image_files.content(file), self._reading)
            except image_files.UnusableError:
                raise checks.UsageError(
                    "an image of the folder cannot be read any more as it was when this run examined "
                    "all of them: it changed, it is gone, or the disk is. Put the folder right; the "
                    "same command then goes on with the run."
                ) from None
            return pixels

        with concurrent.futures.ThreadPoolExecutor() as pool:
            for i, pixels in enumerate(pool.map(decoded, indices)):
                images[i] = pixels
        return images

    @functools.cached_property
    def _examined(self):
        """(image_shape, fingerprint, phrases on what was met)"""
        return self._examine(range(0))[:3]

    def _examine(self, kept):
        """_examined and the images of the files numbered in the range `kept`: reads all files."""
        files = self.listing.files
        listed, met, images = hashlib.sha256(), collections.Counter(), None
        unusable, mixed = [], None
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for number, (pixels, digest, of_file) in enumerate(
                pool.map(self._examined_file, files)
            ):
                if isinstance(pixels, image_files.UnusableError):
                    unusable.append((files[number], pixels))
                    continue
                if images is None:
                    images = np.empty((len(kept), *pixels.shape), np.uint8)
                    first = files[number]
                if pixels.shape != images.shape[1:]:
                    mixed = mixed or _mixed(first, files[number], pixels.shape[-1])
                elif number in kept:
                    images[kept.index(number)] = pixels
                met.update(of_file)
                name = self.listing.name(number)
                listed.update(hashlib.sha256(name).digest() + digest)
        if unusable:
            raise _unusable(unusable)
        if mixed:
            raise mixed
        shape = images.shape[1:]
        return shape, listed.hexdigest()[:16], self._phrases(met), images

    def _examined_file(self, file):
        """(uint8 [H, W, C] or the UnusableError, hash of the content, what was met) of a file."""
        try:
            content = image_files.content(file)
            pixels, met = image_files.decode(content, self._reading)
        except image_files.UnusableError as error:
            return error, b"", ()
        return pixels, hashlib.sha256(content).digest(), met

    def _phrases(self, met):
        """What was met in how many files, and declarations that came to nothing."""
        grey = met.pop(image_files.GREY_IN_COLOUR, 0)
        phrases = [f"{count:,} {what}" for what, count in sorted(met.items())]
        if grey == self.total:
            phrases.append(
                "all are stored in colour and grey in every pixel: --channels=1 takes them as grey"
            )
        for flag, what in _MEANT_FOR.items():
            declared = getattr(self._reading, flag) != getattr(image_files.Reading, flag)
            if declared and not any(each.startswith(what) for each in met):
                phrases.append(f"none {what}: --{flag} changes nothing")
        return phrases


def _unusable(files):
    """The UsageError for [(file, UnusableError)]."""
    named = "; ".join(f"image {f} {why}" for f, why in files[:_MOST_NAMED])
    if len(files) == 1:
        return checks.UsageError(f"{named}.")
    more = f"; and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    return checks.UsageError(f"{len(files)} images cannot be used: {named}{more}.")


def _mixed(first, other, channels):
    grey, colour = (first, other) if channels == 3 else (other, first)
    return checks.UsageError(
        f"channels must be declared where grey and colour images are mixed: {grey} is grey, "
        f"{colour} is stored in colour; --channels=1 or --channels=3 (1: all are grey in "
        "every pixel, however they are stored; 3: all are taken as colour)."
    )
