"""--mode=evaluate on a real export of the digits: the file it leaves, and what it refuses."""

import json
import math
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import small_config
from tfdps import checks, console
from tfdps.config import evaluation_options, flags
from tfdps.data import loading
from tfdps.data.dataset import Dataset, DatasetSpec
from tfdps.evaluation import accuracies, protocols, subject
from tfdps.report.page import write_report
from tfdps.samplers import saved_model_sampler
from tfdps.training import nonprivate, run_dir


def options_of(tmp_path, **changes):
    return evaluation_options.EvaluationOptions(**{"feature_cache": str(tmp_path), **changes})


@pytest.fixture(scope="module")
def evaluated(digits_run, tmp_path_factory, short_networks):
    """(model_dir, evaluation.json, lines said, cache) of a quick evaluation, twice repeated."""
    cache, said = tmp_path_factory.mktemp("cache"), []
    model_dir, config, *_ = digits_run
    settings = options_of(cache, eval_samples=400, eval_quick=True, eval_repeats=2)
    with short_networks(), console.lines_to(said.append):
        protocols.evaluate(config, settings)
    return (
        model_dir,
        json.loads((model_dir / "report" / "evaluation.json").read_text()),
        said,
        cache,
    )


@pytest.mark.slow
class TestEvaluation:
    def test_the_file_has_the_fields_it_promises(self, evaluated):
        _, result, *_ = evaluated
        assert "Cao et al. 2021" in result["protocol"]
        assert result["num_samples"] == 400
        assert result["test_set"] == {"name": "digits", "split": "test", "num_records": 359}
        for name in ("logreg", "mlp", "cnn"):
            found = result["accuracy"][name]
            assert len(found["runs"]) == 2
            assert found["mean"] == pytest.approx(np.mean(found["runs"]))
            assert found["std"] == pytest.approx(np.std(found["runs"], ddof=1))
            assert all(0 <= value <= 1 for value in found["runs"])

    def test_distances_carry_the_name_of_their_feature_space(self, evaluated):
        _, result, *_ = evaluated
        spaces = result["feature_spaces"]
        assert set(spaces) == {"cnn"}
        assert len(spaces["cnn"]["digest"]) == 12
        names = ("fid", "kid", "precision", "recall", "density", "coverage")
        for name in names:
            assert math.isfinite(result[f"{name}_cnn"])
        assert result["fid_cnn"] > 0
        assert not any("inception" in name for name in result)

    def test_the_neighbours_that_precision_and_density_go_by_are_named(self, evaluated):
        _, result, *_ = evaluated
        expected = {"precision_recall": 3, "density_coverage": 5, "num_images": 359}
        assert result["neighbours"] == expected

    def test_the_two_sample_score_has_its_interval_and_its_runs(self, evaluated):
        _, result, *_ = evaluated
        found = result["two_sample"]
        assert "Lopez-Paz and Oquab" in found["protocol"]
        assert found["confidence"] == 0.95
        accuracy, runs = found["accuracy"], found["runs"]
        assert len(runs) == 2
        assert accuracy["value"] == pytest.approx(np.mean([run["accuracy"] for run in runs]))
        assert accuracy["low"] == pytest.approx(np.mean([run["low"] for run in runs]))
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
        assert found["auc"] == pytest.approx(np.mean([run["auc"] for run in runs]))
        assert 100 < runs[0]["num_tested"] <= 359

    def test_of_two_sets_of_generated_images_the_first_is_written(self, evaluated):
        model_dir, *_ = evaluated
        images = saved_model_sampler.load(model_dir).sample(np.arange(400) % 10, 0)
        with np.load(model_dir / "report" / "gen.npz") as arrays:
            assert arrays["x"].shape == (400, 1, 8, 8)
            np.testing.assert_allclose(arrays["x"][:, 0], images[..., 0] / 255, rtol=1e-7)

    def test_real_images_are_left_for_the_page_alone(self, evaluated):
        model_dir, *_ = evaluated
        heldout = loading.load("digits", split="test")
        images, labels = nonprivate.read_real_images(model_dir / "report", (8, 8, 1))
        assert np.bincount(labels).tolist() == [10] * 10
        expected = heldout.images[heldout.labels == 3][:10]
        np.testing.assert_array_equal(images[labels == 3], expected)
        assert "Beside them real images" in write_report(model_dir).read_text()

    def test_it_is_marked_and_stays_out_of_the_export(self, evaluated):
        model_dir, result, _, cache = evaluated
        assert result["nonprivate"] == nonprivate.MARK
        exported = {path.name for path in (model_dir / "export").iterdir()}
        expected = {"saved_model", "generator.onnx", "model_card.json", "run.flags", "samples.png"}
        assert exported == expected
        assert [path.name for path in cache.iterdir()] == ["nonprivate"]

    def test_the_lines_say_each_accuracy_and_where_the_file_is(self, evaluated):
        model_dir, _, said, _ = evaluated
        for measured in ("accuracy cnn", "two_sample cnn", "distances cnn", "for DPImageBench"):
            assert any(measured in line for line in said)
        assert str(model_dir / "report" / "evaluation.json") in said[-1]


class TestRefusals:
    def test_no_model_dir(self, tmp_path):
        with pytest.raises(checks.UsageError, match="model_dir is missing"):
            subject.open_subject(small_config(""), options_of(tmp_path))

    def test_an_export_that_lacks_files(self, digits_run, tmp_path):
        damaged = tmp_path / "run"
        shutil.copytree(digits_run[0], damaged)
        shutil.rmtree(damaged / "export" / "saved_model" / "1" / "variables")
        with pytest.raises(checks.UsageError, match="lacks files"):
            subject.open_subject(small_config(damaged), options_of(tmp_path))

    def test_a_card_that_is_none(self, digits_run, tmp_path):
        damaged = tmp_path / "run"
        shutil.copytree(digits_run[0], damaged)
        (damaged / "export" / "model_card.json").write_text('{"privacy": {}}')
        with pytest.raises(checks.UsageError, match=r"model_card\.json is no model card"):
            subject.open_subject(small_config(damaged), options_of(tmp_path))

    def test_an_export_without_a_place_for_results(self, digits_run, tmp_path):
        with pytest.raises(checks.UsageError, match="--report_dir"):
            subject.open_subject(small_config(digits_run[0] / "export"), options_of(tmp_path))

    def test_an_export_alone_finds_its_data_by_its_card(self, digits_run, tmp_path):
        settings = options_of(tmp_path, report_dir=str(tmp_path / "report"))
        tested = subject.open_subject(small_config(digits_run[0] / "export"), settings)
        assert tested.report_dir == tmp_path / "report"
        assert len(tested.training()) == len(loading.load("digits"))
        assert len(tested.heldout(100)) == 359

    def test_held_out_images_of_other_classes(self, digits_run, tmp_path):
        folder = images_in(tmp_path / "other", classes=("cat", "dog"))
        tested = opened(digits_run, tmp_path, eval_dataset=f"folder:{folder}")
        with pytest.raises(checks.UsageError, match="generator's classes .*received cat, dog"):
            tested.heldout(1)

    def test_a_damaged_held_out_image(self, digits_run, tmp_path):
        folder = images_in(tmp_path / "held")
        (folder / "3" / "0.png").write_bytes(b"no picture")
        tested = opened(digits_run, tmp_path, eval_dataset=f"folder:{folder}")
        with pytest.raises(checks.UsageError, match=r"3/0\.png"):
            tested.heldout(1)

    def test_too_few_held_out_records(self, digits_run, tmp_path):
        folder = images_in(tmp_path / "few")
        tested = opened(digits_run, tmp_path, eval_dataset=f"folder:{folder}")
        assert len(tested.heldout(20)) == 20
        with pytest.raises(checks.UsageError, match="at least 21 held-out records, received 20"):
            tested.heldout(21)

    def test_training_images_as_held_out_ones(self, digits_run, tmp_path):
        tested = opened(digits_run, tmp_path, eval_split="train")
        with pytest.raises(checks.UsageError, match="not trained on"):
            tested.heldout(1)

    def test_a_folder_without_a_test_split(self, digits_run, tmp_path):
        tested = opened(digits_run, tmp_path)
        tested._data["name"] = "folder:/somewhere"
        with pytest.raises(checks.UsageError, match="--eval_dataset"):
            tested.heldout(1)

    def test_a_split_of_the_csv_file_that_was_trained_by_is_held_out(self, digits_run, tmp_path):
        folder = images_in(tmp_path / "scans")
        splits = {"0.png": "test", "1.png": "train"}
        rows = [
            f"{file.relative_to(folder)},{file.parent.name},{splits[file.name]}"
            for file in sorted(folder.rglob("*.png"))
            if file != folder / "3" / "0.png"  # a class without a test record
        ]
        (folder / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
        for name, labels_csv in (
            (f"folder:{folder}", str(folder / "labels.csv")),
            (f"folder:{folder}/labels.csv", None),
        ):
            tested = opened(digits_run, tmp_path, eval_split="test")
            data = {"name": name, "labels_csv": labels_csv, "image_size": 8, "fit": "pad"}
            tested._data.update(data)
            assert sorted(tested.heldout(1).labels) == [0, 1, 2, 4, 5, 6, 7, 8, 9]

    def test_held_out_images_without_labels_are_of_the_one_class(self, digits_run, tmp_path):
        folder = images_in(tmp_path / "held")
        tested = opened(digits_run, tmp_path, eval_dataset=f"folder:{folder}")
        tested._data.update({"label": "none", "name": "folder:/somewhere/faces"})
        tested.sampler.class_names = ("faces",)
        assert tested.heldout(20).labels.tolist() == [0] * 20

    def test_training_data_of_another_size(self, digits_run, tmp_path):
        tested = opened(digits_run, tmp_path)
        tested.sampler.card.content["privacy"]["dataset_size"] = 99
        with pytest.raises(checks.UsageError, match="the 99 records"):
            tested.training()

    def test_training_data_that_are_no_longer_the_runs(self, digits_run, tmp_path):
        copy = (shutil.copytree(digits_run[0], tmp_path / "run"),)
        tested = opened(copy, tmp_path)
        assert len(tested.training()) == 1438
        nonprivate.write_results(copy[0] / "run.nonprivate.json", {"fingerprint": "other"})
        with pytest.raises(checks.UsageError, match="not those that the run at"):
            tested.training()
        tested.sampler.class_names = ("zero", *tested.sampler.class_names[1:])
        with pytest.raises(checks.UsageError, match="generator's classes .*received 0, 1"):
            tested.training()

    def test_grey_held_out_images_are_grey_however_they_are_stored(self, digits_run, tmp_path):
        folder = images_in(tmp_path / "held")
        for path in folder.rglob("0.png"):
            Image.open(path).convert("RGB").save(path)
        tested = opened(digits_run, tmp_path, eval_dataset=f"folder:{folder}")
        assert tested.heldout(1).spec.image_shape == (8, 8, 1)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"eval_samples": 10}, "eval_samples must be >= 100, received 10"),
            ({"eval_repeats": 0}, "eval_repeats must be >= 1"),
            ({"audit_trials": 10}, "audit_trials must be >= 150"),
            ({"audit_parts": "mechanism,psychic"}, "audit_parts must be one of .* 'psychic'"),
        ],
    )
    def test_options_out_of_range(self, changes, message):
        with pytest.raises(checks.UsageError, match=message):
            evaluation_options.EvaluationOptions(**changes)


def test_quick_takes_at_most_ten_thousand_samples():
    assert evaluation_options.EvaluationOptions(eval_quick=True).num_samples == 10_000
    assert (
        evaluation_options.EvaluationOptions(eval_quick=True, eval_samples=500).num_samples == 500
    )
    assert evaluation_options.EvaluationOptions().num_samples == 60_000


def test_the_feature_network_is_kept_in_the_report_where_the_flag_says_so(tmp_path):
    report = tmp_path / "run" / "report"
    assert evaluation_options.EvaluationOptions(feature_cache="report").cache_dir(report) == report
    elsewhere = evaluation_options.EvaluationOptions(feature_cache="./report").cache_dir(report)
    assert elsewhere == pathlib.Path("report")
    default = evaluation_options.EvaluationOptions().cache_dir(report)
    assert default == pathlib.Path.home() / ".cache" / "tfdps"
    text = " ".join(flags.help_text().split())
    assert "outside model_dir, for all runs" in text
    assert "report: in model_dir/report/nonprivate/." in text


def test_the_spaces_of_an_evaluation_lie_where_the_flag_says(digits_run, tmp_path, monkeypatch):
    tested = opened(digits_run, tmp_path, feature_cache="report", report_dir=str(tmp_path / "x"))
    monkeypatch.setattr(protocols.feature_cnn, "_fit", lambda *args: 0.5)
    said = []
    with console.lines_to(said.append):
        protocols._feature_spaces(tested, tested.training(), tested._options)
    (path,) = (tmp_path / "x" / "nonprivate").iterdir()
    (line,) = said
    assert f"without noise; kept at {path}: no epsilon covers it" in line


def test_results_are_strict_json_and_written_whole(tmp_path):
    path = tmp_path / "report" / "audit.json"
    nonprivate.write_results(path, {"epsilon": math.inf, "pairs": [{"mu": -math.inf}], "n": 3})
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read["epsilon"] == "infinity"
    assert read["pairs"] == [{"mu": "-infinity"}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        nonprivate.write_results(path, {"epsilon": math.nan})
    assert json.loads(path.read_text()) == read
    assert [p.name for p in path.parent.iterdir()] == ["audit.json"]


@pytest.mark.parametrize("wanted", [True, False])
def test_generated_images_are_written_unless_told_not_to(digits_run, tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(protocols, "_WRITTEN_AT_ONCE", 30)
    for collected in (accuracies.Classic, protocols._ToldApart):
        monkeypatch.setattr(collected, "run", lambda *args: None)
        monkeypatch.setattr(collected, "results", lambda self: {})
    monkeypatch.setattr(protocols, "_feature_spaces", lambda *args: [])
    settings = options_of(
        tmp_path, eval_samples=100, eval_npz=wanted, report_dir=str(tmp_path / "report")
    )
    model_dir, config, *_ = digits_run
    protocols.evaluate(config, settings)
    path = tmp_path / "report" / "gen.npz"
    assert path.exists() == wanted
    if wanted:
        labels = np.arange(100, dtype=np.int32) % 10
        images = saved_model_sampler.load(model_dir).sample(labels, 0)
        with np.load(path) as arrays:
            np.testing.assert_allclose(arrays["x"][:, 0], images[..., 0] / 255, rtol=1e-7)
            np.testing.assert_array_equal(arrays["y"], labels)


def test_real_images_are_the_first_ten_of_twenty_classes_at_most(tmp_path):
    names = tuple(str(number) for number in range(25))
    labels = np.repeat(np.arange(25, dtype=np.int32), [3] + 24 * [12])[::-1]
    images = np.arange(len(labels), dtype=np.uint16).astype(np.uint8).reshape(-1, 1, 1, 1)
    spec = DatasetSpec("many", (1, 1, 1), names)
    nonprivate.write_real_images(tmp_path, Dataset(images, labels, spec))
    found, classes = nonprivate.read_real_images(tmp_path, (1, 1, 1))
    assert np.bincount(classes).tolist() == [3] + 19 * [10]
    np.testing.assert_array_equal(found[classes == 7], images[labels == 7][:10])
    assert nonprivate.read_real_images(tmp_path / "elsewhere", (1, 1, 1)) is None


def opened(digits_run, tmp_path, **changes):
    return subject.open_subject(small_config(digits_run[0]), options_of(tmp_path, **changes))


def images_in(folder, classes=tuple("0123456789")):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(256, size=(8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_a_run_keeps_its_results_beside_it(digits_run, tmp_path):
    assert opened(digits_run, tmp_path).report_dir == run_dir.RunDir(str(digits_run[0])).report
