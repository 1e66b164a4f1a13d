"""Makes the denoisers that the package keeps, from procedural images alone; no data are read.

    python benchmarks/pretrained.py --channels=1

Writes tfdps/learners/refiner/pretrained/*.npz, two or three minutes on two cores each.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfdps
from tfdps.learners.refiner import pretrained, pretraining


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1)
    settings = parser.parse_args()
    shape = (32, 32, settings.channels)
    denoiser = tfdps.generators.Denoiser(shape, num_classes=1, width=pretrained.WIDTH)
    pretraining.pretrain(denoiser, pretrained.FAMILY, steps=pretrained.STEPS)
    print(pretrained.keep(denoiser))


if __name__ == "__main__":
    main()
