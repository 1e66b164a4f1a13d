"""How much memory this process may have."""

import pathlib

_CONTROL_GROUPS = (
    ("memory.max", "memory.current"),  # version 2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),  # version 1
)


def of_process(proc="/proc", groups="/sys/fs/cgroup"):
    """Returns the bytes that this process has and those that are free for it; None where not known.

    What is free is what Linux says is available without swapping, and no more than a container's limit
    leaves.

    Args:
      proc, groups: where Linux tells it.
    """
    try:
        free = _kilobytes(pathlib.Path(proc, "meminfo"), "MemAvailable:")
        own = _kilobytes(pathlib.Path(proc, "self", "status"), "VmRSS:")
    except (OSError, StopIteration, ValueError):
        return None
    for limit, used in _CONTROL_GROUPS:
        try:
            left = [int(pathlib.Path(groups, name).read_text()) for name in (limit, used)]
        except (OSError, ValueError):  # no such group, or "max"
            continue
        free = min(free, max(0, left[0] - left[1]))
    return own + free


def _kilobytes(path, name):
    """The number of bytes in the line of a file that begins with `name`."""
    lines = path.read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
