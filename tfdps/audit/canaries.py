"""The one-run audit: canaries in a short real run, guessed from what the run released.

Source: Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846), white-box version.
"""

import dataclasses
import sys

import numpy as np
import tensorflow as tf
import tqdm

from tfdps import accounting, batches
from tfdps.audit import one_run
from tfdps.data import Dataset

MEANING = (
    "A short run of the real training on some of the real records and on canaries, images of random "
    "black and white pixels, each put in by the toss of a coin. From all that the run released, and "
    "its state, the attacker guesses which canaries were in. A lower bound on what such a run leaks, "
    "and no proof of safety."
)
FAILURE_PROBABILITY = 0.01

_NUM_CANARIES = 1000
_NUM_RECORDS = 500
_NUM_GUESSES = 200
_NUM_STEPS = 300


def audit_canaries(build, plan, dataset):
    """Returns what guessing the canaries of one run found, as audit.json has it.

    Guarantee: none. It reads private records, and releases its guesses' success without noise.

    Args:
      build: (PrivacyPlan) -> DPSinkhorn, the run's model as training builds it.
      plan: the run's PrivacyPlan; noise, clip and batch size are used as they are, on a smaller set.
      dataset: the private Dataset.
    """
    rng = np.random.default_rng()
    planted, included = _plant(dataset, rng)
    # The expected size: a public number, where the true one would tell how many canaries are in.
    size = planted.num_records + _NUM_CANARIES // 2
    short = dataclasses.replace(
        plan,
        dataset_size=size,
        batch_size=min(plan.batch_size, size),
        steps=_NUM_STEPS,
        target_epsilon=None,
    )
    scores = _scores(build(short), short, planted, dataset.spec.num_classes)
    correct = one_run.guesses(scores, included, num_guesses=_NUM_GUESSES)
    found = one_run.one_run_epsilon(
        num_canaries=_NUM_CANARIES,
        num_guesses=_NUM_GUESSES,
        num_correct=correct,
        delta=plan.delta,
        failure_probability=FAILURE_PROBABILITY,
    )
    claim = accounting.epsilon_of(
        short.charges(0, _NUM_STEPS), delta=plan.delta, accountant=plan.accountant
    )
    return {
        "meaning": MEANING,
        "violation": found > claim,
        "claim": {"epsilon": claim, "delta": plan.delta},
        "lower_bound": {"epsilon": found},
        "confidence": 1 - FAILURE_PROBABILITY,
        "num_canaries": _NUM_CANARIES,
        "num_guesses": _NUM_GUESSES,
        "num_correct": correct,
        "num_steps": _NUM_STEPS,
        "num_records": planted.num_records,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class _Planted:
    """A data set with canaries in it, and all canaries, in it or not."""

    dataset: Dataset
    num_records: int
    canaries: np.ndarray
    labels: np.ndarray


def _plant(dataset, rng):
    """(_Planted, bool [canaries]: which are in)."""
    chosen = rng.permutation(len(dataset))[:_NUM_RECORDS]
    canaries = rng.choice(
        np.array([0, 255], np.uint8), size=[_NUM_CANARIES, *dataset.spec.image_shape]
    )
    labels = rng.integers(dataset.spec.num_classes, size=_NUM_CANARIES).astype(np.int32)
    included = rng.random(_NUM_CANARIES) < 0.5
    planted = Dataset(
        np.concatenate([dataset.images[chosen], canaries[included]]),
        np.concatenate([dataset.labels[chosen], labels[included]]),
        dataset.spec,
    )
    return _Planted(planted, len(chosen), canaries, labels), included


def _scores(model, plan, planted, num_classes):
    """float [canaries]: how far the releases moved the images of its class towards each canary."""

    @tf.function
    def step(batch):
        z, labels = model.latents()
        _, released = model.noisy_step(batch, z, labels)
        return tf.math.unsorted_segment_sum(released, labels[: len(released)], num_classes)

    total = 0.0
    draws = batches.poisson_batches(planted.dataset, plan.sampling_probability, plan.steps)
    seconds = 0.5 if sys.stderr.isatty() else 30.0
    for batch in tqdm.tqdm(
        draws, total=plan.steps, desc="canaries", unit="step", leave=False, mininterval=seconds
    ):
        total += step(batch).numpy().astype(np.float64)
    # The release is a gradient: images move against it.
    pull = -total.reshape(num_classes, -1)
    canaries = planted.canaries.reshape(_NUM_CANARIES, -1) / 127.5 - 1
    return np.einsum("ij,ij->i", canaries, pull[planted.labels])
