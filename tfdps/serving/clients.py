"""Asks a TensorFlow Serving server for images, by REST or by gRPC.

from tfdps import serving

client = serving.RestClient("http://localhost:8501", "mnist")  # NumPy alone
client = serving.GrpcClient("localhost:8500", "mnist")  # pip install "tfdps[serving]"
images = client.sample([0, 1, 2], seed=7)  # uint8 [3, H, W, C]
"""

import abc
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

import numpy as np

from tfdps import checks
from tfdps.distributed import startup
from tfdps.samplers import class_labels
from tfdps.serving import server_words

_INT32 = np.iinfo(np.int32)


class ServingError(RuntimeError):
    """What a server answered instead of images, in words; or that it did not answer.

    Attributes:
      code: the status, as gRPC names it: "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", ...

    Examples:
      >>> from tfdps import serving
      >>> try:
      ...     serving.RestClient("http://localhost:1", "mnist").sample([0], seed=7)
      ... except serving.ServingError as error:
      ...     print(error.code)
      UNAVAILABLE
    """

    def __init__(self, code: str, message: str) -> None:
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

    def __init__(
        self, address: str, model: str, *, version: int | None = None, timeout: float = 60.0
    ) -> None:
        self.address, self.model, self.version = address, model, version
        self.timeout = checks.positive("timeout", timeout)

    def sample(self, labels: Sequence[int] | np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
        """Returns uint8 images [n, H, W, C], one for each label; the same for the same arguments.

        Args:
          labels: integers [n], n >= 1; the server refuses those that are no class of the model.
          seed: an integer, or two; each in [-2**31, 2**31).

        Raises:
          UsageError: for arguments that can be no labels or seed, before anything is sent.
          ServingError: for what the server refuses, or when it cannot be reached.
        """
        seeds = np.asarray([seed, 0] if np.ndim(seed) == 0 else seed)
        whole = seeds.shape == (2,) and np.issubdtype(seeds.dtype, np.integer)
        if not whole or seeds.min() < _INT32.min or seeds.max() > _INT32.max:
            raise checks.UsageError(
                f"seed must be one or two integers in [-2**31, 2**31), received {seeds.tolist()}."
            )
        inputs = {"labels": _labels(labels), "seed": seeds.astype(np.int32)}
        return self._images("sample", inputs).astype(np.uint8)

    def decode(self, z: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns float32 images [n, H, W, C] in [-1, 1], one for each latent and label.

        Args:
          z: numbers [n, latent_dim]; the generator was trained on z uniform on [0, 1].
          labels: as for `sample`.

        Raises:
          UsageError, ServingError: as for `sample`.
        """
        integers, z = _labels(labels), np.asarray(z, np.float32)
        if z.ndim != 2 or len(z) != len(integers) or not np.all(np.isfinite(z)):
            raise checks.UsageError(
                f"z must be finite numbers [{len(integers)}, latent_dim], received {list(z.shape)}."
            )
        return self._images("decode", {"z": z, "labels": integers}).astype(np.float32)

    @abc.abstractmethod
    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns what a signature answers, {name: array}.

        Args:
          signature: its name: "sample", "decode" or "serving_default".
          inputs: {name: array}, sent as they are.

        Raises:
          ServingError: as for `sample`.
        """

    @abc.abstractmethod
    def versions(self) -> dict[int, str]:
        """Returns {version: state} of the model on the server: {1: "AVAILABLE"}.

        Raises:
          ServingError: as for `sample`.
        """

    def _images(self, signature, inputs):
        """The images that a signature answers, one for each label."""
        images = self.predict(signature, inputs).get("images")
        numbers = images is not None and np.issubdtype(images.dtype, np.number)
        if not numbers or images.ndim != 4 or len(images) != len(inputs["labels"]):
            raise self._strange("images")
        return images

    def _strange(self, missing):
        return ServingError(
            "INTERNAL",
            f"what {self.address} answers holds no {missing}: is it TensorFlow Serving, and "
            f"{self.model} a generator of tfdps?",
        )

    def _unreachable(self, reason):
        return ServingError(
            "UNAVAILABLE", f"no TensorFlow Serving answers at {self.address}: {reason}."
        )

    def _refused(self, code, message):
        return ServingError(
            code, f"the server at {self.address} refused: {server_words.plain(message)}"
        )


class RestClient(Client):
    """By REST. `address` is the URL of the server, "http://localhost:8501".

    Examples:
      >>> from tfdps import serving
      >>> client = serving.RestClient("http://localhost:8501", "mnist")
      >>> client.sample([0, 1, 2], seed=7).shape  # doctest: +SKIP
      (3, 28, 28, 1)
    """

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

    def __init__(
        self, address: str, model: str, *, version: int | None = None, timeout: float = 60.0
    ) -> None:
        super().__init__(address.rstrip("/"), model, version=version, timeout=timeout)
        if urllib.parse.urlsplit(self.address).scheme not in ("http", "https"):
            raise checks.UsageError(
                f"address must be a URL as http://localhost:8501, received {address!r}."
            )

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        lists = {name: np.asarray(value).tolist() for name, value in inputs.items()}
        body = {"signature_name": signature, "inputs": lists}
        outputs = self._ask(":predict", body, "outputs")
        # A single output comes without its name.
        outputs = outputs if isinstance(outputs, dict) else {"images": outputs}
        try:
            return {name: np.asarray(value) for name, value in outputs.items()}
        except ValueError as error:  # rows of different lengths
            raise self._strange("images") from error

    def versions(self) -> dict[int, str]:
        found = self._ask("", None, "model_version_status")
        try:
            return {int(each["version"]): str(each["state"]) for each in found}
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange("versions") from error

    def _ask(self, verb, body, part):
        """A part of the JSON object that the server answers."""
        version = f"/versions/{self.version}" if self.version is not None else ""
        name = urllib.parse.quote(self.model, safe="")
        request = urllib.request.Request(
            f"{self.address}/v1/models/{name}{version}{verb}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.load(answer)[part]
        except urllib.error.HTTPError as error:
            code = self._CODES.get(error.code, f"HTTP {error.code}")
            raise self._refused(code, server_words.of_json(error.read())) from error
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error or type(error).__name__) from error
        except (KeyError, IndexError, TypeError) as error:
            raise self._strange(part) from error
        except ValueError as error:
            raise ServingError(
                "INTERNAL", f"what {self.address} answers is no JSON: is it TensorFlow Serving?"
            ) from error


class GrpcClient(Client):
    """By gRPC, several times as fast. `address` is "localhost:8500".

    Raises:
      UsageError: from the constructor, where TensorFlow or its Serving protocol is not installed.

    Examples:
      >>> from tfdps import serving
      >>> client = serving.GrpcClient("localhost:8500", "mnist")
      >>> client.sample([0, 1, 2], seed=7).shape  # doctest: +SKIP
      (3, 28, 28, 1)
      >>> client.close()
    """

    def __init__(
        self, address: str, model: str, *, version: int | None = None, timeout: float = 60.0
    ) -> None:
        super().__init__(address, model, version=version, timeout=timeout)
        try:
            startup.load_tensorflow(keras=False)
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ModuleNotFoundError as error:
            raise checks.UsageError(
                f'{error.name} is missing: gRPC takes pip install "tfdps[serving]"; RestClient works '
                "without."
            ) from error
        # Images of a thousand labels are more than the 4 MB that gRPC allows by itself.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        from tfdps.artefacts.predict_requests import predict_request

        request = predict_request(self.model, signature, inputs, version=self.version)
        outputs = self._ask(self._predictions.Predict, request).outputs
        return {name: tf.make_ndarray(value) for name, value in outputs.items()}

    def versions(self) -> dict[int, str]:
        from tensorflow_serving.apis import get_model_status_pb2

        from tfdps.artefacts.predict_requests import name_model

        request = get_model_status_pb2.GetModelStatusRequest()
        name_model(request.model_spec, self.model, self.version)
        found = self._ask(self._models.GetModelStatus, request).model_version_status
        state = get_model_status_pb2.ModelVersionStatus.State
        return {each.version: state.Name(each.state) for each in found}

    def close(self) -> None:
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
