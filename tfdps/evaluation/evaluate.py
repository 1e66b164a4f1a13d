"""--mode=evaluate: how good an export's images are, by the field's protocols."""

import statistics
import time

import numpy as np

from tfdps import nonprivate
from tfdps.evaluation import classifiers, distances, feature_cnn, inception, resnet, subject

_FEWEST_HELDOUT = 100
_LARGEST_SUBSET = 1000  # images of a subset of KID
_NEIGHBOUR_IMAGES = 10_000  # precision, recall, density and coverage grow with the square


def evaluate(config, options, say=print):
    """Evaluates the export at `config.model_dir`; writes and returns report/evaluation.json.

    Guarantee: none. It reads private records without noise; what it writes is marked so, and goes
    to the report's folder, never into the export.

    Args:
      config: the RunConfig of the command line: model_dir, data_dir.
      options: the EvaluationOptions.
      say: called with each line for the user.

    Raises:
      UsageError: for an export that is not whole, or real data that do not fit it.
    """
    start = time.monotonic()
    tested = subject.open_subject(config, options)
    heldout, training = tested.heldout(_FEWEST_HELDOUT), tested.training()
    spaces = _feature_spaces(training, options, say)
    say(
        f"{options.eval_repeats} x {options.num_samples} generated images, tested on "
        f"{len(heldout)} real ones of {heldout.spec.name}."
    )
    protocol, measured = _Protocols(tested, heldout, options, say), _Distances(heldout, spaces)
    for repeat in range(options.eval_repeats):
        labels = np.arange(options.num_samples, dtype=np.int32) % tested.num_classes
        images = tested.sampler.sample(labels, repeat)
        protocol.run(images, labels, repeat)
        measured.run(images, repeat)
    if options.eval_real:
        protocol.run_real(training)
    results = {
        "protocol": classifiers.PROTOCOL,
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
            name: tested.sampler.card["privacy"].get(name)
            for name in ("private", "epsilon", "delta", "mechanism")
        },
        **protocol.results(),
        **measured.results(),
        "seconds": round(time.monotonic() - start, 1),
    }
    path = tested.report_dir / "evaluation.json"
    written = nonprivate.write_results(path, results)
    say(f"Evaluation  {path} ({results['seconds']:.0f} s)")
    return written


class _Protocols:
    """The classifiers' accuracies, collected over sets of generated images."""

    def __init__(self, tested, heldout, options, say):
        self._test, self._options, self._say = (heldout.images, heldout.labels), options, say
        self._num_classes = tested.num_classes
        self._runs = {}

    def run(self, images, labels, repeat):
        self._classic("accuracy", images, labels, repeat)
        if not self._options.eval_quick:
            self._classic("accuracy_thresholded", classifiers.thresholded(images), labels, repeat)
            self._resnet("resnet", images, labels, repeat)

    def run_real(self, training):
        self._classic("accuracy_real", training.images, training.labels, 0)
        if not self._options.eval_quick:
            self._resnet("resnet_real", training.images, training.labels, 0)

    def results(self):
        """{"accuracy": {"logreg": {"mean", "std", "runs"}, ...}, ..., "resnet": {...}}"""
        found = {}
        for (block, name), runs in self._runs.items():
            if block == "resnet":
                found["resnet"] = {"protocol": resnet.PROTOCOL, "accuracy": _summary(runs)}
            elif block == "resnet_real":
                found["resnet"]["accuracy_real"] = _summary(runs)
            else:
                found.setdefault(block, {})[name] = _summary(runs)
        return found

    def _classic(self, block, images, labels, repeat):
        for name in classifiers.NAMES:
            self._keep(block, name, classifiers.accuracy, name, images, labels, repeat)

    def _resnet(self, block, images, labels, repeat):
        self._keep(block, "resnet", resnet.accuracy, images, labels, repeat)

    def _keep(self, block, name, measure, *arguments):
        *arguments, repeat = arguments
        start, title = time.monotonic(), f"{block} {name}"
        value = measure(
            *arguments,
            test=self._test,
            num_classes=self._num_classes,
            seed=repeat,
            title=title,
        )
        self._runs.setdefault((block, name), []).append(value)
        self._say(f"  {title:28s} {100 * value:5.1f} %   {time.monotonic() - start:4.0f} s")


class _Distances:
    """FID, KID, precision, recall, density and coverage in each feature space, over the sets."""

    def __init__(self, heldout, spaces):
        self._spaces, self._runs = spaces, {}
        self._real = {space.name: space.extract(heldout.images) for space in spaces}

    def run(self, images, repeat):
        for space in self._spaces:
            real, generated = self._real[space.name], space.extract(images)
            subset = min(_LARGEST_SUBSET, len(real), len(generated))
            found = {
                "fid": distances.frechet_distance(real, generated),
                "kid": distances.kernel_distance(
                    real, generated, subset_size=subset, seed=repeat
                ).value,
                **distances.precision_recall_density_coverage(
                    real[:_NEIGHBOUR_IMAGES], generated[:_NEIGHBOUR_IMAGES]
                ),
            }
            for name, value in found.items():
                self._runs.setdefault(f"{name}_{space.name}", []).append(value)

    def results(self):
        """{"fid_cnn": mean over the sets, ..., "distances": {"fid_cnn": {"mean", "std", "runs"}}}"""
        return {
            **{name: _summary(runs)["mean"] for name, runs in self._runs.items()},
            "distances": {name: _summary(runs) for name, runs in self._runs.items()},
            "feature_spaces": {
                space.name: {"description": space.description, "digest": space.digest}
                for space in self._spaces
            },
        }


def _feature_spaces(training, options, say):
    named = [inception.load(options.inception_weights)] if options.inception_weights else []
    return [feature_cnn.load(training, options.cache_dir, say=say), *named]


def _summary(runs):
    """Mean, standard deviation (none of a single run) and the runs themselves."""
    spread = statistics.stdev(runs) if len(runs) > 1 else None
    return {"mean": statistics.fmean(runs), "std": spread, "runs": runs}
