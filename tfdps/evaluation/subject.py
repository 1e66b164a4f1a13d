"""What is evaluated: an export, the real images it was trained on, and real images it was not."""

import dataclasses
import os
import pathlib

from tfdps import checks
from tfdps.config import flags
from tfdps.data import arrays, held_out, loading, location
from tfdps.samplers import saved_model_sampler
from tfdps.samplers.base import Sampler
from tfdps.training import run_dir

# How a file becomes pixels: held-out ones too.
_OF_FILES = ("max_value", "background", "fit", "dicom_window")
_DATA_FLAGS = (
    "dataset",
    "label",
    "labels_csv",
    "image_size",
    "class_names",
    "person",
    "images_per_person",
    "held_out",
    *_OF_FILES,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """An export with its data. Images of both data sets have its shape and its classes.

    sampler: the export, a sampler.Sampler.
    report_dir: pathlib.Path of the folder that results go to.
    passed: (training records, held-out records) of a program, see `data.arrays`; None: by name.
    """

    sampler: Sampler
    report_dir: pathlib.Path
    _run: run_dir.RunDir
    _data: dict
    _options: object
    passed: tuple = (None, None)

    @property
    def num_classes(self):
        """The number of classes of the generator."""
        return len(self.sampler.class_names)

    @property
    def heldout_source(self):
        """(data set, split) of the held-out images: of a run that held out a share, this share.

        A folder without a share and without a CSV file has train alone.
        """
        if self.passed[1] is not None:
            return "arrays", "test"
        options = self._options
        if self._data["held_out"] is not None and not (options.eval_dataset or options.eval_split):
            return self._data["name"], held_out.SPLIT
        name = self._options.eval_dataset or self._data["name"]
        default = "test" if not location.is_folder(name) or self._has_splits(name) else "train"
        return name, self._options.eval_split or default

    def _has_splits(self, name):
        """Whether a CSV file says which images of a folder are of which split."""
        return (location.is_folder(name) and location.is_csv(location.path(name))) or (
            location.same(name, self._data["name"]) and self._data["labels_csv"] is not None
        )

    def training(self):
        """Returns the Dataset that the generator was trained on; private.

        Raises:
          UsageError: the data are not those of the card and, where there is one, of the run.
        """
        data = self._data
        if arrays.is_name(data["name"]):  # a Dataset may have declared the classes
            data = {**data, "class_names": self.sampler.class_names}
        dataset = loading.load(
            **data, channels=self._channels(data["name"]), records=self.passed[0]
        )
        self._check(dataset, "training images")
        self._run.check_data(dataset)
        expected = self.sampler.card.dataset_size
        if dataset.size != expected:
            raise checks.UsageError(
                f"{dataset.spec.name} must hold the {expected} records, or persons, that the generator "
                f"was trained on, received {dataset.size}: give the same data with --data_dir."
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
        if self.passed[1] is not None:
            return self._passed_heldout(at_least)
        if arrays.is_name(name):
            raise checks.UsageError(
                f"{name} has no test split: pass held-out records, test_dataset=(images, labels), or "
                "name a set with eval_dataset."
            )
        same = location.same(name, self._data["name"])
        shared_out = same and self._data["held_out"] is not None and split == held_out.SPLIT
        has_split = self._options.eval_dataset or self._has_splits(name) or shared_out
        if location.is_folder(name) and not has_split:
            raise checks.UsageError(
                f"{name} has no test split: give held-out images with --eval_dataset=folder:PATH, "
                "a folder with the same sub-folders, or name a split of its CSV file, --eval_split; a "
                "new run can hold out a share of its own images, --held_out=0.1."
            )
        if split == "train" and same:
            raise checks.UsageError(
                "eval_dataset and eval_split must be images that were not trained on, received "
                f"{split!r} of {name}."
            )
        dataset = loading.load(
            name,
            data_dir=self._data["data_dir"],
            label=self._data["label"] if same or self._without_labels(name) else None,
            image_size=self._data["image_size"] if same else self.sampler.image_shape[0],
            channels=self._channels(name),
            split=split,
            **self._of_files(name),
            **(self._of_same_data() if same else {}),
        )
        if location.is_folder(name) and not same and self._data["person"] is not None:
            label = self._data["label"] if self._without_labels(name) else None
            whose = loading.whose_if_told(
                name, person=self._data["person"], label=label, split=split
            )
            dataset = dataclasses.replace(dataset, persons=whose)
        return self._heldout(dataset, at_least)

    def _of_same_data(self):
        """Who is whose in another part of the data that were trained on, and which part that is."""
        settings = {name: self._data[name] for name in ("person", "held_out")}
        if settings["person"] is None:
            return settings
        return {**settings, "images_per_person": self._data["images_per_person"]}

    def _passed_heldout(self, at_least):
        if self._options.eval_dataset or self._options.eval_split:
            raise checks.UsageError(
                "eval_dataset and eval_split must be left out where test_dataset is passed."
            )
        dataset = loading.load(
            "arrays", class_names=self.sampler.class_names, records=self.passed[1]
        )
        return self._heldout(dataset, at_least)

    def _heldout(self, dataset, at_least):
        """`dataset`, where it fits the generator and has enough records."""
        self._check(dataset, "held-out images")
        if len(dataset) < at_least:
            raise checks.UsageError(
                f"split {self.heldout_source[1]} of {dataset.spec.name} must have at least {at_least} "
                f"held-out records, received {len(dataset)}: name a larger set with --eval_dataset and "
                "--eval_split."
            )
        return dataset

    def _channels(self, name):
        """The generator's, as a folder's images are taken; another set has its own."""
        return self.sampler.image_shape[-1] if location.is_folder(name) else None

    def _without_labels(self, name):
        return location.is_folder(name) and self._data["label"] == "none"

    def _of_files(self, name):
        """How a folder's files are read: as those that were trained on, and one class has its name."""
        if not location.is_folder(name):
            return {}
        names, same = self.sampler.class_names, location.same(name, self._data["name"])
        settings = {key: self._data[key] for key in _OF_FILES}
        settings["labels_csv"] = self._data["labels_csv"] if same else None
        # Of a CSV file a split may lack a class.
        return {**settings, "class_names": names if same or len(names) == 1 else None}

    def _check(self, dataset, what):
        spec, sampler = dataset.spec, self.sampler
        if spec.class_names != sampler.class_names:
            raise checks.UsageError(
                f"{what} of {spec.name} must have the generator's classes "
                f"({checks.listed(sampler.class_names)}), received {checks.listed(spec.class_names)}."
            )
        if spec.image_shape != sampler.image_shape:
            raise checks.UsageError(
                f"{what} of {spec.name} must have the generator's shape {sampler.image_shape}, "
                f"received {spec.image_shape}: --image_size resizes them."
            )


def open_subject(config, options, dataset=None, test_dataset=None):
    """Returns the Subject at `config.model_dir`: a run's folder, or an export alone.

    The data set is the one the export was trained on; `config.data_dir` says where tfds has it, and
    `config.dataset` where a folder of images is now, for a run one with the same files.

    Args:
      config: the RunConfig of the command line.
      options: the EvaluationOptions.
      dataset: the records that it was trained on, where a program passed them, see `data.arrays`.
      test_dataset: held-out records likewise; None: those that the options name.

    Raises:
      UsageError: there is no whole export, or nowhere to write results to.
    """
    if not config.model_dir:
        raise checks.UsageError("model_dir is missing: give the --model_dir of a run or an export.")
    sampler, run = (
        saved_model_sampler.load(config.model_dir),
        run_dir.RunDir(config.model_dir),
    )
    recorded = run.read()[0] if run.started else _of_card(sampler.card)
    trained = {name: getattr(recorded, name) for name in _DATA_FLAGS}
    if run.started:
        config = dataclasses.replace(config, data_dir=config.data_dir or recorded.data_dir)
    if location.is_folder(trained["dataset"]):
        # The card names the folder and the CSV file without their paths, and a run's may have moved.
        trained["dataset"] = _folder(trained["dataset"], config.dataset)
        trained["labels_csv"] = config.labels_csv or trained["labels_csv"]
    if arrays.is_name(trained["dataset"]) and dataset is None:
        raise arrays.missing(trained["dataset"])
    trained["class_names"] = checks.names("class_names", trained["class_names"])
    source = {"name": trained.pop("dataset"), "data_dir": config.data_dir, **trained}
    passed = (dataset, test_dataset)
    return Subject(sampler, _report_dir(run, options), run, source, options, passed)


def _of_card(card):
    """The RunConfig of a model card's flags."""
    try:
        return flags.recorded(card.flags)
    except checks.UsageError as error:
        raise checks.UsageError(
            f"the flags in {card.source} are damaged, or another version's of tfdps: {error}"
        ) from error


def _folder(recorded, given):
    """The folder:PATH of the training images: `given`, where that is one; it must be there."""
    name = given if location.is_folder(given) else recorded
    if not os.path.exists(location.path(name)):
        raise checks.UsageError(
            f"the images that were trained on are not at {location.path(name)}: say "
            "with --dataset=folder:PATH where they are now. A run takes them if their fingerprint is "
            "the same."
        )
    return name


def _report_dir(run, options):
    if options.report_dir:
        return pathlib.Path(options.report_dir).expanduser()
    if run.started:
        return run.report
    raise checks.UsageError(
        f"{run.root} is an export without a run: say with --report_dir=PATH where the results go. "
        "They are computed from private records and must not lie beside what is shipped."
    )
