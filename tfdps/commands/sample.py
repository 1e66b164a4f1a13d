"""The command tfdps-sample: images from a generator.onnx, without TensorFlow."""

import sys

from tfdps import console
from tfdps.accounting import shown
from tfdps.commands import entry
from tfdps.samplers import class_labels, writers

_PROGRAM = "tfdps-sample"
_EXAMPLES = """examples:
  tfdps-sample generator.onnx                                     64 images in the folder samples/
  tfdps-sample generator.onnx --num 1000 --labels 0-4,7 --seed 7 --out digits.npz
  tfdps-sample runs/mnist --labels 3 --out grid.png
  tfdps-sample runs/fashion --labels "ankle boot,bag"
"""


def main(argv=None):
    """Runs the command line; returns the exit status, see `entry.run`."""
    settings = _parser().parse_args(argv)
    return entry.run(
        _PROGRAM,
        lambda: _sample(settings),
        interrupted="; nothing was written.",
        missing=lambda error: f"{error.name} is missing: pip install tfdps installs it.",
    )


def _sample(settings):
    from tfdps.samplers import onnx_sampler  # after --help, which need not wait for ONNX Runtime

    lines = draw(
        onnx_sampler.load(settings.generator),
        settings.out,
        num=settings.num,
        labels=settings.labels,
        seed=settings.seed,
        progress=not settings.quiet,
    )
    print("\n".join(lines))


def draw(sampler, out, *, num, labels, seed, progress=True):
    """Draws images and writes them where `out` says; returns lines that tell what is there.

    Args:
      sampler: a sampler.Sampler.
      out: a path or a kind, see `sample_files`.
      num: how many images, at least 1.
      labels: see `class_labels.chosen`; the classes are taken in turn.
      seed: an integer in [0, 2**31).
      progress: whether to show a bar, on a terminal.

    Raises:
      UsageError: for arguments outside these ranges, before anything is drawn.
    """
    out = writers.path_of(out)
    chunks = sampler.stream(class_labels.chosen(labels, sampler.class_names), num, seed)
    writer = writers.open_writer(
        out, count=num, image_shape=sampler.image_shape, class_names=sampler.class_names
    )
    # disable=None: no bar where nobody watches.
    bar = console.Bar(total=num, unit=" images", disable=None if progress else True)
    with writer as write, bar:
        for images, of_labels in chunks:
            write(images, of_labels)
            bar.update(len(images))
    return [f"{num} images in {out}.", guarantee(sampler.card)]


def guarantee(card):
    """Returns one sentence on what a ModelCard claims."""
    if not card.private:
        return f"NOT PRIVATE: the generator was trained on {card.dataset} without noise."
    return (
        f"The generator was trained on {card.dataset} with epsilon {shown.up(card.epsilon)} at delta "
        f"{card.delta:g}; tfdps-verify checks it."
    )


def _parser():
    parser = entry.parser(
        _PROGRAM, "Draws images from a generator that tfdps exported to ONNX.", _EXAMPLES
    )
    add = parser.add_argument
    add("generator", help="a generator.onnx, or the export or model_dir that holds one")
    add("--num", type=int, default=64, help="how many images (default 64)")
    add(
        "--labels",
        help="classes, taken in turn: names, numbers, ranges; 0-4,7 (default: all). Where names are "
        "numbers, numbers are names. A name with a comma goes in quotes: '\"a, b\",c'",
    )
    add("--seed", type=int, default=0, help="the same seed, the same images (default 0)")
    add(
        "--out",
        default="folder",
        help='*.npz, *.parquet, *.png (a grid), or a folder, "images/"; the bare words npz, parquet, '
        "png and folder write samples.npz, ..., samples/ (default: folder)",
    )
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def run():
    """The console script `tfdps-sample`."""
    sys.exit(main())


if __name__ == "__main__":
    run()
