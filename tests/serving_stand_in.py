"""A stand-in for tensorflow_model_server, which no package index has: its two interfaces, one model.

Real are the protocol (the messages and services of tensorflow-serving-api, HTTP and gRPC on loopback
ports), the SavedModel and how it is loaded: by a session loader, as the server loads it. Written from
the server's documentation are the routes, the forms of JSON and the words of its errors.
"""

import concurrent.futures
import contextlib
import http.server
import json
import re
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "FAILED_PRECONDITION": 412}


class RefusedError(Exception):
    """A status that is not OK."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Servable:
    """A SavedModel in a session."""

    def __init__(self, path, name):
        self.name, self.version = name, 1
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self.signatures = meta_graph.signature_def

    def check(self, name, version):
        if name != self.name or version not in (None, self.version):
            wanted = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise RefusedError("NOT_FOUND", f"Servable not found for request: {wanted}")

    def run(self, signature, inputs):
        if signature not in self.signatures:
            raise RefusedError(
                "FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.'
            )
        expected = self.signatures[signature].inputs
        if set(expected) != set(inputs):
            missing, extra = (
                sorted(set(expected) - set(inputs)),
                sorted(set(inputs) - set(expected)),
            )
            raise RefusedError(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(expected)}. Sent extra: "
                f"{{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}.",
            )
        for name, value in inputs.items():
            dtype = tf.as_dtype(expected[name].dtype)
            if value.dtype != dtype.as_numpy_dtype:
                raise RefusedError(
                    "INVALID_ARGUMENT",
                    f"Expects input {name} to be {dtype.name} but {value.dtype} is provided",
                )
        outputs = self.signatures[signature].outputs
        try:
            return self._session.run(
                {name: info.name for name, info in outputs.items()},
                {expected[name].name: value for name, value in inputs.items()},
            )
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise RefusedError("INVALID_ARGUMENT", getattr(error, "message", str(error))) from error


class _Grpc(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    def __init__(self, servable):
        self._servable = servable

    def Predict(self, request, context):  # noqa: N802
        with _aborting(context):
            self._check(request.model_spec)
            signature = request.model_spec.signature_name or "serving_default"
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            for name, value in self._servable.run(signature, inputs).items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    def GetModelStatus(self, request, context):  # noqa: N802
        with _aborting(context):
            self._check(request.model_spec)
            response = get_model_status_pb2.GetModelStatusResponse()
            status = response.model_version_status.add()
            status.version = self._servable.version
            status.state = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
            return response

    def _check(self, spec):
        version = spec.version.value if spec.HasField("version") else None
        self._servable.check(spec.name, version)


@contextlib.contextmanager
def _aborting(context):
    try:
        yield
    except RefusedError as refusal:
        context.abort(getattr(grpc.StatusCode, refusal.code), str(refusal))


class _Rest(http.server.BaseHTTPRequestHandler):
    servable = None

    def do_GET(self):  # noqa: N802
        self._answer(lambda: self._status(self.path))

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(lambda: self._predict(self.path, body))

    def _status(self, path):
        self._check(re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?", path))
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": str(self.servable.version), "state": "AVAILABLE", "status": status}
        return {"model_version_status": [version]}

    def _predict(self, path, body):
        self._check(re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", path))
        body = json.loads(body)
        signature = body.get("signature_name", "serving_default")
        if signature not in self.servable.signatures:
            message = f'Serving signature name: "{signature}" not found in signature def'
            raise RefusedError("INVALID_ARGUMENT", message)
        expected = self.servable.signatures[signature].inputs
        inputs = {name: _tensor(name, value, expected) for name, value in body["inputs"].items()}
        outputs = {n: v.tolist() for n, v in self.servable.run(signature, inputs).items()}
        return {"outputs": outputs.popitem()[1] if len(outputs) == 1 else outputs}

    def _check(self, route):
        if not route:
            raise RefusedError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
        self.servable.check(route[1], int(route[2]) if route[2] else None)

    def _answer(self, work):
        try:
            status, answer = 200, work()
        except RefusedError as refusal:
            status, answer = _HTTP_STATUS[refusal.code], {"error": str(refusal)}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        """Keeps quiet."""


def _tensor(name, value, expected):
    """JSON as the type that the signature has, refused where it is of another."""
    received = np.asarray(value)
    if name not in expected:
        return received
    dtype = np.dtype(tf.as_dtype(expected[name].dtype).as_numpy_dtype)
    if dtype.kind == "i" and received.size and received.dtype.kind != "i":
        first = received.ravel()[0]
        raise RefusedError(
            "INVALID_ARGUMENT",
            f"Failed to process element: 0 of '{name}' list. Error: INVALID_ARGUMENT: JSON Value: "
            f"{first} Type: {'String' if isinstance(first, str) else 'Number'} is not of expected "
            f"type: {dtype.name}",
        )
    return received.astype(dtype)


@contextlib.contextmanager
def serving(path, name):
    """Serves the SavedModel at `path`; yields (URL for REST, address for gRPC, the Servable)."""
    servable = Servable(path, name)
    rest = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Rest", (_Rest,), {"servable": servable})
    )
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Grpc(servable), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Grpc(servable), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{rest.server_port}", f"127.0.0.1:{port}", servable
    finally:
        server.stop(None)
        rest.shutdown()
        rest.server_close()
