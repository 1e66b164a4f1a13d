"""How the time of a Sinkhorn divergence and its gradient grows: a table and a plot.

    python benchmarks/sinkhorn_growth.py --plot=benchmarks/sinkhorn_growth.png

Points are normal; one of points n, dimension d and updates grows at a time, for both costs. Expected
beside what was measured: a sum of three terms, of which the matrix products and the L1 passes grow
as n^2 d, the updates as n^2 times their number, and the rest as n d, each fitted once to the
whole table of a cost (non-negative least squares of relative errors).
"""

import argparse
import statistics
import time

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy import optimize

from tfdps.sinkhorn import costs, divergence

COSTS = ("l2", "l1+l2")
BASE = {"n": 512, "d": 794, "updates": 30}
GROWN = {
    "n": (64, 128, 256, 512, 1024, 2048, 4096),
    "d": (64, 128, 256, 512, 1024, 2048, 4096),
    "updates": (10, 30, 100, 300, 1000),
}
REPEATS = 5


def main():
    settings = parse()
    figure, axes = plt.subplots(1, len(GROWN), figsize=(12, 4), sharey=True)
    for cost, colour in zip(COSTS, ("tab:blue", "tab:orange"), strict=True):
        cases = [(name, BASE | {name: value}) for name, values in GROWN.items() for value in values]
        measured = [milliseconds(cost, **case) for _, case in cases]
        times = [took for took, _ in measured]
        # Where rounding ends earlier what was taken counts, not what was allowed.
        taken = [updates for _, updates in measured]
        cases = [
            (name, case | {"updates": n}) for (name, case), n in zip(cases, taken, strict=True)
        ]
        expected = model_of([case for _, case in cases], times)
        print(f"{cost:6} {'grown':8} {'n':>5} {'d':>5} {'updates':>7} {'ms':>9} {'expected':>9}")
        for (name, case), took, guess in zip(cases, times, expected, strict=True):
            numbers = f"{case['n']:5} {case['d']:5} {case['updates']:7}"
            print(f"{'':6} {name:8} {numbers} {took:9.2f} {guess:9.2f}", flush=True)
        for axis, name in zip(axes, GROWN, strict=True):
            of = [index for index, (grown, _) in enumerate(cases) if grown == name]
            values = [cases[i][1][name] for i in of]
            axis.loglog(values, [times[i] for i in of], "o", color=colour, label=cost)
            axis.loglog(values, [expected[i] for i in of], "-", color=colour, alpha=0.5)
            others = ", ".join(f"{key} = {value}" for key, value in BASE.items() if key != name)
            axis.set(xlabel=name, title=others)
            axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms; lines: expected")
    axes[0].legend()
    figure.tight_layout()
    if settings.plot:
        figure.savefig(settings.plot, dpi=80)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--plot", help="PNG to write")
    return parser.parse_args()


def milliseconds(cost, n, d, updates):
    """(median wall time of value and gradient, updates): as many as asked for, but for rounding."""
    random = np.random.default_rng(0)
    x, y = (tf.constant(random.normal(size=[n, d]), tf.float32) for _ in range(2))
    # At this lambda rounding keeps the error above 0 but for the odd case.
    regularization = 0.2 * float(tf.math.reduce_std(costs.cost_matrix(x, y, cost=cost)))
    settings = {
        "cost": cost,
        "regularization": regularization,
        "tolerance": 1e-30,
        "max_iterations": updates,
    }
    taken = int(divergence.transport_cost(x, y, **settings).num_iterations)

    @tf.function(jit_compile=True)
    def solve(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = divergence.sinkhorn_divergence(x, y, y_self_term=False, **settings).value
        return tape.gradient(value, x)

    solve = solve.get_concrete_function(x, y)

    def once():
        start = time.perf_counter()
        solve(x, y).numpy()
        return 1e3 * (time.perf_counter() - start)

    once()
    return statistics.median(once() for _ in range(REPEATS)), taken


def model_of(cases, times):
    """Milliseconds expected of each case by the fitted sum of terms."""
    n, d, updates = (np.array([case[name] for case in cases], float) for name in BASE)
    terms = np.stack([n * n * d, n * n * updates, n * d, np.ones_like(n)], axis=1)
    scale = terms.max(axis=0)
    took = np.array(times)
    weights, _ = optimize.nnls(terms / scale / took[:, None], np.ones_like(took))
    return terms / scale @ weights


if __name__ == "__main__":
    main()
