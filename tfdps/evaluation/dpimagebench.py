"""DPImageBench's protocol: three large classifiers, the epoch chosen on real training records.

Source: Gong et al. 2025 (DPImageBench, arXiv 2503.14681).
"""

import math

import keras
import numpy as np

from tfdps.evaluation import pipelines, residual_networks
from tfdps.evaluation.epochs import Epochs

NAMES = residual_networks.NAMES
EPOCHS = 50
_BATCH = 512
_LEARNING_RATE, _AVERAGED = 1e-4, 0.9999
_VALIDATION = 5_000  # real training records, as many as DPImageBench keeps of MNIST and CIFAR-10


def protocol(epochs):
    """Returns the protocol in words, which say where it is a short form.

    Args:
      epochs: how many each classifier is trained for.
    """
    short = "" if epochs >= EPOCHS else f"; a SHORT FORM: {epochs} epochs of {EPOCHS}"
    return (
        f"dpimagebench (Gong et al. 2025): {', '.join(NAMES)}, trained on generated images, {epochs} "
        f"epochs, batch {_BATCH}, Adam {_LEARNING_RATE:g}, averaged weights, the epoch by the accuracy "
        f"on at most {_VALIDATION} real training records, tested on real images{short}"
    )


def validation_of(training):
    """Returns (images, labels) of at most 5,000 real training records, the same ones each time.

    Args:
      training: the Dataset that the generator was trained on.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(training))[:_VALIDATION])
    return training.gather(chosen), training.labels[chosen]


def accuracy(
    name,
    train_images,
    train_labels,
    *,
    validation,
    test,
    num_classes,
    epochs=EPOCHS,
    seed=0,
    title=None,
):
    """Returns the accuracy in [0, 1] on `test` of a classifier, after its best epoch on `validation`.

    Guarantee: none. `validation` are private records, and choose the epoch without noise.

    Args:
      name: one of NAMES.
      train_images: uint8 [n, H, W, C], generated; train_labels: integers [n] in [0, num_classes).
      validation, test: (images uint8 [m, H, W, C], integer labels [m]).
      num_classes: L.
      epochs: at least 1; the protocol's are EPOCHS.
      seed: of the initial weights, the dropout and the shuffling.
      title: of the progress bar; default: the name.
    """
    model = residual_networks.build(name, train_images.shape[1:], num_classes, seed=seed)
    updates = math.ceil(len(train_labels) / _BATCH) * epochs
    model.compile(
        keras.optimizers.Adam(_LEARNING_RATE, use_ema=True, ema_momentum=_momentum(updates)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # convolutions are slower under XLA on a CPU
    )
    chosen = _BestEpoch(pipelines.batches(*validation, _BATCH))
    model.fit(
        pipelines.batches(train_images, train_labels, _BATCH, shuffle_seed=seed),
        epochs=epochs,
        verbose=0,
        shuffle=False,  # the pipeline does
        callbacks=[
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            chosen,
            Epochs(title or name, epochs),
        ],
    )
    model.set_weights(chosen.weights)
    return float(model.evaluate(pipelines.batches(*test, _BATCH), verbose=0)[1])


def _momentum(updates):
    """Of the averaged weights: what the published one, which grows with updates, has at the end."""
    return min(_AVERAGED, (1 + updates) / (10 + updates))


class _BestEpoch(keras.callbacks.Callback):
    """Keeps the weights of the best epoch on the validation records; of equals the last."""

    def __init__(self, validation):
        super().__init__()
        self._validation, self._best, self.weights = validation, -1.0, None

    def on_epoch_end(self, epoch, logs=None):
        found = self.model.evaluate(self._validation, verbose=0, return_dict=True)["accuracy"]
        if logs is not None:
            logs["val_accuracy"] = found
        if found >= self._best:
            self._best, self.weights = found, self.model.get_weights()
