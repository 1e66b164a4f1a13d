"""What packages show: names that load on first use, and are there for type checkers too."""

import ast
import importlib
import inspect
import re
import subprocess
import sys

import pytest

import tfdps
from conftest import ROOT

FACES = ["tfdps"] + [
    f"tfdps.{path.parent.name}"
    for path in sorted((ROOT / "tfdps").glob("*/__init__.py"))
    if "_face(" in path.read_text()
]


def run(code):
    """Runs Python code in a process of its own, warnings as errors; returns its output."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return result.stdout


def test_the_top_shows_what_the_documentation_promises():
    promised = (
        "RunConfig EvaluationOptions Dataset DatasetSpec load_dataset PrivacyPlan make_plan train "
        "evaluate audit write_report DPSinkhorn SinkhornDivergence sinkhorn_divergence load_sampler "
        "verify UsageError __version__"
    )
    assert set(tfdps.__all__) == set(promised.split())


def test_the_page_of_the_api_names_the_same():
    page = ROOT / "docs" / "api.md"
    if not page.is_file():
        pytest.skip(f"no {page}")
    rows = [
        line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `tf")
    ]
    assert set(re.findall(r"`tfdps\.(\w+)`", " ".join(rows))) == set(tfdps.__all__)


@pytest.mark.parametrize("package", FACES)
def test_every_name_loads_and_is_the_modules_own(package):
    face = importlib.import_module(package)
    assert face.__all__ == sorted(set(face.__all__))
    assert set(face.__all__) <= set(dir(face))
    for name in face.__all__:
        value = getattr(face, name)
        assert name == "__version__" or value.__module__.startswith("tfdps"), name
        assert getattr(face, name) is value


@pytest.mark.parametrize("package", FACES)
def test_no_name_is_a_modules_too(package):
    """Importing the module would put it into the name's place."""
    folder = ROOT.joinpath(*package.split("."))
    modules = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir()}
    assert not modules & set(importlib.import_module(package).__all__)


def test_a_name_that_is_not_there_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'tfdps' has no attribute 'trian'"):
        tfdps.trian  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'trian'"):
        exec("from tfdps import trian")


def test_faces_import_modules_of_their_own_package():
    for package in FACES[1:]:
        tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
        places = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert all(place == "tfdps" or place.startswith(package + ".") for place in places)


def test_importing_and_listing_says_nothing_and_loads_nothing():
    heavy = "{'tensorflow', 'keras', 'numpy', 'dp_accounting', 'onnxruntime', 'matplotlib'}"
    run(f"import sys, tfdps; dir(tfdps); tfdps.__all__; assert not {heavy} & set(sys.modules)")
    packages = ", ".join(FACES)
    run(f"import sys, {packages}; assert not {heavy} & set(sys.modules)")


def test_what_a_program_calls_first_has_a_help_without_tensorflow():
    names = "train evaluate audit write_report load_sampler verify load_dataset make_plan RunConfig"
    run(
        "import sys, warnings, tfdps\n"
        "warnings.simplefilter('ignore')  # of what else is loaded\n"
        f"for name in {names.split()}: assert getattr(tfdps, name).__doc__\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )


def test_packages_are_there_after_importing_the_top_alone():
    cost = "tfdps.accounting.epsilon(noise_multiplier=2., sampling_probability=1., steps=1, delta=1e-5)"
    code = f"import warnings, tfdps\nwarnings.simplefilter('ignore')\nprint({cost} > 1)"
    assert run(code) == "True\n"


def public_functions():
    """(name, function) of all that the faces show: functions, and methods and properties of classes."""
    for package in FACES:
        face = importlib.import_module(package)
        for name in face.__all__:
            value = getattr(face, name)
            if inspect.isfunction(value):
                yield f"{package}.{name}", value
            if not inspect.isclass(value):
                continue
            for owner in value.__mro__:
                if not owner.__module__.startswith("tfdps"):
                    continue
                for attribute, member in vars(owner).items():
                    function = inspect.unwrap(getattr(member, "fget", member))
                    function = getattr(function, "__func__", function)  # of a class method
                    public = not attribute.startswith("_") or attribute == "__init__"
                    if public and inspect.isfunction(function):
                        yield f"{package}.{name}.{attribute}", function


def test_every_public_function_says_the_types_of_its_arguments_and_its_result():
    bare = {}
    for name, function in public_functions():
        if function.__module__.startswith("tfdps"):  # not what dataclasses write
            given = inspect.signature(function)
            missing = [
                each
                for each, parameter in given.parameters.items()
                if parameter.annotation is parameter.empty and each not in ("self", "cls")
            ]
            missing += ["return"] * (given.return_annotation is given.empty)
            if missing:
                bare[name] = missing
    assert not bare
