"""From noisy steps to epsilon, and back: RDP and PLD accounting by dp-accounting. No TensorFlow.

A `Charge` says what happened (`charges.py`). What it costs is the accountant's business:

  rdp  Renyi differential privacy (Mironov 2017; Mironov, Talwar and Zhang 2019), which adds up;
  pld  privacy loss distributions on a grid of 1e-4, rounded so that epsilon is never understated
       (Koskela et al. 2020; Doroshenko et al. 2022). Usually a few per cent tighter. Where every
       step reads all records (q = 1) it is exact, without a grid: the steps are one Gaussian
       mechanism of mu^2 = sum 1 / sigma_t^2 (Dong, Roth and Su 2022, corollary 3.3).

Guarantee: both bound, for add-or-remove-one adjacency, the epsilon at `delta` of the composition of
all charges, for mechanisms whose noise multiplier is noise standard deviation over sensitivity and
whose records are drawn independently with the given probability. The charges may differ, and a
mechanism may be chosen by what earlier ones released (adaptive composition), as long as its noise
multiplier and sampling probability are fixed beforehand: a noise multiplier that follows a release
breaks it. A mechanism's own module proves its sensitivity, `sampling.py` the draws.
"""

import contextlib
import functools
import logging
import math
import warnings

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp
from dp_accounting.rdp import rdp_privacy_accountant

from tfdps import checks, gaussian_curve
from tfdps.charges import Charge, planned

ACCOUNTANTS = ("rdp", "pld")
PLD_GRID = 1e-4  # coarser grids can end above RDP
_LARGEST_NOISE_MULTIPLIER = 1e4  # beyond it RDP is lost in float64's rounding
_LARGEST_STEPS = 2**40


def epsilon(*, noise_multiplier, sampling_probability, steps, delta, accountant="rdp"):
    """Returns the epsilon that `steps` steps have at `delta`; 0.0 for no steps.

    Args:
      noise_multiplier: noise standard deviation over L2 sensitivity, > 0.
      sampling_probability: q in (0, 1].
      steps: number of noisy steps, >= 0.
      delta: in (0, 1).
      accountant: "rdp" or "pld".

    Raises:
      UsageError: on an argument out of range.
    """
    charge = Charge(noise_multiplier, sampling_probability, steps)
    return epsilon_of([charge], delta=delta, accountant=accountant)


def epsilon_of(charges, *, delta, accountant="rdp"):
    """Returns the epsilon at `delta` of the composition of `charges`, an iterable of Charge.

    Guarantee: never below the truth for the steps of `charges`; see the module.
    """
    checks.fraction("delta", delta)
    checks.one_of("accountant", accountant, ACCOUNTANTS)
    charges = [charge for charge in charges if charge.steps]
    if not charges:
        return 0.0
    if accountant == "rdp":
        orders, _ = _rdp_of_a_step(charges[0].noise_multiplier, charges[0].sampling_probability)
        total = sum(
            charge.steps * _rdp_of_a_step(charge.noise_multiplier, charge.sampling_probability)[1]
            for charge in charges
        )
        with _quiet():
            return float(rdp_privacy_accountant.compute_epsilon(orders, total, delta)[0])
    if all(charge.sampling_probability == 1 for charge in charges):
        mu = math.sqrt(math.fsum(c.steps / c.noise_multiplier**2 for c in charges))
        return gaussian_curve.gaussian_epsilon(delta, mu)
    ledger = pld.PLDAccountant(value_discretization_interval=PLD_GRID)
    with _quiet():
        for charge in charges:
            ledger.compose(_event(charge), charge.steps)
        return float(ledger.get_epsilon(delta))


def noise_multiplier(
    *, target_epsilon, sampling_probability, steps, delta, accountant="rdp", shares=None
):
    """Returns the smallest noise multiplier (to 1e-4 relative) whose epsilon is <= the target.

    Args:
      target_epsilon: > 0.
      sampling_probability, steps, delta, accountant: as for `epsilon`.
      shares: as for `planned`, which gives each step's noise multiplier from the one returned.

    Raises:
      UsageError: when no noise multiplier up to 1e4 meets the target.
    """
    checks.positive("target_epsilon", target_epsilon)
    checks.at_least("steps", steps, 1)

    def charges(sigma):
        return planned(
            noise_multiplier=sigma,
            sampling_probability=sampling_probability,
            steps=steps,
            shares=shares,
        )

    def spent(sigma, by=accountant):
        return epsilon_of(charges(sigma), delta=delta, accountant=by)

    # RDP costs milliseconds: it brackets for PLD, which is seldom worse and costs seconds.
    high = 1.0
    while spent(high, "rdp") > target_epsilon:
        high *= 2
        if max(charge.noise_multiplier for charge in charges(high)) > _LARGEST_NOISE_MULTIPLIER:
            raise checks.UsageError(
                f"target_epsilon={target_epsilon} cannot be met in {steps} steps at sampling "
                f"probability {sampling_probability:.3g} and delta={delta}: no noise multiplier of "
                f"a step up to {_LARGEST_NOISE_MULTIPLIER:.0e} is enough. Raise target_epsilon or "
                "delta, or take fewer steps."
            )
    low = high / 2 if high > 1 else 1e-3
    bound = _bisect(lambda s: spent(s, "rdp") <= target_epsilon, low, high)
    if accountant == "rdp":
        return bound
    low, high = 0.8 * bound, bound
    while spent(high) > target_epsilon:
        low, high = high, 2 * high
    while spent(low) <= target_epsilon:
        low, high = 0.8 * low, low
    if sampling_probability == 1:
        return _bisect(lambda s: spent(s) <= target_epsilon, low, high)
    return dp_accounting.calibrate_dp_mechanism(
        lambda: pld.PLDAccountant(value_discretization_interval=PLD_GRID),
        lambda s: dp_accounting.ComposedDpEvent(
            [dp_accounting.SelfComposedDpEvent(_event(c), c.steps) for c in charges(s)]
        ),
        target_epsilon,
        delta,
        dp_accounting.mechanism_calibration.ExplicitBracketInterval(low, high),
        tol=1e-4 * bound,
    )


def steps(*, target_epsilon, noise_multiplier, sampling_probability, delta, accountant="rdp"):
    """Returns the largest number of steps whose epsilon is at most the target (PLD: to 1e-4).

    Args:
      target_epsilon: > 0.
      noise_multiplier, sampling_probability, delta, accountant: as for `epsilon`.

    Raises:
      UsageError: when a single step already costs more than the target.
    """
    checks.positive("target_epsilon", target_epsilon)

    def fits(count, by=accountant):
        charge = Charge(noise_multiplier, sampling_probability, count)
        return epsilon_of([charge], delta=delta, accountant=by) <= target_epsilon

    if not fits(1):
        spent = epsilon_of(
            [Charge(noise_multiplier, sampling_probability, 1)], delta=delta, accountant=accountant
        )
        raise checks.UsageError(
            f"target_epsilon={target_epsilon} cannot be met: one step at noise_multiplier="
            f"{noise_multiplier} already costs epsilon {spent:.3g} at delta={delta}. Raise "
            "noise_multiplier or target_epsilon."
        )
    low, high = 1, 2
    while high < _LARGEST_STEPS and fits(high, "rdp"):
        low, high = high, 2 * high
    low = _bisect_integers(lambda k: fits(k, "rdp"), low, high, 1)
    if accountant == "rdp":
        return low
    if not fits(low):
        return _bisect_integers(fits, 1, low, max(1, low // 10_000))
    high = low + max(1, low // 8)
    while fits(high):
        low, high = high, high + max(1, high // 8)
    return _bisect_integers(fits, low, high, max(1, low // 10_000))


def _event(charge):
    """The dp-accounting event of a single step of a charge."""
    gaussian = dp_accounting.GaussianDpEvent(charge.noise_multiplier)
    if charge.sampling_probability == 1:
        return gaussian
    return dp_accounting.PoissonSampledDpEvent(charge.sampling_probability, gaussian)


def _bisect(fits, low, high):
    """The high end of a bracket of relative width 1e-4 around where `fits` turns true."""
    while high > low * (1 + 1e-4):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _bisect_integers(fits, low, high, width):
    """The low end, which fits, of an integer bracket of at most `width` around the last that does."""
    while high - low > width:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@functools.lru_cache(maxsize=256)
def _rdp_of_a_step(noise_multiplier, sampling_probability):
    """(orders, Renyi divergences of one step), from dp-accounting's accountant."""
    accountant = rdp.RdpAccountant()
    with _quiet():
        accountant.compose(_event(Charge(noise_multiplier, sampling_probability, 1)))
    # Rounding can leave a divergence of almost nothing below zero.
    return np.asarray(accountant._orders), np.maximum(accountant._rdp, 0)


@contextlib.contextmanager
def _quiet():
    """Keeps dp-accounting's notes about single orders, hundreds at large q, off the screen."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
