"""The one-run audit: canaries in a short real run, guessed from what the run released.

Source: Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846), white-box version.
"""

import dataclasses
import sys

import numpy as np
import tensorflow as tf
import tqdm

from tfdps import accounting, batches
from tfdps.audit import contributions, one_run
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
_NUM_STEPS = (
    300  # of joint; per_record takes its rounds, each on all records unless the plan says less
)


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
    short = _short_plan(plan, planted.num_records + _NUM_CANARIES // 2)
    model = build(short)
    score = {"joint": _pulled, "per_record": _added}[model.mechanism.name]
    scores = score(model.learner, short, planted)
    correct = one_run.guesses(scores, included, num_guesses=_NUM_GUESSES)
    found = one_run.one_run_epsilon(
        num_canaries=_NUM_CANARIES,
        num_guesses=_NUM_GUESSES,
        num_correct=correct,
        delta=plan.delta,
        failure_probability=FAILURE_PROBABILITY,
    )
    claim = accounting.epsilon_of(
        short.charges(0, short.steps), delta=plan.delta, accountant=plan.accountant
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
        "num_steps": short.steps,
        "num_records": planted.num_records,
    }


def _short_plan(plan, size):
    """The plan of a run on about `size` records, with the noise and the batch size of `plan`.

    `size` is the expected number: a public one, where the true one would tell how many canaries are
    in. Where every step reads all records it still does, and the claim is the run's own.
    """
    return dataclasses.replace(
        plan,
        dataset_size=size,
        batch_size=size if plan.sampling_probability == 1 else min(plan.batch_size, size),
        steps=_NUM_STEPS if plan.shares is None else plan.steps,
        target_epsilon=None,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Planted:
    """A data set with canaries behind its first `num_records`, and all canaries, in it or not."""

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


def _draws(plan, planted, mechanism):
    """The padded draws of the run's steps, as training makes them, with a bar for the user."""
    draws = batches.PoissonBatches(
        planted.dataset, plan.sampling_probability, truncated=mechanism.bounds_any_batches
    ).dataset(plan.steps)
    seconds = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm.tqdm(
        draws, total=plan.steps, desc="canaries", unit="step", leave=False, mininterval=seconds
    )


def _pulled(learner, plan, planted):
    """Joint, float [canaries]: how far the releases moved the images of its class towards each."""
    num_classes = planted.dataset.spec.num_classes

    @tf.function
    def step(batch):
        z, labels = learner.latents()
        _, released = learner.noisy_step(batch, z, labels)
        return tf.math.unsorted_segment_sum(released, labels[: len(released)], num_classes)

    total = 0.0
    for batch in _draws(plan, planted, learner.mechanism):
        total += step(batch).numpy().astype(np.float64)
    # The release is a gradient: images move against it.
    pull = -total.reshape(num_classes, -1)
    canaries = planted.canaries.reshape(_NUM_CANARIES, -1) / 127.5 - 1
    return np.einsum("ij,ij->i", canaries, pull[planted.labels])


def _added(learner, plan, planted):
    """Per record, float [canaries]: how much of each one's contribution is in the releases.

    The attacker knows all records and canaries, only not who of the latter is in: what is expected
    of the release before the coins are known is subtracted; and from the contribution looked for,
    what it has in common with the other canaries of its class, which shows how many are in and not
    which. Rounds add up by the inverse of their noise's variance, as likelihoods do.
    """
    scores = np.zeros(_NUM_CANARIES)
    seen = _recorded(learner)
    images, labels = (
        values[: planted.num_records] for values in (planted.dataset.images, planted.dataset.labels)
    )
    for number, batch in enumerate(_draws(plan, planted, learner.mechanism)):
        learner.step([batch], number)
        (question, noise_multiplier), released = seen.pop()
        rest = released.numpy() - contributions.total(images, labels, question)
        rest -= contributions.total(planted.canaries, planted.labels, question) / 2
        rest /= (noise_multiplier * question.scales.clip_norm) ** 2
        for label in np.unique(planted.labels):
            own = np.flatnonzero(planted.labels == label)
            added = np.stack(
                [contributions.contribution(planted.canaries[i], label, question) for i in own]
            )
            added -= added.mean(axis=0)
            scores[own] += added @ rest[contributions.places(label, question)]
    return scores


def _recorded(learner):
    """The list that gets (state, released array) of every later step of the learner."""
    release, seen = learner.release, []

    def record(state, draw):
        released = release(state, draw)
        seen.append((state, released))
        return released

    learner.release = record
    return seen
