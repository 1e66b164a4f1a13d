"""Accuracies of classifiers trained on generated images, collected over sets of these."""

import logging
import statistics
import time

from tfdps.evaluation import classifiers, dpimagebench, resnet

_logger = logging.getLogger(__name__)


class Classic:
    """Those of the classic protocol, and of a small ResNet.

    Args:
      tested: the Subject.
      heldout: the Dataset to test on.
      options: the EvaluationOptions.
    """

    text = classifiers.PROTOCOL

    def __init__(self, tested, heldout, options):
        self._test, self._options = (heldout.images, heldout.labels), options
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
                found["resnet"] = {"protocol": resnet.PROTOCOL, "accuracy": summary(runs)}
            elif block == "resnet_real":
                found["resnet"]["accuracy_real"] = summary(runs)
            else:
                found.setdefault(block, {})[name] = summary(runs)
        return found

    def _classic(self, block, images, labels, repeat):
        for name in classifiers.NAMES:
            self._keep(block, name, classifiers.accuracy, name, images, labels, seed=repeat)

    def _resnet(self, block, images, labels, repeat):
        self._keep(block, "resnet", resnet.accuracy, images, labels, seed=repeat)

    def _keep(self, block, name, measure, *arguments, seed):
        settings = {"test": self._test, "num_classes": self._num_classes, "seed": seed}
        value = _said(measure, *arguments, **settings, title=f"{block} {name}")
        self._runs.setdefault((block, name), []).append(value)


class DPImageBench:
    """Those of DPImageBench's three classifiers.

    Args:
      tested: the Subject.
      training: the Dataset that it was trained on: some of it chooses the epoch.
      heldout: the Dataset to test on.
      options: the EvaluationOptions.
    """

    def __init__(self, tested, training, heldout, options):
        self._epochs = options.eval_epochs or dpimagebench.EPOCHS
        self.text = dpimagebench.protocol(self._epochs)
        self._common = {
            "validation": dpimagebench.validation_of(training),
            "test": (heldout.images, heldout.labels),
            "num_classes": tested.num_classes,
            "epochs": self._epochs,
        }
        self._runs = {}

    def run(self, images, labels, repeat, block="accuracy"):
        for name in dpimagebench.NAMES:
            settings = {**self._common, "seed": repeat, "title": f"{block} {name}"}
            value = _said(dpimagebench.accuracy, name, images, labels, **settings)
            self._runs.setdefault(block, {}).setdefault(name, []).append(value)

    def run_real(self, training):
        self.run(training.images, training.labels, 0, "accuracy_real")

    def results(self):
        """{"dpimagebench": {"epochs", "accuracy": {name: {"mean", ...}, "mean": ..., "best": ...}}}

        "mean" and "best" are over the three, set by set.
        """
        found = {"epochs": self._epochs, "published_epochs": dpimagebench.EPOCHS}
        for block, runs in self._runs.items():
            sets = list(zip(*runs.values(), strict=True))
            found[block] = {name: summary(values) for name, values in runs.items()} | {
                "mean": summary([statistics.fmean(values) for values in sets]),
                "best": summary([max(values) for values in sets]),
            }
        return {"dpimagebench": found}


def _said(measure, *arguments, title, **settings):
    """What `measure` returns, an accuracy, which is said with its time."""
    start = time.monotonic()
    value = measure(*arguments, **settings, title=title)
    _logger.info(f"  {title:28s} {100 * value:5.1f} %   {time.monotonic() - start:4.0f} s")
    return value


def summary(runs):
    """Returns mean, standard deviation (none of a single run) and the runs themselves, a dict."""
    spread = statistics.stdev(runs) if len(runs) > 1 else None
    return {"mean": statistics.fmean(runs), "std": spread, "runs": runs}
