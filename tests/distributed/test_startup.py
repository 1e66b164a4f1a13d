"""The start: which backend Keras would take, and what is missing, said before anything is loaded."""

import json
import signal
import sys
import threading
import types

import keras  # before a test says another backend, which would stay
import pytest

from tfdps import checks, launch
from tfdps.distributed import preemption, startup
from tfdps.serving import clients


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without settings of Keras, in a process that has not loaded it."""
    monkeypatch.delitem(sys.modules, keras.__name__)
    for name in ("KERAS_BACKEND", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write_settings(folder, text):
    folder.mkdir()
    (folder / "keras.json").write_text(text)
    return folder / "keras.json"


class TestBackend:
    def test_another_one_of_the_environment_is_refused_with_what_to_set(self, home, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        with pytest.raises(checks.UsageError) as error:
            startup.load_tensorflow()
        assert str(error.value) == (
            "Keras must run on tensorflow, received 'jax' from KERAS_BACKEND: set the environment "
            "variable KERAS_BACKEND=tensorflow, which comes before all other settings of Keras."
        )

    def test_another_one_of_the_settings_is_refused_with_their_file(self, home, monkeypatch):
        path = write_settings(home / ".keras", json.dumps({"backend": "torch"}))
        with pytest.raises(checks.UsageError, match=f"received 'torch' from {path}: set"):
            startup.load_tensorflow()
        monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
        startup.load_tensorflow()

    def test_keras_home_comes_before_the_home(self, home, monkeypatch):
        write_settings(home / ".keras", json.dumps({"backend": "torch"}))
        path = write_settings(home / "keras", json.dumps({"backend": "numpy"}))
        monkeypatch.setenv("KERAS_HOME", "~/keras")
        with pytest.raises(checks.UsageError, match=f"received 'numpy' from {path}: set"):
            startup.load_tensorflow()

    def test_another_one_that_is_loaded_is_refused(self, home, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
        config = types.SimpleNamespace(backend=lambda: "jax")
        monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(config=config))
        with pytest.raises(checks.UsageError, match="received 'jax' from the Keras that is loaded"):
            startup.load_tensorflow()

    @pytest.mark.parametrize("text", [None, "{}", "", "[]", '{"backend": "tensorflow"}'])
    def test_without_a_setting_it_is_tensorflow(self, home, monkeypatch, text):
        monkeypatch.setenv("KERAS_BACKEND", "")
        if text is not None:
            write_settings(home / ".keras", text)
        startup.load_tensorflow()

    def test_the_command_line_says_so_in_one_line(self, home, monkeypatch, capsys):
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        assert launch.main(["tfdps", f"--model_dir={home}/run"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("tfdps: error: Keras must run on tensorflow, received 'jax'")
        assert said.count("\n") == 1

    def test_a_client_of_a_server_uses_no_keras(self, home, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        clients.GrpcClient("localhost:1", "mnist").close()


@pytest.mark.parametrize("package", ["tensorflow", "grpc"])
def test_a_client_says_which_package_is_missing(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(checks.UsageError, match=f"^{package} is missing: gRPC takes pip install"):
        clients.GrpcClient("localhost:1", "mnist")


def test_in_a_thread_a_stop_request_leaves_signals_and_alarms_alone():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with preemption.StopRequest().on_sigterm() as stop:
            stop.listen_again()
            stop.heed()
            found.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]
