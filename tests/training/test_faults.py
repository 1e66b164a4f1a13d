"""Machines that die, disks that fill, clocks that jump, and who asks a run to go."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import workers
from PIL import Image

from conftest import small_config
from tfdps import checks, launch
from tfdps.accounting import accountants, ledger
from tfdps.data import image_folder
from tfdps.distributed import replicas, startup
from tfdps.mechanisms import batches
from tfdps.samplers import saved_model_sampler
from tfdps.training import job, ledger_gate
from tfdps.training.run_dir import RunDir

FLAGS = ["--mechanism=joint", "--batch_size=10", "--regularization=10", "--noreport"]


def covered(run):
    path = RunDir(str(run)).ledger
    return sum(c.steps for c in ledger.read_charges(path)) if path.exists() else 0


def wait_until(true, process, log, seconds=120):
    """Waits for something; fails with what a process printed if that ends or it does not come."""
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


@pytest.fixture
def pair(tmp_path):
    """Starts worker 0 or 1 of two; kills what is left at the end."""
    hosts, started = workers.addresses(2), []

    def start(index, *flags):
        log = tmp_path / f"{index}.log"
        arguments = workers.command(tmp_path / "run", *FLAGS, "--checkpoint_secs=1", *flags)
        started.append(workers.start(arguments, log, hosts=hosts, index=index))
        return started[-1], log

    yield start
    for process in started:
        process.kill()


@pytest.mark.slow
def test_a_chief_that_is_killed_and_started_again_costs_minutes_and_no_budget(tmp_path, pair):
    """The other worker waits for it by itself."""
    run, steps, victim = tmp_path / "run", "--num_steps=400", 0
    processes = [pair(index, steps) for index in (0, 1)]
    checkpoints = run / "checkpoints"
    wait_until(lambda: list(checkpoints.glob("*.index")), *processes[0])
    spent = covered(run)
    assert 0 < spent < 400
    processes[victim][0].send_signal(signal.SIGKILL)
    processes[victim][0].wait()
    survivor, log = processes[1 - victim]
    wait_until(lambda: "another worker is gone" in log.read_text(), survivor, log)
    processes[victim] = pair(victim, steps)
    for process, log in processes:
        assert process.wait(180) == 0, log.read_text()[-3000:]
    charges = ledger.read_charges(run / "ledger.jsonl")
    card = json.loads((run / "export" / "model_card.json").read_text())
    assert sum(charge.steps for charge in charges) == card["privacy"]["steps"] == 400
    assert card["privacy"]["epsilon"] == accountants.epsilon_of(charges, delta=1e-5) <= 10
    lost = re.search(r"(\d+) steps after the last checkpoint", (tmp_path / "0.log").read_text())
    lost = int(lost[1]) if lost else 0
    assert card["training"]["generator_updates"] == 400 - lost
    assert saved_model_sampler.load(str(run)).sample([3, 4], 0).shape == (2, 8, 8, 1)


def test_a_worker_that_loses_others_again_and_again_gives_up(monkeypatch):
    restarted = []
    monkeypatch.setattr(startup, "restart", restarted.append)
    monkeypatch.setattr(launch.time, "sleep", lambda seconds: None)

    def lose():
        raise replicas.WorkerLostError("UnavailableError")

    monkeypatch.setenv("TFDPS_RESTARTS", "19")
    launch._with_all_workers(lose, ["--port=1"])
    monkeypatch.setenv("TFDPS_RESTARTS", "20")
    with pytest.raises(checks.UsageError, match="more than 20 times"):
        launch._with_all_workers(lose, ["--port=1"])
    assert restarted == [["--port=1"]]


@pytest.mark.slow
def test_one_worker_that_is_asked_to_stop_stops_all_with_a_checkpoint(tmp_path, pair):
    run = tmp_path / "run"
    processes = [pair(index, "--num_steps=20000") for index in (0, 1)]
    wait_until(lambda: covered(run) > 20, *processes[0])
    asked = time.monotonic()
    processes[1][0].send_signal(signal.SIGTERM)
    assert [process.wait(60) for process, _ in processes] == [130, 130]
    assert time.monotonic() - asked < 30
    for _, log in processes:
        assert "interrupted. The same command again resumes" in log.read_text()
    numbers = [int(p.stem.removeprefix("ckpt-")) for p in (run / "checkpoints").glob("*.index")]
    assert max(numbers) == covered(run)  # nothing was lost


@pytest.mark.slow
def test_workers_with_other_flags_refuse_each_other(tmp_path, pair):
    processes = [pair(index, f"--num_steps={60 + index}") for index in (0, 1)]
    for process, log in processes:
        assert process.wait(120) == 2, log.read_text()[-3000:]
        assert "must have the same flags" in log.read_text()
    assert "--num_steps=61" in processes[1][1].read_text()
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_finishes_its_step_saves_and_leaves_in_time(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    flags = ["--num_atoms=32", "--noreport"]
    process = workers.start(["-m", "tfdps.launch", f"--model_dir={run}", *flags], log)
    wait_until(lambda: covered(run) > 0, process, log)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130, log.read_text()[-3000:]
    assert time.monotonic() - asked < 30
    numbers = [int(p.stem.removeprefix("ckpt-")) for p in (run / "checkpoints").glob("*.index")]
    assert max(numbers) == covered(run)  # all that was paid for was taken


def test_a_step_that_takes_too_long_is_interrupted_in_time(monkeypatch):
    from tfdps.distributed import preemption

    monkeypatch.setattr(preemption, "GRACE_SECONDS", 1)
    with preemption.StopRequest().on_sigterm() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
    assert signal.getsignal(signal.SIGTERM) != stop._asked


@pytest.fixture
def small_disk(tmp_path):
    """Mounts an empty disk of so many KiB; skips where nothing may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib, *options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join([f"size={kib}k", *options]), "tmpfs", folder],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.decode().strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", folder], capture_output=True, check=False)


SMALL = [*FLAGS, "--num_steps=40"]  # a checkpoint of 5.6 MB, an export of 2


def run_on(disk):
    return [sys.executable, "-m", "tfdps.launch", *SMALL, f"--model_dir={disk / 'run'}"]


@pytest.mark.slow
def test_a_checkpoint_on_a_full_disk_waits_for_space_and_loses_nothing(tmp_path, small_disk):
    disk, log = small_disk(1024), tmp_path / "log"
    process = workers.start(run_on(disk)[1:], log)
    wait_until(lambda: "Training waits" in log.read_text(), process, log)
    assert "cannot write a checkpoint to" in log.read_text()
    assert "No space left on device" in log.read_text()
    assert not list((disk / "run" / "checkpoints").glob("*"))  # no half of one
    small_disk(64 * 1024, "remount")
    assert process.wait(120) == 0, log.read_text()[-3000:]
    card = json.loads((disk / "run" / "export" / "model_card.json").read_text())
    assert card["training"]["generator_updates"] == card["privacy"]["steps"] == 40


@pytest.mark.slow
def test_an_export_on_a_full_disk_is_made_when_there_is_space(tmp_path, small_disk, monkeypatch):
    """The disk is filled up behind the checkpoint, to the last 200 KiB."""
    disk, log = small_disk(64 * 1024), tmp_path / "log"
    process = workers.start(run_on(disk)[1:], log)
    wait_until(lambda: (disk / "run" / "checkpoints" / "checkpoint").exists(), process, log)
    with open(disk / "filler", "wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - 200 * 1024))
    assert process.wait(120) == 2, log.read_text()[-3000:]
    last = log.read_text().splitlines()[-1]
    assert "cannot write the export" in last
    assert "No space left on device" in last
    assert not (disk / "run" / "export").exists()
    assert not list((disk / "run").glob("export*"))
    before = (disk / "run" / "ledger.jsonl").read_bytes()
    (disk / "filler").unlink()
    assert launch.main(run_on(disk)[2:]) == 0
    assert (disk / "run" / "ledger.jsonl").read_bytes() == before
    assert saved_model_sampler.load(str(disk / "run")).sample([3], 0).shape == (1, 8, 8, 1)


@pytest.mark.slow
def test_a_ledger_on_a_full_disk_stops_the_run_before_the_steps_and_keeps_the_rest(
    tmp_path, small_disk, monkeypatch
):
    """The ledger alone is on the full disk: the checkpoint can be written."""
    disk = small_disk(64)
    config = small_config(tmp_path / "run", num_steps=400)
    ledger_file = RunDir.__init__

    def elsewhere(self, model_dir):
        ledger_file(self, model_dir)
        self.ledger = disk / "ledger.jsonl"

    monkeypatch.setattr(RunDir, "__init__", elsewhere)
    append = ledger.Ledger.append

    def fill_up(self, charge):
        if self.total_steps >= 40:
            with open(disk / "filler", "ab") as file:
                file.write(bytes(shutil.disk_usage(disk).free))
        append(self, charge)

    monkeypatch.setattr(ledger.Ledger, "append", fill_up)
    # A block for each execution: soon the ledger needs another page of the disk.
    monkeypatch.setattr(ledger_gate, "_LEDGER_SECONDS", 0)
    with pytest.raises(checks.UsageError, match="cannot write the ledger .*No space left"):
        job.train(config)
    spent = sum(c.steps for c in ledger.read_charges(disk / "ledger.jsonl"))
    numbers = [
        int(p.stem.removeprefix("ckpt-"))
        for p in (tmp_path / "run" / "checkpoints").glob("*.index")
    ]
    assert max(numbers) == spent < 400
    (disk / "filler").unlink()
    monkeypatch.setattr(ledger.Ledger, "append", append)
    card = job.train(config)
    assert card.steps == card.generator_updates == 400


def test_a_second_process_on_a_model_dir_is_refused_and_the_first_goes_on(digits_run):
    model_dir, config, _, _ = digits_run
    run = RunDir(str(model_dir))
    held = ledger.open_ledger(run.ledger, ledger.read_plan(run.ledger))
    try:
        with pytest.raises(checks.UsageError, match="another process trains in this model_dir"):
            job.train(config)
    finally:
        held.close()


@pytest.mark.slow
def test_a_file_that_is_gone_in_mid_run_ends_it_with_a_checkpoint_and_is_not_named(
    tmp_path, monkeypatch
):
    for label in ("cat", "dog"):
        (tmp_path / "scans" / label).mkdir(parents=True)
        for number in range(20):
            grey = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(grey).save(tmp_path / "scans" / label / f"p{number}.png")
    config = small_config(
        tmp_path / "run",
        dataset=f"folder:{tmp_path / 'scans'}",
        image_size=8,
        records_mib=1e-3,
        num_steps=60,
    )
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 1)  # else one read has the records of all steps
    gather, reads = image_folder.Records.gather, []

    def losing_the_disk(self, indices):
        reads.append(len(indices))
        if len(reads) == 25:
            (tmp_path / "scans").rename(tmp_path / "unplugged")
        return gather(self, indices)

    monkeypatch.setattr(image_folder.Records, "gather", losing_the_disk)
    with pytest.raises(checks.UsageError, match="cannot be read any more") as raised:
        job.train(config)
    shown = str(raised.value) + str(raised.value.__cause__)
    assert raised.value.__suppress_context__
    assert not re.search(r"p\d|cat|dog", shown)
    kept = [int(p.stem.removeprefix("ckpt-")) for p in (tmp_path / "run").rglob("ckpt-*.index")]
    assert 20 <= max(kept) < 40  # a draw may have no record, and so nothing to read
    (tmp_path / "unplugged").rename(tmp_path / "scans")
    card = job.train(config)
    assert card.steps == 60
    # What was lost with the last batches stays spent.
    assert max(kept) < card.generator_updates <= 60
