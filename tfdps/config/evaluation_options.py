"""EvaluationOptions: what evaluating, auditing and reporting take besides the run itself."""

import dataclasses
import os
import pathlib
import typing

from tfdps import checks

AUDIT_PARTS = ("mechanism", "canaries", "membership", "memorisation")
PROTOCOLS = ("classic", "dpimagebench")
QUICK_SAMPLES = 10_000
CACHE_IN_REPORT = "report"  # a folder of that name is ./report


def _field(default, help_text):
    return dataclasses.field(default=default, metadata={"help": help_text})


@checks.known_fields
@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How an export is evaluated and a run audited. Field names are the flags' names.

    Raises:
      UsageError: from the constructor, when a value lies outside what its help text allows.

    Examples:
      >>> import tfdps
      >>> tfdps.EvaluationOptions(eval_quick=True).num_samples
      10000
    """

    eval_samples: int = _field(60_000, "--mode=evaluate: how many generated images, at least 100.")
    eval_repeats: int = _field(
        1, "--mode=evaluate: how many sets of generated images; from 2 on there is a spread."
    )
    eval_quick: bool = _field(
        False,
        "--mode=evaluate: at most 10,000 images, without the pixel threshold and the ResNet.",
    )
    eval_protocol: str = _field(
        "classic",
        "--mode=evaluate: classic, which is LogReg, MLP, CNN and a small ResNet; or dpimagebench: "
        "ResNet-110, WRN-40-4 and ResNeXt-29, for a GPU.",
    )
    eval_epochs: typing.Optional[int] = _field(
        None,
        "--eval_protocol=dpimagebench: epochs of each classifier; default: the protocol's 50. Fewer "
        "are a short form.",
    )
    eval_real: bool = _field(
        False, "--mode=evaluate: train the same classifiers on the real data too, as a reference."
    )
    eval_npz: bool = _field(
        True,
        "--mode=evaluate: write the generated images, of several sets the first, to gen.npz in the "
        "report's folder, as DPImageBench's eval.py reads them.",
    )
    eval_dataset: typing.Optional[str] = _field(
        None,
        "Real images that were not trained on, for evaluate and audit: a tfds name or folder:PATH; "
        "default: the test split of the run's data set.",
    )
    eval_split: typing.Optional[str] = _field(
        None, "The split of held-out images; default: test, or train of an --eval_dataset folder."
    )
    inception_weights: typing.Optional[str] = _field(
        None,
        "--mode=evaluate: a file of Inception weights, for FID and KID in its features: the 2015 "
        "graph (*.pb) or Keras' InceptionV3 without top (*.h5).",
    )
    feature_cache: str = _field(
        os.path.join("~", ".cache", "tfdps"),
        "Folder for the network of the feature space, which evaluate and audit train on the real "
        "training records without noise: in its sub-folder nonprivate/, outside model_dir, for all "
        "runs on the same records. report: in model_dir/report/nonprivate/.",
    )
    audit_parts: str = _field(
        ",".join(AUDIT_PARTS), "--mode=audit: what to do, a list of some of these with commas."
    )
    audit_trials: int = _field(
        2_000,
        "--mode=audit: real steps a side of each pair of neighbours, at least 150; 10000 takes five "
        "times as long and gives tighter bounds.",
    )
    report_dir: typing.Optional[str] = _field(
        None, "Where evaluation.json and audit.json go; default: model_dir/report."
    )
    report: bool = _field(True, "Draw the report page at the end of train, evaluate and audit.")
    report_public: bool = _field(
        False,
        "Draw the page for sending on, report/public.html: without what was computed from private "
        "records. The other page, report/index.html, is left as it is by --mode=report.",
    )

    def __post_init__(self) -> None:
        checks.field_types(self)
        checks.at_least("eval_samples", self.eval_samples, 100)
        checks.at_least("eval_repeats", self.eval_repeats, 1)
        checks.one_of("eval_protocol", self.eval_protocol, PROTOCOLS)
        if self.eval_epochs is not None:
            checks.at_least("eval_epochs", self.eval_epochs, 1)
            if self.eval_protocol != "dpimagebench":
                raise checks.UsageError(
                    f"--eval_epochs={self.eval_epochs} needs --eval_protocol=dpimagebench: the "
                    "classifiers of the classic protocol have epochs of their own."
                )
        checks.at_least("audit_trials", self.audit_trials, 150)
        for part in self.parts:
            checks.one_of("audit_parts", part, AUDIT_PARTS)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names in audit_parts."""
        return tuple(part.strip() for part in self.audit_parts.split(","))

    @property
    def num_samples(self) -> int:
        """How many images an evaluation draws."""
        return min(self.eval_samples, QUICK_SAMPLES) if self.eval_quick else self.eval_samples

    def cache_dir(self, report_dir: pathlib.Path) -> pathlib.Path:
        """The pathlib.Path of feature_cache: `report_dir`, a pathlib.Path, where that says report."""
        if self.feature_cache == CACHE_IN_REPORT:
            return report_dir
        try:
            return pathlib.Path(self.feature_cache).expanduser()
        except RuntimeError as error:  # an account without a home, as containers have
            raise checks.UsageError(
                f"feature_cache must be a folder, and there is no home for {self.feature_cache}: give "
                "--feature_cache=PATH, or --feature_cache=report."
            ) from error
