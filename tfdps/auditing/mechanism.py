"""The mechanism audit: real steps on neighbouring batches, attacked, held against the step's claim.

Sources: Jagielski, Ullman & Oprea 2020 (arXiv 2006.07709); Nasr et al. 2023 (arXiv 2302.07956).
"""

import math

import numpy as np

from tfdps import console
from tfdps.auditing import bounds, draw_checks, noise_checks, shadow, worst_case
from tfdps.auditing.releases import Releases
from tfdps.mechanisms.poisson import PoissonSampler

MEANING = (
    "One real step, many times, on a state and a record crafted so that the release moves the most, "
    "with the record drawn for certain: the attacker sees every released number. The lower bound "
    "holds for that step and its claim (of several, the step whose bound comes nearest to its "
    "claim), before amplification by sampling, which rests on the draws' own checks. Beside it "
    "short runs of training itself: its sums, the law of its noise, and that nothing else depends on "
    "the records. Guesses can show no more than all of them being right does; beyond that a bound "
    "rests on the noise being Gaussian, which the checks look at. A lower bound on what leaks, and no "
    "proof of safety."
)
FAILURE_PROBABILITY = 1e-4  # that a right mechanism is accused by a bound

_PAIRS_OF_A_STATE = 2  # of `worst_neighbours`
_FEWEST_TRIALS, _FEWEST_CALIBRATING = 150, 50  # that the bounds below make something of
_MOST_NUMBERS = 2**25  # released on a side of a pair: what takes longer gets fewer trials
_EMPTY_SHARE = 0.25  # of the trials, for a pair whose draw is empty
_CALIBRATION = 0.1  # share of the trials by which the attack is tuned; they are not counted
_DIRECTIONS = 16
_ATTACKS = 3  # bounds a pair: two of the linear attack, one of the energy attack


def audit_mechanism(build, plan, dataset, *, trials, seed=0):
    """Returns what attacks on the configured mechanism found, as audit.json has it.

    Two attacks a pair of neighbours. Linear: the release along the difference that the record should
    make, every element weighted by the inverse of its measured noise, so that noise missing
    anywhere is found. Energy: how far the release strays from its mean without the record, so that
    noise missing in one of the two batches is found.

    Where steps differ in their noise, each pair is held against the claim of its own step; "claim",
    "lower_bound" and "largest" are those of the pair whose bound comes nearest to its claim, or exceeds
    it. The latter is what guesses would show, without a law of the noise, if all of them were right.

    Checks beside them. Short runs of training's own code on some of the real records (`shadow`): with
    next to no noise what every step learned from has to be the auditor's own sums, and with the plan's
    the difference has to be noise of the law that is accounted; given the same releases, a run on other
    records has to ask and learn the same. And the batches have to be the draws that are accounted.

    Guarantee: none. It reads private records; of what it says of them nothing is noised.

    Args:
      build: (PrivacyPlan) -> DPSinkhorn, the run's model as training builds it.
      plan: the run's PrivacyPlan: its noise multipliers are the claims.
      dataset: the private Dataset.
      trials: releases with and releases without the record, for each pair, >= 150; fewer, but 150 at
        least, where a release is so large that they would take hours, and where a draw is empty.
      seed: of the random directions; not of the noise.
    """
    model = build(plan)
    released = Releases(model.learner)
    sampler = PoissonSampler(
        plan.dataset_size,
        plan.sampling_probability,
        overflow_probability=model.mechanism.overflow_probability,
    )
    pairs = worst_case.module_of(plan).worst_neighbours(
        model, plan, sampler.padded_size * plan.images_per_unit
    )
    of_states = pairs[::_PAIRS_OF_A_STATE]
    checks = [noise_checks.check_shapes(released.one, pair) for pair in of_states]
    found = []
    if all(check["passed"] for check in checks):
        for pair in dict.fromkeys((of_states[0], of_states[-1])):  # a refiner's noise is its own
            checks.append(noise_checks.check_freshness(lambda: build(plan), pair))
        checks += [noise_checks.check_repeats(released, pair) for pair in of_states]
        checks += [noise_checks.check_sums(released.one, p) for p in pairs if p.quiet_state]
        for pair in pairs:
            attack = _Attack(released, plan.delta, pair, seed)
            found.append(
                attack.run(_trials(pair, trials), FAILURE_PROBABILITY / (_ATTACKS * len(pairs)))
            )
            checks += attack.checks
        checks += _shadow_checks(build, plan, dataset)
    checks += draw_checks.check_draws(model.learner, plan)
    return _result(plan, found, checks, trials)


def _shadow_checks(build, plan, dataset):
    """The checks of short runs, see `shadow`."""
    known = shadow.known_records(dataset, np.random.default_rng())
    quiet, noisy = (shadow.plan_on(plan, known, quiet=quiet) for quiet in (True, False))
    watched = worst_case.module_of(plan)
    for step in watched.steps_of(build, quiet, known):
        yield noise_checks.check_residual(step, f"{step.name} of a run")
    noises = {
        step.name: step.residual / step.stddev for step in watched.steps_of(build, noisy, known)
    }
    for name, noise in noises.items():
        yield noise_checks.check_law(noise.ravel(), f"{name} of a run")
        if len(noise) > 1:
            yield noise_checks.check_independence(noise, f"{name} of a run")
    if len(noises) > 1:
        together = np.concatenate([noise.ravel() for noise in noises.values()])
        yield noise_checks.check_law(together, "all steps of a run")
    differing = watched.differing_replays(build, noisy, known, shadow.unlike(known))
    yield {
        "name": "nothing but releases depends on the records",
        "passed": not differing,
        "detail": "other records with the same releases: "
        + (f"{', '.join(differing)} differ" if differing else "all the same, to the bit"),
    }


def _result(plan, found, checks, trials):
    if found:
        worst = max(found, key=_share_of_claim)
        claim = worst["claim"]
        bound = {"mu": worst["mu_lower_bound"], "epsilon": worst["epsilon_lower_bound"]}
        largest = worst["largest"]["epsilon"]
    else:  # a shape that follows the draw tells the neighbours apart for certain
        claim = _claim(min(plan.noise_multipliers), plan.delta)
        bound, largest = {"mu": math.inf, "epsilon": math.inf}, math.inf
    return {
        "meaning": MEANING,
        "violation": not found
        or any(pair["violation"] for pair in found)
        or not all(check["passed"] for check in checks),
        "claim": {**claim, "delta": plan.delta},
        "lower_bound": bound,
        "largest": {"epsilon": largest},
        "confidence": 1 - FAILURE_PROBABILITY,
        "trials": min((pair["trials"] for pair in found), default=trials),
        "pairs": found,
        "checks": checks,
    }


def _share_of_claim(pair):
    """The larger of a pair's bounds over its claim: above 1 it contradicts it."""
    claim = pair["claim"]
    return max(pair["mu_lower_bound"] / claim["mu"], pair["epsilon_lower_bound"] / claim["epsilon"])


def _trials(pair, trials):
    """How many of `trials` a pair gets.

    What an empty draw is for, noise that it does not get, is plain after a few.
    """
    size = pair.difference.size
    share = _EMPTY_SHARE if pair.without_is_empty else 1
    return min(trials, max(_FEWEST_TRIALS, int(min(share * trials, _MOST_NUMBERS // size))))


def _claim(noise_multiplier, delta):
    mu = 1 / noise_multiplier
    return {"mu": mu, "epsilon": bounds.gaussian_epsilon(delta, mu)}


class _Attack:
    """The attacks on one pair of neighbours; `checks` of the noise beside them."""

    def __init__(self, releases, delta, pair, seed):
        self._releases, self._delta, self._pair = releases, delta, pair
        self.checks = []
        size = pair.difference.size
        gaussian = np.random.default_rng(seed).normal(size=[size, min(_DIRECTIONS, size)])
        self._directions = np.linalg.qr(gaussian)[0].astype(np.float32)

    def run(self, trials, failure_probability):
        """The pair as audit.json has it: its name, distance, claim, trials, bounds and attacks.

        `largest` is what bounds that assume no law of the noise show where every guess is right.
        """
        pair = self._pair
        with console.Bar(total=2 * trials, unit="release", desc=pair.name, leave=False) as bar:
            weights = self._calibrate(max(_FEWEST_CALIBRATING, int(_CALIBRATION * trials)))
            without, having = (
                self._scores(draw, weights, trials, bar) for draw in (pair.without, pair.having)
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
        largest = bounds.threshold_bounds(np.zeros(trials), np.ones(trials), **common)
        epsilon = bounds.gaussian_epsilon(self._delta, mu)
        found = {
            "name": pair.name,
            "distance": pair.distance,
            "claim": _claim(pair.noise_multiplier, self._delta),
            "trials": trials,
            "mu_lower_bound": mu,
            "epsilon_lower_bound": max(epsilon, *(a.epsilon for a in attacks.values())),
            "largest": {"mu": largest.mu, "epsilon": largest.epsilon},
            "attacks": {
                "gaussian fit, linear": {"mu": fitted},
                **{
                    f"Clopper-Pearson, {name}": {"mu": attack.mu, "epsilon": attack.epsilon}
                    for name, attack in attacks.items()
                },
            },
        }
        return {**found, "violation": _share_of_claim(found) > 1}

    def _calibrate(self, trials):
        """The linear attack's weight of every element: the difference over the noise's variance."""
        claimed = self._pair.noise_stddev**2
        sides = []
        for name, draw in (("without", self._pair.without), ("with", self._pair.having)):
            variances = self._variances(draw, trials)
            self.checks.append(
                noise_checks.check_scale(
                    variances,
                    trials - 1,
                    claimed_variance=claimed,
                    what=f"every element, {self._pair.name}: {name} it",
                )
            )
            sides.append(variances)
        # Of the two sides the less noisy one: noise missing there is what an attacker would use.
        variance = np.maximum(np.minimum(*sides), 1e-12 * claimed)
        weights = np.ravel(self._pair.difference) / variance
        return (weights / np.linalg.norm(weights)).astype(np.float32)

    def _variances(self, draw, trials):
        """float64 [D]: the sample variance of every element."""
        first, total, squares = None, 0.0, 0.0
        for released in self._releases.many(self._pair.state, draw, trials):
            first = released[0].astype(np.float64) if first is None else first
            values = released - first
            total, squares = total + values.sum(axis=0), squares + (values**2).sum(axis=0)
        return np.maximum(squares - total**2 / trials, 0) / (trials - 1)

    def _scores(self, draw, weights, trials, bar):
        """float64 [trials, 1 + directions]: the linear attack's score, and random projections."""
        matrix, chunks = np.column_stack([weights, self._directions]), []
        for released in self._releases.many(self._pair.state, draw, trials):
            chunks.append(released @ matrix)
            bar.update(len(released))
        return np.concatenate(chunks).astype(np.float64)

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
