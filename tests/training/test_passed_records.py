"""A run on records that a program passes: its files, its resumption, and what needs the records."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import tfdps
from conftest import small_config
from tfdps import checks, launch
from tfdps.data import loading

CLASSES = "zero,one,two,three,four,five,six,seven,eight,nine"


@pytest.fixture(scope="module")
def records():
    digits = loading.load("digits")
    return digits.images, digits.labels


@pytest.fixture(scope="module")
def finished(tmp_path_factory, records):
    """(model_dir, RunConfig, ModelCard) of a run on the digits as arrays."""
    model_dir = tmp_path_factory.mktemp("passed") / "run"
    config = small_config(model_dir, dataset="arrays:digits", class_names=CLASSES)
    return model_dir, config, tfdps.train(config, records)


@pytest.fixture
def copied(finished, tmp_path):
    """(model_dir, RunConfig) of a copy, to be changed."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run", dataclasses.replace(finished[1], model_dir=str(tmp_path / "run"))


def failure(capsys, *flags):
    """What the command line says before it ends with status 2."""
    assert launch.main(["tfdps", *map(str, flags)]) == 2
    return capsys.readouterr().err


def test_run_flags_and_card_name_the_data_set_and_its_classes(finished, records):
    model_dir, config, card = finished
    assert "--dataset=arrays:digits\n" in (model_dir / "run.flags").read_text()
    declared = json.loads((model_dir / "run.json").read_text())["dataset"]
    assert (declared["name"], declared["num_records"]) == ("arrays:digits", 1438)
    assert (card.dataset, card.class_names) == ("arrays:digits", CLASSES.split(","))
    assert "--dataset=arrays:digits" in card.flags
    assert not tfdps.verify(model_dir).problems


def test_the_fingerprint_of_the_arrays_is_in_the_private_file_alone(finished, records):
    model_dir, config, _ = finished
    kept = json.loads((model_dir / "run.nonprivate.json").read_text())["fingerprint"]
    assert kept == loading.load_of(config, records=records).fingerprint
    for name in ("run.json", "run.flags", "export/model_card.json", "ledger.jsonl"):
        assert kept not in (model_dir / name).read_text()


def test_arrays_train_what_the_same_records_by_name_train(finished, digits_run):
    card, by_name = finished[2], digits_run[2]
    for name in ("epsilon", "steps", "noise_multiplier", "dataset_size", "sampling_probability"):
        assert getattr(card, name) == getattr(by_name, name)


def test_a_run_is_resumed_with_its_records_and_with_no_others(copied, records):
    model_dir, config = copied
    before = (model_dir / "ledger.jsonl").read_bytes()
    images, labels = records
    with pytest.raises(
        checks.UsageError, match="not those that the run .* their order was changed"
    ):
        tfdps.train(config, (images[::-1], labels[::-1]))
    with pytest.raises(checks.UsageError, match="no file has them: pass them to"):
        tfdps.train(config)
    with pytest.raises(checks.UsageError, match="--dataset alters the privacy guarantee"):
        tfdps.train(dataclasses.replace(config, dataset="arrays"), records)
    turned = dataclasses.replace(config, class_names=",".join(reversed(CLASSES.split(","))))
    with pytest.raises(checks.UsageError, match="--class_names alters the privacy guarantee"):
        tfdps.train(turned, records)
    card = tfdps.train(config, records)
    assert (model_dir / "ledger.jsonl").read_bytes() == before
    assert card.generator_updates == 60


def test_records_that_are_refused_start_no_run(tmp_path, records):
    images, labels = records
    config = small_config(tmp_path / "run", dataset="arrays", class_names=CLASSES)
    with pytest.raises(checks.UsageError, match="images must be uint8"):
        tfdps.train(config, (images / 255, labels))
    with pytest.raises(checks.UsageError, match="dataset must be arrays or arrays:NAME"):
        tfdps.train(dataclasses.replace(config, dataset="digits"), records)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_the_command_line_samples_exports_and_verifies_without_the_records(copied, tmp_path):
    model_dir, _ = copied
    shutil.rmtree(model_dir / "export")
    assert launch.main(["tfdps", "--mode=export", f"--model_dir={model_dir}"]) == 0
    sample = ["tfdps", "--mode=sample", f"--model_dir={model_dir}", f"--out={tmp_path / 'x.png'}"]
    assert launch.main(sample) == 0
    assert not tfdps.verify(model_dir).problems


def test_the_command_line_says_that_the_rest_needs_the_records(copied, capsys):
    model_dir, _ = copied
    for mode in ("evaluate", "audit"):
        said = failure(capsys, f"--mode={mode}", f"--model_dir={model_dir}")
        assert "records of arrays:digits are a Python program's, and no file has them" in said
    assert "no file has them" in failure(capsys, f"--flagfile={model_dir / 'run.flags'}")


@pytest.mark.slow
def test_the_report_says_how_the_records_are_passed(copied):
    model_dir, _ = copied
    page = tfdps.write_report(model_dir).read_text()
    assert "gave these settings to tfdps.train, with the records" in page
    assert "tfdps.evaluate(tfdps.RunConfig(model_dir=" in page
    assert "--mode=evaluate" not in page


@pytest.mark.slow
def test_evaluation_and_audit_take_the_records(copied, records, short_networks):
    _, config = copied
    test = loading.load("digits", split="test")
    held_out = test.images, test.labels
    options = tfdps.EvaluationOptions(eval_samples=200, eval_quick=True, feature_cache="report")
    with short_networks():
        results = tfdps.evaluate(config, options, records, held_out)
    assert results["test_set"] == {"name": "arrays", "split": "test", "num_records": 359}
    options = tfdps.EvaluationOptions(audit_parts="membership", feature_cache="report")
    with short_networks():
        audited = tfdps.audit(config, options, records, held_out)
    assert audited["membership"]["num_records"] > 0
    with pytest.raises(checks.UsageError, match="pass held-out records, test_dataset="):
        tfdps.evaluate(config, options, records)
    with pytest.raises(checks.UsageError, match="their order was changed"):
        tfdps.evaluate(config, options, (records[0][::-1], records[1]), held_out)
    named = dataclasses.replace(options, eval_dataset="mnist")
    with pytest.raises(checks.UsageError, match="must be left out where test_dataset is passed"):
        tfdps.audit(config, named, records, held_out)
    with pytest.raises(checks.UsageError, match="images must be uint8"):
        tfdps.audit(config, options, records, (np.zeros([400, 8, 8]), np.zeros(400)))
