"""DP-SGD for the baselines: Poisson draws, a clip of each record's gradient, Gaussian noise, the plan.

Sources: Abadi et al. 2016, arXiv 1607.00133, algorithm 1; the accountant is this project's (privacy
loss distributions by dp-accounting), for zero-out adjacency with N public.

Guarantee, but for the random numbers, which are pseudo-random and rounded: a record adds a vector of
norm at most the clip norm to a step's sum, and only where the step has drawn it, with probability
batch / N independently of all others. Steps, batch and noise are fixed before the first record is
read: time is measured on random images.
"""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from tfdps import accounting

_CHUNK = 16  # records whose gradients are in memory at once: more leave the cache
_SHARE_OF_TIME = 0.95  # what is left is for draws and the unevenness of a machine
_TIMED_SECONDS = 5.0
_TIMED_BATCH = 256  # random images of a step whose time is measured
_SMALLEST_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run may do to the records.

    Attributes:
      steps: noisy steps.
      batch: expected number of records that a step draws.
      sampling_probability: batch / N.
      sigma: noise standard deviation over the clip norm.
      epsilon: what the steps cost, at most the target.
      milliseconds: of a step, as measured on random images; 0: not measured.
    """

    steps: int
    batch: float
    sampling_probability: float
    sigma: float
    epsilon: float
    milliseconds: float

    def numbers(self):
        """Returns the dict for the log."""
        measured = {"step_ms": round(self.milliseconds, 1)} if self.milliseconds else {}
        return {
            "epsilon": round(self.epsilon, 4),
            "steps": self.steps,
            "batch": round(self.batch),
            "sigma": round(self.sigma, 4),
        } | measured


A_PLAN = Plan(1, 1.0, 1.0, 1.0, 0.0, 0.0)  # for steps on random images, whose time is measured


def planned(race, *, steps, step):
    """Returns the Plan of about `steps` steps, with batches as large as the race's minutes allow.

    At a given number of gradients few steps of large batches have the least noise, and too few do not
    train: so the steps are a method's setting, and time says the batch. Where that would be a batch
    below the smallest, or above half of the records, it says the number of steps.

    Args:
      race: the Race.
      steps: the steps wanted.
      step: function of random records, a tuple (images, labels): takes a step and waits for its end.
    """
    public = random_records(race, _TIMED_BATCH)
    seconds = seconds_of(lambda: step(public))
    milliseconds = 1e3 * seconds / _TIMED_BATCH  # of a record
    gradients = 60e3 * race.minutes * _SHARE_OF_TIME / milliseconds
    largest = len(race.labels) // 2
    batch = int(min(largest, max(min(_SMALLEST_BATCH, largest), gradients / steps)))
    steps = max(1, int(gradients / batch)) if gradients < batch * steps else steps
    return plan_of(race, batch=batch, steps=steps, milliseconds=batch * milliseconds)


def plan_of(race, *, batch, steps, milliseconds=0.0):
    """Returns the Plan of a number of steps: the noise follows."""
    run = {"sampling_probability": batch / len(race.labels), "steps": steps, "delta": race.delta}
    sigma = accounting.noise_multiplier(target_epsilon=race.epsilon, accountant="pld", **run)
    spent = accounting.epsilon(noise_multiplier=sigma, accountant="pld", **run)
    return Plan(steps, batch, run["sampling_probability"], sigma, spent, milliseconds)


def random_records(race, count):
    """Returns (images uint8 [count, H, W, C], labels int32 [count]): random, of no record."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *race.images.shape[1:]), np.uint8)
    return images, random.integers(0, race.num_classes, count).astype(np.int32)


def seconds_of(step):
    """Returns the median seconds of a step, the first two aside, in which it is compiled."""
    step(), step()
    took, until = [], time.perf_counter() + _TIMED_SECONDS
    while len(took) < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        step()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def drawn(random, plan, count):
    """Returns the places of a step's records: each of `count` with the plan's probability."""
    return np.flatnonzero(random.random(count) < plan.sampling_probability)


class NoisyGradient:
    """The mean of clipped gradients with noise: what a step releases.

    Args:
      loss: function of (weights, record): a number. A record is a tuple of arrays without the axis
        of records; only the first two, image and label, are private.
      clip_norm: the L2 bound on a record's gradient.
    """

    def __init__(self, loss, clip_norm):
        self._clip_norm = clip_norm

        def clipped(weights, record, weight):
            gradient = jax.grad(loss)(weights, record)
            square = sum(jnp.square(part).sum() for part in jax.tree.leaves(gradient))
            finite = jnp.isfinite(square)
            factor = jnp.minimum(1, clip_norm / jnp.sqrt(jnp.maximum(square, 1e-20)))
            factor = jnp.where(finite, weight * factor, 0)
            return jax.tree.map(lambda part: jnp.where(finite, part, 0), gradient), factor

        @jax.jit
        def add(total, weights, records, present):
            gradients, factors = jax.vmap(clipped, (None, 0, 0))(weights, records, present)
            return jax.tree.map(
                lambda sums, parts: sums + jnp.tensordot(factors, parts, 1), total, gradients
            )

        @jax.jit
        def noised(total, key, scale, batch):
            leaves, structure = jax.tree.flatten(total)
            keys = jax.random.split(key, len(leaves))
            noisy = [
                (leaf + scale * jax.random.normal(each, leaf.shape)) / batch
                for leaf, each in zip(leaves, keys, strict=True)
            ]
            return jax.tree.unflatten(structure, noisy)

        self._add, self._noised = add, noised

    def __call__(self, weights, records, key, plan):
        """Returns the noisy sum of the records' clipped gradients over the expected batch.

        Args:
          weights: of the network.
          records: tuple of arrays [n, ...], all of a step's draw.
          key: of the noise.
          plan: its Plan; the expected number of records is public, where n is not.
        """
        total = self.sum(weights, records)
        return self._noised(total, key, plan.sigma * self._clip_norm, plan.batch)

    def sum(self, weights, records):
        """Returns the sum of the clipped gradients, without noise."""
        total, count = jax.tree.map(jnp.zeros_like, weights), len(records[0])
        for start in range(0, count, _CHUNK):
            part = tuple(array[start : start + _CHUNK] for array in records)
            missing = _CHUNK - len(part[0])
            present = (np.arange(_CHUNK) < len(part[0])).astype(np.float32)
            if missing:  # one compiled shape
                part = tuple(
                    np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
                    for array in map(np.asarray, part)
                )
            total = self._add(total, weights, part, present)
        return total
