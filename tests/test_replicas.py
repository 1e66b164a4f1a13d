"""Several replicas: two devices of a process, two and three processes; against one device."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import workers
from replica_job import CLIP_NORM, RELEASES, SIGMA, question

from conftest import small_config
from tfdps import checks, cluster, data, ledger, noise_streams, replicas, train
from tfdps.mechanisms.per_record import PerRecordMechanism

PLACES = [0, 2, 3]  # workers; 0: two devices of one process
SIGMAS = 5
STARTS = []  # releases of one kind, of each start of a run
JOINT = ["--mechanism=joint", "--num_steps=24", "--batch_size=12", "--regularization=10"]


def check_noise(noise, stddev):
    """Mean 0, standard deviation as stated, independent over releases; 5 % more or less fails."""
    count = noise.size
    assert abs(noise.mean()) < SIGMAS * stddev / np.sqrt(count)
    tolerance = SIGMAS / np.sqrt(2 * count)
    assert tolerance < 0.02
    assert abs(noise.std() / stddev - 1) < tolerance
    between = np.corrcoef(noise.reshape(len(noise), -1))
    np.fill_diagonal(between, 0)
    assert np.abs(between).max() < (SIGMAS + 1) / np.sqrt(noise[0].size)


@pytest.fixture(scope="module", params=PLACES)
def released(request, tmp_path_factory):
    """(number of replicas, {mechanism: what every worker has of the same releases})."""
    folder, num_workers = tmp_path_factory.mktemp("releases"), request.param
    workers.job("releases", folder, num_workers=num_workers)
    STARTS.append(np.load(folder / "per_record" / "0.npy"))
    return num_workers or 2, {
        name: [np.load(folder / name / f"{worker}.npy") for worker in range(max(1, num_workers))]
        for name in ("joint", "per_record")
    }


@pytest.mark.slow
def test_each_replica_of_joint_releases_as_one_device_would(released):
    """Its own clip, mean; its own noise of 2 C sigma, independent of the others'."""
    replicas, (releases, *others) = released[0], released[1]["joint"]
    assert releases.shape == (replicas, RELEASES, 600)
    clipped = CLIP_NORM / np.sqrt(600)  # of a constant gradient, whatever it is
    noise = (releases - clipped).reshape(replicas * RELEASES, -1)
    check_noise(noise, 2 * CLIP_NORM * SIGMA)
    for of_worker in others:
        np.testing.assert_array_equal(of_worker, releases)


@pytest.mark.slow
def test_per_record_releases_the_sum_over_all_replicas_with_one_noise(released):
    releases, *others = released[1]["per_record"]
    digits = data.load("digits")
    everything = (digits.images, digits.labels, np.ones(len(digits), np.float32))
    total = PerRecordMechanism()._contributions(everything, *question()).numpy()
    check_noise(releases.astype(np.float64) - total, 3.0 * SIGMA)
    for of_worker in others:
        np.testing.assert_array_equal(of_worker, releases)


@pytest.mark.slow
def test_every_start_has_noise_of_its_own(released):
    """The same releases of the processes that were started so far, with the same sums in them."""
    for number, releases in enumerate(STARTS):
        for earlier in STARTS[:number]:
            difference = releases.astype(np.float64) - earlier
            assert abs(difference.std() / (np.sqrt(2) * 3.0 * SIGMA) - 1) < 0.02


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """{mechanism: model_dir} of runs on one device."""
    runs = {}
    for mechanism, settings in (
        ("joint", {"num_steps": 24, "batch_size": 12}),
        ("per_record", {"num_atoms": 1}),
    ):
        folder = tmp_path_factory.mktemp(mechanism) / "run"
        defaults = {"batch_size": None, "num_steps": None, "regularization": None}
        config = small_config(folder, **{**defaults, **settings, "mechanism": mechanism})
        train.train(config, say=lambda line: None)
        runs[mechanism] = folder
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", PLACES)
@pytest.mark.parametrize("mechanism", ["joint", "per_record"])
def test_a_run_costs_what_it_costs_on_one_device_and_ends_alike_everywhere(
    tmp_path, one_device, mechanism, num_workers
):
    flags = {"joint": JOINT, "per_record": ["--num_atoms=1"]}[mechanism]
    if mechanism == "joint" and num_workers < 3:
        flags = [*flags, "--generator=dcgan"]  # with statistics of its own
    said = workers.job("train", tmp_path, *flags, num_workers=num_workers)
    card = json.loads((tmp_path / "run" / "export" / "model_card.json").read_text())
    alone = json.loads((one_device[mechanism] / "export" / "model_card.json").read_text())
    for name in ("epsilon", "epsilon_rdp", "epsilon_pld", "sensitivity", "steps", "events"):
        assert card["privacy"][name] == alone["privacy"][name], name
    ours, theirs = (
        ledger.read_charges(folder / "ledger.jsonl")
        for folder in (tmp_path / "run", one_device[mechanism])
    )
    assert ours == theirs
    hashes = {re.search(r"^weights (\w+)", text, re.M)[1] for text in said}
    assert len(hashes) == 1
    assert f"On {num_workers or 2} replicas." in said[0]
    for text in said[1:]:
        assert "Spent" not in text  # of several workers the chief alone speaks


@pytest.mark.slow
def test_a_run_of_two_devices_goes_on_with_one(tmp_path):
    workers.job("train", tmp_path, *JOINT)
    config = small_config(tmp_path / "run", num_steps=24, batch_size=12)
    shutil.rmtree(tmp_path / "run" / "export")
    said = []
    card = train.train(config, say=said.append)
    assert "Changed: strategy" in said[0]
    assert card["training"]["generator_updates"] == 24


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_replicas_with_one_noise_are_caught_before_the_first_step(tmp_path, num_workers):
    said = workers.job("same_noise", tmp_path, num_workers=num_workers)
    for text in said:
        assert "refused: replicas 0 and 1 draw the same noise" in text
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


class _Fake:
    """Replicas and mechanism of streams that are given."""

    private = True

    def __init__(self, streams):
        self._streams, self.count = streams, len(streams)

    def compiled(self, function):
        return lambda: np.array(self._streams)

    def first(self, values):
        return _Numpy(values)


class _Numpy:
    def __init__(self, values):
        self.numpy = lambda: values


def test_streams_that_overlap_anywhere_are_caught():
    random = np.random.default_rng(0)
    stream = random.normal(size=40)
    for shift in (0, 1, 15):
        on = _Fake([random.normal(size=16), stream[:16], stream[shift : shift + 16]])
        with pytest.raises(checks.UsageError, match="replicas 1 and 2 draw the same noise"):
            noise_streams.check(on, on)
    on = _Fake([stream[:16], stream[16:32]])
    noise_streams.check(on, on)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "needs TF_CONFIG in the environment"),
        ("{", "TF_CONFIG must be like"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must be like"),
        (
            '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
            "ps",
        ),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "index 1"),
        (
            '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 1}}',
            "twice",
        ),
    ],
)
def test_a_wrong_tf_config_is_refused_and_says_what_is_right(text, message):
    with pytest.raises(checks.UsageError, match=message):
        cluster.read({"TF_CONFIG": text} if text else {})


def test_the_chief_of_tf_config_is_worker_0():
    jobs = '"cluster": {"chief": ["c:1"], "worker": ["a:1", "b:1"]}'
    task = cluster.read({"TF_CONFIG": f'{{{jobs}, "task": {{"type": "worker", "index": 1}}}}'})
    assert task == (2, ("c:1", "a:1", "b:1"))
    chief = cluster.read({"TF_CONFIG": f'{{{jobs}, "task": {{"type": "chief", "index": 0}}}}'})
    assert (chief.index, chief.num_workers) == (0, 3)


def test_one_device_or_one_worker_needs_no_strategy(tmp_path, monkeypatch):
    alone = {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(alone))
    for strategy in ("one", "mirrored", "multiworker"):
        on = replicas.of(small_config(tmp_path / "run", strategy=strategy), say=print)
        assert (on.count, on.local_count, on.num_workers, on.is_chief) == (1, 1, 1, True)
        assert on.broadcast(b"as it is") == b"as it is"
        assert on.strategy is tf.distribute.get_strategy()


def test_a_batch_that_replicas_cannot_share_is_refused(tmp_path):
    config = small_config(tmp_path / "run", batch_size=50)
    with pytest.raises(checks.UsageError, match="multiple of the 8 replicas, .* received 50"):
        replicas._check_share(config, 8)
    replicas._check_share(config, 5)


def test_strategies_that_cannot_be_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(checks.UsageError, match="needs TF_CONFIG"):
        train.train(small_config(tmp_path / "run", strategy="multiworker"))
    with pytest.raises(checks.UsageError, match="no TPU at --tpu=nowhere"):
        train.train(small_config(tmp_path / "run", strategy="tpu", tpu="nowhere"))
    with pytest.raises(checks.UsageError, match="--tpu=x needs --strategy=tpu"):
        small_config(tmp_path / "run", tpu="x")
    assert not (tmp_path / "run").exists()
