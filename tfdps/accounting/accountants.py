"""From noisy steps to epsilon, and back: RDP and PLD accounting by dp-accounting. No TensorFlow.

A `NoiseEvent` says what happened (`events.py`). What it costs is the accountant's business:

  rdp  Renyi differential privacy (Mironov 2017; Mironov, Talwar and Zhang 2019), which adds up.
       Divergences of orders that are no integers are `renyi`'s;
  pld  privacy loss distributions on a grid of 1e-4, rounded so that epsilon is never understated
       (Koskela et al. 2020; Doroshenko et al. 2022). Usually a few per cent tighter. Where every
       step reads all records (q = 1) it is exact, without a grid: the steps are one Gaussian
       mechanism of mu^2 = sum 1 / sigma_t^2 (Dong, Roth and Su 2022, corollary 3.3).

Guarantee: both bound, for zero-out adjacency (one record replaced by nothing, N fixed and public),
the epsilon at `delta` of the composition of all charges, for mechanisms whose noise multiplier is
noise standard deviation over sensitivity and whose records are drawn independently with the given
probability. The charges may differ, and a mechanism may be chosen by what earlier ones released
(adaptive composition), as long as its noise multiplier and sampling probability are fixed
beforehand: a noise multiplier that follows a release breaks it. A mechanism's own module proves its
sensitivity, `mechanisms/poisson.py` the draws.

dp-accounting calls zero-out REPLACE_SPECIAL, under which 0.4.3 refuses subsampled events. They are
asked under ADD_OR_REMOVE_ONE, at no loss: with q given, not computed from the number of records that
a neighbour has, both relations leave the same pair of distributions of a step, the noise around the
others' sum, and that in 1 - q of the draws and moved by one contribution in q of them. Later releases
give the same number under both, and all do where q = 1.

Draws of static size are not quite independent: in a rare event, whose probability `overflow` bounds,
they hold fewer records than were drawn. Where a step is subsampled, epsilon is therefore the one at a
delta smaller by a millionth, which is kept for that event.
"""

import contextlib
import copy
import functools
import math
import warnings
from collections.abc import Iterable, Sequence

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp
from dp_accounting.rdp import rdp_privacy_accountant

from tfdps import checks, console
from tfdps.accounting import bisection, gaussian_curve, overflow, renyi, shown
from tfdps.accounting.events import NoiseEvent, planned

ACCOUNTANTS = ("rdp", "pld")
PLD_GRID = 1e-4  # coarser grids can end above RDP
_LARGEST_NOISE_MULTIPLIER = 1e4  # beyond it RDP is lost in float64's rounding
_LARGEST_STEPS = 2**40


def epsilon(
    *,
    noise_multiplier: float,
    sampling_probability: float,
    steps: int,
    delta: float,
    accountant: str = "rdp",
) -> float:
    """Returns the epsilon that `steps` steps have at `delta`; 0.0 for no steps.

    Args:
      noise_multiplier: noise standard deviation over L2 sensitivity, > 0.
      sampling_probability: q in (0, 1].
      steps: number of noisy steps, >= 0.
      delta: in (0, 1).
      accountant: "rdp" or "pld".

    Raises:
      UsageError: on an argument out of range.

    Examples:
      >>> from tfdps import accounting
      >>> step = dict(noise_multiplier=1.0, sampling_probability=0.01, delta=1e-5)
      >>> round(accounting.epsilon(steps=1000, **step), 2)
      2.1
    """
    charge = NoiseEvent(noise_multiplier, sampling_probability, steps)
    return epsilon_of([charge], delta=delta, accountant=accountant)


def epsilon_of(charges: Iterable[NoiseEvent], *, delta: float, accountant: str = "rdp") -> float:
    """Returns the epsilon at `delta` of the composition of `charges`, an iterable of NoiseEvent.

    Guarantee: never below the truth for the steps of `charges`; see the module.

    Examples:
      >>> from tfdps import accounting
      >>> events = [accounting.NoiseEvent(4.0, 1.0, 3), accounting.NoiseEvent(2.0, 1.0, 1)]
      >>> round(accounting.epsilon_of(events, delta=1e-5), 2)
      2.96
    """
    checks.fraction("delta", delta)
    checks.one_of("accountant", accountant, ACCOUNTANTS)
    charges = [charge for charge in charges if charge.steps]
    if not charges:
        return 0.0
    sampled = tuple(charge for charge in charges if charge.sampling_probability < 1)
    delta *= 1 - overflow.SHARE_OF_DELTA if sampled else 1
    if accountant == "rdp":
        orders, _ = _rdp_of_a_step(charges[0].noise_multiplier, charges[0].sampling_probability)
        total = sum(
            charge.steps * _rdp_of_a_step(charge.noise_multiplier, charge.sampling_probability)[1]
            for charge in charges
        )
        with _quiet():
            return float(rdp_privacy_accountant.compute_epsilon(orders, total, delta)[0])
    whole = [charge for charge in charges if charge.sampling_probability == 1]
    mu = math.sqrt(math.fsum(c.steps / c.noise_multiplier**2 for c in whole))
    if not sampled:
        return gaussian_curve.gaussian_epsilon(delta, mu)
    composed = _distribution(sampled)
    with _quiet():
        if whole:
            composed = copy.deepcopy(composed).compose(dp_accounting.GaussianDpEvent(1 / mu))
        return float(composed.get_epsilon(delta))


@functools.lru_cache(maxsize=8)
def _distribution(charges):
    """A PLDAccountant of subsampled charges, a tuple: seconds of work, asked for often."""
    composed = pld.PLDAccountant(value_discretization_interval=PLD_GRID)
    with _quiet():
        for charge in charges:
            composed.compose(_event(charge), charge.steps)
    return composed


def noise_multiplier(
    *,
    target_epsilon: float,
    sampling_probability: float,
    steps: int,
    delta: float,
    accountant: str = "rdp",
    shares: Sequence[float] | None = None,
    beside: Sequence[NoiseEvent] = (),
) -> float:
    """Returns the smallest noise multiplier (to 1e-4 relative) whose epsilon is <= the target.

    Args:
      target_epsilon: > 0.
      sampling_probability, steps, delta, accountant: as for `epsilon`.
      shares: as for `planned`, which gives each step's noise multiplier from the one returned.
      beside: further charges of the same run, whose noise is fixed.

    Raises:
      UsageError: when no noise multiplier up to 1e4 meets the target.

    Examples:
      >>> from tfdps import accounting
      >>> run = dict(sampling_probability=0.01, steps=1000, delta=1e-5)
      >>> round(accounting.noise_multiplier(target_epsilon=2.0, **run), 2)
      1.02
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
        return epsilon_of([*charges(sigma), *beside], delta=delta, accountant=by)

    alone = epsilon_of(beside, delta=delta, accountant=accountant)
    if alone >= target_epsilon:
        raise checks.UsageError(
            f"target_epsilon={target_epsilon} cannot be met: the refiner's steps alone cost epsilon "
            f"{shown.up(alone, 3)} at delta={delta}. Take fewer refiner_steps, a smaller "
            "refiner_batch_size or a larger refiner_noise_multiplier."
        )

    # RDP costs milliseconds: it brackets for PLD, which is seldom worse and costs seconds. Where it has
    # no room beside the other charges, PLD may still have some.
    bracketing = "rdp" if epsilon_of(beside, delta=delta) < target_epsilon else accountant
    high = 1.0
    while spent(high, bracketing) > target_epsilon:
        high *= 2
        if max(charge.noise_multiplier for charge in charges(high)) > _LARGEST_NOISE_MULTIPLIER:
            raise checks.UsageError(
                f"target_epsilon={target_epsilon} cannot be met in {steps} steps at sampling "
                f"probability {sampling_probability:.3g} and delta={delta}: no noise multiplier of "
                f"a step up to {_LARGEST_NOISE_MULTIPLIER:.0e} is enough. Raise target_epsilon or "
                "delta, or take fewer steps."
            )
    low = high / 2 if high > 1 else 1e-3
    bound = bisection.numbers(lambda s: spent(s, bracketing) <= target_epsilon, low, high)
    if bracketing == accountant:
        return bound
    low, high = 0.8 * bound, bound
    while spent(high) > target_epsilon:
        low, high = high, 2 * high
    while spent(low) <= target_epsilon:
        low, high = 0.8 * low, low
    if sampling_probability == 1 or beside:
        return bisection.numbers(lambda s: spent(s) <= target_epsilon, low, high)
    return dp_accounting.calibrate_dp_mechanism(
        lambda: pld.PLDAccountant(value_discretization_interval=PLD_GRID),
        lambda s: dp_accounting.ComposedDpEvent(
            [dp_accounting.SelfComposedDpEvent(_event(c), c.steps) for c in charges(s)]
        ),
        target_epsilon,
        delta * (1 - overflow.SHARE_OF_DELTA),  # as `epsilon_of` has it
        dp_accounting.mechanism_calibration.ExplicitBracketInterval(low, high),
        tol=1e-4 * bound,
    )


def steps(
    *,
    target_epsilon: float,
    noise_multiplier: float,
    sampling_probability: float,
    delta: float,
    accountant: str = "rdp",
) -> int:
    """Returns the largest number of steps whose epsilon is at most the target (PLD: to 1e-4).

    Args:
      target_epsilon: > 0.
      noise_multiplier, sampling_probability, delta, accountant: as for `epsilon`.

    Raises:
      UsageError: when a single step already costs more than the target.

    Examples:
      >>> from tfdps import accounting
      >>> step = dict(noise_multiplier=1.0, sampling_probability=0.01, delta=1e-5)
      >>> accounting.steps(target_epsilon=2.0, **step)
      881
    """
    checks.positive("target_epsilon", target_epsilon)

    def fits(count, by=accountant):
        charge = NoiseEvent(noise_multiplier, sampling_probability, count)
        return epsilon_of([charge], delta=delta, accountant=by) <= target_epsilon

    if not fits(1):
        spent = epsilon_of(
            [NoiseEvent(noise_multiplier, sampling_probability, 1)],
            delta=delta,
            accountant=accountant,
        )
        raise checks.UsageError(
            f"target_epsilon={target_epsilon} cannot be met: one step at noise_multiplier="
            f"{noise_multiplier} already costs epsilon {shown.up(spent, 3)} at delta={delta}. Raise "
            "noise_multiplier or target_epsilon."
        )
    low, high = 1, 2
    while high < _LARGEST_STEPS and fits(high, "rdp"):
        low, high = high, 2 * high
    low = bisection.integers(lambda k: fits(k, "rdp"), low, high, 1)
    if accountant == "rdp":
        return low
    if not fits(low):
        return bisection.integers(fits, 1, low, max(1, low // 10_000))
    high = low + max(1, low // 8)
    while fits(high):
        low, high = high, high + max(1, high // 8)
    return bisection.integers(fits, low, high, max(1, low // 10_000))


def _event(charge):
    """The dp-accounting event of a single step of a charge."""
    gaussian = dp_accounting.GaussianDpEvent(charge.noise_multiplier)
    if charge.sampling_probability == 1:
        return gaussian
    return dp_accounting.PoissonSampledDpEvent(charge.sampling_probability, gaussian)


@functools.lru_cache(maxsize=256)
def _rdp_of_a_step(noise_multiplier, sampling_probability):
    """(orders, Renyi divergences of one step): dp-accounting's, or `renyi`'s."""
    accountant = rdp.RdpAccountant()
    with _quiet():
        accountant.compose(_event(NoiseEvent(noise_multiplier, sampling_probability, 1)))
    orders, divergences = np.array(accountant._orders), np.array(accountant._rdp)
    if sampling_probability < 1:
        fractional = orders % 1 != 0
        divergences[fractional] = renyi.of_sampled_gaussian(
            orders[fractional],
            noise_multiplier=noise_multiplier,
            sampling_probability=sampling_probability,
        )
    # Rounding can leave a divergence of almost nothing below zero.
    return orders, np.maximum(divergences, 0)


@contextlib.contextmanager
def _quiet():
    """Keeps dp-accounting's notes about single orders, hundreds at large q, off the screen."""
    with console.quiet("absl"), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
