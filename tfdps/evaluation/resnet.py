"""A second downstream protocol: a small residual network with augmentation, as DPImageBench uses.

Source of the idea: Gong et al. 2025 (DPImageBench, arXiv 2503.14681), which averages three large
networks. This one is small enough for a CPU, so its figures compare with theirs only roughly.
"""

import keras
import numpy as np

from tfdps.evaluation import pipelines
from tfdps.evaluation.epochs import Epochs

PROTOCOL = (
    "resnet (DPImageBench-style, one small network): trained on generated images with random "
    "shifts of an eighth of the side (and flips, where images have colour), 4 epochs, batch 256, "
    "Adam with a one-cycle learning rate, label smoothing 0.1, no early stopping, tested on real images"
)

_EPOCHS = 4
_BATCH = 256
_PEAK_LEARNING_RATE = 4e-3
_STEPS_PER_EXECUTION = 16
_WIDTHS = (16, 32, 64)
_LARGE_SIDE = 16  # images larger than this are halved by the first layer


def accuracy(train_images, train_labels, *, test, num_classes, seed=0, title="resnet"):
    """Returns the accuracy in [0, 1] on `test` of the residual network trained on the images given.

    Args:
      train_images: uint8 [n, H, W, C].
      train_labels: integers [n] in [0, num_classes).
      test: (images uint8 [m, H, W, C], integer labels [m]).
      num_classes: L.
      seed: of the initial weights, the augmentation and the shuffling.
      title: of the progress bar.
    """
    model = _network(train_images.shape[1:], num_classes, seed)
    steps = _EPOCHS * -(-len(train_images) // _BATCH)
    model.compile(
        keras.optimizers.Adam(_one_cycle(steps)),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=["accuracy"],
        steps_per_execution=_STEPS_PER_EXECUTION,
        jit_compile=False,  # convolutions are slower under XLA on a CPU
    )
    answers, test_answers = (
        keras.ops.one_hot(np.asarray(labels), num_classes) for labels in (train_labels, test[1])
    )
    model.fit(
        pipelines.batches(train_images, answers, _BATCH, shuffle_seed=seed),
        epochs=_EPOCHS,
        verbose=0,
        shuffle=False,  # the pipeline does
        callbacks=[Epochs(title, _EPOCHS)],
    )
    return float(model.evaluate(pipelines.batches(test[0], test_answers, _BATCH), verbose=0)[1])


def _network(shape, num_classes, seed):
    layers, seeds = keras.layers, keras.random.SeedGenerator(seed)

    def convolution(x, filters, size, strides=1):
        initializer = keras.initializers.HeNormal(seeds)
        return layers.Conv2D(
            filters, size, strides, "same", use_bias=False, kernel_initializer=initializer
        )(x)

    def block(x, filters, strides):
        h = layers.ReLU()(layers.BatchNormalization()(x))
        skip = x if strides == 1 and x.shape[-1] == filters else convolution(h, filters, 1, strides)
        h = convolution(h, filters, 3, strides)
        h = layers.ReLU()(layers.BatchNormalization()(h))
        return layers.Add()([skip, convolution(h, filters, 3)])

    images = keras.Input(shape)
    h = layers.Rescaling(1 / 127.5, offset=-1)(images)
    h = layers.RandomTranslation(
        1 / 8, 1 / 8, fill_mode="constant", fill_value=-1, interpolation="nearest", seed=seed
    )(h)
    if shape[-1] == 3:
        h = layers.RandomFlip("horizontal", seed=seed)(h)
    h = convolution(h, _WIDTHS[0], 3, 2 if min(shape[:2]) > _LARGE_SIDE else 1)
    for stage, filters in enumerate(_WIDTHS):
        h = block(h, filters, strides=1 if stage == 0 else 2)
    h = layers.ReLU()(layers.BatchNormalization()(h))
    logits = layers.Dense(num_classes, kernel_initializer=keras.initializers.GlorotUniform(seeds))(
        layers.GlobalAveragePooling2D()(h)
    )
    return keras.Model(images, logits)


def _one_cycle(steps):
    """A linear warm-up over a fifth of the steps, then a cosine to zero."""
    warmup = max(1, steps // 5)
    return keras.optimizers.schedules.CosineDecay(
        _PEAK_LEARNING_RATE / 10,
        decay_steps=max(1, steps - warmup),
        warmup_target=_PEAK_LEARNING_RATE,
        warmup_steps=warmup,
    )
