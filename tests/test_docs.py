"""README and docs/: their links lead somewhere, and what they name is there."""

import ast
import dataclasses
import importlib.util
import json
import re

import pytest
import test_layout

from conftest import ROOT
from tfdps.config import flags
from tfdps.config.evaluation_options import EvaluationOptions
from tfdps.config.run_config import RunConfig

TEXTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "saved_models" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.ipynb")),
]
NAMES = [str(path.relative_to(ROOT)) for path in TEXTS]


@pytest.fixture(scope="module")
def hooks():
    """docs/hooks.py, which makes the tables of flags when the site is built."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(path):
    """The Markdown of a file, of a notebook that of its cells."""
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def headings(path):
    """The anchors of a file's headings, as GitHub and the site make them."""
    lines = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    words = (re.sub(r"[`*]|[^\w\s-]", "", line.lower()) for line in lines)
    return {re.sub(r"\s", "-", word.strip()) for word in words}


@pytest.mark.parametrize("path", TEXTS, ids=NAMES)
def test_relative_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)(#[^)\s]*)?\)", text_of(path)):
        if not target and not anchor:
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), target
        if anchor and file.suffix == ".md" and file.name != "api.md" and "tfdps" not in anchor:
            with_included = headings(file)
            for included in re.findall(r"<!-- include: (\S+?)(?: \w+)? -->", text_of(file)):
                with_included |= headings((file.parent / included).resolve())
            assert anchor[1:] in with_included, target + anchor


@pytest.mark.parametrize("path", TEXTS, ids=NAMES)
def test_files_that_are_named_exist(path):
    named = re.findall(r"`((?:tfdps|tests|benchmarks|docs|launch)/[\w./]*)`", text_of(path))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_architecture_has_every_package_and_module_at_the_top():
    text = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "tfdps"
    folders = {f"`tfdps/{path.parent.name}/`" for path in package.glob("*/__init__.py")}
    modules = {f"`tfdps/{path.name}`" for path in package.glob("*.py")} - {"`tfdps/__init__.py`"}
    assert not {name for name in folders | modules if name not in text}


def test_the_architecture_has_the_rows_that_imports_keep():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = {}
    for row, names in re.findall(r"^\| (\d+) \| (.*?) \|", text, re.MULTILINE):
        rooms = re.findall(r"`tfdps/(\w+)", names)
        rows.setdefault(int(row), set()).update(rooms)
    assert [rows[row] for row in sorted(rows)] == [set(rooms) for rooms in test_layout.ROWS]


def test_the_trusted_base_has_every_module_with_a_guarantee_that_sees_records():
    page = (ROOT / "docs" / "guarantee.md").read_text()
    base = page.split("## The trusted base")[1].split("\n## ")[0]
    rows = "\n".join(line for line in base.splitlines() if line.startswith("| `"))
    named = re.findall(r"`(tfdps/[\w./]+)`", rows)
    outside = {"tfdps/training/callbacks.py"}  # shows what is public by then
    for package in ("accounting", "data", "distributed", "learners", "mechanisms", "training"):
        for path in sorted((ROOT / "tfdps" / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "Guarantee:" in path.read_text() and name not in outside:
                assert any(name.startswith(each) for each in named), name
    proofs = page.split("## Where each proof stands")[1]
    for name in re.findall(r"`(tfdps/[\w./]+)`", proofs):
        assert any(name.startswith(each) for each in named), name


def test_the_page_of_flags_has_every_flag(hooks):
    page = (ROOT / "docs" / "flags.md").read_text()
    tables = [hooks.flags_table(name) for name in re.findall(r"<!-- flags: (\w+) -->", page)]
    listed = re.findall(r"^\| `--(\w+)` \|", "\n".join(tables), re.MULTILINE)
    everything = set(re.findall(r"^  --(?:\[no\])?(\w+)", flags.help_text(), re.MULTILINE))
    everything -= {"flagfile"}  # absl's own
    fields = [
        field.name for each in (RunConfig, EvaluationOptions) for field in dataclasses.fields(each)
    ]
    assert set(fields) < everything
    assert sorted(listed) == sorted(everything)


def test_what_pages_include_is_there(hooks):
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = hooks.with_includes(path.read_text(), path)
        assert "<!-- include" not in text, path.name
        assert len(text) > 200, path.name


def test_messages_under_troubleshooting_are_those_of_the_code():
    """The fixed parts of each message; capitals and dots stand for what varies."""
    constants = []
    for path in sorted((ROOT / "tfdps").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    each.value if isinstance(each, ast.Constant) else "\0" for each in node.values
                ]
                constants.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                constants.append(node.value)
    code = "\n".join(constants)
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    fixed = [
        part.strip(" '\"`=:;,.()")
        for cell in cells
        for message in re.findall(r"`([^`]+)`", cell)
        for part in re.split(r"\b[A-Z]+\b|\.\.\.|\d+\S*|\(or[^)]*\)", message)
    ]
    assert len(fixed) > 100
    code += "Unknown command line flag"  # absl's
    assert not [part for part in fixed if len(part) > 12 and part not in code]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


@pytest.mark.parametrize("path", [path for path in TEXTS if path.suffix == ".ipynb"], ids=str)
def test_stored_outputs_of_notebooks_are_small_and_name_no_machine(path):
    text = path.read_text()
    assert len(text) < 100_000
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
