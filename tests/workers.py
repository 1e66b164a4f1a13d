"""Runs of several processes or devices, each in processes of their own, and free ports: for tests."""

import json
import os
import pathlib
import random
import socket
import subprocess
import sys

from conftest import ROOT

JOB = pathlib.Path(__file__).parent / "replica_job.py"
_FIRST_PORT, _LAST_PORT = 20_000, 32_000  # below those that systems hand out by themselves


def addresses(count):
    """Free ports of this machine, as "host:port", of a range that is this test process's own.

    They are bound seconds later: another test process that was handed one meanwhile would have it.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = (_LAST_PORT - _FIRST_PORT) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = range(_FIRST_PORT + number * width, _FIRST_PORT + (number + 1) * width)
    free = [port for port in random.sample(own, 10 * count) if _is_free(port)]
    return [f"127.0.0.1:{port}" for port in free[:count]]


def _is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def environment(hosts=None, index=0):
    """A process's, with the TF_CONFIG of a worker among hosts."""
    result = {**os.environ, "PYTHONPATH": str(ROOT)}
    result.pop("TF_CPP_MIN_LOG_LEVEL", None)
    if hosts:
        task = {"type": "worker", "index": index}
        result["TF_CONFIG"] = json.dumps({"cluster": {"worker": hosts}, "task": task})
    return result


def start(arguments, log, *, hosts=None, index=0):
    """Starts a Python process; what it prints goes to a file."""
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment(hosts, index),
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def command(model_dir, *flags):
    """The arguments of a run on several workers, on the digits."""
    return ["-m", "tfdps.launch", "--strategy=multiworker", f"--model_dir={model_dir}", *flags]


def job(kind, folder, *arguments, num_workers=0, timeout=240):
    """Runs replica_job.py on two devices of one process (0 workers) or on several workers.

    Each is to end with status 0. Returns what they printed.
    """
    hosts = addresses(num_workers) if num_workers else None
    logs = [folder / f"{kind}.{index}.log" for index in range(max(1, num_workers))]
    processes = [
        start([JOB, kind, folder, *arguments], log, hosts=hosts, index=index)
        for index, log in enumerate(logs)
    ]
    try:
        statuses = [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [log.read_text() for log in logs]
    assert not any(statuses), "\n".join(text[-3000:] for text in texts)
    return texts
