"""The house: modules import downwards only, files stay small, the package's edges are clean."""

import ast
import graphlib
import re
import subprocess
import sys

import pytest

import tfdps
from conftest import ROOT

# A room (a package, or a module that stands alone) imports only from rows above its own.
ROWS = [
    ["checks", "console", "files"],
    ["config"],
    ["data", "accounting", "sinkhorn", "distributed", "generators"],
    ["mechanisms", "artefacts"],
    ["learners", "samplers"],
    ["training", "serving", "commands"],
    ["evaluation", "report"],
    ["auditing"],
    ["launch"],
]
ROW = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(ROOT / "tfdps").with_suffix("").parts): path
    for path in sorted((ROOT / "tfdps").rglob("*.py"))
    if not path.name.startswith("__")  # Python's own names; nobody imports __main__
}


def imported(path):
    """Names of the tfdps modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        for name in names:
            name = name.removeprefix("tfdps.")
            if name in MODULES:
                yield name


def room(name):
    return name.split(".")[0]


def test_every_room_has_a_row():
    assert {room(name) for name in MODULES} == set(ROW)
    assert len(ROW) <= 20


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name):
    other_rooms = {room(other) for other in imported(MODULES[name])} - {room(name)}
    assert not [other for other in other_rooms if ROW[other] >= ROW[room(name)]]


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: set(imported(path)) for name, path in MODULES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_inside_the_package_modules_are_imported_not_the_faces():
    """A face is what a package shows to users; imports of it would hide who needs what."""
    packages = {"tfdps"} | {f"tfdps.{name.rsplit('.', 1)[0]}" for name in MODULES if "." in name}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in packages:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}".removeprefix("tfdps.")
                    assert full in MODULES or alias.name == "__version__", f"{name}: {full}"


@pytest.mark.parametrize("name", MODULES)
def test_modules_fit_in_300_lines(name):
    assert len(MODULES[name].read_text().splitlines()) <= 300


def test_the_citation_and_the_changelog_are_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {tfdps.__version__}\n" in citation
    newest = re.search("^## ([^ \n]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert newest == re.sub(r"(?<=dev)\d+$", "", tfdps.__version__)


def test_only_the_adapter_touches_tensorflow_privacy():
    users = [name for name, path in MODULES.items() if "tensorflow_privacy" in path.read_text()]
    assert users == ["mechanisms.tf_privacy"]


def test_only_flags_knows_absl():
    def knows(path):
        return "from absl" in path.read_text() or "import absl" in path.read_text()

    assert [name for name, path in MODULES.items() if knows(path)] == ["config.flags"]


@pytest.mark.parametrize("command", ["commands.sample", "commands.verify"])
def test_commands_on_artefacts_load_without_tensorflow(command):
    """What a module imports, and what that imports: no framework among it."""
    reached, heavy = [command], {"tensorflow", "keras", "tensorflow_privacy", "onnx"}
    for name in reached:
        source = MODULES[name].read_text()
        reached += sorted(set(imported(MODULES[name])) - set(reached))
        tops = re.findall(r"^\s*(?:import|from) (\w+)", source, re.MULTILINE)
        assert not heavy & set(tops), f"{name} imports {heavy & set(tops)}"


def test_package_and_help_load_without_tensorflow():
    code = (
        "import sys, tfdps, tfdps.launch\n"
        "assert tfdps.launch.main(['tfdps', '--help']) == 0\n"
        "assert tfdps.launch.main(['tfdps', '--clip_norm=-1']) == 2\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules), 'TensorFlow was loaded'"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "--target_epsilon" in result.stdout
