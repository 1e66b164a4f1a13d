"""Inception features from a file of weights that the user names: the 2015 graph, or Keras's.

The two networks have different weights and want their images prepared differently, so that their
distances differ: the name of the feature space, inception_2015 or inception_v3_keras, tells them
apart wherever a number stands.
"""

import hashlib
import os

import google.protobuf.message
import keras
import numpy as np
import tensorflow as tf

from tfdps import checks
from tfdps.evaluation import feature_space

WHERE_FROM = (
    "Expected *.pb, the 2015 graph of the published figures: inceptionv1_for_inception_score.pb "
    "from http://download.tensorflow.org/models/frozen_inception_v1_2015_12_05.tar.gz or "
    "classify_image_graph_def.pb from "
    "http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz; or *.h5, "
    "Keras's InceptionV3 without top: https://storage.googleapis.com/tensorflow/keras-applications/"
    "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5."
)

_SIDE = 299
_BATCH = 50
_INPUT, _OUTPUT = "Mul:0", "pool_3:0"  # of the 2015 graph
_FEATURES = 2048


def load(path, *, progress=True):
    """Returns the FeatureSpace of an Inception network: "inception_2015" or "inception_v3_keras".

    Features are the 2048 averages over the last convolution's positions. Grey images are repeated
    to three channels; all are resized to 299 x 299, bilinearly.

    Args:
      path: *.pb, the frozen TensorFlow graph of 2015, or *.h5, the weights of
        keras.applications.InceptionV3 without top.
      progress: whether `extract` shows a bar on stderr.

    Raises:
      UsageError: no such file, another suffix, a damaged file or one of another network.
    """
    path = os.path.expanduser(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _LOADERS:
        raise checks.UsageError(
            f"inception_weights must end in .pb or .h5, received {path}. {WHERE_FROM}"
        )
    if not os.path.isfile(path):
        raise checks.UsageError(
            f"inception_weights must name a file, there is none at {path}. {WHERE_FROM}"
        )
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:12]
    name, about, compute = _LOADERS[suffix](path)
    return feature_space.FeatureSpace(
        name=name,
        description=f"{about}, weights {os.path.basename(path)} ({digest})",
        digest=digest,
        image_shape=(None, None, None),
        batch_size=_BATCH,
        compute=lambda images: compute(_three_channels(images)),
        progress=progress,
    )


def _graph_2015(path):
    """Returns (name, description, compute) of the frozen graph."""
    graph_def = tf.compat.v1.GraphDef()
    try:
        with open(path, "rb") as file:
            graph_def.ParseFromString(file.read())
    except google.protobuf.message.DecodeError as error:
        raise checks.UsageError(
            f"inception_weights {path} is damaged or no TensorFlow graph: {error}. {WHERE_FROM}"
        ) from error
    with tf.Graph().as_default() as graph:
        # The file's own input may have the static shape of one image, so a new one takes its place.
        images = tf.compat.v1.placeholder(tf.float32, [None, _SIDE, _SIDE, 3])
        try:
            pooled = tf.graph_util.import_graph_def(
                graph_def, input_map={_INPUT: images}, return_elements=[_OUTPUT], name=""
            )[0]
            if not pooled.shape.is_compatible_with([None, 1, 1, _FEATURES]):
                raise ValueError(f"{_OUTPUT} is {pooled.shape}")
        except (ValueError, tf.errors.OpError) as error:
            raise checks.UsageError(
                f"inception_weights {path} must be a graph from {_INPUT} [n, {_SIDE}, {_SIDE}, 3] "
                f"to {_OUTPUT} [n, 1, 1, {_FEATURES}]: {error}. {WHERE_FROM}"
            ) from error
        pooled = tf.squeeze(pooled, [1, 2])
    # A session, not a tf.function: the graph's batch normalisation is an operation of 2015 that only
    # runs under the graph's own version number, and a function does not keep that.
    options = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    options.gpu_options.allow_growth = True
    session = tf.compat.v1.Session(graph=graph, config=options)

    def compute(batch):
        # The published preparation: TF1's bilinear resize, then 0..255 to -1..0.992.
        resized = tf.compat.v1.image.resize_bilinear(batch.astype(np.float32), [_SIDE, _SIDE])
        return session.run(pooled, {images: ((resized - 128) / 128).numpy()})

    return "inception_2015", "pool_3 of the Inception graph of 2015-12-05", compute


def _keras_v3(path):
    """Returns (name, description, compute) of Keras's InceptionV3."""
    try:
        network = keras.applications.InceptionV3(weights=path, include_top=False, pooling="avg")
    except (OSError, ValueError, KeyError) as error:
        raise checks.UsageError(
            f"inception_weights {path} is damaged or holds no weights of InceptionV3 without top: "
            f"{error}. {WHERE_FROM}"
        ) from error

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    def features(batch):
        resized = tf.image.resize(batch, [_SIDE, _SIDE], method="bilinear")
        return network(resized / 127.5 - 1, training=False)

    about = "average-pooled output of keras.applications.InceptionV3"
    return "inception_v3_keras", about, lambda batch: features(batch).numpy()


_LOADERS = {".pb": _graph_2015, ".h5": _keras_v3}


def _three_channels(images):
    """Returns grey images repeated to three channels, others as they are."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise checks.UsageError(f"images for Inception have 1 or 3 channels, received {channels}.")
    return images.repeat(3, axis=-1) if channels == 1 else images
