"""The ledger: written first, append-only, one owner, refused when it is not whole or not ours."""

import dataclasses
import errno
import fcntl
import json
import multiprocessing
import os
import sys

import pytest

from tfdps import checks
from tfdps.accounting import ledger, ledger_file
from tfdps.accounting.accountants import NoiseEvent, epsilon_of
from tfdps.accounting.plan import make_plan
from tfdps.config.run_config import RunConfig

PLAN = make_plan(RunConfig(mechanism="joint", num_steps=500), 1438)


def block(first, count):
    """The one charge of these steps of PLAN."""
    (charge,) = PLAN.charges(first, count)
    return charge


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def written(path):
    """A closed ledger of two blocks, 30 and 12 steps."""
    opened = ledger.open_ledger(path, PLAN)
    opened.append(block(0, 30))
    opened.append(block(30, 12))
    opened.close()
    return path


def test_blocks_add_up_across_reopening(written):
    opened = ledger.open_ledger(written, PLAN)
    assert opened.total_steps == 42
    opened.append(block(42, 8))
    opened.close()
    assert ledger.read_charges(written) == [block(0, 50)]


def test_charges_of_another_kind_are_kept_apart(written):
    opened = ledger.open_ledger(written, PLAN)
    other = NoiseEvent(9.0, 1.0, 3)
    opened.append(other)
    opened.append(block(42, 1))
    opened.close()
    assert ledger.read_charges(written) == [block(0, 42), other, block(42, 1)]


def test_appending_never_touches_what_is_there(written):
    before = written.read_bytes()
    opened = ledger.open_ledger(written, PLAN)
    opened.append(block(42, 1))
    opened.close()
    assert written.read_bytes().startswith(before)


def test_a_block_is_synced_to_disk_before_append_returns(path, monkeypatch):
    opened = ledger.open_ledger(path, PLAN)
    on_disk = []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (sync(file), on_disk.append(path.read_bytes().count(b"\n")))
    )
    opened.append(block(0, 30))
    assert on_disk == [2]  # header and block were in the file when it was synced
    opened.close()


@pytest.mark.parametrize("failing", ["fsync", "write"])
def test_a_block_that_cannot_be_written_stops_and_leaves_the_ledger_whole(
    written, monkeypatch, failing
):
    before = written.read_bytes()
    opened = ledger.open_ledger(written, PLAN)
    if failing == "fsync":

        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
    else:

        def write_half(file, line):
            file.write(line[: len(line) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(ledger_file, "write_and_sync", write_half)
    with pytest.raises(checks.UsageError, match="No space left"):
        opened.append(block(42, 30))
    assert opened.total_steps == 42
    monkeypatch.undo()
    assert written.read_bytes() == before
    opened.append(block(42, 1))
    opened.close()
    assert sum(charge.steps for charge in ledger.read_charges(written)) == 43


def test_a_flipped_bit_anywhere_is_refused_and_left_alone(written):
    whole = written.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0x08
        written.write_bytes(content)
        with pytest.raises(checks.UsageError):
            ledger.read_charges(written)
    with pytest.raises(checks.UsageError):
        ledger.open_ledger(written, PLAN)
    assert written.read_bytes() == bytes(content)


def test_the_header_gives_the_plan_back(written):
    assert ledger.read_plan(written) == PLAN


def test_a_ledger_from_before_there_were_shares_is_read_and_continued(path):
    plan = dataclasses.asdict(PLAN)
    del plan["shares"]
    header = ledger._line({"format": ledger.FORMAT, "plan": plan})
    entry = {**dataclasses.asdict(block(0, 30)), "total_steps": 30, "time": 0.0}
    path.write_bytes(header + ledger._line({**entry, "previous": ledger._digest(header)}))
    assert ledger.read_plan(path) == PLAN
    opened = ledger.open_ledger(path, PLAN)
    opened.append(block(30, 12))
    opened.close()
    assert ledger.read_charges(path) == [block(0, 42)]


def test_a_header_without_a_plan_is_refused(path):
    path.write_bytes(ledger._line({"format": ledger.FORMAT, "plan": {"steps": 3}}))
    with pytest.raises(checks.UsageError, match="no privacy plan that this version knows"):
        ledger.read_plan(path)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            {"plan": {**dataclasses.asdict(PLAN), "unit": "person"}},
            "version knows; it has unit. Use",
        ),
        ({"format": "tfdps-ledger-2"}, "its format is tfdps-ledger-2. Use that version"),
    ],
)
def test_a_newer_versions_ledger_is_called_that_and_not_damaged(path, header, reason):
    line = ledger._line({"format": ledger.FORMAT, "plan": dataclasses.asdict(PLAN), **header})
    path.write_bytes(line)
    for read in (ledger.read_plan, lambda path: ledger.open_ledger(path, PLAN)):
        with pytest.raises(checks.UsageError, match="was written by another version") as error:
            read(path)
        assert reason in str(error.value)
    assert path.read_bytes() == line


class TestStagesOfDifferentNoise:
    plan = dataclasses.replace(
        make_plan(RunConfig(mechanism="joint", batch_size=500, num_steps=4, accountant="pld"), 500),
        shares=(1 / 3, 0.1, 0.1, 1 - 1 / 3 - 0.2),  # of all records, so epsilon stays
    )

    class Model:
        """What the writer needs of a model; holds every authorisation against the disk."""

        def __init__(self, path):
            import tensorflow as tf

            self.path = path
            self.noisy_steps, self.authorized_steps = tf.Variable(0), tf.Variable(0)

        def authorize(self, total_steps):
            written = ledger.read_charges(self.path)
            assert written == TestStagesOfDifferentNoise.plan.charges(0, total_steps)
            self.authorized_steps.assign(total_steps)

        def take_steps(self, writer, last):
            """Takes steps as fit does, one between two callbacks, until `last` are taken."""
            writer.set_model(self)
            writer.on_train_begin()
            for step in range(int(self.noisy_steps.numpy()), last):
                writer.on_train_batch_begin(step)
                assert step < self.authorized_steps.numpy()
                self.noisy_steps.assign_add(1)

    def writer(self, opened, stride=1):
        from tfdps.distributed import preemption, replicas
        from tfdps.training import ledger_gate

        here, stop = replicas.Replicas(), preemption.StopRequest()
        return ledger_gate.LedgerWriter(opened, self.plan, stride, on=here, stop=stop)

    def test_the_header_gives_the_shares_back_exactly(self, path):
        ledger.open_ledger(path, self.plan).close()
        assert ledger.read_plan(path) == self.plan
        ledger.open_ledger(path, self.plan).close()
        other = dataclasses.replace(self.plan, shares=(0.25,) * 4)
        with pytest.raises(checks.UsageError, match=r"another guarantee \(shares \(0.33"):
            ledger.open_ledger(path, other)

    @pytest.mark.parametrize("stride", [1, 3, 10])
    def test_what_a_whole_run_writes_composes_to_the_plans_epsilon(self, path, stride):
        opened = ledger.open_ledger(path, self.plan)
        self.Model(path).take_steps(self.writer(opened, stride), 4)
        opened.close()
        written = ledger.read_charges(path)
        assert written == self.plan.charges(0, 4)
        assert [charge.steps for charge in written] == [1, 2, 1]
        assert epsilon_of(written, delta=1e-5, accountant="pld") == self.plan.epsilon(4) <= 10

    def test_killed_between_two_charges_of_a_block_every_step_taken_is_covered(
        self, path, monkeypatch
    ):
        opened = ledger.open_ledger(path, self.plan)
        model, sync, syncs = self.Model(path), os.fsync, []

        def die_at_the_second(file):
            syncs.append(file)
            if len(syncs) == 2:
                raise KeyboardInterrupt
            sync(file)

        monkeypatch.setattr(os, "fsync", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            model.take_steps(self.writer(opened, stride=10), 4)
        monkeypatch.undo()
        opened.close()
        # The second charge may or may not have reached the disk; no step was allowed either way.
        assert model.noisy_steps.numpy() == model.authorized_steps.numpy() == 0
        opened = ledger.open_ledger(path, self.plan)
        assert opened.charges == self.plan.charges(0, 3)
        model = self.Model(path)
        model.take_steps(self.writer(opened), 4)
        opened.close()
        assert ledger.read_charges(path) == self.plan.charges(0, 4)


def test_a_ledger_that_another_process_made_meanwhile_is_continued_not_replaced(
    written, monkeypatch
):
    monkeypatch.setattr(type(written), "exists", lambda self: False)  # what the slower one saw
    opened = ledger.open_ledger(written, PLAN)
    assert opened.total_steps == 42
    opened.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [], "damaged at line 1: it does not begin with"),
        (lambda lines: lines[1:], "damaged at line 1"),
        (lambda lines: [*lines[:-1], lines[-1][:-9]], "damaged at line 3: it is cut off"),
        (lambda lines: [*lines[:-1], lines[-1].rstrip(b"\n")], "damaged at line 3: it is cut off"),
        (lambda lines: [lines[0], lines[2]], "damaged at line 2: it does not continue"),
        (lambda lines: [*lines, b"garbage\n"], "damaged at line 4: it is cut off or not JSON"),
        (lambda lines: [*lines, b"\n"], "damaged at line 4"),
        (lambda lines: [lines[0], *lines[2:], lines[1]], "damaged at line 2"),
        (
            lambda lines: [ledger._line({"format": "other"}), *lines[1:]],
            "does not begin with a tfdps",
        ),
    ],
)
def test_damage_is_refused_by_line_and_never_overwritten(written, damage, message):
    content = b"".join(damage(written.read_bytes().splitlines(keepends=True)))
    written.write_bytes(content)
    for use in (lambda: ledger.open_ledger(written, PLAN), lambda: ledger.read_charges(written)):
        with pytest.raises(checks.UsageError) as error:
            use()
        assert message in str(error.value)
        assert "left as it is" in str(error.value)
    assert written.read_bytes() == content


def test_a_block_with_a_wrong_total_is_refused(written):
    lines = written.read_bytes().splitlines(keepends=True)
    entry = json.loads(lines[-1])
    del entry["digest"]
    entry["steps"] = 1
    written.write_bytes(b"".join(lines[:-1]) + ledger._line(entry))
    with pytest.raises(checks.UsageError, match="its total is not the 31 steps"):
        ledger.read_charges(written)


def test_a_ledger_of_another_guarantee_is_refused_by_what_differs(written):
    before = written.read_bytes()
    other = dataclasses.replace(PLAN, clip_norm=0.25)
    with pytest.raises(checks.UsageError, match=r"another guarantee \(clip_norm 0.5 -> 0.25\)"):
        ledger.open_ledger(written, other)
    assert written.read_bytes() == before


def test_a_missing_ledger_cannot_be_read(path):
    with pytest.raises(checks.UsageError, match="cannot read the ledger"):
        ledger.read_charges(path)


def _try_to_open(path, answer):
    try:
        ledger.open_ledger(path, PLAN)
    except checks.UsageError as error:
        answer.put(str(error))
    else:
        answer.put("opened")


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_holds_it(written):
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()

    def outcome():
        process = context.Process(target=_try_to_open, args=(written, answer))
        process.start()
        process.join()
        return answer.get(timeout=10)

    opened = ledger.open_ledger(written, PLAN)
    assert "in use" in outcome()
    opened.close()
    assert outcome() == "opened"


def test_without_fcntl_a_ledger_is_read_and_none_is_written(written, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert ledger.read_plan(written) == PLAN
    assert sum(charge.steps for charge in ledger.read_charges(written)) == 42
    before = written.read_bytes()
    for path in (written, tmp_path / "new.jsonl"):
        with pytest.raises(checks.UsageError, match="has no fcntl"):
            ledger.open_ledger(path, PLAN)
    assert written.read_bytes() == before
    assert os.listdir(tmp_path) == [written.name]


class TestFileSystems:
    """What cannot hold a ledger is called that, before there is one; a held lock is another's."""

    @staticmethod
    def fails(monkeypatch, module, name, code):
        def fail(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(module, name, fail)

    @pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
    def test_one_without_locks_is_called_that(self, written, tmp_path, monkeypatch, code):
        self.fails(monkeypatch, fcntl, "flock", code)
        before = written.read_bytes()
        for path in (written, tmp_path / "new.jsonl"):
            with pytest.raises(checks.UsageError) as error:
                ledger.open_ledger(path, PLAN)
            assert f"{tmp_path} has no locks, which keep two" in str(error.value)
            assert f"({os.strerror(code)}): give a --model_dir on a disk" in str(error.value)
        assert os.listdir(tmp_path) == [written.name]
        assert written.read_bytes() == before

    @pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES])
    def test_a_lock_that_is_held_is_another_process(self, written, monkeypatch, code):
        self.fails(monkeypatch, fcntl, "flock", code)
        with pytest.raises(checks.UsageError, match="in use: another process trains"):
            ledger.open_ledger(written, PLAN)

    @pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
    def test_one_without_hard_links_is_called_that(self, path, monkeypatch, code):
        self.fails(monkeypatch, os, "link", code)
        with pytest.raises(checks.UsageError, match="has no hard links, which a ledger is made"):
            ledger.open_ledger(path, PLAN)
        assert os.listdir(path.parent) == []

    def test_a_full_disk_is_none_of_these(self, path, monkeypatch):
        self.fails(monkeypatch, os, "link", errno.ENOSPC)
        with pytest.raises(OSError, match="No space left"):
            ledger.open_ledger(path, PLAN)
        assert os.listdir(path.parent) == []
