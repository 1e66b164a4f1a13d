"""Keeps the lines that TensorFlow says while it is imported off stderr, and lets all others through."""

import contextlib
import os
import re
import subprocess
import sys

# Notes and warnings of C++, as absl ("I0000 00:00:...") and TensorFlow ("2026-...: I tensorflow/...")
# write them, what comes before the first, and errors that every start on a GPU has.
_NOISE = re.compile(
    rb"[IW]\d{4} \d\d:|\d{4}-\d\d-\d\d [\d:.]+: [IW] |WARNING: All log messages before absl::|"
    rb"To enable the following instructions|.*Unable to register cu[A-Z]+ factory"
)
_COPY = f"""import re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
noise = re.compile({_NOISE.pattern!r})
for line in sys.stdin.buffer:
    if not noise.match(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


@contextlib.contextmanager
def hidden():
    """Hides TensorFlow's notes for the block; what else comes to stderr, an error say, is shown.

    Some notes come before TensorFlow reads any setting, so that only the file descriptor stops them. A
    process of its own copies the rest: it shows the last words of a start that ends this process,
    such as those about a processor without AVX. Where none can be started nothing is hidden.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a program without stderr
        yield
        return
    with contextlib.closing(os.fdopen(kept, "wb")):
        try:
            copier = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _COPY],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=kept,
            )
        except (OSError, TypeError, ValueError):  # no process, or no interpreter to start
            yield
            return
        os.dup2(copier.stdin.fileno(), 2)
        copier.stdin.close()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)  # the last end of the pipe: the copier is done now
            copier.wait()
