"""Writes samples as they come, in bounded memory: a folder, an npz or parquet file, a grid.

Each appears under its name when it is whole; what was begun and not finished is removed.
"""

import contextlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from tfdps import checks, files
from tfdps.generators import pixels
from tfdps.samplers import folder_names

_GRID_COLUMNS = 10
_LARGEST_GRID = 10_000  # images of a picture that somebody can still open
_NAMES = {
    "folder": "samples/",
    "npz": "samples.npz",
    "parquet": "samples.parquet",
    "png": "samples.png",
}


def path_of(out):
    """Returns the path that `out` stands for: itself, or of a bare kind ("npz") its usual name."""
    return _NAMES.get(out, out)


@contextlib.contextmanager
def open_writer(
    out: str, *, count: int, image_shape: Sequence[int], class_names: Sequence[str]
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Yields a function that takes batches: (images uint8 [n, H, W, C], labels int [n]).

    Args:
      out: *.png for a grid in the order given, of at most 10,000 images; *.npz for the arrays
        images, labels and class_names; *.parquet for rows of a PNG image and its label, as the Hugging
        Face `datasets` library reads them (needs pyarrow); a path that ends in "/" or has no suffix for
        a folder of PNG files, one sub-folder a class, which --dataset=folder:PATH reads.
      count: how many images will come in all.
      image_shape: (H, W, C).
      class_names: the name of each label.

    Raises:
      UsageError: for another suffix, a folder that exists and is not empty, a grid of too many, or
        parquet without pyarrow. Before the first image.
      ValueError: when the block ends with another number of images than `count`.

    Examples:
      >>> import tfdps
      >>> sampler = tfdps.load_sampler("saved_models/mnist_eps1/generator.onnx")
      >>> kind = dict(image_shape=sampler.image_shape, class_names=sampler.class_names)
      >>> with tfdps.samplers.open_writer("made.npz", count=600, **kind) as write:
      ...     for images, labels in sampler.stream(range(10), num=600, seed=0):
      ...         write(images, labels)
    """
    suffix = "" if out.endswith(("/", os.sep)) else os.path.splitext(out)[1].lower()
    writers = {".png": _Grid, ".npz": _Npz, ".parquet": _Parquet, "": _Folder}
    if suffix not in writers:
        raise checks.UsageError(
            f'out must end in .png, .npz, .parquet or, for a folder, in "/"; received {out!r}.'
        )
    with _opened(writers[suffix], out, count, image_shape, class_names) as write:
        yield write


@contextlib.contextmanager
def open_benchmark_writer(
    path: str | os.PathLike[str], *, count: int, image_shape: Sequence[int]
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Yields a function as `open_writer` does, for the file that DPImageBench's eval.py reads.

    That is an npz file of x, float32 [n, C, H, W] in [0, 1], and y, int64 labels [n].

    Args:
      path: of the file, *.npz.
      count: how many images will come in all.
      image_shape: (H, W, C) of the images as they come.

    Raises:
      ValueError: when the block ends with another number of images than `count`.

    Source: Gong et al. 2025, arXiv 2503.14681; its eval.py reads gen/gen.npz in the folder of -ep.

    Examples:
      >>> import numpy as np, tfdps
      >>> images, labels = np.full([4, 28, 28, 1], 255, np.uint8), np.array([0, 1, 0, 1])
      >>> opened = tfdps.samplers.open_benchmark_writer("gen.npz", count=4, image_shape=(28, 28, 1))
      >>> with opened as write:
      ...     write(images, labels)
      >>> with np.load("gen.npz") as arrays:
      ...     arrays["x"].shape, float(arrays["x"].max())
      ((4, 1, 28, 28), 1.0)
    """
    with _opened(_BenchmarkNpz, os.fspath(path), count, image_shape, ()) as write:
        yield write


@contextlib.contextmanager
def _opened(kind, out, count, image_shape, class_names):
    """Yields the function that hands batches to a writer of this kind, which makes the file `out`."""
    path = os.path.abspath(os.path.expanduser(out))
    kind.check(path, count)
    with files.replacing(path) as temporary:
        writer = kind(str(temporary), count, tuple(image_shape), class_names)
        written = 0

        def write(images, labels):
            nonlocal written
            images, labels = np.asarray(images), np.asarray(labels)
            if len(images) != len(labels) or written + len(images) > count:
                raise ValueError(
                    f"{count} images with a label each were to come, received {len(images)} images "
                    f"and {len(labels)} labels after {written}."
                )
            writer.write(images, labels, written)
            written += len(images)

        with contextlib.closing(writer):
            yield write
            if written != count:
                raise ValueError(f"{count} images were to come, received {written}.")
            writer.finish()


class _Writer:
    """What a kind of file need not have of its own."""

    @staticmethod
    def check(path, count):
        """Raises UsageError where `count` images cannot be written to `path`; any file is replaced."""

    def finish(self):
        """To be called after the last image."""

    def close(self):
        """To be called at the end, also of a failure."""


class _Folder(_Writer):
    @staticmethod
    def check(path, count):
        del count
        if os.path.exists(path) and not (os.path.isdir(path) and not os.listdir(path)):
            raise checks.UsageError(f"{path} exists and is not empty. Name a new folder.")

    def __init__(self, path, count, image_shape, class_names):
        del count, image_shape
        self._folders = [os.path.join(path, name) for name in folder_names.of(class_names)]
        os.makedirs(path, exist_ok=True)

    def write(self, images, labels, start):
        for label in np.unique(labels):  # of the classes that are drawn alone
            os.makedirs(self._folders[label], exist_ok=True)
        for index, (image, label) in enumerate(zip(images, labels, strict=True), start=start):
            with open(os.path.join(self._folders[label], f"{index:06d}.png"), "wb") as file:
                file.write(_png(image))


class _Grid(_Writer):
    @staticmethod
    def check(path, count):
        if count > _LARGEST_GRID:
            raise checks.UsageError(
                f"a .png grid holds at most {_LARGEST_GRID} images, received {count}: name an .npz "
                f'or .parquet file, or a folder ("{os.path.splitext(path)[0]}/").'
            )

    def __init__(self, path, count, image_shape, class_names):
        del count, image_shape, class_names
        self._path, self._images = path, []

    def write(self, images, labels, start):
        del labels, start
        self._images.append(images)

    def finish(self):
        pixels.save_png(self._path, np.concatenate(self._images), columns=_GRID_COLUMNS)


class _Npz(_Writer):
    """A zip of .npy members: images as they come, labels from a file beside it at the end."""

    _images_name, _images_dtype = "images", "|u1"
    _labels_name, _labels_dtype = "labels", "<i4"

    def __init__(self, path, count, image_shape, class_names):
        self._count, self._class_names = count, class_names
        self._labels = tempfile.TemporaryFile(dir=os.path.dirname(path))  # noqa: SIM115
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        image = self._stored(np.zeros((1, *image_shape), np.uint8))[0]
        self._images = self._member(self._images_name, self._images_dtype, image.shape)

    def _member(self, name, dtype, shape):
        member = self._zip.open(f"{name}.npy", "w", force_zip64=True)
        header = {"descr": dtype, "fortran_order": False, "shape": (self._count, *shape)}
        np.lib.format.write_array_header_1_0(member, header)
        return member

    @staticmethod
    def _stored(images):
        """What is written of a batch of images."""
        return images

    def write(self, images, labels, start):
        del start
        stored = np.ascontiguousarray(self._stored(images), self._images_dtype)
        self._images.write(stored.data)
        self._labels.write(labels.astype(self._labels_dtype).tobytes())

    def finish(self):
        self._images.close()
        self._labels.seek(0)
        with self._member(self._labels_name, self._labels_dtype, ()) as member:
            shutil.copyfileobj(self._labels, member)
        if self._class_names:
            with self._zip.open("class_names.npy", "w") as member:
                np.lib.format.write_array(
                    member, np.array(self._class_names, str), allow_pickle=False
                )

    def close(self):
        self._images.close()
        self._labels.close()
        self._zip.close()


class _BenchmarkNpz(_Npz):
    _images_name, _images_dtype = "x", "<f4"
    _labels_name, _labels_dtype = "y", "<i8"

    @staticmethod
    def _stored(images):
        return np.moveaxis(images, -1, 1) / np.float32(255)


class _Parquet(_Writer):
    @staticmethod
    def check(path, count):
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise checks.UsageError(
                'parquet files need pyarrow: pip install "tfdps[parquet]", or name an .npz file or '
                "a folder."
            ) from error

    def __init__(self, path, count, image_shape, class_names):
        import pyarrow
        import pyarrow.parquet

        del count, image_shape
        self._image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        features = {
            "image": {"_type": "Image"},
            "label": {"names": list(class_names), "_type": "ClassLabel"},
        }
        self._schema = pyarrow.schema(
            [("image", self._image), ("label", pyarrow.int64())],
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
        self._file = pyarrow.parquet.ParquetWriter(path, self._schema)

    def write(self, images, labels, start):
        import pyarrow

        rows = [
            {"bytes": _png(image), "path": f"{index:06d}.png"}
            for index, image in enumerate(images, start=start)
        ]
        columns = [pyarrow.array(rows, self._image), pyarrow.array(labels, pyarrow.int64())]
        self._file.write_table(pyarrow.Table.from_arrays(columns, schema=self._schema))

    def close(self):
        self._file.close()


def _png(image):
    file = io.BytesIO()
    Image.fromarray(pixels.as_picture(image)).save(file, format="PNG")
    return file.getvalue()
