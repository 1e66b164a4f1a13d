"""--mode=evaluate on a real export of the digits: the file it leaves, and what it refuses."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import small_config
from tfdps import checks, data, nonprivate, options, run_dir
from tfdps.evaluation import classifiers, evaluate, subject


def options_of(tmp_path, **changes):
    return options.EvaluationOptions(feature_cache=str(tmp_path), **changes)


@pytest.fixture(scope="module")
def evaluated(digits_run, tmp_path_factory):
    """(model_dir, evaluation.json, lines said, cache) of a quick evaluation, twice repeated."""
    cache, said = tmp_path_factory.mktemp("cache"), []
    model_dir, config, *_ = digits_run
    settings = options_of(cache, eval_samples=400, eval_quick=True, eval_repeats=2)
    short = {
        name: dataclasses.replace(recipe, max_epochs=5)
        for name, recipe in classifiers._RECIPES.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "_RECIPES", short)
        evaluate.evaluate(config, settings, say=said.append)
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

    def test_it_is_marked_and_stays_out_of_the_export(self, evaluated):
        model_dir, result, _, cache = evaluated
        assert result["nonprivate"] == nonprivate.MARK
        exported = {path.name for path in (model_dir / "export").iterdir()}
        expected = {"saved_model", "generator.onnx", "model_card.json", "run.flags", "samples.png"}
        assert exported == expected
        assert [path.name for path in cache.iterdir()] == ["nonprivate"]

    def test_the_lines_say_each_accuracy_and_where_the_file_is(self, evaluated):
        model_dir, _, said, _ = evaluated
        assert any("accuracy cnn" in line for line in said)
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
        with pytest.raises(checks.UsageError, match="damaged or lacks files"):
            subject.open_subject(small_config(damaged), options_of(tmp_path))

    def test_an_export_without_a_place_for_results(self, digits_run, tmp_path):
        with pytest.raises(checks.UsageError, match="--report_dir"):
            subject.open_subject(small_config(digits_run[0] / "export"), options_of(tmp_path))

    def test_an_export_alone_finds_its_data_by_its_card(self, digits_run, tmp_path):
        settings = options_of(tmp_path, report_dir=str(tmp_path / "report"))
        tested = subject.open_subject(small_config(digits_run[0] / "export"), settings)
        assert tested.report_dir == tmp_path / "report"
        assert len(tested.training()) == len(data.load("digits"))
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

    def test_training_data_of_another_size(self, digits_run, tmp_path):
        tested = opened(digits_run, tmp_path)
        tested.sampler.card["privacy"]["dataset_size"] = 99
        with pytest.raises(checks.UsageError, match="the 99 records"):
            tested.training()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"eval_samples": 10}, "eval_samples must be >= 100, received 10"),
            ({"eval_repeats": 0}, "eval_repeats must be >= 1"),
            ({"audit_trials": 10}, "audit_trials must be >= 1000"),
            ({"audit_parts": "mechanism,psychic"}, "audit_parts must be one of .* 'psychic'"),
        ],
    )
    def test_options_out_of_range(self, changes, message):
        with pytest.raises(checks.UsageError, match=message):
            options.EvaluationOptions(**changes)


def test_quick_takes_at_most_ten_thousand_samples():
    assert options.EvaluationOptions(eval_quick=True).num_samples == 10_000
    assert options.EvaluationOptions(eval_quick=True, eval_samples=500).num_samples == 500
    assert options.EvaluationOptions().num_samples == 60_000


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
