"""What a start hides of stderr, and what it never does."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT

NOTES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795.61   1 port.cc:153] oneDNN custom operations are on. You may see ...",
    "I0000 00:00:1795.61   1 cudart_stub.cc:31] Could not find cuda drivers on your machine",
    "W0000 00:00:1795.61   1 computation_placer.cc:177] computation placer already registered",
    "2026-01-02 03:04:05.67: I tensorflow/core/platform/cpu_feature_guard.cc:210] optimized",
    "To enable the following instructions: AVX2 FMA, rebuild TensorFlow",
    "E0000 00:00:1795.61   1 cuda_fft.cc:485] Unable to register cuFFT factory: Attempting ...",
]
ERRORS = [
    "E0000 00:00:1795.61   1 cuda_executor.cc:1228] INTERNAL: failed call to cuInit",
    "F0000 00:00:1795.61   1 cpu_feature_guard.cc:37] was compiled to use AVX instructions",
    "Illegal instruction",
    "In 2026 nothing is hidden that only looks like a date",
]


def stderr_of(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return result.stderr.splitlines()


def test_notes_are_hidden_and_errors_are_not_and_afterwards_all_shows():
    code = (
        "import os\nfrom tfdps.distributed import start_up_lines\n"
        f"lines = {NOTES + ERRORS}\n"
        "def say():\n    for line in lines: os.write(2, line.encode() + b'\\n')\n"
        "with start_up_lines.hidden(): say()\n"
        "say()\n"
    )
    assert stderr_of(code) == ERRORS + NOTES + ERRORS


def test_the_last_words_of_a_start_that_ends_the_process_are_shown():
    code = (
        "import os\nfrom tfdps.distributed import start_up_lines\n"
        f"with start_up_lines.hidden(): os.write(2, {ERRORS[1].encode()!r}); os._exit(3)\n"
    )
    assert stderr_of(code) == [ERRORS[1]]


def test_without_an_interpreter_to_start_nothing_is_hidden():
    code = (
        "import os, sys\nfrom tfdps.distributed import start_up_lines\nsys.executable = None\n"
        "with start_up_lines.hidden(): os.write(2, b'I0000 00:00\\n')\n"
    )
    assert stderr_of(code) == ["I0000 00:00"]


@pytest.mark.slow  # two imports of TensorFlow
@pytest.mark.parametrize(("level", "hidden"), [(None, True), ("1", False)])
def test_a_start_says_nothing_unless_notes_were_asked_for(level, hidden, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    code = (
        "import os\nfrom tfdps.distributed import startup\nstartup.load_tensorflow()\n"
        f"assert os.environ['TF_CPP_MIN_LOG_LEVEL'] == {level or '3'!r}\n"
    )
    said = stderr_of(code, **({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}))
    assert (said == []) == hidden, said
