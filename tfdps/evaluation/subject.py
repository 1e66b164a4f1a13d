"""What is evaluated: an export, the real images it was trained on, and real images it was not."""

import dataclasses
import pathlib

from tfdps import checks, data, run_dir, samples
from tfdps.sampler import Sampler

_DATA_FLAGS = ("dataset", "label", "image_size")


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """An export with its data. Images of both data sets have its shape and its classes.

    sampler: the export, a sampler.Sampler.
    report_dir: pathlib.Path of the folder that results go to.
    """

    sampler: Sampler
    report_dir: pathlib.Path
    _data: dict
    _options: object

    @property
    def num_classes(self):
        """The number of classes of the generator."""
        return len(self.sampler.class_names)

    @property
    def heldout_source(self):
        """(data set, split) of the held-out images; a folder's only split is train."""
        name = self._options.eval_dataset or self._data["name"]
        default = "train" if name.startswith("folder:") else "test"
        return name, self._options.eval_split or default

    def training(self):
        """Returns the Dataset that the generator was trained on; private."""
        dataset = data.load(**self._data)
        self._check(dataset, "training images")
        expected = self.sampler.card["privacy"].get("dataset_size", len(dataset))
        if len(dataset) != expected:
            raise checks.UsageError(
                f"{dataset.spec.name} must hold the {expected} records that the generator was "
                f"trained on, received {len(dataset)}: give the same data with --data_dir."
            )
        return dataset

    def heldout(self, at_least):
        """Returns the Dataset of real images that were not trained on.

        Args:
          at_least: how many records there must be.

        Raises:
          UsageError: there are none or too few, or they have other classes or another shape.
        """
        name, split = self.heldout_source
        if name.startswith("folder:") and not self._options.eval_dataset:
            raise checks.UsageError(
                f"{name} has no test split: give held-out images with --eval_dataset=folder:PATH, "
                "a folder with the same sub-folders."
            )
        if (name, split) == (self._data["name"], "train"):
            raise checks.UsageError(
                f"eval_split must be images that were not trained on, received {split!r} of {name}."
            )
        same = name == self._data["name"]
        dataset = data.load(
            name,
            data_dir=self._data["data_dir"],
            label=self._data["label"] if same else None,
            image_size=self._data["image_size"] if same else self.sampler.image_shape[0],
            split=split,
        )
        self._check(dataset, "held-out images")
        if len(dataset) < at_least:
            raise checks.UsageError(
                f"split {split} of {name} must have at least {at_least} held-out records, received "
                f"{len(dataset)}: name a larger set with --eval_dataset and --eval_split."
            )
        return dataset

    def _check(self, dataset, what):
        spec, sampler = dataset.spec, self.sampler
        if spec.class_names != sampler.class_names:
            raise checks.UsageError(
                f"{what} of {spec.name} must have the generator's classes "
                f"({_listed(sampler.class_names)}), received {_listed(spec.class_names)}."
            )
        if spec.image_shape != sampler.image_shape:
            raise checks.UsageError(
                f"{what} of {spec.name} must have the generator's shape {sampler.image_shape}, "
                f"received {spec.image_shape}: --image_size resizes them, folders of grey images "
                "have one channel."
            )


def open_subject(config, options):
    """Returns the Subject at `config.model_dir`: a run's folder, or an export alone.

    The data set is the one the export was trained on; `config.data_dir` says where tfds has it, and
    `config.dataset` where a folder of images is now.

    Args:
      config: the RunConfig of the command line.
      options: the EvaluationOptions.

    Raises:
      UsageError: there is no whole export, or nowhere to write results to.
    """
    if not config.model_dir:
        raise checks.UsageError("model_dir is missing: give the --model_dir of a run or an export.")
    sampler, run = samples.load_sampler(config.model_dir), run_dir.RunDir(config.model_dir)
    trained = _trained_on(sampler.card)
    if run.started:
        recorded, _, _ = run.read()
        trained = {name: getattr(recorded, name) for name in _DATA_FLAGS}
        config = dataclasses.replace(config, data_dir=config.data_dir or recorded.data_dir)
    elif trained["dataset"].startswith("folder:") and config.dataset.startswith("folder:"):
        trained["dataset"] = config.dataset  # the card names the folder without its path
    source = {"name": trained.pop("dataset"), "data_dir": config.data_dir, **trained}
    return Subject(sampler, _report_dir(run, options), source, options)


def _trained_on(card):
    """The data flags of a model card."""
    given = dict(
        line.removeprefix("--").split("=", 1) for line in card.get("training", {}).get("flags", [])
    )
    size = given.get("image_size")
    return {
        "dataset": card["generator"]["dataset"],
        "label": given.get("label"),
        "image_size": int(size) if size else None,
    }


def _report_dir(run, options):
    if options.report_dir:
        return pathlib.Path(options.report_dir).expanduser()
    if run.started:
        return run.report
    raise checks.UsageError(
        f"{run.root} is an export without a run: say with --report_dir=PATH where the results go. "
        "They are computed from private records and must not lie beside what is shipped."
    )


def _listed(names):
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown}, ... {len(names)} in all"
