"""Checks that a run's batches are the Poisson draws that are accounted."""

import numpy as np
from scipy import stats

from tfdps.data.dataset import Dataset, DatasetSpec
from tfdps.distributed import replicas
from tfdps.mechanisms.batches import PoissonBatches

_FAILURE_PROBABILITY = 1e-6  # of each check, for draws that are as claimed
_NUM_DRAWS, _NUM_WHOLE_DRAWS = 500, 10  # the latter where every record is in every draw


def check_draws(learner, plan):
    """Returns checks that every record is drawn with probability q, independently each step.

    What is looked at are the batches that training gets, of records that are numbered by their labels;
    in two parts where a draw may be in several.

    Args:
      learner: of the run's model.
      plan: its PrivacyPlan.
    """
    return [check for stage in plan.stages for check in _of_stage(learner, plan, stage)]


def _of_stage(learner, plan, stage):
    size, probability = plan.dataset_size, stage.sampling_probability
    most = plan.images_per_unit
    records = size * most
    numbered = Dataset(
        np.zeros([records, 1, 1, 1], np.uint8),
        np.arange(records, dtype=np.int32),
        DatasetSpec("numbered", (1, 1, 1), ()),
        units=None if plan.images_per_person is None else np.arange(records).reshape(size, most),
    )
    part_bytes = -(-size // 2) * most
    draws = PoissonBatches.of_run(
        numbered, learner, on=replicas.Replicas(), stage=stage, part_bytes=part_bytes
    )
    num_draws = _NUM_WHOLE_DRAWS if probability == 1 else _NUM_DRAWS
    counts, per_record, twice, torn = np.zeros(num_draws, int), np.zeros(size, int), 0, 0
    batches = iter(draws.dataset(num_draws))
    for number in range(num_draws):
        drawn = np.zeros(records, int)
        for _ in range(draws.parts_per_step):
            _, labels, weights, *_ = next(batches)
            drawn += np.bincount(labels.numpy()[weights.numpy() > 0], minlength=records)
        twice += int(np.count_nonzero(drawn > 1))
        of_units = drawn.reshape(size, most)
        drawn = of_units[:, 0]
        torn += int(np.count_nonzero(of_units != drawn[:, np.newaxis]))
        counts[number] = drawn.sum()
        per_record += drawn
    total = stats.binomtest(int(counts.sum()), size * num_draws, probability)
    where = ", refiner" if stage.first else ""
    of_persons = {
        "name": f"a person's images are drawn together{where}",
        "passed": torn == 0,
        "detail": f"{torn} images in {num_draws} draws were not drawn as their person's first one",
    }
    return [
        *([] if plan.images_per_person is None else [of_persons]),
        {
            "name": f"sampling probability{where}",
            "passed": bool(total.pvalue > _FAILURE_PROBABILITY),
            "detail": f"{counts.sum() / size / num_draws:.6g}, claimed {probability:.6g}",
        },
        {
            "name": f"a record is in a draw once{where}",
            "passed": twice == 0,
            "detail": f"{twice} records in {num_draws} draws were there more than once",
        },
        _check_dispersion(f"draws vary as coins do{where}", counts, size, probability),
        _check_dispersion(
            f"records' draws are independent{where}", per_record, num_draws, probability
        ),
    ]


def _check_dispersion(name, counts, trials, probability):
    """Binomial counts have variance n p (1 - p); their sum of squares is chi-square, nearly."""
    variance = trials * probability * (1 - probability)
    if variance == 0:  # q = 1: everybody is in every draw
        return {
            "name": name,
            "passed": bool(np.all(counts == trials)),
            "detail": "q = 1: all drawn",
        }
    dispersion = float(np.mean((counts - trials * probability) ** 2)) / variance
    # Variance of the squared, standardised count: 2 and the binomial's excess kurtosis.
    spread = np.sqrt((2 + (1 - 6 * probability * (1 - probability)) / variance) / len(counts))
    allowed = stats.norm.isf(_FAILURE_PROBABILITY / 2) * spread
    return {
        "name": name,
        "passed": bool(abs(dispersion - 1) <= allowed),
        "detail": f"variance over a coin's {dispersion:.4f}, by chance 1 +- {allowed:.4f}",
    }
