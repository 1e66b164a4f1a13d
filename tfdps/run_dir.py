"""A run's folder: started, resumed or refused.

run.flags  run.json  ledger.jsonl  logs/  checkpoints/  samples/  export/  report/
"""

import dataclasses
import json
import pathlib

from tfdps import checks, config, files, ledger
from tfdps.data import DatasetSpec


class RunDir:
    """The paths of a run's files.

    Args:
      model_dir: the folder's path, a text.
    """

    def __init__(self, model_dir):
        if not model_dir:
            raise checks.UsageError(
                "model_dir is missing: give --model_dir=PATH for the run's files."
            )
        self.root = pathlib.Path(model_dir).expanduser()
        self.flags, self.json = self.root / "run.flags", self.root / "run.json"
        self.ledger = self.root / "ledger.jsonl"
        self.logs, self.checkpoints = self.root / "logs", self.root / "checkpoints"
        self.samples, self.export = self.root / "samples", self.root / "export"
        self.report = self.root / "report"

    def prepare(self):
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
    def started(self):
        """Whether a run was started here."""
        return self.json.exists()

    def read(self):
        """Returns (RunConfig, DatasetSpec, N) of the run that was started here.

        Raises:
          UsageError: when there is none, or its run.json is damaged.
        """
        if not self.json.exists():
            raise checks.UsageError(
                f"no run at model_dir {self.root}: it has no run.json. Train first, or give the "
                "--model_dir of a run."
            )
        try:
            run = json.loads(self.json.read_text())
            spec = dict(run["dataset"])
            num_records = spec.pop("num_records")
            spec = DatasetSpec(
                name=spec["name"],
                image_shape=tuple(spec["image_shape"]),
                class_names=tuple(spec["class_names"]),
            )
            return config.RunConfig(**run["config"]), spec, num_records
        except (ValueError, KeyError, TypeError) as error:
            raise checks.UsageError(
                f"{self.json} is damaged: {error}. It was left as it is."
            ) from error

    def check_resume(self, new):
        """Compares `new`, a RunConfig, with the run started here; returns the names it may change.

        Raises:
          UsageError: naming the first flag that alters the guarantee or the generator, or when a
            private run has lost its ledger.
        """
        old, _, _ = self.read()
        if old.private and not self.ledger.exists():
            raise checks.UsageError(
                f"the run at {self.root} has lost its ledger {self.ledger.name}: the privacy spent is "
                "unknown. Restore it from a backup, or start over in a new --model_dir."
            )
        for name, before, now, policy in old.differences(new):
            if policy != config.FREE:
                what = {config.GUARANTEE: "the privacy guarantee", config.MODEL: "the generator"}
                raise checks.UsageError(
                    f"--{name} alters {what[policy]} of the run at {self.root}: it was {before!r}, "
                    f"received {now!r}. Use --{name}={before} to resume, or a new --model_dir."
                )
        return [name for name, *_ in old.differences(new) if name != "model_dir"]

    def write(self, run_config, spec, num_records):
        """Writes run.json and run.flags, each whole or not at all."""
        run = {
            "config": dataclasses.asdict(run_config),
            "dataset": {**dataclasses.asdict(spec), "num_records": num_records},
        }
        files.write_whole(self.flags, run_config.to_flags())
        files.write_whole(self.json, json.dumps(run, indent=2) + "\n")

    def charges(self, plan):
        """Returns what the ledger says was executed, a list of Charge; [] without a mechanism."""
        return ledger.read_charges(self.ledger) if plan.private else []
