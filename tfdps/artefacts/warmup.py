"""The requests that TensorFlow Serving warms a model up with, before it answers anybody."""

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfdps.artefacts.predict_requests import predict_request

_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_BATCHES = (1, 64)


def write_warmup(saved_model, *, name, latent_dim, num_classes):
    """Writes assets.extra/tf_serving_warmup_requests into a SavedModel's folder; returns None.

    Both signatures for a batch of 1 and of 64: the server has traced and allocated what they take
    when the first visitor comes.

    Args:
      saved_model: the folder of one version.
      name: a model's name for the requests; the server does not look at it.
      latent_dim: numbers of a latent.
      num_classes: of the generator.
    """
    path = os.path.join(saved_model, _FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as file:
        for size in _BATCHES:
            labels = np.arange(size, dtype=np.int32) % num_classes
            z = np.full([size, latent_dim], 0.5, np.float32)
            for signature, inputs in (
                ("sample", {"labels": labels, "seed": np.zeros(2, np.int32)}),
                ("decode", {"labels": labels, "z": z}),
            ):
                log = prediction_log_pb2.PredictionLog()
                log.predict_log.request.CopyFrom(predict_request(name, signature, inputs))
                file.write(log.SerializeToString(deterministic=True))
