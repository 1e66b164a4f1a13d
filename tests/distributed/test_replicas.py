"""Several replicas: two devices of a process, and two or three processes; against one device."""

import dataclasses
import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import workers
from PIL import Image
from replica_job import CLIP_NORM, RELEASES, SHAPE, SIGMA, gradient_mechanism, query

from conftest import small_config
from tfdps import checks, console
from tfdps.accounting import ledger, plan, statement
from tfdps.config import flags
from tfdps.config.run_config import RunConfig
from tfdps.data import loading
from tfdps.distributed import cluster, replicas
from tfdps.mechanisms import gradient_grid, lattice
from tfdps.mechanisms.joint import JointMechanism
from tfdps.mechanisms.per_record import PerRecordMechanism
from tfdps.training import builders, job, run_dir

PLACES = [0, 3]  # workers; 0: two devices of one process
SIGMAS = 5
HAS_TF_PRIVACY = importlib.util.find_spec("tensorflow_privacy") is not None
MAKERS = ("tf_privacy", "keras_privacy")
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


def spacings():
    """Of each element of the per-record releases."""
    return lattice.spacing_of_elements(query())


@pytest.fixture(scope="module", params=PLACES)
def released(request, tmp_path_factory):
    """(number of replicas, {mechanism: what every worker has of the same releases})."""
    folder, num_workers = tmp_path_factory.mktemp("releases"), request.param
    workers.job("releases", folder, num_workers=num_workers)
    STARTS.append(np.load(folder / "per_record" / "0.npy"))
    return num_workers or 2, {
        name: [np.load(folder / name / f"{worker}.npy") for worker in range(max(1, num_workers))]
        for name in (
            *("joint", "joint_noise", "per_record", "integers"),
            *("gradients", "gradient_integers"),
            *(MAKERS if HAS_TF_PRIVACY else ()),
        )
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
def test_each_replica_of_joint_adds_its_own_noise_once(released):
    """To the last bit: what is released is one clipped gradient, and noise that no other has."""
    [releases, *_], [noise, *_] = released[1]["joint"], released[1]["joint_noise"]
    mechanism = JointMechanism(clip_norm=CLIP_NORM, noise_multiplier=SIGMA)
    gradient = tf.ones(SHAPE)
    clipped = mechanism.release(gradient, tf.zeros(SHAPE, tf.int64)).numpy().ravel()
    bare = np.rint(clipped / mechanism.spacing).astype(np.int64)
    expected = ((bare + noise) * mechanism.spacing).astype(np.float32)
    np.testing.assert_array_equal(releases, expected)
    for replica in range(released[0]):
        for other in range(replica):
            same = np.mean(noise[replica] == noise[other])
            assert same < 1e-3  # of 2^22 integers


@pytest.mark.slow
def test_per_record_sums_are_those_of_one_device_to_the_last_bit(released):
    """In parts and on replicas: the same integers, and noise is added once."""
    digits = loading.load("digits")
    everything = (digits.images, digits.labels, np.ones(len(digits), np.float32))
    total = PerRecordMechanism()._contributions(everything, query()).numpy()
    check_integers(released[1]["integers"], total)


@pytest.mark.slow
def test_per_record_releases_the_sum_over_all_replicas_with_one_noise(released):
    releases, *others = released[1]["per_record"]
    digits = loading.load("digits")
    everything = (digits.images, digits.labels, np.ones(len(digits), np.float32))
    total = PerRecordMechanism()._contributions(everything, query()).numpy() * spacings()
    check_noise(releases.astype(np.float64) - total, 3.0 * SIGMA)
    for of_worker in others:
        np.testing.assert_array_equal(of_worker, releases)


@pytest.mark.slow
def test_sums_of_gradients_are_those_of_one_device_to_the_last_bit(released):
    """In parts and on replicas: the same integers, and noise is added once."""
    check_integers(released[1]["gradient_integers"], sum_of_gradients())


@pytest.mark.slow
def test_a_sum_of_gradients_over_all_replicas_has_one_noise(released):
    """As much as on one device: noise of every replica would be sqrt(2) or sqrt(3) of it."""
    releases, *others = released[1]["gradients"]
    check_noise(releases.astype(np.float64) - sum_of_gradients() / gradient_grid.STEPS, SIGMA)
    for of_worker in others:
        np.testing.assert_array_equal(of_worker, releases)


def check_integers(of_workers, total):
    """Without noise a worker has the total; with noise that is the element's number, that beside it."""
    integers, *others = of_workers
    np.testing.assert_array_equal(integers[0], total)
    np.testing.assert_array_equal(integers[1] - integers[0], np.arange(len(total)))
    for of_worker in others:
        np.testing.assert_array_equal(of_worker, integers)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TF_PRIVACY, reason="tensorflow-privacy cannot be installed")
def test_replicas_release_and_update_alike_by_both_makers(released):
    """Each replica has its gradient and its noise."""
    for theirs, ours in zip(*(released[1][name] for name in MAKERS), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert len(np.unique(ours, axis=0)) == len(ours)  # of 5 steps, all differ


def sum_of_gradients():
    """Of all digits, on one device: the integers that noise is added to."""
    digits = loading.load("digits")
    everything = (digits.images, digits.labels, np.ones(len(digits), np.float32))
    return gradient_mechanism()._sum(everything).numpy()


@pytest.mark.slow
def test_every_start_has_noise_of_its_own(released):
    """The same releases of the processes that were started so far, with the same sums in them."""
    for number, releases in enumerate(STARTS):
        for earlier in STARTS[:number]:
            difference = releases.astype(np.float64) - earlier
            assert abs(difference.std() / (np.sqrt(2) * 3.0 * SIGMA) - 1) < 0.02


def on_one_device(config):
    """(charges, the card's `privacy`) of a run of a RunConfig on the digits, on one device."""
    digits = loading.load("digits")
    planned = plan.make_plan(config, len(digits), num_classes=10)
    mechanism = builders.build_model(config, digits.spec, planned).mechanism
    charges = planned.charges(0, planned.steps)
    return charges, statement.privacy_statement(planned, charges, mechanism, digits.spec)


@pytest.mark.slow
@pytest.mark.parametrize(("mechanism", "num_workers"), [("joint", 0), ("per_record", 2)])
def test_a_run_costs_what_it_costs_on_one_device_and_ends_alike_everywhere(
    tmp_path, mechanism, num_workers
):
    arguments = {"joint": JOINT, "per_record": ["--num_atoms=1"]}[mechanism]
    charges, privacy = on_one_device(flags.parse(["tfdps", *arguments])[1])
    if mechanism == "joint":
        arguments = [*arguments, "--generator=dcgan"]  # with statistics of its own
    said = workers.job("train", tmp_path, *arguments, num_workers=num_workers)
    card = json.loads((tmp_path / "run" / "export" / "model_card.json").read_text())
    for name in ("epsilon", "epsilon_rdp", "epsilon_pld", "sensitivity", "steps", "events"):
        assert card["privacy"][name] == privacy[name], name
    assert ledger.read_charges(tmp_path / "run" / "ledger.jsonl") == charges
    hashes = {re.search(r"^weights (\w+)", text, re.M)[1] for text in said}
    assert len(hashes) == 1
    assert f"On {num_workers or 2} replicas." in said[0]
    for text in said[1:]:
        assert "Spent" not in text  # of several workers the chief alone speaks
    if mechanism == "joint":
        check_that_it_goes_on_with_one_device(tmp_path / "run")


def check_that_it_goes_on_with_one_device(model_dir):
    config = small_config(model_dir, num_steps=24, batch_size=12, generator="dcgan")
    shutil.rmtree(model_dir / "export")
    said = []
    with console.lines_to(said.append):
        card = job.train(config)
    assert "Changed: strategy" in said[0]
    assert card.generator_updates == 24


@pytest.mark.slow
def test_a_denoiser_learns_from_records_on_two_devices(tmp_path):
    """Its variables lie on one of them, and compiled code of the other must not ask for those."""
    refiner = ["--refiner=strokes", "--refiner_width=8", "--refiner_pretraining=0"]
    steps = ["--refiner_steps=2", "--refiner_batch_size=200", "--refiner_noise_multiplier=1.5"]
    common = ["--num_atoms=1", "--accountant=rdp", "--refiner_levels=1"]
    [said] = workers.job("denoiser", tmp_path, *common, *refiner, *steps)
    assert said.count("sums are alike True") == 2  # of two devices, and of one
    of_replicas = [int(count) for count in re.findall(r"^of a replica (\d+)$", said, re.M)]
    assert len(of_replicas) == 4
    assert min(of_replicas) > 1000  # of no record all are 0
    charges = ledger.read_charges(tmp_path / "run" / "ledger.jsonl")
    assert sum(charge.steps for charge in charges) == 5
    assert (charges[-1].steps, charges[-1].noise_multiplier) == (2, 1.5)


def images_of_a_worker(folder, colour=False, classes=("a", "b")):
    """Five images in each of two classes; all are grey but for one where there is colour."""
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(5):
            mode = "RGB" if colour and i == 4 else "L"
            Image.new(mode, (4, 4), i if mode == "L" else (9, i, i)).save(
                folder / name / f"{i}.png"
            )


@pytest.mark.slow
def test_data_that_one_worker_refuses_are_refused_by_all_and_nothing_is_written(tmp_path):
    images_of_a_worker(tmp_path / "0" / "images")
    images_of_a_worker(tmp_path / "1" / "images", colour=True)
    chief, other = workers.job("other_data", tmp_path, num_workers=2)
    assert "refused: the data are refused on another worker" in chief
    assert "refused: channels must be declared" in other
    shutil.rmtree(tmp_path / "1" / "images")
    images_of_a_worker(tmp_path / "1" / "images")
    loaded = loading.load(f"folder:{tmp_path / '0' / 'images'}", image_size=4)
    run = run_dir.RunDir(str(tmp_path / "run"))
    assert not list(run.root.iterdir())
    config = RunConfig(dataset=f"folder:{tmp_path / '0' / 'images'}", latent_dim=5, image_size=4)
    run.write(config, dataclasses.replace(loaded.spec, class_names=("a", "z")), loaded.size)
    ledger.open_ledger(run.ledger, plan.make_plan(config, loaded.size, num_classes=2)).close()
    before = {path: path.read_bytes() for path in run.root.iterdir()}
    for said in workers.job("other_data", tmp_path, num_workers=2):
        assert "are not the run's: received b, a; the run at" in said
    assert {path: path.read_bytes() for path in run.root.iterdir()} == before


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
        on = replicas.of_config(small_config(tmp_path / "run", strategy=strategy))
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
        job.train(small_config(tmp_path / "run", strategy="multiworker"))
    with pytest.raises(checks.UsageError, match="no TPU at --tpu=nowhere"):
        job.train(small_config(tmp_path / "run", strategy="tpu", tpu="nowhere"))
    with pytest.raises(checks.UsageError, match="--tpu=x needs --strategy=tpu"):
        small_config(tmp_path / "run", tpu="x")
    assert not (tmp_path / "run").exists()
