"""--mode=evaluate: how good an export's images are, by the field's protocols."""

import dataclasses
import logging
import statistics
import time

import numpy as np

from tfdps.data import held_out
from tfdps.evaluation import (
    accuracies,
    distances,
    feature_cnn,
    inception,
    outputs,
    overlap,
    subject,
    two_sample,
)
from tfdps.samplers import writers
from tfdps.training import nonprivate

_logger = logging.getLogger(__name__)

_WRITTEN_AT_ONCE = 1000  # images
_LARGEST_SUBSET = 1000  # images of a subset of KID
_NEIGHBOUR_IMAGES = 10_000  # a side, at most: the time of nearest neighbours grows with the square
# The neighbour whose distance is a ball's radius, as published.
_PRECISION_NEIGHBOUR, _DENSITY_NEIGHBOUR = 3, 5


def evaluate(config, options, dataset=None, test_dataset=None):
    """Evaluates the export at `config.model_dir`; writes and returns report/evaluation.json.

    Guarantee: none. It reads private records without noise; what it writes of them is marked so, and
    goes to the report's folder, never into the export. gen.npz there holds generated images alone.

    Args:
      config: the RunConfig of the command line: model_dir, data_dir.
      options: the EvaluationOptions.
      dataset: the records that the run was trained on, where a program passed them.
      test_dataset: held-out records that a program passes; see `data.arrays`.

    Raises:
      UsageError: for an export that is not whole, or real data that do not fit it.
    """
    start = time.monotonic()
    tested = subject.open_subject(config, options, dataset, test_dataset)
    outputs.check_report(tested.report_dir)
    outputs.check_cache(options.cache_dir(tested.report_dir))
    heldout, training = tested.heldout(held_out.FEWEST), tested.training()
    overlap.check(training, heldout)
    spaces = _feature_spaces(tested, training, options)
    _logger.info(
        f"{options.eval_repeats} x {options.num_samples} generated images, tested on "
        f"{len(heldout)} real ones of {heldout.spec.name}."
    )
    if options.eval_protocol == "dpimagebench":
        protocol = accuracies.DPImageBench(tested, training, heldout, options)
    else:
        protocol = accuracies.Classic(tested, heldout, options)
    told_apart = _ToldApart(heldout)
    measured = _Distances(heldout, spaces, options.num_samples)
    for repeat in range(options.eval_repeats):
        labels = np.arange(options.num_samples, dtype=np.int32) % tested.num_classes
        images = tested.sampler.sample(labels, repeat)
        if options.eval_npz and repeat == 0:
            _write_images(tested.report_dir / "gen.npz", images, labels)
        told_apart.run(images, labels, repeat)
        protocol.run(images, labels, repeat)
        measured.run(images, repeat)
    if options.eval_real:
        protocol.run_real(training)
    results = {
        "protocol": protocol.text,
        "unit": "accuracies are fractions in [0, 1]",
        "num_samples": options.num_samples,
        "num_repeats": options.eval_repeats,
        "quick": options.eval_quick,
        "test_set": {
            "name": heldout.spec.name,
            "split": tested.heldout_source[1],
            "num_records": len(heldout),
        },
        "privacy": {
            name: getattr(tested.sampler.card, name)
            for name in ("private", "epsilon", "delta", "mechanism")
        },
        **protocol.results(),
        **measured.results(),
        "two_sample": told_apart.results(),
        "seconds": round(time.monotonic() - start, 1),
    }
    nonprivate.write_real_images(tested.report_dir, heldout)
    path = tested.report_dir / "evaluation.json"
    written = nonprivate.write_results(path, results)
    _logger.info(f"Evaluation  {path} ({results['seconds']:.0f} s)")
    return written


class _Distances:
    """FID, KID, precision, recall, density and coverage in each feature space, over the sets."""

    def __init__(self, heldout, spaces, num_samples):
        self._spaces, self._runs = spaces, {}
        self._num_near = min(_NEIGHBOUR_IMAGES, len(heldout), num_samples)
        self._real = {space.name: space.extract(heldout.images) for space in spaces}

    def run(self, images, repeat):
        for space in self._spaces:
            start = time.monotonic()
            found = self._compared(self._real[space.name], space.extract(images), repeat)
            for name, value in found.items():
                self._runs.setdefault(f"{name}_{space.name}", []).append(value)
            _logger.info(
                f"  {'distances ' + space.name:28s} FID {found['fid']:.2f}, precision "
                f"{found['precision']:.3f}, recall {found['recall']:.3f}   "
                f"{time.monotonic() - start:4.0f} s"
            )

    def results(self):
        """{"fid_cnn": mean over the sets, ..., "distances": {"fid_cnn": {"mean", "std", "runs"}}}"""
        return {
            **{name: accuracies.summary(runs)["mean"] for name, runs in self._runs.items()},
            "distances": {name: accuracies.summary(runs) for name, runs in self._runs.items()},
            "neighbours": {
                "precision_recall": _PRECISION_NEIGHBOUR,
                "density_coverage": _DENSITY_NEIGHBOUR,
                "num_images": self._num_near,
            },
            "feature_spaces": {
                space.name: {"description": space.description, "digest": space.digest}
                for space in self._spaces
            },
        }

    def _compared(self, real, generated, seed):
        """{"fid": ..., "coverage": ...} of two clouds; of equally many points where numbers matter."""
        subset = min(_LARGEST_SUBSET, len(real), len(generated))
        near = [_some(cloud, self._num_near, seed) for cloud in (real, generated)]
        return {
            "fid": distances.frechet_distance(real, generated),
            "kid": distances.kernel_distance(real, generated, subset_size=subset, seed=seed).value,
            **distances.precision_recall(*near, k=_PRECISION_NEIGHBOUR),
            **distances.density_coverage(*near, k=_DENSITY_NEIGHBOUR),
        }


def _some(cloud, count, seed):
    """`count` of the cloud's points, drawn at random: their order may follow the classes."""
    return cloud[np.random.default_rng(seed).permutation(len(cloud))[:count]]


class _ToldApart:
    """How well a classifier tells the generated images from real ones, over the sets."""

    def __init__(self, heldout):
        self._real, self._runs = (heldout.images, heldout.labels), []

    def run(self, images, labels, repeat):
        start, title = time.monotonic(), "two_sample cnn"
        found = two_sample.score(self._real, (images, labels), seed=repeat, title=title)
        self._runs.append(found)
        _logger.info(
            f"  {title:28s} {100 * found.accuracy:5.1f} %   {time.monotonic() - start:4.0f} s   "
            f"(50 %: not told from real images, 100 %: always; AUC {found.auc:.4f})"
        )

    def results(self):
        """Means over the sets, also of the interval's ends: it is then too wide, if anything."""
        mean = {
            field.name: statistics.fmean(getattr(run, field.name) for run in self._runs)
            for field in dataclasses.fields(two_sample.TwoSampleScore)
        }
        return {
            "protocol": two_sample.PROTOCOL,
            "accuracy": {"value": mean["accuracy"], "low": mean["low"], "high": mean["high"]},
            "confidence": two_sample.CONFIDENCE,
            "auc": mean["auc"],
            "runs": [dataclasses.asdict(run) for run in self._runs],
        }


def _write_images(path, images, labels):
    """Writes the generated images for DPImageBench, a batch at a time: as floats they take four times
    their memory.
    """
    count, *shape = images.shape
    with writers.open_benchmark_writer(path, count=count, image_shape=shape) as write:
        for start in range(0, count, _WRITTEN_AT_ONCE):
            part = slice(start, start + _WRITTEN_AT_ONCE)
            write(images[part], labels[part])
    _logger.info(f"Images  {path} ({path.stat().st_size / 1e6:.1f} MB, for DPImageBench's eval.py)")


def _feature_spaces(tested, training, options):
    named = [inception.load(options.inception_weights)] if options.inception_weights else []
    cache_dir = options.cache_dir(tested.report_dir)
    return [feature_cnn.load(training, cache_dir), *named]
