"""What a user sees of the work: lines, progress bars, and nothing of what others log meanwhile.

The package speaks by logging.getLogger("tfdps"), at INFO: nothing shows in a program that has not asked
for it, by `logging.basicConfig(level=logging.INFO, format="%(message)s")` say.
"""

import contextlib
import io
import logging
import math
import os
import sys

import tqdm

_SECONDS, _SECONDS_IN_A_LOG = 0.5, 30.0
_COLUMNS_OF_A_LOG = 100
_FEW_LINES = 100


class Bar(tqdm.tqdm):
    """A progress bar: on a terminal redrawn twice a second, in a log a line now and then.

    A log has a line for each of up to 100 steps, and of more of them one every half minute. A bar that
    does not stay at its end (`leave`) is not in it before it has lasted half a minute. There are no
    carriage returns in a log, and no empty lines.

    Args:
      *args: as tqdm takes them.
      file: where to write; default: stderr.
      **settings: as tqdm takes them, but for its intervals and columns.

    Attributes:
      seconds: between two drawings.
    """

    def __init__(self, *args, file=None, **settings):
        file = file or sys.stderr
        self._terminal = file.isatty()
        self._said = None
        self.seconds = _SECONDS if self._terminal else _SECONDS_IN_A_LOG
        if not self._terminal:
            if not settings.get("leave", True):
                settings["delay"] = self.seconds
            elif (settings.get("total") or math.inf) <= _FEW_LINES:
                self.seconds = 0.0
        super().__init__(
            *args,
            file=file,
            mininterval=self.seconds,
            maxinterval=_SECONDS if self._terminal else _SECONDS_IN_A_LOG,
            dynamic_ncols=self._terminal,
            ncols=None if self._terminal else _COLUMNS_OF_A_LOG,
            **settings,
        )

    def display(self, msg=None, pos=None):
        """Draws the bar; a log has no line to write over, and is told nothing twice."""
        if self._terminal:
            return super().display(msg, pos)
        state = self.n, self.postfix
        if msg is None and state != self._said:  # "" would clear a line
            self._said = state
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return True

    def clear(self, *args, **settings):
        """Clears the line of a terminal, for another line to be written."""
        if self._terminal:
            super().clear(*args, **settings)

    def close(self):
        """Ends the bar: one that stays has said in a log how it ended."""
        if not self._terminal and not self.disable:
            if self.leave:
                self.display()
            self.fp = io.StringIO()  # for the line that tqdm would end or clear
        super().close()


@contextlib.contextmanager
def python_alone_on_stderr():
    """Keeps off the screen what libraries in other languages write to stderr, for the block.

    libjpeg, as TensorFlow has it, writes a line where it reads a damaged image, which may be a private
    record. What Python writes is seen as before.
    """
    ours = sys.stderr
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        is_ours = ours is not None and ours.fileno() == 2
    except (OSError, ValueError):  # a notebook's, which is no file
        is_ours = False
    if is_ours:
        ours.flush()
        sys.stderr = os.fdopen(
            os.dup(kept), "w", buffering=1, encoding=ours.encoding, errors=ours.errors
        )
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        if is_ours:
            sys.stderr.close()
            sys.stderr = ours


@contextlib.contextmanager
def lines_to(write):
    """Gives each line that the package says for its user, at INFO, to `write`, for the block."""
    logger, handler = logging.getLogger("tfdps"), _Handler(write)
    level, propagate = logger.level, logger.propagate
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        logger.propagate = propagate


class _Handler(logging.Handler):
    """Calls a function with each line."""

    def __init__(self, write):
        super().__init__()
        self._write = write

    def emit(self, record):
        self._write(record.getMessage())


@contextlib.contextmanager
def quiet(*names):
    """Keeps what the named loggers say below an error off the screen for the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
