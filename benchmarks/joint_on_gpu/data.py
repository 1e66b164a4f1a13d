"""A data set in one small file: `python data.py NAME DATA_DIR OUT.xz` writes it, with tfdps."""

import lzma
import pathlib
import sys
import typing

import numpy as np

_TEST, _CHOSEN = 10_000, 54_000


class Images(typing.NamedTuple):
    """Pairs of (images uint8 [n, 784], labels int32 [n]) on the device."""

    train: tuple
    chosen: tuple  # of `train`, all but the held-out tenth
    heldout: tuple
    test: tuple


def load(path):
    """Returns the Images of a file that `write` made."""
    import jax.numpy as jnp

    bytes_ = np.frombuffer(lzma.decompress(pathlib.Path(path).read_bytes()), np.uint8)
    count = len(bytes_) // 785
    pixels, labels = (
        bytes_[: count * 784].reshape(count, 784),
        bytes_[count * 784 :].astype(np.int32),
    )
    train, test = slice(0, count - _TEST), slice(count - _TEST, count)
    order = np.random.default_rng(0).permutation(count - _TEST)
    heldout, chosen = np.split(order, [(count - _TEST) // 10000 * 1000])
    # A part of a set is repeated to the size of the whole: a program of that size will do for it.
    chosen = np.resize(chosen, _CHOSEN)

    def pair(where):
        return jnp.asarray(pixels[where]), jnp.asarray(labels[where])

    return Images(pair(train), pair(chosen), pair(heldout), pair(test))


def write(name, data_dir, path, most=None):
    """Writes the training split (its first `most` records) and the test split."""
    from tfdps.data import loading

    pixels, labels = [], []
    for split in ("train", "test"):
        loaded = loading.load(name, data_dir=data_dir, split=split)
        end = int(most) if most and split == "train" else None
        pixels.append(np.asarray(loaded.images)[:end].reshape(-1, 784))
        labels.append(np.asarray(loaded.labels)[:end].astype(np.uint8))
    packed = b"".join(array.tobytes() for array in pixels + labels)
    pathlib.Path(path).write_bytes(lzma.compress(packed, preset=9))


if __name__ == "__main__":
    write(*sys.argv[1:])
