"""Real images of the public test splits, laid out as an export's samples.png: for docs/gallery.md.

    python benchmarks/gallery.py --data_dir=DATA --out=docs/gallery

Writes NAME_real.png for each of --datasets: a row for each class, its first ten test images.
"""

import argparse
import pathlib

import numpy as np

from tfdps.data import loading
from tfdps.generators import pixels

_COLUMNS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--datasets", default="mnist,fashion_mnist,cifar10")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/gallery"))
    settings = parser.parse_args()
    for name in settings.datasets.split(","):
        test = loading.load(name, data_dir=settings.data_dir, split="test")
        chosen = [
            np.flatnonzero(test.labels == label)[:_COLUMNS]
            for label in range(test.spec.num_classes)
        ]
        images = test.images[np.concatenate(chosen)]
        pixels.save_png(settings.out / f"{name}_real.png", images, columns=_COLUMNS)


if __name__ == "__main__":
    main()
