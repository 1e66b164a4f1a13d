"""Asks a TensorFlow Serving server for images, by REST or by gRPC.

from tfdps import serving

client = serving.RestClient("http://localhost:8501", "mnist")  # NumPy alone
client = serving.GrpcClient("localhost:8500", "mnist")  # pip install "tfdps[serving]"
images = client.sample([0, 1, 2], seed=7)  # uint8 [3, H, W, C]
"""

import abc
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from tfdps import checks, class_labels, startup

_INT32 = np.iinfo(np.int32)


class ServingError(RuntimeError):
    """What a server answered instead of images, in words; or that it did not answer.

    Attributes:
      code: the status, as gRPC names it: "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", ...
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Client(abc.ABC):
    """One model on one server. Images of one seed and list of labels are the same by REST and gRPC.

    Args:
      address: see RestClient and GrpcClient.
      model: the model's name on the server.
      version: of the model, a number; default: the newest that the server has.
      timeout: seconds that an answer may take.
    """

    def __init__(self, address, model, *, version=None, timeout=60.0):
        self.address, self.model, self.version = address, model, version
        self.timeout = checks.positive("timeout", timeout)

    def sample(self, labels, seed):
        """Returns uint8 images [n, H, W, C], one for each label; the same for the same arguments.

        Args:
          labels: integers [n], n >= 1; the server refuses those that are no class of the model.
          seed: an integer, or two; each in [-2**31, 2**31).

        Raises:
          UsageError: for arguments that can be no labels or seed, before anything is sent.
          ServingError: for what the server refuses, or when it cannot be reached.
        """
        seed = np.asarray([seed, 0] if np.ndim(seed) == 0 else seed)
        whole = seed.shape == (2,) and np.issubdtype(seed.dtype, np.integer)
        if not whole or seed.min() < _INT32.min or seed.max() > _INT32.max:
            raise checks.UsageError(
                f"seed must be one or two integers in [-2**31, 2**31), received {seed.tolist()}."
            )
        inputs = {"labels": _labels(labels), "seed": seed.astype(np.int32)}
        return self.predict("sample", inputs)["images"].astype(np.uint8)

    def decode(self, z, labels):
        """Returns float32 images [n, H, W, C] in [-1, 1], one for each latent and label.

        Args:
          z: numbers [n, latent_dim]; the generator was trained on z uniform on [0, 1].
          labels: as for `sample`.

        Raises:
          UsageError, ServingError: as for `sample`.
        """
        labels, z = _labels(labels), np.asarray(z, np.float32)
        if z.ndim != 2 or len(z) != len(labels) or not np.all(np.isfinite(z)):
            raise checks.UsageError(
                f"z must be finite numbers [{len(labels)}, latent_dim], received {list(z.shape)}."
            )
        return self.predict("decode", {"z": z, "labels": labels})["images"].astype(np.float32)

    @abc.abstractmethod
    def predict(self, signature, inputs):
        """Returns what a signature answers, {name: array}.

        Args:
          signature: its name: "sample", "decode" or "serving_default".
          inputs: {name: array}, sent as they are.

        Raises:
          ServingError: as for `sample`.
        """

    @abc.abstractmethod
    def versions(self):
        """Returns {version: state} of the model on the server: {1: "AVAILABLE"}.

        Raises:
          ServingError: as for `sample`.
        """

    def _unreachable(self, reason):
        return ServingError(
            "UNAVAILABLE", f"no TensorFlow Serving answers at {self.address}: {reason}."
        )

    def _refused(self, code, message):
        return ServingError(code, f"the server at {self.address} refused: {_plain(message)}")


class RestClient(Client):
    """By REST. `address` is the URL of the server, "http://localhost:8501"."""

    # Of the answers that TensorFlow Serving gives by HTTP.
    _CODES = {
        400: "INVALID_ARGUMENT",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        412: "FAILED_PRECONDITION",
        429: "RESOURCE_EXHAUSTED",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }

    def __init__(self, address, model, **settings):
        super().__init__(address.rstrip("/"), model, **settings)
        if urllib.parse.urlsplit(self.address).scheme not in ("http", "https"):
            raise checks.UsageError(
                f"address must be a URL as http://localhost:8501, received {address!r}."
            )

    def predict(self, signature, inputs):
        body = {"signature_name": signature}
        body["inputs"] = {name: np.asarray(value).tolist() for name, value in inputs.items()}
        outputs = self._ask(":predict", body)["outputs"]
        # A single output comes without its name.
        outputs = outputs if isinstance(outputs, dict) else {"images": outputs}
        return {name: np.asarray(value) for name, value in outputs.items()}

    def versions(self):
        found = self._ask("", None)["model_version_status"]
        return {int(each["version"]): each["state"] for each in found}

    def _ask(self, verb, body):
        version = f"/versions/{self.version}" if self.version is not None else ""
        name = urllib.parse.quote(self.model, safe="")
        request = urllib.request.Request(
            f"{self.address}/v1/models/{name}{version}{verb}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            code = self._CODES.get(error.code, f"HTTP {error.code}")
            raise self._refused(code, _json_error(error.read())) from error
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error or type(error).__name__) from error
        except ValueError as error:
            raise ServingError(
                "INTERNAL", f"what {self.address} answers is no JSON: is it TensorFlow Serving?"
            ) from error


class GrpcClient(Client):
    """By gRPC, several times as fast. `address` is "localhost:8500".

    Raises:
      UsageError: from the constructor, where TensorFlow or its Serving protocol is not installed.
    """

    def __init__(self, address, model, **settings):
        super().__init__(address, model, **settings)
        try:
            startup.load_tensorflow()
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except (ModuleNotFoundError, checks.UsageError) as error:
            raise checks.UsageError(
                'gRPC takes pip install "tfdps[serving]"; RestClient works without.'
            ) from error
        # Images of a thousand labels are more than the 4 MB that gRPC allows by itself.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature, inputs):
        import tensorflow as tf

        from tfdps.predict_requests import predict_request

        request = predict_request(self.model, signature, inputs, version=self.version)
        outputs = self._ask(self._predictions.Predict, request).outputs
        return {name: tf.make_ndarray(value) for name, value in outputs.items()}

    def versions(self):
        from tensorflow_serving.apis import get_model_status_pb2

        from tfdps.predict_requests import name_model

        request = get_model_status_pb2.GetModelStatusRequest()
        name_model(request.model_spec, self.model, self.version)
        found = self._ask(self._models.GetModelStatus, request).model_version_status
        state = get_model_status_pb2.ModelVersionStatus.State
        return {each.version: state.Name(each.state) for each in found}

    def close(self):
        """Closes the connection."""
        self._channel.close()

    def _ask(self, method, request):
        import grpc

        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code = error.code().name
            if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise self._unreachable(f"{code}, {error.details()}") from error
            raise self._refused(code, error.details()) from error


def _labels(labels):
    return class_labels.listed(labels, smallest=_INT32.min, largest=_INT32.max).astype(np.int32)


def _json_error(body):
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]


def _plain(message):
    """A server's message without the nodes of its graph."""
    message = message.removeprefix("Graph execution error:").strip()
    message = re.split(r"\s*\[\[\{\{node|\n", message, maxsplit=1)[0]
    found = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\](?=$|\s)", message)
    message = f"{found[1]} {found[2]}" if found else message
    return message.strip().rstrip(".") + "."
