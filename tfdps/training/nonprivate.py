"""Files of results computed from private records without noise: marked as such, written whole."""

import datetime
import json
import math

import numpy as np

import tfdps
from tfdps import checks, files
from tfdps.samplers import writers

MARK = (
    "nonprivate/: computed from private records without noise. Not covered by epsilon: keep it "
    "where the private records may be kept."
)

REAL_IMAGES = "nonprivate/real.npz"  # in a report's folder
PICTURED_CLASSES = 20
PICTURES_A_CLASS = 10


def write_real_images(report_dir, dataset):
    """Writes real images for the report page to show: nonprivate/real.npz.

    Args:
      report_dir: pathlib.Path of the report's folder.
      dataset: a Dataset; the first 10 images of each of its first 20 classes are written.
    """
    chosen = np.concatenate(
        [
            np.flatnonzero(dataset.labels == label)[:PICTURES_A_CLASS]
            for label in range(min(dataset.spec.num_classes, PICTURED_CLASSES))
        ]
    )
    writer = writers.open_writer(
        str(report_dir / REAL_IMAGES),
        count=len(chosen),
        image_shape=dataset.spec.image_shape,
        class_names=dataset.spec.class_names,
    )
    with writer as write:
        write(dataset.gather(np.sort(chosen)), dataset.labels[np.sort(chosen)])


def read_real_images(report_dir, image_shape):
    """Returns (images uint8 [n, H, W, C], labels int [n]) that `write_real_images` wrote, or None.

    Args:
      report_dir: pathlib.Path of the report's folder.
      image_shape: (H, W, C) that the images must have.

    Raises:
      UsageError: the file is damaged, or has images of another shape.
    """
    path = report_dir / REAL_IMAGES
    if not path.exists():
        return None
    try:
        with files.arrays_of(path) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        if images.dtype != np.uint8 or images.shape != (len(labels), *image_shape):
            raise ValueError(f"its images are {images.dtype} {list(images.shape)}")
    except files.DAMAGED_ARRAYS as error:
        raise checks.UsageError(
            f"{path} is damaged: {error}. Remove it, or make it again with --mode=evaluate."
        ) from error
    return images, labels


def write_results(path, results):
    """Writes a dict as a JSON file with the mark, the time and the version; returns what it holds.

    Infinite numbers are written as the text "infinity", which strict JSON has no number for.

    Args:
      path: pathlib.Path of the file; its folder is made. Written whole or not at all.
      results: a dict of texts, numbers, lists and dicts.
    """
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    marked = {
        "nonprivate": MARK,
        "created": created,
        "tfdps_version": tfdps.__version__,
        **_strict(results),
    }
    files.write_whole(path, json.dumps(marked, indent=2, allow_nan=False) + "\n")
    return marked


def _strict(value):
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return value
