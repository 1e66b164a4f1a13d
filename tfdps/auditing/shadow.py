"""Short runs of training's own code on records that the auditor knows: what each step learned from.

Nothing is taken apart: the draws are those of `PoissonBatches.of_run`, the steps those of
`DPSinkhorn.take_steps`, as in training. What is recorded is what a step's learning starts from, behind
the mechanism and whatever stands around it: the moments that a round learns from, the gradient that
the weights are updated by. How that is seen is in the modules of the mechanisms, `joint` and
`per_record`, alike in what they offer:

  steps_of(build, plan, dataset)                 the Steps of a short run
  differing_replays(build, plan, one, other)     where two Datasets give the same releases, the names of
                                                 what is not the same: should be []
  canary_scores(model, plan, planted)            how much of each canary is in what a run released
"""

import dataclasses
import typing

import numpy as np

from tfdps.data.dataset import Dataset, chosen_units, units_of
from tfdps.distributed import replicas
from tfdps.mechanisms.batches import PoissonBatches

_NUM_RECORDS = 100  # of the real ones, beside two of noise for each class
_REFINE_STEPS = 2  # of a short run
QUIET = 1e-15  # a noise multiplier under which no noise reaches a step of the grid: it is 0


class Step(typing.NamedTuple):
    """What one step, or several that are alike, learned from.

    name: which.
    residual: float64 [r, n]: the releases less the auditor's own sums, of r runs or steps alike.
    stddev: what the plan says of the noise on each number.
    sensitivity: the most that a record may move the release by, in L2.
    rounding: how far a number may be from the auditor's, for the grid that it is on.
    """

    name: str
    residual: np.ndarray
    stddev: float
    sensitivity: float
    rounding: float = 0.0


def known_records(dataset, rng):
    """Returns a Dataset of some of the real records and, for each class, two of black and white noise.

    The noise is far from everything, so it is clipped; every class has records of its own. Where units
    are persons, these are some of the real ones; and others, with one place empty, who have the noise.
    """
    spec, most = dataset.spec, units_of(dataset).shape[1]
    few = -(-_NUM_RECORDS // most)
    real = chosen_units(dataset, np.sort(rng.permutation(len(units_of(dataset)))[:few]))
    labels = np.repeat(np.arange(spec.num_classes, dtype=np.int32), 2)
    noise = rng.choice(np.array([0, 255], np.uint8), size=[len(labels), *spec.image_shape])
    units = None
    if dataset.units is not None:
        held = max(1, most - 1)
        of_noise = np.full([-(-len(labels) // held), most], -1)
        for number in range(len(labels)):
            of_noise[number // held, number % held] = len(real) + number
        units = np.concatenate([real.units, of_noise])
    images = np.concatenate([real.images, noise])
    return Dataset(images, np.concatenate([real.labels, labels]), spec, units=units)


def plan_on(plan, dataset, *, quiet=False):
    """Returns the plan of a run on all of a small Dataset in every step, with noise as `plan` has it.

    quiet: with none.
    """
    refining = min(plan.refiner_steps, _REFINE_STEPS)
    small = dataclasses.replace(
        plan,
        dataset_size=dataset.size,
        batch_size=dataset.size,
        target_epsilon=None,
        steps=plan.steps - plan.refiner_steps + refining,
        refiner_steps=refining,
        refiner_batch_size=dataset.size if refining else 0,
    )
    if not quiet:
        return small
    of_refiner = {"refiner_noise_multiplier": QUIET} if refining else {}
    return dataclasses.replace(small, noise_multiplier=QUIET, **of_refiner)


def draws_of(dataset, learner, stage):
    """Returns the PoissonBatches of a Stage on a small Dataset: training's, in two parts at least."""
    in_a_part = -(-dataset.size // 2) * units_of(dataset).shape[1]
    part_bytes = in_a_part * int(np.prod(dataset.spec.image_shape))
    return PoissonBatches.of_run(
        dataset, learner, on=replicas.Replicas(), stage=stage, part_bytes=part_bytes
    )


def take(model, plan, dataset, steps):
    """Takes so many steps as training does, on a Dataset: those of a plan, and more like its last."""
    model.authorize(steps)
    *others, last = plan.stages
    counts = [min(stage.steps, steps - stage.first) for stage in others]
    for stage, count in zip(plan.stages, [*counts, steps - last.first], strict=True):
        if count > 0:
            draws = draws_of(dataset, model.learner, stage)
            model.take_steps(draws, count, on=replicas.Replicas(), total=steps)


def answer(mechanism, answers):
    """Has a mechanism release what is in `answers`, or fill them where there is nothing yet.

    Of a release that answers a query, the query is the one that is asked.
    """
    honest, given = mechanism.release, iter(list(answers))

    def release(draw, *query, **settings):
        recorded = next(given, None)
        if recorded is None:
            answers.append(honest(draw, *query, **settings))
            return answers[-1]
        for _ in draw:  # its parts, which the run has made
            pass
        return dataclasses.replace(recorded, query=query[0]) if query else recorded

    mechanism.release = release


def differing_weights(one, other):
    """Returns [] where two models' generators are equal to the bit, else what differs."""
    pairs = zip(one.generator.get_weights(), other.generator.get_weights(), strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    return [] if same else ["the generator's weights"]


def unlike(dataset):
    """Returns a Dataset of as many records that have nothing in common with those of another.

    What a step asks and what it learns may depend on the private records through releases alone: two
    runs with the same public randomness and the same releases, one on each, are equal to the bit.
    """
    labels = np.roll(dataset.labels, 1)
    return Dataset(255 - dataset.images, labels, dataset.spec, units=dataset.units)
