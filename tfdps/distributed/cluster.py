"""TF_CONFIG: the machines of a multi-worker run, as every TensorFlow user sets them."""

import json
import os
import typing

from tfdps import checks

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


class Task(typing.NamedTuple):
    """Which worker this process is: index among num_workers; 0 is the chief.

    addresses: "host:port" of each, in that order.
    """

    index: int  # type: ignore[assignment]  # a tuple has a method of that name
    addresses: tuple

    @property
    def num_workers(self):
        """The number of processes."""
        return len(self.addresses)


def read(environment=os.environ):
    """Returns the Task that TF_CONFIG says this process has.

    Raises:
      UsageError: when it is missing or is not a cluster of a chief and workers with this task in it.
    """
    text = environment.get("TF_CONFIG")
    if not text:
        raise checks.UsageError(
            "--strategy=multiworker needs TF_CONFIG in the environment of every worker, with its own "
            f"index, such as TF_CONFIG='{_EXAMPLE}'."
        )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        kind, index = task["type"], int(task["index"])
        jobs = {name: [str(a) for a in addresses] for name, addresses in cluster.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise checks.UsageError(
            f"TF_CONFIG must be like {_EXAMPLE}; received {text!r} ({type(error).__name__}: {error})."
        ) from error
    unknown = sorted(set(jobs) - {"chief", "worker"})
    if unknown or len(jobs.get("chief", [])) > 1:
        raise checks.UsageError(
            f"TF_CONFIG's cluster may have one chief and any workers, received {sorted(jobs)}: there "
            "are neither parameter servers nor evaluators here."
        )
    if kind not in jobs or not 0 <= index < len(jobs[kind]):
        raise checks.UsageError(
            f"TF_CONFIG's task must be one of its cluster, received type {kind!r}, index {index}."
        )
    addresses = tuple(jobs.get("chief", []) + jobs.get("worker", []))
    if len(set(addresses)) < len(addresses):
        raise checks.UsageError(f"TF_CONFIG's cluster names an address twice: {addresses}.")
    before = len(jobs.get("chief", [])) if kind == "worker" else 0
    return Task(before + index, addresses)
