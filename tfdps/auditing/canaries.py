"""The one-run audit: canaries in a short real run of small epsilon, guessed from what it released.

Source: Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846), white-box version.
"""

import dataclasses

import numpy as np

from tfdps.accounting import accountants
from tfdps.auditing import one_run, worst_case
from tfdps.data.dataset import Dataset, chosen_units, units_of

MEANING = (
    "A short run of the real training on some of the real records and on canaries, images of random "
    "black and white pixels, each put in by the toss of a coin; with noise for an epsilon of at most "
    "2, since two hundred guesses, all of them right, show no more than 3. From all that the run "
    "released, and its state, the attacker guesses which canaries were in. Of a refined run the rounds "
    "alone: where a canary lies in a refiner's batch nobody outside knows. A lower bound on what such "
    "a run leaks, and no proof of safety."
)
FAILURE_PROBABILITY = 1e-4  # that a right mechanism is accused

_NUM_CANARIES = 1000
_NUM_RECORDS = 500
_NUM_GUESSES = 200
_LARGEST_EPSILON = 2.0  # of the run with canaries: below what all guesses right would show
# Of the run with canaries, whose claim holds at any delta: the theorem charges 2 canaries delta to the
# failure probability, which leaves nothing of it at 1e-5.
_LARGEST_DELTA = 1e-8
_NUM_STEPS = 300  # of joint; per_record takes its rounds


def audit_canaries(build, plan, dataset):
    """Returns what guessing the canaries of one run found, as audit.json has it.

    Guarantee: none. It reads private records, and releases its guesses' success without noise.

    Args:
      build: (PrivacyPlan) -> DPSinkhorn, the run's model as training builds it.
      plan: the run's PrivacyPlan; clip, batch size and rounds are used as they are, on a smaller set.
      dataset: the private Dataset.
    """
    rng = np.random.default_rng()
    planted, included = _plant(dataset, rng)
    short = _short_plan(plan, planted.known.size + _NUM_CANARIES // 2)
    model = build(short)
    scores = worst_case.module_of(short).canary_scores(model, short, planted)
    correct = one_run.guesses(scores, included, num_guesses=_NUM_GUESSES)

    def shown(correct):
        return one_run.one_run_epsilon(
            num_canaries=_NUM_CANARIES,
            num_guesses=_NUM_GUESSES,
            num_correct=correct,
            delta=short.delta,
            failure_probability=FAILURE_PROBABILITY,
        )

    claim, found = _claim(short), shown(correct)
    return {
        "meaning": MEANING,
        "violation": found > claim,
        "claim": {"epsilon": claim, "delta": short.delta},
        "lower_bound": {"epsilon": found},
        "largest": {"epsilon": shown(_NUM_GUESSES)},
        "confidence": 1 - FAILURE_PROBABILITY,
        "num_canaries": _NUM_CANARIES,
        "num_guesses": _NUM_GUESSES,
        "num_correct": correct,
        "num_steps": short.steps,
        "num_records": planted.known.size,
    }


def _short_plan(plan, size):
    """The plan of a run on about `size` records: a shadow of `plan`, at a delta that guesses can use.

    Its noise is that of `plan`, or as much more as brings its epsilon down to `_LARGEST_EPSILON`.

    `size` is the expected number: a public one, where the true one would tell how many canaries are
    in. Where every step reads all records it still does.
    """
    short = dataclasses.replace(
        plan,
        dataset_size=size,
        batch_size=size if plan.sampling_probability == 1 else min(plan.batch_size, size),
        steps=_NUM_STEPS if plan.shares is None else plan.steps - plan.refiner_steps,
        refiner_steps=0,
        target_epsilon=None,
        delta=min(plan.delta, _LARGEST_DELTA),
    )
    if _claim(short) <= _LARGEST_EPSILON:
        return short
    noise_multiplier = accountants.noise_multiplier(
        target_epsilon=_LARGEST_EPSILON,
        sampling_probability=short.sampling_probability,
        steps=short.steps,
        delta=short.delta,
        accountant=plan.accountant,
        shares=plan.shares,
    )
    return dataclasses.replace(short, noise_multiplier=noise_multiplier)


def _claim(plan):
    return accountants.epsilon_of(
        plan.charges(0, plan.steps), delta=plan.delta, accountant=plan.accountant
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Planted:
    """A data set with canaries behind what is known of it, and all canaries, in it or not.

    canaries: uint8 [n, H, W, C]; where units are persons [n, m, H, W, C], all m of one class.
    """

    dataset: Dataset
    known: Dataset
    canaries: np.ndarray
    labels: np.ndarray


def _plant(dataset, rng):
    """(_Planted, bool [canaries]: which are in)."""
    spec, units = dataset.spec, units_of(dataset)
    known = chosen_units(dataset, rng.permutation(len(units))[:_NUM_RECORDS])
    most = units.shape[1]
    size = [_NUM_CANARIES, most, *spec.image_shape]
    canaries = rng.choice(np.array([0, 255], np.uint8), size=size)
    labels = rng.integers(spec.num_classes, size=_NUM_CANARIES).astype(np.int32)
    included = rng.random(_NUM_CANARIES) < 0.5
    added, of_added = canaries[included], None
    if dataset.units is not None:
        places = len(known) + np.arange(len(added) * most).reshape(-1, most)
        of_added = np.concatenate([known.units, places])
    planted = Dataset(
        np.concatenate([known.images, added.reshape(-1, *spec.image_shape)]),
        np.concatenate([known.labels, np.repeat(labels[included], most)]),
        spec,
        units=of_added,
    )
    if dataset.units is None:
        canaries = canaries[:, 0]
    return _Planted(planted, known, canaries, labels), included
