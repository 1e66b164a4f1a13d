"""The progress bar of an evaluation's trainings."""

import keras

from tfdps import console


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
        self._bar = console.Bar(desc=self._title, total=self._max_epochs, unit="epoch", leave=False)

    def on_epoch_end(self, epoch, logs=None):
        shown = {name: f"{value:.4f}" for name, value in (logs or {}).items() if "accuracy" in name}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def on_train_end(self, logs=None):
        self._bar.close()
