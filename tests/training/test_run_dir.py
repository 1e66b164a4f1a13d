"""A run's folder: where its data lie, which version wrote it, what a resumed run may change."""

import dataclasses
import json

import pytest

import tfdps
from conftest import small_config
from tfdps import checks
from tfdps.data import location
from tfdps.data.dataset import DatasetSpec
from tfdps.training import nonprivate
from tfdps.training.run_dir import RunDir

SPEC = DatasetSpec("folder:images", (8, 8, 1), ("cat", "dog"))


@pytest.fixture
def started(tmp_path, monkeypatch):
    """(RunDir, RunConfig) of a run without a guarantee, started in tmp_path on the folder images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    run = RunDir("run")
    config = small_config("run", dataset="folder:images", data_dir="sets", mechanism="none")
    run.write(config, SPEC, 12)
    nonprivate.write_results(run.nonprivate, {"fingerprint": "f"})
    return run, config


class TestPlaces:
    def test_a_run_keeps_absolute_paths(self, started, tmp_path):
        run, _ = started
        config = run.read()[0]
        assert config.dataset == f"folder:{tmp_path}/images"
        assert config.data_dir == f"{tmp_path}/sets"
        assert f"--dataset=folder:{tmp_path}/images\n" in run.flags.read_text()

    @pytest.mark.parametrize(
        "name", ["folder:images", "folder:images/", "folder:./images", "folder:link"]
    )
    def test_the_same_folder_by_another_path_changes_nothing(self, started, tmp_path, name):
        run, config = started
        (tmp_path / "link").symlink_to("images")
        assert run.check_resume(dataclasses.replace(config, dataset=name)) == []

    def test_another_folder_is_held_against_the_fingerprint(self, started):
        run, config = started
        moved = dataclasses.replace(config, dataset="folder:elsewhere")
        assert run.check_resume(moved) == ["dataset"]
        run.nonprivate.unlink()
        with pytest.raises(checks.UsageError, match="--dataset alters the privacy guarantee"):
            run.check_resume(moved)

    def test_what_is_no_folder_alters_the_guarantee(self, started):
        run, config = started
        with pytest.raises(checks.UsageError, match="--dataset alters the privacy guarantee"):
            run.check_resume(dataclasses.replace(config, dataset="digits"))

    def test_what_is_no_path_is_left_as_it_is(self):
        assert location.recorded("mnist:3.0.1") == "mnist:3.0.1"
        assert location.recorded("folder:") == "folder:"
        assert location.absolute("gs://bucket/tfds") == "gs://bucket/tfds"
        assert not location.same("mnist", "folder:mnist")


class TestVersions:
    def written(self, run, change):
        content = json.loads(run.json.read_text())
        assert content["tfdps_version"] == tfdps.__version__
        change(content)
        run.json.write_text(json.dumps(content))
        with pytest.raises(checks.UsageError) as error:
            run.read()
        assert json.loads(run.json.read_text()) == content
        return str(error.value)

    @pytest.mark.parametrize(
        ("change", "whose", "why"),
        [
            (
                lambda c: c["config"].update(unit=1, views=2),
                None,
                "it has unit, views. Use",
            ),
            (
                lambda c: [c["config"].update(unit=1), c.pop("tfdps_version")],
                None,
                "it has unit. Use",
            ),
            (
                lambda c: [c["config"].update(mechanism="new"), c.update(tfdps_version="9.1")],
                "9.1",
                "mechanism must be one of joint, per_record, none; received 'new'. Use",
            ),
        ],
    )
    def test_a_newer_ones_run_is_called_that_and_not_damaged(self, started, change, whose, why):
        message = self.written(started[0], change)
        named = f"tfdps {whose}" if whose else "another version of tfdps"
        assert f"was written by {named} and means nothing to this, {tfdps.__version__}: " in message
        assert why in message
        assert "damaged" not in message

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c["config"].update(mechanism="new"),
            lambda c: c.pop("dataset"),
            lambda c: c.update(config=3),
        ],
    )
    def test_what_this_version_would_not_write_is_damaged(self, started, change):
        assert "run.json is damaged: " in self.written(started[0], change)
