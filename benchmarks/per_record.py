"""Time and memory of one release of the per-record mechanism, as records, atoms and images grow.

    python benchmarks/per_record.py [--json]

Two kinds of release: that of a round of atoms (means, and energies in blocks of 4 x 4 pixels), and
that of the round before them (one atom a class, second moments in a basis). Synthetic images; every
case in a process of its own, for its own peak of memory. The first value of each list is the base
case, the others replace it one at a time. Beside the time, what the matrix products alone must
compute: time that does not follow it is spent elsewhere. `benchmarks/recipe.md` has results.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time

NUM_CLASSES = 10
REPEATS = 3
COLUMNS = {
    "records": "{:9d}",
    "atoms": "{:7d}",
    "side": "{:5d}",
    "basis_size": "{:11d}",
    "first_s": "{:8.2f}",
    "release_s": "{:10.2f}",
    "gigaflops": "{:10.1f}",
    "gigaflops_per_s": "{:16.1f}",
    "peak_mib": "{:9.0f}",
}


def main():
    settings = parse()
    results = []
    if not settings.json:
        print(" ".join(f"{name:>{len(row(0, name))}}" for name in COLUMNS))
    # A fresh process a case: a process's peak of memory never falls again.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for result in pool.imap(measure, cases(settings), chunksize=1):
            results.append(result)
            if not settings.json:
                print(" ".join(row(result[name], name) for name in COLUMNS), flush=True)
    if settings.json:
        print(json.dumps(results, indent=2))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--records", type=int, nargs="+", default=[20000, 5000, 60000])
    parser.add_argument("--atoms", type=int, nargs="+", default=[320, 80, 1280])
    parser.add_argument("--sides", type=int, nargs="+", default=[28, 56], help="of the images")
    parser.add_argument("--basis_sizes", type=int, nargs="+", default=[50, 100, 200])
    return parser.parse_args()


def cases(settings):
    """(records, atoms, side, basis size): base cases, then one value changed at a time.

    A basis size of 0 is a round of atoms.
    """
    one_a_class = [NUM_CLASSES]
    for lists in (
        [settings.records, settings.atoms, settings.sides, [0]],
        [settings.records, one_a_class, settings.sides, settings.basis_sizes],
    ):
        base = [values[0] for values in lists]
        yield tuple(base)
        for place, values in enumerate(lists):
            for value in values[1:]:
                yield (*base[:place], value, *base[place + 1 :])


def row(value, name):
    """A value in its column, at least as wide as the column's name."""
    return COLUMNS[name].format(value).rjust(len(name))


def measure(case):
    """One case's results, by column; memory is what the releases add to the data and TensorFlow."""
    from tfdps.distributed import startup

    startup.load_tensorflow()
    import numpy as np
    import tensorflow as tf

    from tfdps.learners.per_record.waves import image_blocks
    from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales
    from tfdps.mechanisms.per_record import PerRecordMechanism

    num_records, num_atoms, side, basis_size = case
    dimension, shape = side * side, (side, side, 1)
    random = np.random.default_rng(0)
    per_class = num_atoms // NUM_CLASSES
    batch = (
        tf.constant(random.integers(0, 256, (num_records, *shape), dtype=np.uint8)),
        tf.constant(random.integers(0, NUM_CLASSES, num_records), tf.int32),
        tf.ones(num_records),
    )
    atoms = Atoms(
        positions=random.uniform(-1, 1, (NUM_CLASSES, per_class, dimension)),
        offsets=np.zeros((NUM_CLASSES, per_class)),
        regularization=10.0,
        basis=np.linalg.qr(random.normal(size=(dimension, basis_size)))[0].T
        if basis_size
        else None,
        regions=None if basis_size else image_blocks(shape, 4),
    )
    scales = Scales(10.0, 3.0, second=0.1) if basis_size else Scales(10.0, 3.0, energy=0.1)
    mechanism, query = PerRecordMechanism(), MomentQuery(atoms, scales)

    def seconds():
        start = time.perf_counter()
        mechanism.release([batch], query, noise_multiplier=1.0)
        return time.perf_counter() - start

    before = peak_mib()
    first = seconds()
    release = statistics.median(seconds() for _ in range(REPEATS))
    gigaflops = 1e-9 * flops(num_records, per_class, dimension, basis_size)
    values = (first, release, gigaflops, gigaflops / release, peak_mib() - before)
    return dict(zip(COLUMNS, case + values, strict=True))


def flops(num_records, per_class, dimension, basis_size):
    """Of the matrix products, per record against the atoms of its class."""
    costs_and_displacement = 4 * per_class * dimension
    projection = 2 * basis_size * dimension
    second = 2 * per_class * basis_size**2
    return num_records * (costs_and_displacement + projection + second)


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
