"""Starts: TensorFlow under Keras and without start-up lines that hide ours, and the command again."""

import json
import os
import sys

from tfdps import checks
from tfdps.distributed import start_up_lines

_BACKEND = "KERAS_BACKEND"
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_OURS = "3"
_ALL_LEVELS = ("0", "1")  # of those who ask for notes and warnings
_RESTARTS = "TFDPS_RESTARTS"


def what_is_missing(error):
    """Returns what to do about a ModuleNotFoundError of a package that drawing images needs not."""
    return (
        f'{error.name} is missing: training takes pip install "tfdps[train]". '
        "tfdps-sample and --mode=demo work without."
    )


def load_tensorflow(*, keras=True):
    """Imports TensorFlow without its start-up notes; all show where TF_CPP_MIN_LOG_LEVEL is 0 or 1.

    A level that the user set is left as it is; without one it is 3, for as long as this process runs.

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
    if sys.modules.get("tensorflow") is not None:
        return
    if os.environ.setdefault(_LOG_LEVEL, _OURS).strip() in _ALL_LEVELS:
        import tensorflow  # noqa: F401

        return
    with start_up_lines.hidden():
        import tensorflow  # noqa: F401


def restarts():
    """Returns how often this command line was started anew by itself."""
    return int(os.environ.get(_RESTARTS, "0"))


def restart(arguments):
    """Starts the command anew, in this process's place; does not return.

    Args:
      arguments: the words of its command line after the program's name.
    """
    environment = {k: v for k, v in os.environ.items() if (k, v) != (_LOG_LEVEL, _OURS)}
    environment[_RESTARTS] = str(restarts() + 1)
    command = [sys.executable, "-m", "tfdps.launch", *arguments]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)
