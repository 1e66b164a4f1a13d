"""Held-out images are others than the training images, wherever both lie; and outputs have a place."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import small_config
from tfdps import checks, console
from tfdps.config import evaluation_options
from tfdps.data import loading
from tfdps.evaluation import feature_cnn, outputs, overlap, protocols, subject
from tfdps.samplers import writers
from tfdps.training import nonprivate, run_dir


def write_folder(path, dataset):
    spec = dataset.spec
    kind = {"image_shape": spec.image_shape, "class_names": spec.class_names}
    with writers.open_writer(f"{path}/", count=len(dataset), **kind) as write:
        write(dataset.images, dataset.labels)
    return path


@pytest.fixture(scope="module")
def on_folder(digits_run, tmp_path_factory):
    """(model_dir, folder): the run of the digits, as if it had been trained on a folder of them."""
    root = tmp_path_factory.mktemp("moved")
    folder = write_folder(root / "images", loading.load("digits"))
    run = run_dir.RunDir(shutil.copytree(digits_run[0], root / "run"))
    loaded = loading.load(f"folder:{folder}", image_size=8)
    config, _, num_records = run.read()
    changed = dataclasses.replace(config, dataset=f"folder:{folder}", image_size=8)
    run.write(changed, loaded.spec, num_records)
    nonprivate.write_results(run.nonprivate, {"fingerprint": loaded.fingerprint})
    return run.root, folder


def opened(model_dir, tmp_path, dataset="digits", **options):
    config = dataclasses.replace(small_config(model_dir), dataset=dataset)
    settings = evaluation_options.EvaluationOptions(feature_cache=str(tmp_path), **options)
    return subject.open_subject(config, settings)


class TestTheTrainingFolderAsHeldOut:
    @pytest.mark.parametrize("other", ["{}", "{}/", "{}/../images", "{}_link"])
    def test_is_refused_by_whatever_path_before_it_is_read(self, on_folder, tmp_path, other):
        model_dir, folder = on_folder
        link = folder.with_name("images_link")
        if not link.exists():
            link.symlink_to(folder)
        tested = opened(model_dir, tmp_path, eval_dataset=f"folder:{other.format(folder)}")
        with pytest.raises(checks.UsageError, match="eval_dataset and eval_split must be images"):
            tested.heldout(100)

    def test_a_copy_is_refused_under_other_names_and_formats_too(self, on_folder, tmp_path):
        model_dir, folder = on_folder
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            target = tmp_path / "copy" / path.parent.name / f"scan{-number}.bmp"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).save(target)
        tested = opened(model_dir, tmp_path, eval_dataset=f"folder:{tmp_path}/copy")
        with pytest.raises(checks.UsageError) as error:
            overlap.check(tested.training(), tested.heldout(100))
        assert "1438 of 1438 of folder:copy are training images, pixel for pixel" in str(
            error.value
        )
        assert "--eval_dataset" in str(error.value)

    @pytest.mark.parametrize("mode", ["evaluate", "audit"])
    def test_neither_mode_takes_one(self, on_folder, tmp_path, monkeypatch, mode):
        from tfdps.auditing import attacks

        model_dir, folder = on_folder
        copy = shutil.copytree(folder, tmp_path / "copy")
        monkeypatch.setattr(feature_cnn, "load", lambda *_: pytest.fail("minutes of work"))
        settings = evaluation_options.EvaluationOptions(
            feature_cache=str(tmp_path), audit_parts="membership", eval_dataset=f"folder:{copy}"
        )
        work = {"evaluate": protocols.evaluate, "audit": attacks.audit}[mode]
        with pytest.raises(checks.UsageError, match="must be images that were not trained on"):
            work(small_config(model_dir), settings)

    def test_a_few_images_that_are_in_both_are_said_and_others_pass(self):
        training, heldout = loading.load("digits"), loading.load("digits", split="test")
        said = []
        with console.lines_to(said.append):
            overlap.check(training, heldout)
            assert said == []
            mixed = np.concatenate([heldout.images[:9], training.images[:3]])
            overlap.check(
                training, dataclasses.replace(heldout, images=mixed, labels=mixed[:, 0, 0, 0])
            )
        assert said[0].startswith("Note: 3 of 12 of digits are training images, pixel for pixel")


class TestPersonsAsHeldOut:
    """Where the unit is a person, other images of one who was trained on are refused."""

    @pytest.fixture
    def both(self):
        """(training, held-out): the digits, of 100 persons and of 30 others."""
        training, heldout = loading.load("digits"), loading.load("digits", split="test")
        units, whose = np.arange(1438)[:, None], np.arange(1438) % 100
        return (
            dataclasses.replace(training, units=units, persons=whose),
            dataclasses.replace(heldout, persons=np.arange(359) % 30 + 100),
        )

    def test_others_pass_and_one_of_both_is_refused_with_the_count(self, both):
        training, heldout = both
        overlap.check(training, heldout)
        heldout = dataclasses.replace(heldout, persons=np.arange(359) % 30 + 90)
        with pytest.raises(checks.UsageError, match="10 of 30 persons of digits were"):
            overlap.check(training, heldout)
        overlap.check(dataclasses.replace(training, units=None), heldout)

    def test_that_nobody_says_whose_they_are_is_said(self, both):
        training, heldout = both
        said = []
        with console.lines_to(said.append):
            overlap.check(training, dataclasses.replace(heldout, persons=None))
        assert said[0].startswith("Note: nobody says whose the images of digits are")


@pytest.fixture(scope="module")
def on_persons(digits_run, tmp_path_factory):
    """(model_dir, folder): the run of the digits, as if a share of 120 persons had been held out."""
    root = tmp_path_factory.mktemp("persons")
    digits, folder = loading.load("digits"), root / "images"
    for number, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        file = folder / digits.spec.class_names[label] / f"{number % 120}w" / f"{number}x.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)
    run = run_dir.RunDir(shutil.copytree(digits_run[0], root / "run"))
    how = {"dataset": f"folder:{folder}", "image_size": 8, "person": "folder", "held_out": 0.3}
    changed = dataclasses.replace(run.read()[0], **how)
    loaded = loading.load_of(changed)
    run.write(changed, loaded.spec, loaded.size)
    nonprivate.write_results(run.nonprivate, {"fingerprint": loaded.fingerprint})
    card = run.export / "model_card.json"
    content = json.loads(card.read_text())
    content["privacy"]["dataset_size"] = loaded.size
    card.write_text(json.dumps(content))
    return run.root, folder, changed, loaded


class TestAShareOfTheSameData:
    def test_is_what_evaluation_and_audit_take_without_being_told(self, on_persons, tmp_path):
        model_dir, folder, _, loaded = on_persons
        tested = opened(model_dir, tmp_path)
        assert tested.heldout_source == (f"folder:{folder}", "held_out")
        training, heldout = tested.training(), tested.heldout(100)
        overlap.check(training, heldout)
        assert len(training) + len(heldout) == 1438
        assert not set(training.persons) & set(heldout.persons)
        assert training.size == loaded.size < 120

    def test_a_folder_of_the_same_persons_is_refused(self, on_persons, tmp_path):
        model_dir, folder, *_ = on_persons
        other = tmp_path / "others"
        for file in folder.rglob("*.png"):
            target = other / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(file) as image:
                image.point(lambda value: value // 2).save(target)
        tested = opened(model_dir, tmp_path, eval_dataset=f"folder:{other}")
        with pytest.raises(checks.UsageError, match="of 120 persons of folder:others were"):
            overlap.check(tested.training(), tested.heldout(100))

    def test_another_share_or_none_resumes_no_run(self, on_persons):
        model_dir, _, config, _ = on_persons
        run = run_dir.RunDir(model_dir)
        assert json.loads(run.json.read_text())["config"]["held_out"] == 0.3
        run.check_resume(config)
        for share in (0.2, None):
            with pytest.raises(checks.UsageError, match="--held_out alters the privacy guarantee"):
                run.check_resume(dataclasses.replace(config, held_out=share))

    def test_without_a_share_the_error_names_it(self, on_folder, tmp_path):
        with pytest.raises(checks.UsageError, match="--held_out=0.1"):
            opened(on_folder[0], tmp_path).heldout(100)


class TestDataThatMoved:
    @pytest.fixture
    def moved(self, on_folder, tmp_path):
        model_dir, folder = on_folder
        new = shutil.copytree(folder, tmp_path / "new place")
        run = json.loads((model_dir / "run.json").read_text())
        run["config"]["dataset"] = f"folder:{tmp_path}/old place"
        copy = shutil.copytree(model_dir, tmp_path / "run")
        (copy / "run.json").write_text(json.dumps(run))
        return copy, new

    def test_the_error_says_how_to_go_on(self, moved, tmp_path):
        with pytest.raises(checks.UsageError) as error:
            opened(moved[0], tmp_path)
        assert f"are not at {tmp_path}/old place: say with --dataset=folder:PATH" in str(
            error.value
        )

    def test_they_are_taken_where_the_fingerprint_is_the_same(self, moved, tmp_path):
        model_dir, new = moved
        tested = opened(model_dir, tmp_path, dataset=f"folder:{new}/")
        assert len(tested.training()) == 1438
        Image.new("L", (8, 8), 77).save(next(new.rglob("*.png")))
        with pytest.raises(checks.UsageError, match="files were renamed, replaced or changed"):
            tested.training()


class TestPlacesOfOutputs:
    @pytest.fixture
    def full(self, monkeypatch):
        """A disk on which no file can be made."""

        def fail(dir):
            raise OSError(28, os.strerror(28), str(dir))

        monkeypatch.setattr(outputs.tempfile, "TemporaryFile", fail)

    def test_a_cache_that_cannot_be_made_is_refused_before_the_work(
        self, digits_run, tmp_path, monkeypatch
    ):
        (tmp_path / "file").write_text("")
        cache = tmp_path / "file" / "cache"
        settings = evaluation_options.EvaluationOptions(feature_cache=str(cache))
        monkeypatch.setattr(subject.Subject, "training", lambda _: pytest.fail("work"))
        with pytest.raises(checks.UsageError) as error:
            protocols.evaluate(small_config(digits_run[0]), settings)
        assert str(error.value) == (
            f"cannot write the feature network to {cache}/nonprivate: Not a directory. Give another "
            "folder with --feature_cache=PATH, or --feature_cache=report."
        )

    def test_one_for_reading_alone_serves_where_it_has_the_network(self, tmp_path, full):
        with pytest.raises(checks.UsageError, match="feature network to .*: No space left"):
            outputs.check_cache(tmp_path)
        (tmp_path / "nonprivate" / "cnn_digits_1.npz").write_bytes(b"")
        outputs.check_cache(tmp_path)
        with pytest.raises(checks.UsageError, match="No space left"):
            outputs.check_cache(tmp_path, empty=True)

    def test_the_network_is_not_trained_where_it_cannot_be_kept(self, tmp_path, monkeypatch, full):
        monkeypatch.setattr(feature_cnn, "_fit", lambda *_: pytest.fail("trained"))
        with pytest.raises(checks.UsageError, match="--feature_cache"):
            feature_cnn.load(loading.load("digits"), tmp_path)

    def test_a_folder_of_results_likewise(self, tmp_path, full):
        with pytest.raises(checks.UsageError, match="cannot write results to .*--report_dir=PATH"):
            outputs.check_report(tmp_path)

    def test_an_account_without_a_home_is_told_what_to_give(self, tmp_path, monkeypatch):
        def fail(_):
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(evaluation_options.pathlib.Path, "expanduser", fail)
        with pytest.raises(checks.UsageError, match="there is no home for ~/.cache/tfdps: give"):
            evaluation_options.EvaluationOptions().cache_dir(tmp_path)
