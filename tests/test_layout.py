"""The house: modules import downwards only, files stay small, the package's edges are clean."""

import ast
import re
import subprocess
import sys

import pytest

from conftest import ROOT

# A module imports only from rows above its own (and the adapter within mechanisms).
ROWS = [
    ["byte_table", "onnx_metadata", "predict_requests"],
    [
        "checks",
        "files",
        "random_cosines",
        "parts",
        "preemption",
        "mechanism_settings",
        "artefacts",
        "onnx_tables",
        "warmup",
    ],
    [
        "config",
        "cluster",
        "command_line",
        "class_labels",
        "options",
        "startup",
        "nonprivate",
        "schedule",
        "gaussian_curve",
        "deformation",
        "rectified",
        "frequencies",
        "shrinkage",
        "charges",
        "local_gaussians",
    ],
    [
        "flags",
        "sampler",
        "serving",
        "sampling",
        "replicas",
        "anderson",
        "costs",
        "accounting",
        "mixture",
        "grids",
        "image_folder",
        "tfds_builder",
        "evaluation.progress",
        "evaluation.distances",
        "evaluation.feature_space",
        "audit.neighbours",
        "audit.counts",
        "audit.contributions",
        "report.wording",
        "report.published",
        "report.measured",
    ],
    [
        "sample_files",
        "sampling_client",
        "tfds_images",
        "noise_streams",
        "generators",
        "transport_problem",
        "plan",
        "mechanisms.tf_privacy",
        "mechanisms.moments",
        "mechanisms.pieces",
        "evaluation.classifiers",
        "evaluation.resnet",
        "evaluation.inception",
        "audit.bounds",
        "audit.one_run",
        "report.audits",
        "report.pictures",
        "report.utility",
        "report.guarantee",
        "report.plots",
    ],
    [
        "demo.server",
        "sample_command",
        "data",
        "ledger",
        "kernel_solver",
        "reference_solver",
        "mechanisms.joint",
        "mechanisms.none",
        "mechanisms.noisy_sum",
        "audit.membership",
        "audit.memorisation",
    ],
    ["mechanisms.per_record", "claims"],
    ["verification"],
    [
        "verify_command",
        "sinkhorn",
        "questions",
        "batches",
        "run_dir",
        "samples",
        "export",
        "evaluation.feature_cnn",
    ],
    ["class_rounds", "atom_round"],
    ["rounds"],
    [
        "trainer",
        "image_gradient",
        "moment_learner",
        "callbacks",
        "authorization",
        "evaluation.subject",
        "audit.worst_case",
    ],
    ["models", "evaluation.evaluate", "audit.noise_checks", "report.page"],
    ["run_export"],
    ["train"],
    ["audit.mechanism", "audit.canaries"],
    ["audit.audit"],
    ["launch"],
]
ROW = {name: row for row, names in enumerate(ROWS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT / "tfdps").with_suffix("").parts): path
    for path in sorted((ROOT / "tfdps").rglob("*.py"))
    if path.name != "__init__.py"
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
            if name in ROW:
                yield name


def test_every_module_has_a_row():
    assert set(MODULES) == set(ROW)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name):
    upward = [other for other in imported(MODULES[name]) if ROW[other] >= ROW[name]]
    assert not upward


@pytest.mark.parametrize("name", MODULES)
def test_modules_fit_in_300_lines(name):
    assert len(MODULES[name].read_text().splitlines()) <= 300


def test_only_the_adapter_touches_tensorflow_privacy():
    users = [name for name, path in MODULES.items() if "tensorflow_privacy" in path.read_text()]
    assert users == ["mechanisms.tf_privacy"]


def test_only_flags_knows_absl():
    def knows(path):
        return "from absl" in path.read_text() or "import absl" in path.read_text()

    assert [name for name, path in MODULES.items() if knows(path)] == ["flags"]


@pytest.mark.parametrize("command", ["sample_command", "verify_command"])
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
