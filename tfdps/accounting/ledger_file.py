"""The file of a ledger: made whole, locked against other processes, written through to the disk."""

import contextlib
import errno
import os

from tfdps import checks, files

# A lock is held, by flock(2) and, on network disks, fcntl(2); there are no hard links, by link(2).
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


def locking():
    """Returns a function that locks an open file, or raises OSError; to be given to `hold`.

    Raises:
      UsageError: on an operating system without fcntl.
    """
    try:
        import fcntl  # reading a ledger works without
    except ModuleNotFoundError as error:
        raise checks.UsageError(
            "a ledger is written on Linux or macOS: this Python has no fcntl, which locks it against "
            "other processes. tfdps-sample and tfdps-verify work without."
        ) from error
    return lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def hold(path, file, lock):
    """Locks the open file of the ledger at `path` until it is closed.

    Raises:
      UsageError: another process holds it, or the file system has no locks.
    """
    try:
        lock(file)
    except OSError as error:
        if error.errno not in _HELD:
            raise _unfit(path, "locks, which keep two processes from one budget", error) from error
        raise checks.UsageError(
            f"{path} is in use: another process trains in this model_dir. Wait for it, or use "
            "another --model_dir."
        ) from error


def create(path, header, lock):
    """Makes the file with its header, whole at once, and never over one that is there.

    It is written under a temporary name, locked once to see that it can be, and linked.

    Raises:
      UsageError: the file system has no locks or hard links. There is no ledger then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb", buffering=0) as file:
            hold(path, file, lock)
            write_and_sync(file, header)
        _link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_and_sync(file, line):
    """Writes a line to an unbuffered file; when it returns, the line is on disk."""
    while line:  # a full disk takes a part, and says why only when asked again
        line = line[file.write(line) :]
    os.fsync(file.fileno())


def _link(temporary, path):
    try:
        with contextlib.suppress(FileExistsError):  # another process was first; its lock decides
            os.link(temporary, path)
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise _unfit(path, "hard links, which a ledger is made with", error) from error
        raise


def _unfit(path, what, error):
    return checks.UsageError(
        f"the file system of {path.parent.absolute()} has no {what} ({files.reason(error)}): give a "
        "--model_dir on a disk of this machine, and copy the run when it is done."
    )
