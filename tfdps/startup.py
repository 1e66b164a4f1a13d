"""Starts: TensorFlow without its start-up lines, which would hide ours, and the command again."""

import contextlib
import os
import sys

from tfdps import checks

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_OURS = "3"
_RESTARTS = "TFDPS_RESTARTS"


def what_is_missing(error):
    """Returns what to do about a ModuleNotFoundError of a package that drawing images needs not."""
    return (
        f'{error.name} is missing: training takes pip install "tfdps[train]", on Python 3.10 or 3.11. '
        "tfdps-sample and --mode=demo work without."
    )


def load_tensorflow():
    """Imports TensorFlow, silent unless the user set TF_CPP_MIN_LOG_LEVEL or the import fails.

    Raises:
      UsageError: it is not installed.
    """
    try:
        _load_tensorflow()
    except ModuleNotFoundError as error:
        raise checks.UsageError(what_is_missing(error)) from error


def _load_tensorflow():
    if _LOG_LEVEL in os.environ:
        import tensorflow  # noqa: F401

        return
    os.environ[_LOG_LEVEL] = _OURS
    # Some lines come from C++ before any log level is read: only the file descriptor stops them.
    with _silent_stderr():
        import tensorflow  # noqa: F401


def restarts():
    """Returns how often this command line was started anew by itself."""
    return int(os.environ.get(_RESTARTS, "0"))


def restart():
    """Starts this process's command line anew, in its place; does not return."""
    environment = {k: v for k, v in os.environ.items() if (k, v) != (_LOG_LEVEL, _OURS)}
    environment[_RESTARTS] = str(restarts() + 1)
    command = [sys.executable, "-m", "tfdps.launch", *sys.argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


@contextlib.contextmanager
def _silent_stderr():
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
