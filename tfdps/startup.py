"""Loads TensorFlow without its start-up lines, which would hide the program's own."""

import contextlib
import os
import sys


def load_tensorflow():
    """Imports TensorFlow, silent unless the user set TF_CPP_MIN_LOG_LEVEL or the import fails."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        import tensorflow  # noqa: F401

        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Some lines come from C++ before any log level is read: only the file descriptor stops them.
    with _silent_stderr():
        import tensorflow  # noqa: F401


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
