"""A run's folder: started, resumed or refused.

run.flags  run.json  run.nonprivate.json  ledger.jsonl  logs/  checkpoints/  samples/  export/  report/
"""

import dataclasses
import json
import os
import pathlib

import tfdps
from tfdps import checks, files
from tfdps.accounting import ledger
from tfdps.accounting.events import NoiseEvent
from tfdps.accounting.plan import PrivacyPlan
from tfdps.artefacts import layout
from tfdps.config import automatic, fields, run_config
from tfdps.data import arrays, location
from tfdps.data.dataset import Dataset, DatasetSpec, StreamedDataset
from tfdps.training import nonprivate

_PATHS = (
    "data_dir",
    "labels_csv",
)  # settings that are kept so that they mean the same in every working folder


class RunDir:
    """The paths of a run's files.

    Args:
      model_dir: the folder's path; "~" is the user's home.

    Attributes:
      root: pathlib.Path of the folder; flags, json, nonprivate, ledger, logs, checkpoints, samples,
        export and report likewise, of what is in it.

    Raises:
      UsageError: there is no path.

    Examples:
      >>> import tfdps
      >>> run = tfdps.training.RunDir("runs/mnist")
      >>> run.ledger.as_posix(), run.started
      ('runs/mnist/ledger.jsonl', False)
    """

    def __init__(self, model_dir: str | os.PathLike[str] | None) -> None:
        if not model_dir:
            raise checks.UsageError(
                "model_dir is missing: give --model_dir=PATH for the run's files."
            )
        self.root = pathlib.Path(model_dir).expanduser()
        self.flags, self.json = self.root / "run.flags", self.root / "run.json"
        self.nonprivate = self.root / "run.nonprivate.json"
        self.ledger = self.root / layout.LEDGER
        self.logs, self.checkpoints = self.root / "logs", self.root / "checkpoints"
        self.samples, self.export = self.root / "samples", self.root / layout.EXPORT
        self.report = self.root / "report"

    def prepare(self) -> None:
        """Makes the folder; raises UsageError when it cannot be one, or holds other things."""
        if self.root.exists() and not self.root.is_dir():
            raise checks.UsageError(f"model_dir must be a folder, {self.root} is a file.")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise checks.UsageError(
                f"cannot make model_dir {self.root}: {error.strerror}."
            ) from error
        if self.json.exists():
            return
        # A start that was killed before run.json existed leaves a ledger, and no steps in it.
        ours = ("ledger.", "run.")
        foreign = [p.name for p in self.root.iterdir() if not p.name.lstrip(".").startswith(ours)]
        if foreign:
            raise checks.UsageError(
                f"model_dir {self.root} is not empty and holds no tfdps run (it has {foreign[0]}, but "
                "no run.json). Give a new or empty folder."
            )

    @property
    def started(self) -> bool:
        """Whether a run was started here."""
        return self.json.exists()

    def read(self) -> tuple[run_config.RunConfig, DatasetSpec, int]:
        """Returns (RunConfig, DatasetSpec, N) of the run that was started here.

        Raises:
          UsageError: when there is none, or its run.json is damaged.
        """
        if not self.json.exists():
            raise checks.UsageError(
                f"no run at model_dir {self.root}: it has no run.json. Train first, or give the "
                "--model_dir of a run."
            )
        run = {}
        try:
            run = json.loads(self.json.read_text())
            declared = run["dataset"]
            spec = DatasetSpec(
                name=declared["name"],
                image_shape=tuple(declared["image_shape"]),
                class_names=tuple(declared["class_names"]),
            )
            return run_config.RunConfig(**run["config"]), spec, declared["num_records"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable(run, error) from error

    def _unreadable(self, run, error):
        """The UsageError for a run.json whose content, `run`, means nothing to this version."""
        run = run if isinstance(run, dict) else {}
        settings = run.get("config")
        known = [field.name for field in dataclasses.fields(run_config.RunConfig)]
        new = [name for name in settings if name not in known] if isinstance(settings, dict) else []
        version = run.get("tfdps_version")
        if not new and version in (None, tfdps.__version__):
            return checks.UsageError(f"{self.json} is damaged: {error}. It was left as it is.")
        other = version not in (None, tfdps.__version__)
        whose = f"tfdps {version}" if other else "another version of tfdps"
        why = f"it has {checks.listed(new)}" if new else str(error).rstrip(".")
        return checks.UsageError(
            f"{self.json} was written by {whose} and means nothing to this, {tfdps.__version__}: "
            f"{why}. Use the version that made the run."
        )

    def check_resume(self, new: run_config.RunConfig) -> list[str]:
        """Compares `new`, a RunConfig, with the run started here; returns the names it may change.

        Raises:
          UsageError: naming the first flag that alters the guarantee or the generator, or when a
            private run has lost its ledger.
        """
        old, spec, num_records = self.read()
        new = automatic.kept(new, {**automatic.of_run(new), **automatic.of_run(old)})
        if old.private and not self.ledger.exists():
            raise checks.UsageError(
                f"the run at {self.root} has lost its ledger {self.ledger.name}: the privacy spent is "
                "unknown. Restore it from a backup, or start over in a new --model_dir."
            )
        classes = checks.names("class_names", new.class_names) or ()
        # To declare afterwards what the run was trained on alters nothing.
        declares = {
            "dataset_size": new.dataset_size == num_records,
            "channels": new.channels == spec.image_shape[-1],
            "class_names": sorted(classes) == sorted(spec.class_names),
            "fit": new.fit == "squash",
            "background": new.background == "white",
        }
        changed = [entry for entry in old.differences(new) if not self._is_same_place(*entry[:3])]
        for name, before, now, policy in changed:
            if self._has_moved(name, before, now):
                continue
            if policy != fields.FREE and not (before is None and declares.get(name)):
                what = {
                    fields.GUARANTEE: "the privacy guarantee",
                    fields.MODEL: "the generator",
                }
                back = f"Use --{name}={before}" if before is not None else f"Leave --{name} out"
                raise checks.UsageError(
                    f"--{name} alters {what[policy]} of the run at {self.root}: it was {before!r}, "
                    f"received {now!r}. {back} to resume, or use a new --model_dir."
                )
        return [name for name, *_ in changed if name != "model_dir"]

    @staticmethod
    def _is_same_place(name, before, now):
        """Whether two values of a setting are one place on this machine, written in two ways."""
        if name in _PATHS and before and now:
            return location.absolute(before) == location.absolute(now)
        return name == "dataset" and location.same(before, now)

    def _has_moved(self, name, before, now):
        """Whether a folder took another's place: `check_data` tells if it holds the same images."""
        moved = name == "labels_csv" and before and now
        if name == "dataset":
            moved = location.is_folder(before) and location.is_folder(now)
        return moved and self._fingerprint() is not None

    def check_data(self, dataset: Dataset | StreamedDataset) -> None:
        """Compares the loaded data, all parts, with what the run started here was trained on.

        Guarantee: what a ledger has spent it has spent on one data set. Compared are the classes, the
        images' shape, N and the fingerprint, where the run has one (0.1.0 kept none).

        Raises:
          UsageError: naming what differs. Nothing is written.
        """
        if not self.started:
            return
        _, spec, num_records = self.read()
        new, name = dataset.spec, dataset.spec.name
        run = f"the run at {self.root}"
        if new.class_names != spec.class_names:
            wrong = (
                f"the classes of {name} are not the run's: received "
                f"{_apart(new.class_names, spec.class_names)}; {run} was trained on "
                f"{_apart(spec.class_names, new.class_names)}."
            )
        elif new.image_shape != spec.image_shape:
            wrong = f"images of {name} are {new.image_shape}, the run's {spec.image_shape} ({run})."
        elif dataset.size != num_records:
            wrong = f"{name} has {dataset.size} records, {run} was trained on {num_records}."
        elif self._fingerprint() not in (None, dataset.fingerprint):
            changed = (
                "a record or their order was changed (a tf.data.Dataset must not shuffle)"
                if arrays.is_name(name)
                else "files were renamed, replaced or changed"
            )
            wrong = f"the records of {name} are not those that {run} was trained on: {changed}."
        else:
            return
        raise checks.UsageError(
            f"{wrong} Put the data back as they were, or use a new --model_dir."
        )

    def keep_fingerprint(self, fingerprint: str) -> None:
        """Writes run.nonprivate.json, unless it has this fingerprint of the data.

        It is computed from private records without noise, so it is not in run.json, which says what
        is public.
        """
        if self._fingerprint() != fingerprint:
            nonprivate.write_results(self.nonprivate, {"fingerprint": fingerprint})

    def _fingerprint(self):
        """The fingerprint in run.nonprivate.json; None where there is no such file."""
        if not self.nonprivate.exists():
            return None
        try:
            return str(json.loads(self.nonprivate.read_text())["fingerprint"])
        except (ValueError, KeyError, TypeError) as error:
            raise checks.UsageError(
                f"{self.nonprivate} is damaged: {error}. Restore it from a backup; without it records "
                "that were changed cannot be told from the run's."
            ) from error

    def write(self, config: run_config.RunConfig, spec: DatasetSpec, num_records: int) -> None:
        """Writes run.json and run.flags, each whole or not at all; where data lie as absolute paths."""
        paths = {name: getattr(config, name) for name in _PATHS if getattr(config, name)}
        places = {name: location.absolute(path) for name, path in paths.items()}
        config = dataclasses.replace(config, dataset=location.recorded(config.dataset), **places)
        run = {
            "tfdps_version": tfdps.__version__,
            "config": dataclasses.asdict(config),
            "dataset": {**dataclasses.asdict(spec), "num_records": int(num_records)},
        }
        files.write_whole(self.flags, config.to_flags())
        files.write_whole(self.json, json.dumps(run, indent=2) + "\n")

    def charges(self, plan: PrivacyPlan) -> list[NoiseEvent]:
        """Returns what the ledger says was executed, a list of NoiseEvent; [] without a mechanism."""
        return ledger.read_charges(self.ledger) if plan.private else []


def _apart(names, others):
    """Names as a text, those that are not among the others first."""
    return checks.listed(sorted(names, key=lambda name: name in others))
