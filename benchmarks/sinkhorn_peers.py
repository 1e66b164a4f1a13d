"""Sinkhorn divergences of other libraries, and ours, behind one face for `benchmarks/sinkhorn.py`.

Each peer offers candidates, ways to set it up; the benchmark takes its fastest one that is right. All
solve the same problem: S(x, y) = W(x, y) - W(x, x) / 2 - W(y, y) / 2 and its gradient in x, points
in float32, weights alike, absolute lambda. A library that is not installed offers nothing.
"""

import functools
import importlib.util
import typing

import numpy as np


class Candidate(typing.NamedTuple):
    """One way to solve a problem.

    Attributes:
      peer: the library's name.
      settings: what distinguishes it from the peer's other candidates.
      run: function of nothing: (value, gradient [n, d] as NumPy).
      potentials: function of nothing: (f, g) of W(x, y), to measure the marginals by; or None where
        what `run` returns is judged by its gradient alone.
      iterations: function of nothing: updates of W(x, y), or None.
    """

    peer: str
    settings: str
    run: typing.Callable
    potentials: typing.Callable
    iterations: typing.Callable


PEERS = {"tfdps": "tfdps", "geomloss": "geomloss", "ott": "ott", "pot": "ot"}  # what to import


def candidates(x, y, cost, lam, tolerance, peers=tuple(PEERS)):
    """Returns the Candidates of those of the libraries that are installed, for a problem.

    Args:
      x, y: float32 [n, d], [m, d].
      cost: "l2" or "l1+l2".
      lam: the regularisation.
      tolerance: wanted L1 error of the marginals.
      peers: keys of PEERS.
    """
    makers = {"tfdps": _tfdps, "geomloss": _geomloss, "ott": _ott, "pot": _pot}
    installed = [peer for peer in peers if importlib.util.find_spec(PEERS[peer])]
    return [
        candidate for peer in installed for candidate in makers[peer](x, y, cost, lam, tolerance)
    ]


def _tfdps(x, y, cost, lam, tolerance):
    import tensorflow as tf

    from tfdps.sinkhorn import divergence

    settings = {"cost": cost, "regularization": lam, "tolerance": tolerance}
    x, y = tf.constant(x), tf.constant(y)

    @tf.function(jit_compile=True)
    def solve(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = divergence.sinkhorn_divergence(x, y, **settings).value
        return value, tape.gradient(value, x)

    # Called in a loop it spares the 0.1 ms in which tf.function finds the trace of its arguments.
    concrete = solve.get_concrete_function(x, y)

    def run():
        value, gradient = concrete(x, y)
        return float(value), gradient.numpy()

    @functools.cache
    def cross():
        return divergence.transport_cost(x, y, **settings)

    return [
        Candidate(
            "tfdps",
            "",
            run,
            lambda: [p.numpy() for p in cross().potentials],
            lambda: int(cross().num_iterations),
        )
    ]


def _geomloss(x, y, cost, lam, tolerance):
    import torch
    from geomloss import SamplesLoss

    del tolerance  # it has none: its annealing's speed decides
    x, y = torch.tensor(x), torch.tensor(y)

    def costs(x, y):
        squares = torch.cdist(x, y) ** 2
        return squares if cost == "l2" else squares + torch.cdist(x, y, p=1)

    def one(scaling):
        settings = {"p": 2, "blur": lam**0.5, "scaling": scaling, "cost": costs}
        loss = SamplesLoss("sinkhorn", backend="tensorized", **settings)
        dual = SamplesLoss(
            "sinkhorn", backend="tensorized", debias=False, potentials=True, **settings
        )

        def run():
            points = x.clone().requires_grad_(True)
            value = loss(points, y)
            [gradient] = torch.autograd.grad(value, [points])
            return float(value), gradient.numpy()

        def potentials():
            return [p.detach().numpy().ravel() for p in dual(x, y)]

        return Candidate("geomloss", f"scaling={scaling}", run, potentials, lambda: None)

    return [one(scaling) for scaling in (0.5, 0.9, 0.97, 0.99, 0.997)]


def _ott(x, y, cost, lam, tolerance):
    import jax
    import jax.numpy as jnp
    from ott.geometry import geometry
    from ott.solvers import linear
    from ott.solvers.linear import acceleration

    @jax.custom_jvp
    def absolute(t):
        return jnp.abs(t)

    # JAX says that the slope of |t| at 0 is 1, of which a third of MNIST's pixels are.
    absolute.defjvp(
        lambda primals, tangents: (absolute(*primals), jnp.sign(*primals) * tangents[0])
    )

    def costs(x, y):
        squares = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
        squares = jnp.maximum(squares, 0)
        if cost == "l2":
            return squares

        def add(total, pair):
            return total + absolute(pair[0][:, None] - pair[1][None]), None

        return jax.lax.scan(add, squares, (x.T, y.T), unroll=16)[0]

    def one(lse_mode, momentum):
        options = {"threshold": tolerance, "lse_mode": lse_mode, "max_iterations": 20_000}

        def solved(x, y, **extra):
            problem = geometry.Geometry(cost_matrix=costs(x, y), epsilon=lam)
            return linear.solve(problem, **options, **extra)

        alternating = {"momentum": acceleration.Momentum(value=momentum)}
        # As its own sinkhorn_divergence solves the self terms.
        symmetric = {
            "momentum": acceleration.Momentum(value=0.5),
            "parallel_dual_updates": True,
        }

        def divergence(x, y):
            own = solved(x, x, **symmetric).reg_ot_cost + solved(y, y, **symmetric).reg_ot_cost
            return solved(x, y, **alternating).reg_ot_cost - own / 2

        value_and_gradient = jax.jit(jax.value_and_grad(divergence))
        cross = jax.jit(functools.partial(solved, **alternating))
        on_device = jnp.asarray(x), jnp.asarray(y)

        def run():
            value, gradient = value_and_gradient(*on_device)
            return float(value), np.asarray(gradient)

        def potentials():
            solution, n, m = cross(*on_device), len(x), len(y)
            # OTT's potentials hold the weights: f + lambda log a.
            f, g = np.asarray(solution.f, np.float64), np.asarray(solution.g, np.float64)
            return f + lam * np.log(n), g + lam * np.log(m)

        return Candidate(
            "ott",
            f"{'log' if lse_mode else 'kernel'}, momentum={momentum}",
            run,
            potentials,
            lambda: int(cross(*on_device).n_iters),
        )

    return [one(*each) for each in ((False, 1.0), (False, 1.5), (True, 1.0), (True, 1.5))]


def _pot(x, y, cost, lam, tolerance):
    import ot
    from scipy.spatial.distance import cdist

    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))

    def costs(x, y):
        squares = cdist(x, y, "sqeuclidean")
        return squares if cost == "l2" else squares + cdist(x, y, "cityblock")

    def pull(plan, x, y):
        gradient = 2 * (plan.sum(1, keepdims=True) * x - plan @ y)
        if cost == "l2":
            return gradient
        for point, mass in zip(y, plan.T, strict=True):
            gradient += mass[:, None] * np.sign(x - point)
        return gradient

    def one(method):
        def solve(x, y, a, b):
            # Its threshold is for the L2 norm, which is at least the L1 norm's over sqrt(n).
            return ot.sinkhorn(
                a,
                b,
                costs(x, y),
                lam,
                method=method,
                stopThr=tolerance / len(b) ** 0.5,
                numItermax=100_000,
                log=True,
                warn=False,
            )

        def run():
            cross, _ = solve(x, y, a, b)
            own, _ = solve(x, x, a, a)
            solve(y, y, b, b)
            return float("nan"), pull(cross, x, y) - pull(own, x, x)

        def potentials():
            plan, _ = solve(x, y, a, b)
            with np.errstate(divide="ignore", invalid="ignore"):
                whole = lam * np.log(plan * len(x) * len(y)) + costs(x, y)
            g = whole[0] - whole[0, 0]
            return whole[:, 0], g

        return Candidate("pot", method, run, potentials, lambda: None)

    return [one(method) for method in ("sinkhorn", "sinkhorn_log")]
