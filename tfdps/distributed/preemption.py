"""SIGTERM: a run that is asked to go finishes the step it has paid for, saves and leaves."""

import contextlib
import signal
import threading

GRACE_SECONDS = 15  # for the step: what takes longer is interrupted, so that all is over in 30


class StopRequest:
    """Whether the process was asked to stop; a KeyboardInterrupt if that is not heeded in time."""

    def __init__(self):
        self.requested, self._listening = False, False

    @contextlib.contextmanager
    def on_sigterm(self):
        """Takes SIGTERM as a request to stop for as long as the block runs.

        In a thread, where Python lets no one handle signals, SIGTERM means what the program has made it
        mean.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = signal.signal(signal.SIGTERM, self._asked)
        alarm = signal.signal(signal.SIGALRM, signal.default_int_handler)
        self._listening = True
        try:
            yield self
        finally:
            self._listening = False
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
            signal.signal(signal.SIGTERM, before)

    def listen_again(self):
        """To be called when TensorFlow has joined a cluster: it takes SIGTERM for itself then."""
        if self._listening:
            signal.signal(signal.SIGTERM, self._asked)

    def heed(self):
        """To be called by who stops now: nothing interrupts the rest."""
        if self._listening:  # else an alarm is the program's own
            signal.alarm(0)

    def _asked(self, number, frame):
        if not self.requested:
            self.requested = True
            signal.alarm(GRACE_SECONDS)
