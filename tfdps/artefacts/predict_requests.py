"""Requests in TensorFlow Serving's own messages, for its gRPC clients and for a warm-up file."""

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2


def predict_request(model, signature, inputs, *, version=None):
    """Returns a PredictRequest.

    Args:
      model: the model's name on the server.
      signature: the signature's name.
      inputs: {name: array}, sent as they are.
      version: of the model, a number; default: the newest that the server has.
    """
    request = predict_pb2.PredictRequest()
    name_model(request.model_spec, model, version)
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def name_model(spec, model, version):
    """Writes a model's name, and its version unless None, into a ModelSpec; returns None."""
    spec.name = model
    if version is not None:
        spec.version.value = version
