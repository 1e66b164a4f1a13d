"""What a run needs: said and refused before a ledger is there, and nothing of d x d in it."""

import dataclasses
import json
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import tfdps
from conftest import ROOT
from tfdps import checks
from tfdps.accounting import round_shares
from tfdps.config import flags
from tfdps.data.dataset import DatasetSpec
from tfdps.generators import networks
from tfdps.learners.per_record import class_rounds, learner, rounds
from tfdps.learners.per_record.settings import RoundSettings
from tfdps.mechanisms.moments import Release
from tfdps.training import free_memory, job, needs, plan_lines

GB = 1e9
SETTINGS = {"num_atoms": 4, "latent_dim": 51, "grain": 1.0, "refiner": "none"}


def spec_of(side, channels=3, classes=10):
    return DatasetSpec("x", (side, side, channels), tuple(f"c{n}" for n in range(classes)))


def memory_of(side, num_records=2000, **settings):
    return needs.of_run(
        tfdps.RunConfig(**{**SETTINGS, **settings}), spec_of(side), num_records
    ).memory


def test_memory_grows_with_pixels_and_not_with_their_square():
    at_128, at_256, at_512 = (memory_of(side) for side in (128, 256, 512))
    assert at_128 < 4 * GB
    assert (at_512 - at_256) / (at_256 - at_128) < 4.5  # four times the pixels
    assert memory_of(128, num_atoms=64) > at_128
    assert memory_of(128, num_records=100_000) > at_128


def test_private_steps_of_the_refiner_take_what_a_chunk_of_views_takes():
    steps = {"refiner_steps": 8, "refiner_batch_size": 100, "refiner_noise_multiplier": 1.0}

    def added(views, images=None, width=32):
        shared = {"refiner": "mixed", "refiner_width": width}
        if images:
            shared |= {"person": "passed", "images_per_person": images}
        without = memory_of(32, **shared)
        return memory_of(32, **shared, **steps, refiner_views=views) - without

    # Measured on two cores, of 32x32 in colour: 0.43 GB.
    assert 0.4 * GB < added(2) < 0.9 * GB
    assert added(8) == added(2)  # fewer records at a time
    assert added(8, images=100) > 2 * GB  # one person is more views than that
    assert added(2, width=96) > 1.5 * added(2)


def test_as_many_waves_are_asked_for_as_memory_allows():
    found = [class_rounds.num_waves((side, side, 3)) for side in (8, 32, 128, 256, 1024)]
    assert found == [192, 800, 800, 341, 200]


def test_time_grows_with_records_and_pixels():
    def seconds(side, num_records):
        return needs.of_run(tfdps.RunConfig(**SETTINGS), spec_of(side), num_records).seconds

    assert seconds(32, 2000) < seconds(128, 2000) < 600
    assert seconds(128, 20_000) < 10 * seconds(128, 2000)


def test_a_run_that_cannot_fit_is_refused_with_the_number_and_what_would_fit():
    config = tfdps.RunConfig(**{**SETTINGS, "num_atoms": 64})
    with pytest.raises(checks.UsageError) as refused:
        needs.refuse_what_cannot_fit(config, spec_of(256), 500, available=8 * GB)
    message = str(refused.value)
    needed = float(re.search(r"needs about ([\d.]+) GB of memory", message)[1])
    assert needed == pytest.approx(needs.of_run(config, spec_of(256), 500).memory / GB, abs=0.1)
    assert "there are 8.0 GB: 500 records of 256x256x3, 10 classes of 64 atoms" in message
    size, atoms = (int(re.search(rf"--{n}=(\d+)", message)[1]) for n in ("image_size", "num_atoms"))
    needs.refuse_what_cannot_fit(config, spec_of(size), 500, available=8 * GB)
    fewer = dataclasses.replace(config, num_atoms=atoms)
    needs.refuse_what_cannot_fit(fewer, spec_of(256), 500, available=8 * GB)
    with pytest.raises(checks.UsageError, match=r"Take another machine, or a smaller --image_size"):
        needs.refuse_what_cannot_fit(config, spec_of(256), 500, available=GB / 2)


def test_a_generator_that_no_onnx_file_holds_is_refused():
    config = tfdps.RunConfig(**{**SETTINGS, "num_atoms": 1000})
    with pytest.raises(checks.UsageError, match="an ONNX file holds 2.1 GB at most"):
        needs.refuse_what_cannot_fit(config, spec_of(256), 5000, available=1e15)


def test_other_mechanisms_are_not_estimated():
    config = tfdps.RunConfig(mechanism="joint")
    assert needs.of_run(config, spec_of(64), 1000) is None
    needs.refuse_what_cannot_fit(config, spec_of(64), 1000, available=1)


def test_the_plan_says_what_is_needed():
    line = plan_lines.of_needs(needs.Needs(2.34e9, 100))
    assert line == "Needs: about 2.3 GB of memory, and 2 min on this machine's cores."
    assert "2.0 hours" in plan_lines.of_needs(needs.Needs(1e9, 7200))


def test_refusal_comes_before_a_file_of_the_run_is_there(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(free_memory, "of_process", lambda: 5e8)
    config = tfdps.RunConfig(dataset="digits", model_dir=str(tmp_path / "run"))
    with pytest.raises(checks.UsageError, match="this run needs about"):
        job.train(config)
    assert not list(tmp_path.glob("run/*"))


def test_free_memory_is_what_linux_and_the_container_leave(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:  4000 kB\n")
    (tmp_path / "self" / "status").write_text("Name: x\nVmRSS:\t  500 kB\n")
    of = lambda: free_memory.of_process(tmp_path, tmp_path)  # noqa: E731
    assert of() == 4500 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert of() == 4500 * 1024
    (tmp_path / "memory.max").write_text("1001000\n")
    assert of() == 500 * 1024 + 1_000_000
    assert free_memory.of_process(tmp_path / "none") is None


def test_no_round_and_no_generator_has_an_array_of_pixels_by_pixels(monkeypatch):
    """48 x 48 in colour: 191 MB in float32, were there such a matrix."""
    monkeypatch.setattr(class_rounds, "MOST_WAVES", 200)  # for speed
    shape, num_atoms, rank = (48, 48, 3), 2, 10
    pixels = int(np.prod(shape))
    settings = RoundSettings(
        image_shape=shape,
        num_classes=2,
        class_size=50.0,
        rank=rank,
        clip_norm=1.0,
        regularization=1.0,
    )
    rng, model = np.random.default_rng(0), None
    tracemalloc.start()
    try:
        for entry in round_shares.of(num_atoms):
            asked = rounds.make(entry, settings)
            query, expected = asked.query(model, rng)
            size = sum(int(np.prod(of_channel)) for _, of_channel in query.channels.values())
            noise = 0.01 * query.scales.clip_norm * rng.normal(size=size)
            model = asked.update(model, query, expected, Release(noise, query, 0.01).moments())
        generator = networks.build(
            "mixture", image_shape=shape, num_classes=2, latent_dim=1 + rank, num_atoms=num_atoms
        )
        finish = learner.Finish(grain=1.0, warp=0.0, mirror=False)
        learner.set_generator(generator, model, finish=finish)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * pixels**2


def measured_run(tmp_path, count, side, classes=2, **flags):
    """A run on made-up colour images in a process of its own: (peak bytes, its card)."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        folder = tmp_path / "images" / f"class{number % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((side, side)).save(folder / f"{number}.png")
    command = [sys.executable, "-m", "tfdps.launch", f"--dataset=folder:{tmp_path / 'images'}"]
    command += [f"--image_size={side}", f"--model_dir={tmp_path / 'run'}", "--noreport"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    program = (
        "import resource, subprocess, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30,) * 2)\n"
        "rc = subprocess.run(sys.argv[1:]).returncode\n"
        "print('PEAK', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(rc)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    card = json.loads((tmp_path / "run" / "export" / "model_card.json").read_text())
    return 1024 * int(re.search(r"PEAK (\d+)", done.stdout)[1]), card


@pytest.mark.slow
def test_large_colour_images_train_in_four_gigabytes(tmp_path):
    count, side = 60, 256
    peak, card = measured_run(tmp_path, count, side)
    assert card["generator"]["image_shape"] == [side, side, 3]
    assert peak < 4 * GB
    config = flags.recorded(card["training"]["flags"])
    expected = needs.of_run(config, spec_of(side, classes=2), count).memory
    assert peak < 1.1 * expected
    assert expected < 2 * peak
