"""The progress bar of an evaluation's trainings."""

import sys

import keras
import tqdm

_SECONDS = 0.5
_SECONDS_IN_A_LOG = 30.0


class Epochs(keras.callbacks.Callback):
    """A progress bar of epochs with the accuracies so far, gone when training ends.

    Args:
      title: what is trained.
      max_epochs: the most there can be; early stopping makes it fewer.
    """

    def __init__(self, title, max_epochs):
        super().__init__()
        self._title, self._max_epochs = title, max_epochs

    def on_train_begin(self, logs=None):
        seconds = _SECONDS if sys.stderr.isatty() else _SECONDS_IN_A_LOG
        self._bar = tqdm.tqdm(
            desc=self._title,
            total=self._max_epochs,
            unit="epoch",
            mininterval=seconds,
            maxinterval=seconds,
            leave=False,
        )

    def on_epoch_end(self, epoch, logs=None):
        shown = {name: f"{value:.4f}" for name, value in (logs or {}).items() if "accuracy" in name}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def on_train_end(self, logs=None):
        self._bar.close()
