"""The append-only record of the noisy steps of a run, written before they are taken.

Guarantee: a block of steps is on disk (fsync) before its first step reads private data, so after a
crash the ledger holds every step that ran, and maybe some that did not: epsilon computed from it is
never below the truth. Nothing is ever taken back, rewritten or repaired: a file that is not an
unbroken chain of entries from this run's own header is refused.

Format: JSON lines. The first is the header, the run's PrivacyPlan; every other is a block
of steps of one noise multiplier, in the order in which they are taken,
{"steps", "noise_multiplier", "sampling_probability", "total_steps", "time", "previous"}, where
`previous` is the SHA-256 of the line before it. Every line ends with its own digest.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import time
import typing

import tfdps
from tfdps import checks, files
from tfdps.accounting import ledger_file
from tfdps.accounting.events import NoiseEvent, merged
from tfdps.accounting.plan import PrivacyPlan

_FORMATS = "tfdps-ledger-"  # and a number, which goes up when an older version would misread it
FORMAT = f"{_FORMATS}1"


class LedgerWriteError(checks.UsageError):
    """Steps could not be written, and must not be taken."""


class Ledger:
    """An open ledger, locked against other processes. Use `open_ledger`.

    Examples:
      >>> import pathlib, tfdps
      >>> plan = tfdps.make_plan(tfdps.RunConfig(mechanism="joint", num_steps=100), 1000)
      >>> ledger = tfdps.accounting.open_ledger(pathlib.Path("ledger.jsonl"), plan)
      >>> [event] = plan.charges(0, 10)
      >>> ledger.append(event)
      >>> ledger.total_steps
      10
      >>> ledger.close()
    """

    def __init__(
        self, path: pathlib.Path, file: typing.BinaryIO, last_line: bytes, charges: list[NoiseEvent]
    ) -> None:
        self._path, self._file, self._last_line = path, file, last_line
        self.charges = charges

    @property
    def total_steps(self) -> int:
        """Steps that are covered, taken or not."""
        return sum(charge.steps for charge in self.charges)

    def append(self, charge: NoiseEvent) -> None:
        """Covers `charge.steps` more steps. When it returns they are on disk and may be taken.

        Raises:
          LedgerWriteError: when they could not be written; they are not in the ledger then, and must
            not be taken.
        """
        checks.at_least("steps", charge.steps, 1)
        entry = {
            **dataclasses.asdict(charge),
            "total_steps": self.total_steps + charge.steps,
            "time": time.time(),
            "previous": _digest(self._last_line),
        }
        line = _line(entry)
        length = os.fstat(self._file.fileno()).st_size
        try:
            ledger_file.write_and_sync(self._file, line)
        except OSError as error:
            # A torn line would have the whole ledger refused. Its steps were never allowed.
            os.ftruncate(self._file.fileno(), length)
            raise LedgerWriteError(
                f"cannot write the ledger {self._path}: {files.reason(error)}. Training stopped "
                "before the steps that it could not record; put it right and start again to resume."
            ) from error
        self._last_line = line
        self.charges = merged([*self.charges, charge])

    def close(self) -> None:
        """Closes the file and gives up the lock."""
        self._file.close()


def open_ledger(path: pathlib.Path, plan: PrivacyPlan) -> Ledger:
    """Returns the Ledger of this plan at `path`, new or continued.

    Args:
      path: pathlib.Path of the ledger file; its folder exists.
      plan: the run's PrivacyPlan.

    Raises:
      UsageError: when the file is damaged, belongs to another run, or is in use by another process.
        The file is left as it is. And on an operating system without fcntl, or a file system without
        locks or hard links, before a file is made.

    Examples:
      >>> import pathlib, tfdps
      >>> plan = tfdps.make_plan(tfdps.RunConfig(mechanism="joint", num_steps=100), 1000)
      >>> ledger = tfdps.accounting.open_ledger(pathlib.Path("ledger.jsonl"), plan)
      >>> ledger.charges
      []
      >>> ledger.close()
    """
    lock = ledger_file.locking()
    header = _line({"format": FORMAT, "plan": dataclasses.asdict(plan)})
    if not path.exists():
        ledger_file.create(path, header, lock)
    file = open(path, "a+b", buffering=0)  # noqa: SIM115  (held open, with its lock, for the run)
    with contextlib.ExitStack() as closing:
        closing.callback(file.close)
        ledger_file.hold(path, file, lock)
        if os.fstat(file.fileno()).st_ino != os.stat(path).st_ino:
            raise checks.UsageError(f"{path} was replaced while it was opened. Start again.")
        file.seek(0)
        lines = file.read().splitlines(keepends=True)
        charges = _read_charges(path, lines)
        recorded = _plan(path, lines[0])
        if recorded != plan:
            _refuse_foreign(path, recorded, plan)
        closing.pop_all()
    return Ledger(path, file, lines[-1], charges)


def read_plan(path: pathlib.Path) -> PrivacyPlan:
    """Returns the PrivacyPlan in the header of the ledger at `path`.

    Raises:
      UsageError: when there is no ledger or it is damaged.
    """
    lines = _lines(path)
    _read_charges(path, lines)
    return _plan(path, lines[0])


def read_charges(path: pathlib.Path) -> list[NoiseEvent]:
    """Returns the charges that the ledger at `path` holds, in order; does not lock it.

    A list of NoiseEvent, a block merged with the one before it where they are of one kind.

    Raises:
      UsageError: when there is no ledger or it is damaged.
    """
    return _read_charges(path, _lines(path))


def _lines(path):
    try:
        return path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise checks.UsageError(f"cannot read the ledger {path}: {error.strerror}.") from error


def _read_charges(path, lines):
    header = _parse(path, lines, 0) if lines else {}
    if str(header.get("format")).startswith(_FORMATS) and header["format"] != FORMAT:
        _refuse_version(path, f"its format is {header['format']}")
    if header.get("format") != FORMAT or not isinstance(header.get("plan"), dict):
        _refuse(path, 1, f"it does not begin with a {FORMAT} header")
    charges, total = [], 0
    for number in range(1, len(lines)):
        entry = _parse(path, lines, number)
        if entry.get("previous") != _digest(lines[number - 1]):
            _refuse(path, number + 1, "it does not continue the line before it")
        try:
            charge = NoiseEvent(
                entry["noise_multiplier"], entry["sampling_probability"], entry["steps"]
            )
        except (KeyError, TypeError, ValueError):
            _refuse(path, number + 1, "it is not a block of steps")
        total += charge.steps
        if entry.get("total_steps") != total:
            _refuse(path, number + 1, f"its total is not the {total} steps up to it")
        charges.append(charge)
    return merged(charges)


def _plan(path, header):
    """The PrivacyPlan of a header that was parsed; one of before there were shares has none."""
    plan = json.loads(header)["plan"]
    try:
        return PrivacyPlan(**plan)
    except (TypeError, ValueError):  # the header's digest is right
        known = [field.name for field in dataclasses.fields(PrivacyPlan)]
        new = [name for name in plan if name not in known]
        has = f"; it has {checks.listed(new)}" if new else ""
        _refuse_version(path, f"its header holds no privacy plan that this version knows{has}")


def _parse(path, lines, number):
    line = lines[number]
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not line.endswith(b"\n"):
        _refuse(path, number + 1, "it is cut off or not JSON")
    entry.pop("digest", None)
    if _line(entry) != line:
        _refuse(path, number + 1, "it was changed after it was written")
    return entry


def _refuse(path, number, reason):
    raise checks.UsageError(
        f"the ledger {path} is damaged at line {number}: {reason}. It was left as it is. Without it "
        "the privacy spent is unknown: restore it from a backup, or start over in a new --model_dir."
    )


def _refuse_version(path, reason):
    raise checks.UsageError(
        f"the ledger {path} was written by another version of tfdps than this, {tfdps.__version__}: "
        f"{reason}. Use that version; the ledger was left as it is."
    )


def _refuse_foreign(path, recorded, plan):
    ours, theirs = dataclasses.asdict(plan), dataclasses.asdict(recorded)
    changes = ", ".join(
        f"{name} {theirs[name]!r} -> {ours[name]!r}" for name in ours if theirs[name] != ours[name]
    )
    raise checks.UsageError(
        f"the ledger {path} belongs to a run with another guarantee ({changes}). Use that run's "
        "flags, or a new --model_dir."
    )


def _line(entry):
    """An entry as its line: sorted JSON that ends with the digest of what comes before."""
    digest = _digest(json.dumps(entry, sort_keys=True).encode())
    return json.dumps({**dict(sorted(entry.items())), "digest": digest}).encode() + b"\n"


def _digest(line):
    return hashlib.sha256(line).hexdigest()
