"""A race of private image generators: same machine, records, epsilon and delta; same judge.

    python benchmarks/field.py --flagfile=mnist.flags --data_dir=DATA --log=field.jsonl

The flag file says the data set, epsilon, delta and this project's own settings; any flag of a run may
follow. Each method runs in a process of its own: seconds are those until its generator is trained,
start-up and compilation included; MiB are the process's largest resident memory. Then it draws
--samples images, on which the classifiers of `tfdps/evaluation/classifiers.py` are trained; they are
tested on the real test split, or with --heldout on a tenth of the training split that no method sees:
choose settings by that. With --ruler=FILE.py, see `ruler.py`, 2,000 images are compared with as
many real ones. --out has the images and a picture of each method.

The methods are this project and short baselines written from papers, see `field/`, with settings for
two CPU cores: pip install -e ".[bench]". Each baseline gets --minutes for its training. The time of
steps on random images decides its batch, and where that is small its number of steps, before the noise
is calibrated. Their random numbers are not those of a release. `dp_classifier` has no images: its own
accuracy stands under CNN.

With --log=FILE each finished method is a line of the file, and the same command started again goes on
where it was stopped. At the end it prints the table. The classifiers take longest: ten minutes or so a
method with 60,000 samples on two cores.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import accuracy
import numpy as np
from field import contenders, race

from tfdps.config import flags
from tfdps.distributed import startup

_COLUMNS = {"logreg": "LogReg", "mlp": "MLP", "cnn": "CNN"}


def main():
    settings, rest = parse()
    _, config = flags.parse([sys.argv[0], *rest])
    if settings.child:
        run_child(settings, rest, config)
        return
    methods, names = settings.methods.split(","), settings.classifiers.split(",")
    wanted = wanted_of(settings, rest, config)
    done = results_in(settings.log, wanted, names)
    missing = [method for method in methods if method not in done]
    failed = []
    if missing:
        settings.out.mkdir(parents=True, exist_ok=True)
        startup.load_tensorflow()
        test, ruler = prepared(settings, config)
    for method in missing:
        line = {"method": method} | wanted
        found = finished(settings, method, line, test, names, ruler)
        if found is None:
            failed.append(method)
            continue
        done[method] = found
        accuracy.add_line(settings.log, found)
    print(table([done[method] for method in methods if method in done]), flush=True)
    if failed:
        sys.exit(f"failed, see above: {', '.join(failed)}. The same command tries them again.")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--methods", default=",".join(contenders.NAMES))
    parser.add_argument("--minutes", type=float, default=12, help="of a baseline's training")
    parser.add_argument("--records", type=int, help="fewer records than the training split has")
    parser.add_argument("--samples", type=int, default=60_000, help="images of a method")
    parser.add_argument("--classifiers", default="logreg,mlp,cnn")
    parser.add_argument("--heldout", action="store_true", help="do not touch the test split")
    parser.add_argument("--ruler", help="a Python file that measures FID, precision and recall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", help="file of results, a line a method")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/field"))
    parser.add_argument("--child", choices=contenders.NAMES, help=argparse.SUPPRESS)
    settings, rest = parser.parse_known_args()
    if unknown := set(settings.methods.split(",")) - set(contenders.NAMES):
        parser.error(f"--methods are of {','.join(contenders.NAMES)}, received {sorted(unknown)}.")
    return settings, rest


def wanted_of(settings, rest, config):
    """What a line must say for its method not to be run again."""
    return {
        "dataset": config.dataset,
        "flags": accuracy.named(rest),
        "target_epsilon": config.target_epsilon,
        "delta": config.delta,
        "wanted_records": settings.records,
        "samples": settings.samples,
        "minutes": settings.minutes,
        "heldout": settings.heldout,
        "seed": settings.seed,
        "ruler": bool(settings.ruler),
    }


def results_in(path, wanted, names):
    """{method: its line} of the file's lines of these settings and classifiers."""
    return {
        line["method"]: line
        for line in accuracy.lines_of(path)
        if wanted.items() <= line.items() and ("own" in line or all(name in line for name in names))
    }


def prepared(settings, config):
    """(the test Dataset, the Ruler or None), with the records in a file for the methods."""
    from ruler import Ruler

    training, test = accuracy.datasets(config, settings.heldout)
    chosen = np.random.default_rng(0).permutation(len(training))[: settings.records]
    np.savez(
        settings.out / "records.npz",
        images=training.images[chosen],
        labels=training.labels[chosen],
        class_names=np.array(training.spec.class_names),
        test_images=test.images,
    )
    return test, Ruler(settings.ruler, test) if settings.ruler else None


def finished(settings, method, line, test, names, ruler):
    """The line with what a method's own process and its judge found; None where it failed."""
    from field import judge

    # After what the user gave: of two the later one counts.
    command = [sys.executable, __file__, *sys.argv[1:], f"--child={method}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    print(f"{method}: started", file=sys.stderr, flush=True)
    if subprocess.run(command, env=environment).returncode:
        return None
    started = time.perf_counter()
    line |= json.loads((settings.out / f"{method}.json").read_text())
    with np.load(settings.out / f"{method}.npz") as arrays:
        line |= judge.judged(
            arrays,
            test=test,
            names=names,
            seed=settings.seed,
            ruler=ruler,
            picture=settings.out / f"{method}.png",
        )
    return line | {"judge_s": round(time.perf_counter() - started)}


def run_child(settings, rest, config):
    """Runs one method in this process; its arrays and numbers go to --out."""
    with np.load(settings.out / "records.npz") as file:
        images, labels, test_images = file["images"], file["labels"], file["test_images"]
        class_names = tuple(map(str, file["class_names"]))
    given = race.Race(
        images=images,
        labels=labels,
        class_names=class_names,
        epsilon=config.target_epsilon,
        delta=config.delta,
        samples=settings.samples,
        minutes=settings.minutes,
        seed=settings.seed,
        flags=tuple(rest),
    )
    started = time.perf_counter()
    finish = contenders.load(settings.child)(given)
    trained = time.perf_counter()
    predictions = finish.predict and {"predictions": finish.predict(test_images)}
    arrays = predictions or finish.arrays(given)
    numbers = finish.numbers | {
        "records": len(labels),
        "seconds": round(trained - started, 1),
        "draw_s": round(time.perf_counter() - trained, 1),
        "peak_mib": peak_mib(),
    }
    np.savez(settings.out / f"{settings.child}.npz", **arrays)
    (settings.out / f"{settings.child}.json").write_text(json.dumps(numbers))


def peak_mib():
    """Largest resident memory of this process; getrusage's would count the parent's at the start."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def table(lines):
    """The Markdown table of the lines."""
    rows = [
        "| method | epsilon | seconds | MiB | LogReg | MLP | CNN | FID / precision / recall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        own = "own" in line
        accuracies = [f"{line[name]:.1f}" if name in line else "" for name in _COLUMNS]
        if own:
            accuracies[-1] = f"{line['own']:.1f}"
        looks = "not measured"
        if "fid" in line:
            looks = f"{line['fid']:.1f} / {line['precision']:.2f} / {line['recall']:.2f}"
        cells = [
            f"`{line['method']}`",
            "not private" if line["epsilon"] is None else f"{line['epsilon']:.4g}",
            f"{line['seconds']:.0f}",
            str(line["peak_mib"]),
            *accuracies,
            "no images" if own else looks,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
