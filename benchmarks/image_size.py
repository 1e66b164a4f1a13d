"""Memory and time of training by the size of the images, against what `training/needs.py` predicts.

    python benchmarks/image_size.py --images=FOLDER --json=image_size.json
    python benchmarks/image_size.py --only=classes

Each row is a run of the default settings in a process of its own, `python -m tfdps.launch` on a folder
of colour images: those of --images, resized, or made-up ones. Memory is the process's peak (ru_maxrss),
time that of the whole command, with start, export and pictures; processor time tells how much of it was
work where other processes wanted the cores. The load average is that before each row.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

import tfdps
from tfdps.config import automatic
from tfdps.data.dataset import DatasetSpec
from tfdps.training import needs

# (name of the group, images, side, classes)
ROWS = (
    ("sizes", 2000, 32, 10),
    ("sizes", 2000, 64, 10),
    ("sizes", 2000, 128, 10),
    ("large", 500, 256, 10),
    ("classes", 5000, 32, 10),
    ("classes", 5000, 32, 100),
)
FOLDER = pathlib.Path(__file__).parent.parent
MOST_SECONDS = 3600


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--images", help="folder of one sub-folder of images a class; default: made up"
    )
    parser.add_argument("--only", choices=sorted({row[0] for row in ROWS}), help="a group of rows")
    parser.add_argument("--json", help="file for the results")
    settings = parser.parse_args()
    print(
        "| images | side | classes | peak, GB | predicted | seconds | predicted | of processor | load |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    results = []
    for group, count, side, classes in ROWS:
        if settings.only in (None, group):
            results.append(measured(count, side, classes, settings.images))
            print(
                "| " + " | ".join(f"{value:.4g}" for value in results[-1].values()) + " |",
                flush=True,
            )
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps(results, indent=1))


def measured(count, side, classes, source):
    """A row of the table, by name."""
    spec = DatasetSpec("x", (side, side, 3), tuple(map(str, range(classes))))
    config, _ = automatic.settled(
        tfdps.RunConfig(), count, num_classes=classes, image_shape=spec.image_shape
    )
    expected = needs.of_run(config, spec, count)
    with tempfile.TemporaryDirectory() as folder:
        folder, load = pathlib.Path(folder), os.getloadavg()[0]
        write_images(folder / "images", count, side, classes, source)
        peak, seconds, processor = run(folder, side)
    return {
        "images": count,
        "side": side,
        "classes": classes,
        "peak_gb": peak / 1e9,
        "predicted_gb": expected.memory / 1e9,
        "seconds": seconds,
        "predicted_seconds": expected.seconds,
        "processor_seconds": processor,
        "load": load,
    }


def write_images(folder, count, side, classes, source):
    """Writes PNG files: of the images of `source` in turn, or rough patterns of each class's own."""
    sources = [sorted(path.iterdir()) for path in sorted(pathlib.Path(source).iterdir())
               if path.is_dir()] if source else []  # fmt: skip
    random = np.random.default_rng(0)
    patterns = random.uniform(0, 255, (classes, 6, 6, 3))
    for number in range(count):
        label = number % classes
        if sources:
            files = sources[label % len(sources)]
            image = Image.open(files[number // classes % len(files)]).convert("RGB")
        else:
            pattern = patterns[label] + random.normal(0, 40, (6, 6, 3))
            image = Image.fromarray(np.clip(pattern, 0, 255).astype(np.uint8))
        place = folder / f"c{label:03d}"
        place.mkdir(parents=True, exist_ok=True)
        image.resize((side, side)).save(place / f"{number:05d}.png")


def run(folder, side):
    """(peak bytes, seconds, processor seconds) of a training in a process of its own."""
    command = [sys.executable, "-m", "tfdps.launch", f"--dataset=folder:{folder / 'images'}"]
    command += [f"--image_size={side}", f"--model_dir={folder / 'run'}"]
    program = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:])\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print('USED', used.ru_maxrss, used.ru_utime + used.ru_stime)\n"
        "sys.exit(done.returncode)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    peak, processor = re.search(r"USED (\d+) ([\d.]+)", done.stdout).groups()
    return 1024 * int(peak), seconds, float(processor)


if __name__ == "__main__":
    main()
