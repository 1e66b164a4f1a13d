"""--mode=audit: tries to break the guarantee."""

import logging
import time

import numpy as np

from tfdps import checks
from tfdps.accounting import shown
from tfdps.auditing import canaries, mechanism, membership, memorisation, nearest
from tfdps.evaluation import feature_cnn, outputs, overlap, subject
from tfdps.generators import pixels
from tfdps.training import builders, nonprivate, run_dir, run_plan

_logger = logging.getLogger(__name__)

MEANING = (
    "An audit can find a fault; it cannot prove that there is none. Every epsilon here is a lower "
    "bound on what leaks. The guarantee rests on the proofs beside the mechanism, not on this."
)

_NUM_IMAGES = 10_000  # samples, and training records, that the black-box attacks look at
_FEWEST_HELDOUT = 300
_REFERENCE_SHARE = 3  # one held-out record in this many calibrates the membership test


def audit(config, options, dataset=None, test_dataset=None):
    """Audits the run at `config.model_dir`; writes and returns report/audit.json.

    Guarantee: none. It reads private records without noise; what it writes is marked so, and goes
    to the report's folder, never into the export.

    Args:
      config: the RunConfig of the command line: model_dir, data_dir.
      options: the EvaluationOptions: which parts, how many trials.
      dataset: the records that the run was trained on, where a program passed them.
      test_dataset: held-out records that a program passes; see `data.arrays`.

    Raises:
      UsageError: a part needs what is not there: a run, a mechanism, held-out records.
    """
    if not config.model_dir:
        raise checks.UsageError("model_dir is missing: give the --model_dir of a run.")
    results, start, parts = {}, time.monotonic(), set(options.parts)
    tested = subject.open_subject(config, options, dataset, test_dataset)
    if parts & {"mechanism", "canaries"}:
        build, plan = _run_of(config)
    outputs.check_report(tested.report_dir)
    if parts & {"membership", "memorisation"}:
        outputs.check_cache(options.cache_dir(tested.report_dir))
    training = tested.training()
    if parts & {"membership", "memorisation"}:
        black_box = _BlackBox(tested, training, options)
    for part in options.parts:
        _logger.info(f"Auditing: {part}.")
        if part == "mechanism":
            results[part] = mechanism.audit_mechanism(
                build, plan, training, trials=options.audit_trials
            )
        elif part == "canaries":
            results[part] = canaries.audit_canaries(build, plan, training)
        else:
            results[part] = getattr(black_box, part)()
        for line in _lines(part, results[part]):
            _logger.info(f"  {line}")
    violated = [part for part in results if results[part].get("violation")]
    path = tested.report_dir / "audit.json"
    written = nonprivate.write_results(
        path,
        {
            "verdict": "violation found" if violated else "no violation found",
            "meaning": MEANING,
            **results,
            "seconds": round(time.monotonic() - start, 1),
        },
    )
    _logger.info(
        f"Audit  {written['verdict']}{': ' if violated else ''}{', '.join(violated)}  {path}"
    )
    return written


def _run_of(config):
    """(plan -> DPSinkhorn, PrivacyPlan) of the run at model_dir, as training has them."""
    run = run_dir.RunDir(config.model_dir)
    if not run.started:
        raise checks.UsageError(
            f"{run.root} holds an export without its run: the mechanism cannot be audited from it. "
            "Give the run's --model_dir, or --audit_parts=membership,memorisation."
        )
    recorded, spec, num_records = run.read()
    if not recorded.private:
        raise checks.UsageError(
            f"the run at {run.root} has no mechanism, so no claim to hold it against: epsilon is "
            "infinity. --audit_parts=membership,memorisation looks at its samples."
        )
    plan = run_plan.of_run(run, recorded, num_records, spec.num_classes)
    return lambda plan: builders.build_model(recorded, spec, plan), plan


class _BlackBox:
    """The attacks on samples alone, in pixels and in the features of a CNN."""

    def __init__(self, tested, training, options):
        heldout = tested.heldout(_FEWEST_HELDOUT)
        overlap.check(training, heldout)
        self._path = tested.report_dir / "nonprivate" / "closest.png"
        labels = np.arange(_NUM_IMAGES, dtype=np.int32) % tested.num_classes
        self._images = {
            "training": training.images,
            "heldout": heldout.images,
            "samples": tested.sampler.sample(labels, 0),
        }
        space = feature_cnn.load(training, options.cache_dir(tested.report_dir))
        self._points = {
            "pixels": {name: nearest.pixels(images) for name, images in self._images.items()},
            "features": {name: space.extract(images) for name, images in self._images.items()},
        }

    def membership(self):
        """The membership test's result in both spaces."""
        found = {"meaning": membership.MEANING}
        for name, points in self._points.items():
            reference = np.arange(len(points["heldout"])) % _REFERENCE_SHARE == 0
            found[name] = membership.membership(
                _evenly(points["training"], _NUM_IMAGES),
                points["heldout"][~reference],
                points["heldout"][reference],
                points["samples"],
            )
        return {**found, "num_records": found["pixels"]["num_members"]}

    def memorisation(self):
        """The memorisation test's result in both spaces; draws the closest pairs."""
        found = {"meaning": memorisation.MEANING}
        for name, points in self._points.items():
            found[name] = memorisation.memorisation(
                points["training"], points["heldout"], points["samples"]
            )
        self._draw(found["pixels"]["closest"])
        return {**found, "num_samples": found["pixels"]["num_samples"]}

    def _draw(self, closest):
        """A row a pair: the sample, its nearest training record, its nearest held-out record."""
        rows = memorisation.closest_pairs(
            closest,
            self._images["training"],
            self._images["heldout"],
            self._images["samples"],
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        pixels.save_png(self._path, rows, columns=3)


def _evenly(points, most):
    """At most `most` of the points, evenly spaced."""
    count = min(most, len(points))
    return points[np.arange(count) * len(points) // count]


def _lines(part, result):
    """What a part found, for the screen."""
    if "claim" in result:
        yield (
            f"epsilon at least {shown.down(result['lower_bound']['epsilon'], 3)} with confidence "
            f"{result['confidence']:g}; claimed {shown.up(result['claim']['epsilon'], 3)}; with every "
            f"guess right, guesses would show {shown.down(result['largest']['epsilon'], 3)}."
        )
        for pair in result.get("pairs", ()):
            if pair["violation"]:
                yield (
                    f"FAILED: {pair['name']}: epsilon at least "
                    f"{shown.down(pair['epsilon_lower_bound'], 3)}, claimed "
                    f"{shown.up(pair['claim']['epsilon'], 3)}."
                )
        for check in result.get("checks", ()):
            if not check["passed"]:
                yield f"FAILED: {check['name']}: {check['detail']}."
        return
    for space in ("pixels", "features"):
        intervals = ", ".join(
            f"{name.replace('_', ' ')} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
            for name, value in result[space].items()
            if isinstance(value, dict)
        )
        yield f"{space}: {intervals}"
