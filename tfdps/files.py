"""Writing a file whole or not at all, reading arrays, and why a file cannot be written or read."""

import contextlib
import os
import pathlib
import shutil
import zipfile
import zlib

import numpy as np

# What reading arrays of a damaged file raises, and looking for one that it has not.
DAMAGED_ARRAYS = (
    EOFError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path`: what the block makes there takes its place, if it succeeds.

    Args:
      path: of a file, or of a folder that is empty or not there; its parent folders are made. What was
        there before stays until the end of the block.

    Yields:
      A pathlib.Path at which there is nothing yet.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def arrays_of(path):
    """Yields the arrays of an npz file by name; raises one of `DAMAGED_ARRAYS` where it is damaged."""
    # An open file: of one that is no archive np.load leaves its own open.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


def write_whole(path, text):
    """Writes a text, UTF-8, to a file that appears under its name only when all of it is on disk."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def reason(error):
    """Returns an error of a file, an OSError or one of TensorFlow's, in few words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error.message).split(";")[-1].split("[Op:")[0].strip()
