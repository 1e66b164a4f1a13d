"""Starts: TensorFlow under Keras and without start-up lines that hide ours, and the command again."""

import contextlib
import json
import os
import sys

from tfdps import checks

_BACKEND = "KERAS_BACKEND"
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_OURS = "3"
_RESTARTS = "TFDPS_RESTARTS"


def what_is_missing(error):
    """Returns what to do about a ModuleNotFoundError of a package that drawing images needs not."""
    return (
        f'{error.name} is missing: training takes pip install "tfdps[train]". '
        "tfdps-sample and --mode=demo work without."
    )


def load_tensorflow(*, keras=True):
    """Imports TensorFlow, silent unless the user set TF_CPP_MIN_LOG_LEVEL or the import fails.

    Args:
      keras: whether Keras is used too, which must then run on TensorFlow.

    Raises:
      UsageError: Keras is set to run on another backend. Nothing is imported.
      ModuleNotFoundError: TensorFlow is not installed.
    """
    if keras:
        _check_keras_backend()
    _load_tensorflow()


def _check_keras_backend():
    backend, source = _keras_backend()
    if backend != "tensorflow":
        raise checks.UsageError(
            f"Keras must run on tensorflow, received {backend!r} from {source}: set the environment "
            f"variable {_BACKEND}=tensorflow, which comes before all other settings of Keras."
        )


def _keras_backend():
    """(Keras' backend, where it is from), found without importing Keras, which loads its backend.

    Keras looks in the same places, in this order (keras.io, "Configuring your backend").
    """
    if "keras" in sys.modules:
        return sys.modules["keras"].config.backend(), "the Keras that is loaded"
    if os.environ.get(_BACKEND):
        return os.environ[_BACKEND], _BACKEND
    home = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
    path = os.path.expanduser(os.path.join(home, "keras.json"))
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file).get("backend", "tensorflow"), path
    except (OSError, ValueError, AttributeError):  # no file, or none that Keras could read
        return "tensorflow", "Keras' default"


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
