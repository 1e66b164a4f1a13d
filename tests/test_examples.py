"""Every public name has an example in its docstring that runs, in a folder of its own."""

import doctest
import importlib
import inspect
import shutil

import pytest
import test_faces
from planted import draws_alone

from conftest import ROOT

# They train, export or need a server that answers; `# doctest: +SKIP` is for the last alone.
SLOW = {"train", "evaluate", "audit", "write_report", "export_checkpoint", "write_export"}
NAMES = sorted(
    {
        (getattr(importlib.import_module(package), name).__module__, name): f"{package}.{name}"
        for package in reversed(test_faces.FACES)  # of two the shorter
        for name in importlib.import_module(package).__all__
        if name != "__version__"
    }.values()
)


@pytest.fixture(scope="module")
def same_runs_once(tmp_path_factory):
    """Of examples that train the same run the first one does, and the others have a copy of it."""
    from tfdps.training import job

    finished, train = {}, job.train

    def once(config, dataset=None, **options):
        key = config.to_flags()
        if dataset is None and key in finished:
            card, folder = finished[key]
            shutil.copytree(folder, config.model_dir)
            return card
        card = train(config, dataset, **options)
        if dataset is None:
            folder = tmp_path_factory.mktemp("run") / "run"
            finished[key] = card, shutil.copytree(config.model_dir, folder)
        return card

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "train", once)
        yield


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name.split(".")[-1] in SLOW))
        for name in NAMES
    ],
)
def test_the_example_runs(name, tmp_path, monkeypatch, short_networks, same_runs_once):
    package, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(package), attribute)
    (tmp_path / "saved_models").symlink_to(ROOT / "saved_models")
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(value), {}, name, None, None)
    assert example.examples, f"{name} has no example"
    said = []
    with short_networks(), draws_alone():
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not said, "".join(said)
