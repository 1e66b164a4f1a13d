"""The utility section: what evaluation.json measured, beside what others have published."""

import dataclasses
import re

from tfdps.report import published, wording

_CLASSIFIERS = ("logreg", "mlp", "cnn")
_FEATURE_METRIC = re.compile(r"(fid|kid|precision|recall|density|coverage)_(.+)")
# What each metric of generated against real images says, and which way is better.
_METRICS = {
    "fid": ("FID", "distance of the two feature clouds as Gaussians; lower is better", 2),
    "kid": ("KID", "the same by a kernel; lower is better", 4),
    "precision": ("Precision", "share of generated images that look real", 3),
    "recall": ("Recall", "share of real images that the generator reaches", 3),
    "density": ("Density", "precision that counts how real; can exceed 1", 3),
    "coverage": ("Coverage", "share of real images with a generated one nearby", 3),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: who, by which protocol, the cells' texts, and whether it is this run's."""

    source: str
    protocol: str
    cells: tuple
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """One feature space: its name, description and digest, and [(metric, meaning, value)] in it."""

    name: str
    description: str
    digest: str
    figures: list


@dataclasses.dataclass(frozen=True)
class TwoSample:
    """How well generated are told from real images: the protocol, and [(what, meaning, value)]."""

    protocol: str
    figures: list


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What others have published for this data set at the epsilon nearest to the run's."""

    epsilon: float
    classic: list
    single: list
    fids: list


def comparison(spec, label, epsilon):
    """Returns the Comparison for a run, or None where nothing is published.

    Args:
      spec: the run's DatasetSpec.
      label: the run's --label, or None.
      epsilon: what the run has spent; infinity without a mechanism.
    """
    nearest, rows = published.nearest(published.benchmark_name(spec, label), epsilon)
    if nearest is None:
        return None

    def shown(value):
        return wording.figure(value, 1)

    return Comparison(
        epsilon=nearest,
        classic=[
            Row(row.source, row.protocol, tuple(shown(getattr(row, name)) for name in _CLASSIFIERS))
            for row in rows
            if row.classic
        ],
        single=[
            Row(row.source, row.protocol, (shown(row.accuracy),)) for row in rows if not row.classic
        ],
        fids=[
            Row(row.source, "the source's own", (shown(row.fid),))
            for row in rows
            if row.fid is not None
        ],
    )


def measured(evaluation):
    """Returns what was measured as a dict of texts, lists of Row, and what the keys below say.

    quick: bool; spaces: a list of FeatureSpace; neighbours: a text, or None in older files;
    two_sample: a TwoSample, or None in older files.

    Args:
      evaluation: evaluation.json, a dict; any key may be absent.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: for values of another kind than the format's.
    """
    resnet = evaluation.get("resnet") or {}
    return {
        "about": _about(evaluation),
        "protocol": evaluation.get("protocol", ""),
        "quick": bool(evaluation.get("quick", False)),
        "created": evaluation.get("created"),
        "classic": _classic(evaluation),
        "resnet_protocol": resnet.get("protocol", ""),
        "single": [
            Row(source, "this run's ResNet protocol", (wording.mean_and_spread(resnet[key]),), True)
            for source, key in (
                ("This run", "accuracy"),
                ("Real training records", "accuracy_real"),
            )
            if resnet.get(key) is not None
        ]
        + _dpimagebench(evaluation.get("dpimagebench") or {}),
        "spaces": _spaces(evaluation),
        "neighbours": _neighbours(evaluation.get("neighbours")),
        "two_sample": _two_sample(evaluation.get("two_sample")),
    }


def _about(evaluation):
    """How the accuracies were measured, in a sentence."""
    parts = []
    if "num_samples" in evaluation:
        parts.append(f"{wording.count(evaluation['num_samples'])} generated images")
    if "num_repeats" in evaluation:
        repeats = int(evaluation["num_repeats"])
        parts.append("one run" if repeats == 1 else f"mean ± standard deviation of {repeats} runs")
    test_set = evaluation.get("test_set")
    if test_set:
        records = wording.count(test_set["num_records"])
        parts.append(
            f"tested on {records} real records ({test_set['name']}, split {test_set['split']})"
        )
    return ", ".join(parts)


def _classic(evaluation):
    rows = (
        ("This run", "accuracy", "images as they are"),
        ("This run", "accuracy_thresholded", "pixels below 0 set to −1 first, as DP-Sinkhorn does"),
        ("Real training records", "accuracy_real", "reference: no privacy, no generator"),
    )
    return [
        Row(
            source,
            protocol,
            tuple(wording.mean_and_spread(evaluation[key].get(name)) for name in _CLASSIFIERS),
            True,
        )
        for source, key, protocol in rows
        if evaluation.get(key) is not None
    ]


def _dpimagebench(found):
    """Rows of the mean and the best of DPImageBench's three classifiers, and of each."""
    if not found:
        return []
    short = "" if found["epochs"] >= found["published_epochs"] else ", SHORT FORM"
    protocol = f"DPImageBench's, {found['epochs']} epochs{short}: "
    return [
        Row(source, protocol + name, (wording.mean_and_spread(value),), True)
        for source, key in (("This run", "accuracy"), ("Real training records", "accuracy_real"))
        for name, value in found.get(key, {}).items()
    ]


def _spaces(evaluation):
    """The FeatureSpaces that the file has numbers in: a number is never shown outside its own."""
    descriptions = evaluation.get("feature_spaces") or {}
    names = [match[2] for match in map(_FEATURE_METRIC.fullmatch, evaluation) if match]
    spaces = []
    for name in dict.fromkeys(names):
        about = descriptions.get(name) or {}
        figures = [
            (title, meaning, wording.figure(evaluation[f"{metric}_{name}"], digits))
            for metric, (title, meaning, digits) in _METRICS.items()
            if f"{metric}_{name}" in evaluation
        ]
        spaces.append(
            FeatureSpace(name, about.get("description", ""), about.get("digest", ""), figures)
        )
    return spaces


def _neighbours(found):
    """Which nearest neighbours precision and the others go by, a sentence; None in older files."""
    if found is None:
        return None
    return (
        f"Precision and recall go by {wording.count(found['precision_recall'])} nearest neighbours of "
        f"each image, density and coverage by {wording.count(found['density_coverage'])}, among "
        f"{wording.count(found['num_images'])} images of each kind."
    )


def _two_sample(found):
    """The TwoSample of the file; None in older ones."""
    if found is None:
        return None
    tested = sum(int(wording.number(run["num_tested"])) for run in found["runs"])
    confidence = wording.confidence(found["confidence"])
    return TwoSample(
        found["protocol"],
        [
            (
                "Accuracy",
                f"share of {wording.count(tested)} images, not trained on, that it names correctly; "
                f"50 %: it cannot tell, 100 %: always; in brackets the {confidence} interval",
                wording.interval(found["accuracy"], 1, in_percent=True),
            ),
            (
                "AUC",
                "how often a generated image looks less real to it than a real one; 0.5: it cannot "
                "tell, 1: always",
                wording.figure(found["auc"]),
            ),
        ],
    )
