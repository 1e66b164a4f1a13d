"""The mechanism audit: real steps on neighbouring batches, attacked, held against the step's claim.

Sources: Jagielski, Ullman & Oprea 2020 (arXiv 2006.07709); Nasr et al. 2023 (arXiv 2302.07956).
"""

import math
import sys

import numpy as np
import tensorflow as tf
import tqdm

from tfdps.audit import bounds, noise_checks, worst_case
from tfdps.sampling import PoissonSampler

MEANING = (
    "One real step, many times, on a state and a record crafted so that the release moves the most, "
    "with the record drawn for certain: the attacker sees every released number. The lower bound "
    "holds for that step and its claim (of several, the step whose bound comes nearest to its "
    "claim), before amplification by sampling, which rests on the sampler's own checks. A lower "
    "bound on what leaks, and no proof of safety."
)
FAILURE_PROBABILITY = 1e-4  # that a right mechanism is accused by a bound

_PAIRS_OF_A_STATE = 2  # of `worst_case.worst_neighbours`
_FEWEST_TRIALS = 1000  # that the bounds below make something of
_MOST_NUMBERS = 2**28  # released on a side of a pair: what takes longer gets fewer trials
_CHUNK = 50  # steps of one graph execution
_CALIBRATION = 0.1  # share of the trials by which the attack is tuned; they are not counted
_DIRECTIONS = 16
_ATTACKS = 3  # bounds a pair: two of the linear attack, one of the energy attack


def audit_mechanism(build, plan, *, trials, seed=0):
    """Returns what attacks on the configured mechanism's step found, as audit.json has it.

    Two attacks a pair of neighbours. Linear: the release along the difference that the record should
    make, every element weighted by the inverse of its measured noise, so that noise missing
    anywhere is found. Energy: how far the release strays from its mean without the record, so that
    noise missing in one of the two batches is found.

    Where steps differ in their noise, each pair is held against the claim of its own step; "claim"
    and "lower_bound" are those of the pair whose bound comes nearest to its claim, or exceeds it.

    Guarantee: none is needed: batches are crafted, no private record is read.

    Args:
      build: () -> DPSinkhorn, the run's model as training builds it.
      plan: the run's PrivacyPlan: its noise multipliers are the claims.
      trials: steps with and steps without the record, for each pair, >= 1000; fewer, but 1000 at
        least, where a release is so large that they would take hours.
      seed: of the random directions; not of the noise.
    """
    model = build()

    def release(state, batch):
        return model.learner.release(state, [batch])

    sampler = PoissonSampler(
        plan.dataset_size,
        plan.sampling_probability,
        truncated=model.mechanism.bounds_any_batches,
    )
    pairs = worst_case.worst_neighbours(model, plan, sampler.padded_size)
    of_states = pairs[::_PAIRS_OF_A_STATE]
    checks = [noise_checks.check_shapes(release, pair) for pair in of_states]
    found = []
    if all(check["passed"] for check in checks):
        checks.append(noise_checks.check_freshness(build, of_states[0]))
        checks += [noise_checks.check_repeats(release, pair) for pair in of_states]
        checks += [noise_checks.check_sums(release, pair) for pair in pairs if pair.quiet_state]
        for pair in pairs:
            attack = _Attack(release, plan.delta, pair, seed)
            found.append(attack.run(trials, FAILURE_PROBABILITY / (_ATTACKS * len(pairs))))
            checks += attack.checks
    checks += noise_checks.check_sampler(sampler)
    return _result(plan, found, checks, trials)


def _result(plan, found, checks, trials):
    if found:
        worst = max(found, key=lambda pair: pair["mu_lower_bound"] / pair["claim"]["mu"])
        claim = worst["claim"]
        bound = {"mu": worst["mu_lower_bound"], "epsilon": worst["epsilon_lower_bound"]}
    else:  # a shape that follows the draw tells the neighbours apart for certain
        claim = _claim(min(plan.noise_multipliers), plan.delta)
        bound = {"mu": math.inf, "epsilon": math.inf}
    return {
        "meaning": MEANING,
        "violation": bound["mu"] > claim["mu"] or not all(check["passed"] for check in checks),
        "claim": {**claim, "delta": plan.delta},
        "lower_bound": bound,
        "confidence": 1 - FAILURE_PROBABILITY,
        "trials": min((pair["trials"] for pair in found), default=trials),
        "pairs": found,
        "checks": checks,
    }


def _claim(noise_multiplier, delta):
    mu = 1 / noise_multiplier
    return {"mu": mu, "epsilon": bounds.gaussian_epsilon(delta, mu)}


class _Attack:
    """The attacks on one pair of neighbours; `checks` of the noise beside them."""

    def __init__(self, release, delta, pair, seed):
        self._release, self._delta, self._pair = release, delta, pair
        self.checks = []
        size = pair.difference.size
        gaussian = np.random.default_rng(seed).normal(size=[size, min(_DIRECTIONS, size)])
        self._directions = np.linalg.qr(gaussian)[0].astype(np.float32)
        self._elements = tf.function(self._elements)
        self._projections = tf.function(self._projections)

    def run(self, trials, failure_probability):
        """The pair as audit.json has it: its name, distance, claim, trials, bounds and attacks."""
        pair = self._pair
        trials = min(trials, max(_FEWEST_TRIALS, _MOST_NUMBERS // pair.difference.size))
        with tqdm.tqdm(
            total=2 * trials, unit="step", desc=pair.name, leave=False, mininterval=_seconds()
        ) as bar:
            weights = self._calibrate(max(_CHUNK, int(_CALIBRATION * trials)))
            without, having = (
                self._scores(batch, weights, trials, bar) for batch in (pair.without, pair.having)
            )
        self._check_directions(without[:, 1:], having[:, 1:])
        tuning = int(_CALIBRATION * trials)
        centre = without[:tuning, 1:].mean(axis=0)
        energy = [((side[tuning:, 1:] - centre) ** 2).sum(axis=1) for side in (without, having)]
        common = {"delta": self._delta, "failure_probability": failure_probability}
        linear = without[:, 0], having[:, 0]
        attacks = {
            "linear": bounds.threshold_bounds(*linear, **common),
            "energy": bounds.threshold_bounds(*energy, **common),
        }
        fitted = bounds.gaussian_fit_bound(*linear, failure_probability=failure_probability)
        mu = max(fitted, *(attack.mu for attack in attacks.values()))
        return {
            "name": pair.name,
            "distance": pair.distance,
            "claim": _claim(pair.noise_multiplier, self._delta),
            "trials": trials,
            "mu_lower_bound": mu,
            "epsilon_lower_bound": max(
                bounds.gaussian_epsilon(self._delta, mu), *(a.epsilon for a in attacks.values())
            ),
            "attacks": {
                "gaussian fit, linear": {"mu": fitted},
                **{
                    f"Clopper-Pearson, {name}": {"mu": attack.mu, "epsilon": attack.epsilon}
                    for name, attack in attacks.items()
                },
            },
        }

    def _calibrate(self, trials):
        """The linear attack's weight of every element: the difference over the noise's variance."""
        claimed = self._pair.noise_stddev**2
        sides = []
        for name, batch in (("without", self._pair.without), ("with", self._pair.having)):
            total, squares = (value.numpy() for value in self._elements(batch, trials))
            variances = np.maximum(squares - total**2 / trials, 0) / (trials - 1)
            self.checks.append(
                noise_checks.check_scale(
                    variances.ravel(),
                    trials - 1,
                    claimed_variance=claimed,
                    what=f"every element, {self._pair.name}: {name} it",
                )
            )
            sides.append(variances)
        # Of the two sides the less noisy one: noise missing there is what an attacker would use.
        variance = np.maximum(np.minimum(*sides), 1e-12 * claimed)
        weights = self._pair.difference / variance
        return (weights / np.linalg.norm(weights)).astype(np.float32)

    def _scores(self, batch, weights, trials, bar):
        """float64 [trials, 1 + directions]: the linear attack's score, and random projections."""
        matrix = np.concatenate([weights.reshape(-1, 1), self._directions], axis=1)
        matrix, chunks = tf.constant(matrix), []
        for done in range(0, trials, _CHUNK):
            chunks.append(self._projections(batch, matrix).numpy())
            bar.update(min(_CHUNK, trials - done))
        return np.concatenate(chunks)[:trials].astype(np.float64)

    def _check_directions(self, *sides):
        claimed = self._pair.noise_stddev**2
        for name, side in zip(("without", "with"), sides, strict=True):
            self.checks.append(
                noise_checks.check_scale(
                    side.var(axis=0, ddof=1),
                    len(side) - 1,
                    claimed_variance=claimed,
                    what=f"{side.shape[1]} random directions, {self._pair.name}: {name} it",
                )
            )

    def _elements(self, batch, trials):
        """(sum, sum of squares) over `trials` releases, less the first: float64 of one's shape."""
        first = tf.cast(self._release(self._pair.state, batch), tf.float64)
        total, squares = tf.zeros_like(first), tf.zeros_like(first)
        for _ in tf.range(trials):
            value = tf.cast(self._release(self._pair.state, batch), tf.float64) - first
            total += value
            squares += value**2
        return total, squares

    def _projections(self, batch, matrix):
        """float32 [_CHUNK, columns]: releases of as many steps, each times the matrix."""
        rows = tf.TensorArray(tf.float32, size=_CHUNK)
        for i in tf.range(_CHUNK):
            released = tf.reshape(self._release(self._pair.state, batch), [1, -1])
            rows = rows.write(i, tf.matmul(released, matrix)[0])
        return rows.stack()


def _seconds():
    return 0.5 if sys.stderr.isatty() else 30.0
