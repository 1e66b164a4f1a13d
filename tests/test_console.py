"""Progress in a log file: a line a step, and nothing that only a terminal understands."""

import io
import os
import re
import subprocess
import sys

import pytest
import tqdm

from tfdps import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def log():
    return io.StringIO()


def steps(log, total, *, updates=None, **settings):
    with console.Bar(total=total, unit="step", file=log, **settings) as bar:
        for number in range(total if updates is None else updates):
            bar.set_postfix_str(f"epsilon {number}", refresh=False)
            bar.update()
    return log.getvalue()


def test_a_log_has_a_line_for_each_of_a_few_steps(log):
    said = steps(log, 6)
    assert re.findall(r"(\d)/6 ", said) == list("0123456")
    assert said.count("\n") == 7
    assert "\r" not in said
    assert "\n\n" not in said
    assert "epsilon 5" in said.splitlines()[-1]


def test_of_many_steps_it_has_the_first_and_the_last(log):
    said = steps(log, 101)
    assert re.findall(r"(\d+)/101 ", said) == ["0", "101"]
    assert said.count("\n") == 2


def test_of_many_steps_it_has_one_every_half_minute(log, monkeypatch):
    monkeypatch.setattr(console, "_SECONDS_IN_A_LOG", 0.0)
    assert re.findall(r"(\d+)/101 ", steps(log, 101)) == [str(number) for number in range(102)]


def test_one_that_was_interrupted_says_how_far_it_came(log):
    assert re.findall(r"(\d+)/101 ", steps(log, 101, updates=7)) == ["0", "7"]


@pytest.mark.parametrize("seconds", [30.0, 0.0])
def test_one_that_does_not_stay_is_not_ended_by_a_carriage_return(log, monkeypatch, seconds):
    monkeypatch.setattr(console, "_SECONDS_IN_A_LOG", seconds)
    said = steps(log, 3, leave=False)
    assert said.count("\n") == (0 if seconds else 4)
    assert "\r" not in said


def test_a_line_written_between_steps_stands_alone(log):
    bar = console.Bar(total=3, file=log)
    bar.update()
    tqdm.tqdm.write("a note", file=log)
    bar.close()
    lines = log.getvalue().splitlines()
    assert lines[2] == "a note"
    assert len(lines) == 3  # and no line twice
    assert "\r" not in log.getvalue()


def test_a_terminal_has_one_line_that_is_redrawn():
    terminal = Terminal()
    said = steps(terminal, 6)
    assert said.count("\n") == 1
    assert "\r" in said


class TestPythonAloneOnStderr:
    def test_what_others_write_to_the_descriptor_is_not_seen(self, capfd):
        with console.python_alone_on_stderr():
            os.write(2, b"Corrupt JPEG data")
        os.write(2, b"as before")
        assert capfd.readouterr().err == "as before"

    def test_what_python_writes_is_seen(self):
        code = (
            "import os, sys\n"
            "from tfdps import console\n"
            "with console.python_alone_on_stderr():\n"
            "    os.write(2, b'hidden')\n"
            "    print('said', file=sys.stderr)\n"
            "    with console.Bar(total=2) as bar: bar.update(2)\n"
            "print('after', file=sys.stderr)\n"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
        assert said.splitlines()[0] == "said"
        assert "2/2" in said
        assert said.splitlines()[-1] == "after"
        assert "hidden" not in said

    def test_python_may_write_elsewhere(self, capfd, monkeypatch):
        monkeypatch.setattr(
            sys, "stderr", elsewhere := io.StringIO()
        )  # as in a notebook: no number
        with console.python_alone_on_stderr():
            os.write(2, b"Corrupt JPEG data")
            print("said", file=sys.stderr)
        assert (capfd.readouterr().err, elsewhere.getvalue()) == ("", "said\n")

    def test_there_may_be_no_stderr(self):
        code = (
            "import os, sys; os.close(2); from tfdps import console\n"
            "with console.python_alone_on_stderr(): print('done')\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "done\n"
