"""The classic downstream protocol: three classifiers trained on generated images, tested on real.

Source: Cao et al., NeurIPS 2021, arXiv 2111.01177, section 5 and its published evaluation.
"""

import dataclasses
import functools

import keras
import numpy as np

from tfdps.evaluation import pipelines
from tfdps.evaluation.epochs import Epochs

PROTOCOL = (
    "classic (Cao et al. 2021): trained on generated images, 90/10 split for early stopping on "
    "accuracy, batch 512, no augmentation, tested on real images; LogReg and MLP Adam 1e-4, weight "
    "decay 1e-6, patience 10 and 30; CNN Adam, 2e-3 falling to 0 by a cosine over 18 epochs, patience "
    "4 (published: SGD 1e-3, patience 60, 500 epochs)"
)

_TEST_BATCH = 1000
_STEPS_PER_EXECUTION = 16
_WEIGHT_DECAY = 1e-6
_SMALLEST_SIDE = 18  # pixels that two poolings and three 3x3 convolutions of valid padding need


@dataclasses.dataclass(frozen=True)
class _Recipe:
    learning_rate: float
    patience: int
    max_epochs: int
    fewest_updates: (
        int  # of an epoch: a small set is gone through several times, or patience is short
    )
    annealed: bool = False
    batch: int = 512


_RECIPES = {
    "logreg": _Recipe(1e-4, 10, 500, 50),
    "mlp": _Recipe(1e-4, 30, 500, 50),
    "cnn": _Recipe(2e-3, 4, 18, 20, annealed=True),
    "cnn_without_dropout": _Recipe(2e-3, 10, 10, 70, annealed=True, batch=128),
}
NAMES = ("logreg", "mlp", "cnn")  # of the classic protocol


def accuracy(name, train_images, train_labels, *, test, num_classes, seed=0, title=None):
    """Returns the accuracy in [0, 1] on `test` of a classifier that `trained` makes.

    Args:
      test: (images uint8 [m, H, W, C], integer labels [m]).
      name, train_images, train_labels, num_classes, seed, title: as `trained` takes them.
    """
    logits = trained(
        name, train_images, train_labels, num_classes=num_classes, seed=seed, title=title
    )
    return float(np.mean(logits(test[0]).argmax(1) == test[1]))


def trained(name, train_images, train_labels, *, num_classes, seed=0, title=None):
    """Returns a function uint8 [m, H, W, C] -> logits float32 [m, L]: a classifier of the images given.

    A tenth of the images, drawn at random (their order may follow the labels), is kept for early
    stopping; the weights are those of the best epoch there.

    Args:
      name: one of `NAMES`, or cnn_without_dropout, which sees smaller differences.
      train_images: uint8 [n, H, W, C], n >= 10.
      train_labels: integers [n] in [0, num_classes).
      num_classes: L.
      seed: of the initial weights, the dropout and the shuffling.
      title: of the progress bar; default: the name.
    """
    recipe, images = _RECIPES[name], _enlarge if name.startswith("cnn") else np.asarray
    kept = _validation(len(train_labels), seed)
    labels = np.asarray(train_labels, np.int32)
    passes = max(1, recipe.fewest_updates * recipe.batch // np.count_nonzero(~kept))
    batches = pipelines.batches(
        images(train_images[~kept]), labels[~kept], recipe.batch, shuffle_seed=seed, passes=passes
    )
    model = _NETWORKS[name](images(train_images[:1]).shape[1:], num_classes, seed)
    model.compile(
        keras.optimizers.Adam(_learning_rate(recipe, len(batches))),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=_STEPS_PER_EXECUTION,
        jit_compile=False,  # convolutions are slower under XLA on a CPU
    )
    model.fit(
        batches,
        validation_data=pipelines.batches(images(train_images[kept]), labels[kept], _TEST_BATCH),
        epochs=recipe.max_epochs,
        verbose=0,
        shuffle=False,  # the pipeline does
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_accuracy", patience=recipe.patience, mode="max", restore_best_weights=True
            ),
            Epochs(title or name, recipe.max_epochs),
        ],
    )
    return lambda tested: model.predict(images(tested), batch_size=_TEST_BATCH, verbose=0)


def thresholded(images):
    """Returns the images with pixels below 0 of [-1, 1] set to -1, as the published evaluation does.

    Args:
      images: uint8 [n, H, W, C].
    """
    return np.where(images < 128, np.uint8(0), images)


def _logreg(shape, num_classes, seed):
    return _dense(shape, num_classes, (), seed)


def _mlp(shape, num_classes, seed):
    return _dense(shape, num_classes, (100,), seed)


def _dense(shape, num_classes, hidden, seed):
    layers, seeds = keras.layers, keras.random.SeedGenerator(seed)
    decay = keras.regularizers.L2(_WEIGHT_DECAY / 2)

    def dense(units, activation=None):
        initializer = keras.initializers.GlorotUniform(seeds)
        return layers.Dense(
            units,
            activation,
            kernel_initializer=initializer,
            kernel_regularizer=decay,
            bias_regularizer=decay,
        )

    return keras.Sequential(
        [keras.Input(shape), _rescaling(), layers.Flatten()]
        + [dense(units, "relu") for units in hidden]
        + [dense(num_classes)]
    )


def _cnn(shape, num_classes, seed, dropout=0.5):
    layers, seeds = keras.layers, keras.random.SeedGenerator(seed)

    def weights():
        return {"kernel_initializer": keras.initializers.GlorotUniform(seeds)}

    def pooled(filters):
        return [
            layers.Conv2D(filters, 3, **weights()),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.SpatialDropout2D(dropout, seed=seed),
        ]

    return keras.Sequential(
        [keras.Input(shape), _rescaling(), *pooled(32), *pooled(64)]
        + [layers.Conv2D(128, 3, activation="relu", **weights()), layers.Flatten()]
        + [layers.Dense(128, "relu", **weights()), layers.Dropout(dropout, seed=seed)]
        + [layers.Dense(num_classes, **weights())]
    )


_NETWORKS = {
    "logreg": _logreg,
    "mlp": _mlp,
    "cnn": _cnn,
    "cnn_without_dropout": functools.partial(_cnn, dropout=0.0),
}


def _learning_rate(recipe, updates_an_epoch):
    if not recipe.annealed:
        return recipe.learning_rate
    steps = recipe.max_epochs * updates_an_epoch
    return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)


def _validation(count, seed):
    """bool [count]: the tenth that is kept for early stopping."""
    return np.random.default_rng(seed).permutation(count) < -(-count // 10)


def _rescaling():
    return keras.layers.Rescaling(1 / 127.5, offset=-1)


def _enlarge(images):
    """The images, or, too small for the CNN, enlarged by the smallest whole factor that will do."""
    factor = -(-_SMALLEST_SIDE // min(images.shape[1:3]))
    return images if factor <= 1 else images.repeat(factor, axis=1).repeat(factor, axis=2)
