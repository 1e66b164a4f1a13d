"""Features that need no download: a small CNN trained on the data set's own real training split.

It reads private records without noise. It serves evaluation only; neither its weights nor the
numbers made with it may be released under the run's guarantee, hence the folder nonprivate/. That
lies outside model_dir unless --feature_cache=report: the network serves all runs on these records.
"""

import hashlib
import logging
import math
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from tfdps import files
from tfdps.evaluation import feature_space, outputs
from tfdps.evaluation.epochs import Epochs

_logger = logging.getLogger(__name__)

NAME = "cnn"

_RECIPE = "1"  # part of the cache's key: raise it with any change to the network or its training
_SEED = 0
_MOST_RECORDS = 20_000
_BATCH = 256
_EPOCHS = 5
_FEWEST_UPDATES = 390  # a small data set is gone through more often
_STEPS_PER_EXECUTION = 16
_SMALLEST_SIDE = 18  # pixels that two poolings and three 3x3 convolutions of valid padding need
_FEATURES = 128
_EXTRACT_BATCH = 500


def load(train, cache_dir, *, progress=True):
    """Returns the FeatureSpace "cnn" of a data set, from the cache or trained now.

    The features are the 128 outputs, after the ReLU, of the layer before the last of a classifier:
    Conv 32 3x3 - MaxPool - ReLU - Conv 64 3x3 - MaxPool - ReLU - Conv 128 3x3 - ReLU - Dense 128 -
    ReLU - Dense L. It is trained on at most 20,000 evenly spaced records by Adam 1e-3 in batches
    of 256, for 5 epochs or as many as make 390 updates. Its seeds are fixed and its own; sums in
    another order on another machine still change the weights a little, so that values compare
    under the same `digest` only.

    Args:
      train: the Dataset of the real training split.
      cache_dir: folder under which nonprivate/cnn_<name>_<key>.npz keeps the weights; the key is of
        the recipe and the records it is trained on.
      progress: whether bars are shown on stderr.

    Raises:
      UsageError: the network must be trained, and could not be kept. It is not trained then.
    """
    images, labels = _chosen(train)
    name = re.sub(r"[^\w.-]+", "_", train.spec.name)
    key = _key(images, labels, train.spec)
    cache_dir = pathlib.Path(cache_dir)
    path = outputs.networks_folder(cache_dir) / f"cnn_{name}_{key}.npz"
    features, classifier = _networks(train.spec)
    cached = _read(path, [weight.shape for weight in classifier.weights])
    if cached is None:
        outputs.check_cache(cache_dir, empty=True)
        _logger.info(
            f"Training the feature network on {len(labels)} real records, without noise; kept at "
            f"{path}: no epsilon covers it, keep it where the records may be kept."
        )
        accuracy = _fit(classifier, images, labels, progress)
        _write(path, classifier.get_weights(), accuracy)
    else:
        weights, accuracy = cached
        classifier.set_weights(weights)
    digest = hashlib.sha256(b"".join(w.tobytes() for w in classifier.get_weights())).hexdigest()
    return feature_space.FeatureSpace(
        name=NAME,
        description=(
            f"the {_FEATURES} units before the last layer of a small CNN trained on "
            f"{len(labels)} real training records of {train.spec.name} (training accuracy "
            f"{accuracy:.4f}), weights {digest[:12]}"
        ),
        digest=digest[:12],
        image_shape=train.spec.image_shape,
        batch_size=_EXTRACT_BATCH,
        compute=_compiled(features, train.spec.image_shape),
        progress=progress,
    )


def _chosen(train):
    """Returns (images, labels) of at most 20,000 evenly spaced records."""
    count = min(len(train), _MOST_RECORDS)
    indices = np.arange(count) * len(train) // count
    return train.images[indices], train.labels[indices]


def _key(images, labels, spec):
    """Returns 16 hexadecimal digits that name the recipe, the records and the number of classes."""
    about = f"{_RECIPE} {images.shape} {spec.num_classes}"
    digest = hashlib.sha256(about.encode())
    digest.update(np.ascontiguousarray(images))
    digest.update(np.ascontiguousarray(labels, np.int32))
    return digest.hexdigest()[:16]


def _networks(spec):
    """Returns (features, classifier): images in [0, 255] to 128 features, and on to logits."""
    layers, seeds = keras.layers, iter(range(_SEED, _SEED + 5))

    def seeded():
        # An initializer's own seed: the global ones are left alone, noise must stay unpredictable.
        return {"kernel_initializer": keras.initializers.GlorotUniform(next(seeds))}

    factor = -(-_SMALLEST_SIDE // min(_SMALLEST_SIDE, *spec.image_shape[:2]))
    features = keras.Sequential(
        [
            keras.Input(spec.image_shape),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.UpSampling2D(factor, interpolation="nearest"),
            layers.Conv2D(32, 3, **seeded()),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.Conv2D(64, 3, **seeded()),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.Conv2D(128, 3, activation="relu", **seeded()),
            layers.Flatten(),
            layers.Dense(_FEATURES, activation="relu", **seeded()),
        ]
    )
    return features, keras.Sequential([features, layers.Dense(spec.num_classes, **seeded())])


def _fit(classifier, images, labels, progress):
    """Trains the classifier in place; returns its accuracy on the records it was trained on."""
    batch = min(_BATCH, len(labels))
    steps = len(labels) // batch
    epochs = max(_EPOCHS, math.ceil(_FEWEST_UPDATES / steps))
    classifier.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=min(_STEPS_PER_EXECUTION, steps),
        jit_compile=False,  # convolutions are slower under XLA on a CPU
    )
    images, labels = tf.constant(images), tf.constant(labels, tf.int32)
    order = tf.data.Dataset.range(len(labels)).shuffle(len(labels), seed=_SEED)
    batches = order.batch(batch, drop_remainder=True).map(
        lambda indices: (tf.gather(images, indices), tf.gather(labels, indices))
    )
    classifier.fit(
        batches.prefetch(2),
        epochs=epochs,
        verbose=0,
        shuffle=False,  # the pipeline does
        callbacks=[Epochs("feature network", epochs)] if progress else [],
    )
    in_order = tf.data.Dataset.from_tensor_slices((images, labels)).batch(_EXTRACT_BATCH)
    return float(classifier.evaluate(in_order, verbose=0)[1])


def _compiled(features, image_shape):
    """Returns the features as a function uint8 [b, H, W, C] -> float32 [b, 128] in NumPy."""
    signature = [tf.TensorSpec([None, *image_shape], tf.uint8)]
    function = tf.function(lambda images: features(images, training=False), signature)
    return lambda images: function(images).numpy()


def _read(path, shapes):
    """Returns (weights, accuracy) from the cache, or None when there is no usable file."""
    if not path.exists():
        return None
    try:
        with files.arrays_of(path) as file:
            weights = [file[f"weight_{index}"] for index in range(len(shapes))]
            accuracy = float(file["accuracy"])
        if [weight.shape for weight in weights] != [tuple(shape) for shape in shapes]:
            raise ValueError("its weights have other shapes")
    except files.DAMAGED_ARRAYS as error:
        _logger.info(f"{path} is damaged ({error}); the feature network is trained again.")
        return None
    return weights, accuracy


def _write(path, weights, accuracy):
    arrays = {f"weight_{index}": weight for index, weight in enumerate(weights)}
    # An open file: savez adds .npz to a name.
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, accuracy=accuracy, **arrays)
