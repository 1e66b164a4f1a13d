"""Where a run, an export and an artefact alone are found, by every path that names them."""

import os

import pytest

from tfdps import checks
from tfdps.artefacts import layout


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A model_dir in the user's home, its files empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ledger.jsonl", "export/model_card.json", "export/generator.onnx"):
        touch(tmp_path / "run" / name)
    touch(tmp_path / "run" / "export" / "saved_model" / "1" / "saved_model.pb")
    return tmp_path / "run"


def test_a_model_dir_has_its_export_and_its_ledger(run):
    found, export = layout.locate("~/run"), run / "export"
    assert found == layout.Located(
        str(run),
        export=str(export),
        saved_model=str(export / "saved_model" / "1"),
        onnx=str(export / "generator.onnx"),
        ledger=str(run / "ledger.jsonl"),
    )
    assert (found.part, found.card) == ("", str(export / "model_card.json"))
    assert list(found.files()) == [
        "generator.onnx",
        "model_card.json",
        "saved_model/1/saved_model.pb",
    ]


@pytest.mark.parametrize("path", ["~/run/export", "~/run/export/model_card.json"])
def test_an_export_is_whole_without_a_ledger(run, path):
    found = layout.locate(path)
    assert found.path == str(run.parent / path[2:])
    assert found.export == str(run / "export")
    assert found.onnx == str(run / "export" / "generator.onnx")
    assert found.ledger is None
    assert found.part == ""


@pytest.mark.parametrize("path", ["~/run/export/saved_model", "~/run/export/saved_model/1"])
def test_a_saved_model_is_alone_with_the_card_inside_it(run, path):
    found = layout.locate(path)
    saved_model = run / "export" / "saved_model" / "1"
    assert found == layout.Located(str(run.parent / path[2:]), saved_model=str(saved_model))
    assert found.part == layout.SAVED_MODEL
    assert found.card == str(saved_model / "assets" / "model_card.json")
    assert list(found.files()) == ["saved_model/1/saved_model.pb"]


def test_an_onnx_file_is_alone_whatever_its_name(run):
    os.rename(run / "export" / "generator.onnx", run / "digits.onnx")
    found = layout.locate("~/run/digits.onnx")
    assert found == layout.Located(str(run / "digits.onnx"), onnx=str(run / "digits.onnx"))
    assert (found.part, found.card) == (layout.ONNX, None)
    assert found.files() == {"generator.onnx": str(run / "digits.onnx")}


def test_of_several_versions_the_highest_whole_one_is_found(run):
    versions = run / "export" / "saved_model"
    for version in ("2", "10", "backup"):
        touch(versions / version / "saved_model.pb")
    (versions / "11").mkdir()  # being written
    for path in ("~/run", "~/run/export", "~/run/export/saved_model"):
        assert layout.locate(path).saved_model == str(versions / "10")


def test_a_path_object_and_one_of_the_working_directory_name_the_same(run, monkeypatch):
    monkeypatch.chdir(run / "export")
    assert layout.locate(run) == layout.locate(str(run))
    assert layout.locate("model_card.json").export == "."


def test_what_is_not_there_is_none(tmp_path):
    found = layout.locate(tmp_path)
    assert found == layout.Located(str(tmp_path), export=str(tmp_path))
    assert found.files() == {}


def test_where_there_is_nothing_it_is_said_what_is_allowed(run):
    with pytest.raises(checks.UsageError) as error:
        layout.locate("~/nowhere")
    assert str(error.value) == (
        f"there is nothing at {run.parent}/nowhere: name a model_dir, an export, a SavedModel's folder "
        "or a generator.onnx."
    )
