"""The settings of the data: which they are, what is declared of them, how files become records."""

import dataclasses
import math
import typing

from tfdps import checks
from tfdps.config.fields import GUARANTEE, setting

BACKGROUNDS = ("white", "black")
FITS = ("squash", "crop", "pad")
MOST_OF_16_BITS = 65535
# What images of a folder alone have.
OF_FOLDERS = ("labels_csv", "max_value", "background", "fit", "dicom_window", "held_out")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The fields of a RunConfig that say what is trained on, and how it is read."""

    dataset: str = setting(
        "digits",
        "tfds name (mnist, fashion_mnist, cifar10, celeb_a, ...), folder:PATH with one sub-folder "
        "of images a class (or see --labels_csv, --label), digits (built in, no download), or arrays "
        "or arrays:NAME: records that a Python program passes to tfdps.train.",
        resume=GUARANTEE,
    )
    data_dir: typing.Optional[str] = setting(
        None, "Where tensorflow_datasets keeps its data; default: its own, ~/tensorflow_datasets."
    )
    label: typing.Optional[str] = setting(
        None,
        "The feature that is the class, where the data set has several: Male for celeb_a. none: all "
        "images are one class, named after the data set; a folder's lie in it anywhere.",
        resume=GUARANTEE,
    )
    labels_csv: typing.Optional[str] = setting(
        None,
        "folder: a CSV file, UTF-8 and commas, with the columns file (a path below the folder) and "
        "label; if you like, person and split, of which train is trained on. Default: classes are "
        "the sub-folders.",
        resume=GUARANTEE,
    )
    image_size: typing.Optional[int] = setting(
        None,
        "Side in pixels that images are resized to; default: as they are (folder: 32).",
        resume=GUARANTEE,
    )
    channels: typing.Optional[int] = setting(
        None,
        "Of all images, 1: grey, or 3: colour; for a folder that holds both, or stores grey ones as "
        "colour; default: as all of them are stored.",
        resume=GUARANTEE,
        choices=(1, 3),
    )
    fit: typing.Optional[str] = setting(
        None,
        "folder: how an image that is not square is fitted. squash: all of it, out of proportion "
        "(default). crop: its middle square. pad: all of it, in proportion, with bars of --background.",
        resume=GUARANTEE,
        choices=FITS,
    )
    background: typing.Optional[str] = setting(
        None,
        "folder: what transparent pixels turn into; default white. Take black for a white drawing on "
        "transparent ground.",
        resume=GUARANTEE,
        choices=BACKGROUNDS,
    )
    max_value: typing.Optional[int] = setting(
        None,
        "folder: the value that is white in images of 16 bits, 4095 for 12 bits in 16; default: 65535, "
        "unless a PNG's sBIT chunk or a TIFF's bits say less.",
        resume=GUARANTEE,
    )
    dicom_window: typing.Optional[str] = setting(
        None,
        "folder: CENTER,WIDTH of the grey values of DICOM files that are shown, 40,400 in Hounsfield "
        "units for a CT's soft tissue; default: each file's own window, or all that its bits can hold.",
        resume=GUARANTEE,
    )
    held_out: typing.Optional[float] = setting(
        None,
        "folder: the share of persons, or of images without --person, that is not trained on, and that "
        "evaluate and audit take: 0.1 for a tenth; by a hash of each one's name. N is the number of "
        "the others; default: none.",
        resume=GUARANTEE,
    )
    class_names: typing.Optional[str] = setting(
        None,
        "The classes, commas between: a folder has these sub-folders and no others, and some may be "
        "empty; default: the sub-folders with images in them, the set's own. Of arrays: in the order "
        "of their labels, no default. With --label=none: the name of the one class.",
        resume=GUARANTEE,
    )
    dataset_size: typing.Optional[int] = setting(
        None,
        "The public number of private records N; default: read from the data set's description. "
        "A run whose data has another size is refused.",
        resume=GUARANTEE,
    )


def window(text: str | None) -> tuple[float, float] | None:
    """Returns (center, width) of a --dicom_window; None for None.

    Raises:
      UsageError: the text is not two numbers, the second of them >= 1.

    Examples:
      >>> from tfdps.config import data_settings
      >>> data_settings.window("40,400")
      (40.0, 400.0)
    """
    if text is None:
        return None
    try:
        center, width = (float(number) for number in text.split(","))
    except ValueError:
        center, width = math.nan, math.nan
    if not (math.isfinite(center) and math.isfinite(width) and width >= 1):
        raise checks.UsageError(
            "dicom_window must be CENTER,WIDTH, two numbers with a width of 1 or more, as in "
            f"--dicom_window=40,400; received {text!r}."
        )
    return center, width
