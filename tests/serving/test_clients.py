"""The clients of TensorFlow Serving against a stand-in that speaks its protocols; see there."""

import http.server
import json
import re
import threading
import urllib.request

import numpy as np
import pytest
import serving_stand_in
import tensorflow as tf
import workers

from conftest import ROOT
from tfdps.checks import UsageError
from tfdps.samplers import saved_model_sampler
from tfdps.serving import clients

EXPORT = ROOT / "saved_models" / "mnist_eps1"


@pytest.fixture(scope="module")
def stand_in():
    with serving_stand_in.serving(EXPORT / "saved_model" / "1", "mnist") as addresses:
        yield addresses


@pytest.fixture(params=["rest", "grpc"])
def kind(request):
    return request.param


def connect(stand_in, kind, model="mnist", **settings):
    make = {"rest": clients.RestClient, "grpc": clients.GrpcClient}[kind]
    return make(stand_in[0 if kind == "rest" else 1], model, **settings)


@pytest.fixture
def client(stand_in, kind):
    return connect(stand_in, kind)


@pytest.fixture(scope="module")
def sampler():
    return saved_model_sampler.load(EXPORT)


class TestAnswers:
    def test_sample_gives_the_images_of_the_saved_model(self, client, sampler):
        images = client.sample([3, 1, 4], seed=(7, 0))
        assert (images.dtype, images.shape) == (np.uint8, (3, 28, 28, 1))
        np.testing.assert_array_equal(images, sampler.sample([3, 1, 4], 7))
        np.testing.assert_array_equal(images, client.sample(np.array([3, 1, 4]), 7))
        assert np.any(images != client.sample([3, 1, 4], seed=8))

    def test_decode_gives_the_images_of_the_saved_model(self, client, sampler):
        z, labels = np.random.default_rng(0).random((2, 101), np.float32), [0, 9]
        images = client.decode(z, labels)
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, sampler.decode(z, labels), atol=1e-5)

    @pytest.mark.slow
    def test_a_thousand_images_come_in_one_answer(self, stand_in, sampler):
        images = connect(stand_in, "grpc").sample(np.zeros(1000, int), 7)
        assert images.shape == (1000, 28, 28, 1)  # 0.8 MB; floats would be 3 MB
        z = np.full((2000, 101), 0.5, np.float32)
        assert len(connect(stand_in, "grpc").decode(z, np.zeros(2000, int))) == 2000  # 6 MB

    def test_versions_and_one_of_them(self, client, stand_in, kind):
        assert client.versions() == {1: "AVAILABLE"}
        assert connect(stand_in, kind, version=1).sample([0], 0).shape == (1, 28, 28, 1)


class TestRefusalsOfTheServer:
    """Each comes back with the server's code and one line that says what was wrong."""

    def refused(self, client, code, *arguments):
        with pytest.raises(clients.ServingError) as caught:
            client.predict(*arguments)
        assert caught.value.code in code
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"the server at {client.address} refused: ")
        return str(caught.value)

    def test_an_unknown_signature(self, client):
        codes = ("FAILED_PRECONDITION", "INVALID_ARGUMENT")
        said = self.refused(client, codes, "paint", {"labels": np.int32([1])})
        assert "signature" in said
        assert '"paint" not found' in said

    @pytest.mark.parametrize("label", [-1, 10, 2**31 - 1])
    def test_a_label_outside_the_range(self, client, label):
        with pytest.raises(clients.ServingError) as caught:
            client.sample([0, label], 0)
        assert caught.value.code == "INVALID_ARGUMENT"
        expected = f"refused: labels must be in [0, 10), received 0 {label}."
        assert str(caught.value).endswith(expected)
        with pytest.raises(clients.ServingError, match=r"labels must be in \[0, 10\)"):
            client.decode(np.zeros((1, 101)), [label])

    def test_another_type(self, client):
        inputs = {"labels": np.float32([1.5]), "seed": np.int32([0, 0])}
        said = self.refused(client, "INVALID_ARGUMENT", "sample", inputs)
        assert "labels" in said
        assert "int32" in said

    def test_an_input_that_is_missing(self, client):
        said = self.refused(client, "INVALID_ARGUMENT", "sample", {"labels": np.int32([1])})
        assert "Missing but required: {seed}" in said

    def test_a_latent_of_another_size(self, client):
        with pytest.raises(clients.ServingError) as caught:
            client.decode(np.zeros((1, 7)), [0])
        assert caught.value.code == "INVALID_ARGUMENT"
        assert "(1, 7)" in str(caught.value)

    @pytest.mark.parametrize("settings", [{"model": "cifar"}, {"version": 3}])
    def test_an_unknown_model_or_version(self, stand_in, kind, settings):
        client = connect(stand_in, kind, **settings)
        for ask in (lambda: client.sample([0], 0), client.versions):
            with pytest.raises(clients.ServingError, match="Servable not found") as caught:
                ask()
            assert caught.value.code == "NOT_FOUND"


class TestRefusalsBeforeSending:
    @pytest.mark.parametrize("labels", [[], [0.5], [[1]], ["one"]])
    def test_what_can_be_no_labels(self, client, labels):
        with pytest.raises(UsageError, match="labels must be a list of at least one integer"):
            client.sample(labels, 0)

    def test_labels_that_no_server_could_read(self, client):
        with pytest.raises(
            UsageError, match=r"in \[-2147483648, 2147483648\), received 2147483648 "
        ):
            client.sample([2**31], 0)

    @pytest.mark.parametrize("seed", [0.5, [1, 2, 3], 2**31, "x"])
    def test_what_can_be_no_seed(self, client, seed):
        with pytest.raises(UsageError, match="seed must be one or two integers"):
            client.sample([0], seed)

    @pytest.mark.parametrize("z", [np.zeros(101), np.zeros((2, 101)), np.full((1, 101), np.nan)])
    def test_what_can_be_no_latent(self, client, z):
        with pytest.raises(UsageError, match=r"z must be finite numbers \[1, latent_dim\]"):
            client.decode(z, [0])

    def test_an_address_that_is_no_url(self):
        with pytest.raises(UsageError, match="address must be a URL .* received 'localhost:8501'"):
            clients.RestClient("localhost:8501", "mnist")


class TestAnotherServer:
    """One that answers with status 200, and not as TensorFlow Serving does."""

    @pytest.fixture
    def answering(self):
        """A function: the bytes that the server answers -> a client of it."""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802  (http.server calls it so)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.server.answer)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("localhost", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def answer(content):
            server.answer = content
            return clients.RestClient(f"http://localhost:{server.server_port}", "mnist")

        yield answer
        server.shutdown()
        server.server_close()
        thread.join()

    @pytest.mark.parametrize(
        "content",
        [
            b"{}",
            b"[]",
            b"3",
            b"null",
            b'"outputs"',
            b'{"outputs": null}',
            b'{"outputs": {}}',
            b'{"outputs": {"images": "none"}}',
            b'{"outputs": [[1, 2], [3]]}',
            b'{"outputs": [[[["a"]]]]}',
            b'{"outputs": [[[[1]]], [[[2]]]]}',
            b"<html>",
            b"",
        ],
    )
    def test_what_holds_no_images_is_a_serving_error(self, answering, content):
        client = answering(content)
        for ask in (
            lambda: client.sample([0], 1),
            lambda: client.decode(np.zeros((1, 3)), [0]),
            client.versions,
        ):
            with pytest.raises(clients.ServingError, match="is it TensorFlow Serving") as error:
                ask()
            assert error.value.code == "INTERNAL"
            assert client.address in str(error.value)

    def test_what_holds_them_is_taken_whoever_answers(self, answering):
        client = answering(b'{"outputs": [[[[7]]]]}')
        assert client.sample([0], 1).tolist() == [[[[7]]]]

    @pytest.mark.parametrize(
        "content", [b'{"model_version_status": [{}]}', b'{"model_version_status": 3}']
    )
    def test_what_holds_no_versions_likewise(self, answering, content):
        with pytest.raises(clients.ServingError, match="holds no versions"):
            answering(content).versions()


def test_a_server_that_is_not_there_is_named(kind):
    [address] = workers.addresses(1)
    address = f"http://{address}" if kind == "rest" else address
    client = connect([address, address], kind, timeout=5)
    with pytest.raises(clients.ServingError, match=f"no TensorFlow Serving .* at {address}: ") as e:
        client.sample([0], 0)
    assert e.value.code == "UNAVAILABLE"


def test_warmup_requests_are_what_the_server_runs_at_its_start(stand_in):
    from tensorflow_serving.apis import prediction_log_pb2

    path = EXPORT / "saved_model" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    answered = []
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        images = stand_in[2].run(request.model_spec.signature_name, inputs)["images"]
        answered.append((request.model_spec.signature_name, images.shape))
    shapes = [(size, 28, 28, 1) for size in (1, 64)]
    assert answered == [(name, shape) for shape in shapes for name in ("sample", "decode")]


class TestDocumentation:
    """What docs/serving.md says to type, against the stand-in."""

    text = (ROOT / "docs" / "serving.md").read_text()

    def test_the_body_of_its_curl_is_answered_by_rest(self, stand_in, sampler):
        body = re.search(r":8501(/v1/\S+) \\\n\s+-d '(.*?)'", self.text)
        request = urllib.request.Request(stand_in[0] + body[1], data=body[2].encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            images = np.array(json.load(answer)["outputs"], np.uint8)
        np.testing.assert_array_equal(images, sampler.sample([0, 1, 2], 7))

    def test_its_code_is_answered_by_grpc(self, stand_in, sampler):
        (code,) = (
            block
            for block in re.findall(r"```python\n(.*?)```", self.text, re.DOTALL)
            if "PredictionServiceStub" in block
        )
        names = {}
        exec(code.replace("localhost:8500", stand_in[1]), names)
        np.testing.assert_array_equal(names["images"], sampler.sample([0, 1, 2], 7))
