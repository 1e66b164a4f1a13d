"""The audit of the per-record mechanism: its worst neighbours, its rounds watched, its canaries."""

import dataclasses
import itertools

import numpy as np

from tfdps.auditing import refiner, shadow
from tfdps.auditing.contributions import Contributions
from tfdps.auditing.worst_case import Neighbours, batch_of_units
from tfdps.generators import pixels
from tfdps.mechanisms.moments import Release

# A per-record release is the same whatever the batch is padded to (`test_padding_changes_nothing` of
# tests/mechanisms/test_per_record.py), so its audit need not pad a handful of records to all N.
_ROWS = 8
_ENOUGH_NUMBERS, _MOST_RUNS = 40_000, 6  # numbers of noise, of runs of few


def worst_neighbours(model, plan, padded_size):
    """Returns two Neighbours for each kind of round, since their channels differ.

    A state is the step of a kind with the least noise, asked of a model that learned from noise alone.
    The record is as far from the atoms of its class as an image can be, so it is clipped to C, the
    most that the claim allows. It joins an empty draw; or one that would give a leak away, of a record
    that two atoms share, which anything that moves a potential would move, and one whose nearest atom
    is another class's; that draw comes in two parts. Where units are persons, the one who joins has
    that record as often as a person may, so that all of it points one way, and another has records of
    two classes.

    Args:
      model: the DPSinkhorn of the run.
      plan: its PrivacyPlan.
      padded_size: of its batches; a handful of records needs fewer rows.
    """
    del padded_size
    pairs = [
        pair
        for name, query, noise_multiplier in states(model.learner, plan)
        for pair in _record_neighbours(model, plan, name, query, noise_multiplier)
    ]
    if plan.refiner_steps:
        image_shape = model.generator.output_shape[1:]
        pairs += refiner.worst_neighbours(model.learner.steps, plan, image_shape)
    return pairs


def rounds_of(learner):
    """The MomentLearner of a learner: itself, or the one that a RefinedLearner has."""
    return getattr(learner, "rounds", learner)


def states(learner, plan):
    """[(name, MomentQuery, noise multiplier)]: of each kind of round the step with the least noise.

    The run is one on no records at all, whose answers are drawn here: what a round asks is then
    public, and no part of the mechanism has had a hand in it.
    """
    rng, model, found = np.random.default_rng(0), None, {}
    asks = rounds_of(learner)._rounds
    for asked, noise_multiplier in zip(asks, plan.noise_multipliers, strict=False):
        query, expected = asked.query(model, rng)
        stddev = noise_multiplier * query.scales.clip_norm
        noise = stddev * rng.normal(size=Contributions(query).size)
        moments = Release(noise, query, noise_multiplier).moments()
        model = asked.update(model, query, expected, moments)
        if asked.name not in found or noise_multiplier < found[asked.name][1]:
            found[asked.name] = query, noise_multiplier
    return [(name, *state) for name, state in found.items()]


def _record_neighbours(model, plan, name, query, noise_multiplier):
    shape, most = model.generator.output_shape[1:], plan.images_per_unit
    num_classes = len(query.atoms.positions)
    furthest = furthest_image(query, shape), 0
    elsewhere = _image(query.atoms.positions[0, 0], shape), num_classes - 1
    units = [[(_between(query, shape), 0)], [elsewhere, furthest][:most], [furthest] * most]

    own = Contributions(query)

    def pair(title, *parts):
        """parts: of each the numbers of its units; the last one of all is the one that joins."""
        having = [[units[i] for i in part] for part in parts]
        without = [*having[:-1], having[-1][:-1]]
        sums = [_total(own, itertools.chain(*draw), most) for draw in (without, having)]
        return Neighbours(
            name=f"{name}: {title}",
            state=(query, noise_multiplier),
            without=[batch_of_units(part, shape, _ROWS, most) for part in without],
            having=[batch_of_units(part, shape, _ROWS, most) for part in having],
            expected=tuple(sums),
            # One unit more or less moves the sum by its own clipped contribution alone.
            sensitivity=query.scales.clip_norm,
            noise_multiplier=noise_multiplier,
            quiet_state=(query, shadow.QUIET),
        )

    return [
        pair("an empty draw, and one record", [2]),
        pair("two records, and a third", [0], [1, 2]),
    ]


def _total(own, units, most):
    """The sum of what units add, of lists of (image, label): for `most` > 1 of each one together."""
    found = np.zeros(own.size)
    for unit in units:
        images, labels = zip(*unit, strict=True)
        found += own.total(images, labels) if most == 1 else own.of_unit(images, labels)
    return found


def furthest_image(query, shape):
    """Black where the atoms of class 0 are bright, and white where they are dark."""
    return (
        np.where(query.atoms.positions[0].mean(axis=0) > 0, 0, 255).astype(np.uint8).reshape(shape)
    )


def _between(query, shape):
    """The image, of those between the two nearest atoms of class 0, that is shared most evenly."""
    x = query.atoms.positions[0]
    apart = np.linalg.norm(x[:, None] - x, axis=2) + np.diag(np.full(len(x), np.inf))
    one, other = np.unravel_index(np.argmin(apart), apart.shape)
    images = [_image(x[one] + t * (x[other] - x[one]), shape) for t in np.linspace(0, 1, 101)]
    own = Contributions(query)
    return min(images, key=lambda image: own.shares(image, 0).max())


def _image(values, shape):
    """The image uint8 [H, W, C] nearest to pixel values in [-1, 1]."""
    return pixels.to_uint8(values).reshape(shape)


def steps_of(build, plan, dataset):
    """Returns the Steps of a short run, a list: each has what all runs of its round learned from.

    Runs of few numbers are repeated, for noise to be seen by; without noise one says all.
    """
    residuals, sizes = [], 0
    most_runs = 1 if plan.noise_multiplier == shadow.QUIET else _MOST_RUNS
    while not residuals or (sizes < _ENOUGH_NUMBERS and len(residuals) < most_runs):
        residuals.append(_residuals(build(plan), plan, dataset))
        sizes += sum(map(len, residuals[-1]))
    steps = zip(plan.noise_multipliers, *residuals, strict=True)
    rounds = plan.steps - plan.refiner_steps
    return [
        shadow.Step(f"step {number}", np.stack(of_runs), noise_multiplier, 1.0)
        if number <= rounds
        else refiner.step_of(of_runs, plan, number)
        for number, (noise_multiplier, *of_runs) in enumerate(steps, start=1)
    ]


def _residuals(model, plan, dataset):
    """Of each step of a run what it learned from, less the auditor's sums, over C: float64 [D]."""
    learned, rounds = Learned(model.learner), plan.steps - plan.refiner_steps
    of_refiner = refiner.Learned(model.learner.steps) if plan.refiner_steps else None
    shadow.take(model, plan, dataset, plan.steps)
    if len(learned.steps) == learned.releases == rounds:
        found = [
            (released - Contributions(query).total(dataset.images, dataset.labels, dataset.units))
            / query.scales.clip_norm
            for query, released in learned.steps
        ]
    else:  # something else than one release a step was paid for, or learned from
        found = [np.full(2, np.inf)] * rounds
    if of_refiner:
        draws = shadow.draws_of(dataset, model.learner, plan.stages[-1])
        found += refiner.residuals(model.learner.steps, of_refiner, plan, dataset, draws)
    return found


class Learned:
    """What a per-record learner asks of its mechanism, and learns from, from now on.

    Attributes:
      steps: (MomentQuery, float64 [D]) of each release that something was learned from.
      releases: how many the mechanism made.

    Args:
      learner: of a run's model.
    """

    def __init__(self, learner):
        self.steps, self.releases = [], 0
        mechanism = learner.mechanism
        self._release, mechanism.release = mechanism.release, self._count

    def _count(self, draw, query, **settings):
        self.releases += 1
        release = self._release(draw, query, **settings)
        return _Watched(**vars(release), steps=self.steps)


@dataclasses.dataclass(frozen=True, eq=False)
class _Watched(Release):
    """A Release that notes when it is learned from, and what it is then.

    steps: the list that (MomentQuery, float64 [D]) go into.
    """

    steps: list

    def moments(self):
        """Returns the Moments that were released."""
        self.steps.append((self.query, np.array(self.vector, np.float64)))
        return super().moments()


def differing_replays(build, plan, *datasets):
    """Returns what is not the same where other records give the same releases: see `shadow`."""
    answers, of_refiner, runs = [], [], []
    for records in datasets:
        model = build(plan)
        rounds_of(model.learner)._rng = np.random.default_rng(0)
        shadow.answer(model.mechanism, answers)
        if plan.refiner_steps:
            model.learner.steps._random = np.random.default_rng(0)
            shadow.answer(model.learner.steps.mechanism, of_refiner)
        learned = Learned(model.learner)
        shadow.take(model, plan, records, plan.steps)
        runs.append(([query.to_bytes() for query, _ in learned.steps], model))
    (asked, model), (asked_again, again) = runs
    found = [
        f"what step {number + 1} asks"
        for number in range(plan.steps)
        if asked[number : number + 1] != asked_again[number : number + 1]
    ]
    return found + shadow.differing_weights(model, again)


def canary_scores(model, plan, planted):
    """Returns float [canaries]: how much of each one's contribution is in the releases.

    The attacker knows all records and canaries, only not who of the latter is in: what is expected
    of the release before the coins are known is subtracted; and from the contribution looked for,
    what it has in common with the other canaries of its class, which shows how many are in and not
    which. Rounds add up by the inverse of their noise's variance, as likelihoods do.
    """
    scores = np.zeros(len(planted.canaries))
    learned = Learned(model.learner)
    shadow.take(model, plan, planted.dataset, plan.steps)
    known = planted.known
    for (query, released), noise_multiplier in zip(
        learned.steps, plan.noise_multipliers, strict=True
    ):
        own = Contributions(query)
        rest = released - own.total(known.images, known.labels, known.units)
        added = [_of_canary(own, *c) for c in zip(planted.canaries, planted.labels, strict=True)]
        for label, contribution in zip(planted.labels, added, strict=True):
            rest[own.places(label)] -= contribution / 2
        rest /= (noise_multiplier * query.scales.clip_norm) ** 2
        for label in np.unique(planted.labels):
            members = np.flatnonzero(planted.labels == label)
            of_class = np.stack([added[i] for i in members])
            of_class -= of_class.mean(axis=0)
            scores[members] += of_class @ rest[own.places(label)]
    return scores


def _of_canary(own, images, label):
    """What a canary adds at the places of its class: an image, or those of a person [m, H, W, C]."""
    if images.ndim == 3:
        return own.of(images, label)
    return own.of_unit(images, [label] * len(images))[own.places(label)]
