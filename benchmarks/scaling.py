"""Weak scaling on this machine's cores, and a model of the communication for more replicas.

    python benchmarks/scaling.py --json=scaling.json

Every replica has one core and the same share of work: 25 images and 25 records a step of the joint
mechanism (MNIST's shape, dcgan), 40,000 records of the per-record mechanism (32 atoms a class). What is
measured: one replica; two devices of one process; two processes, which send their sums through
loopback; and how long an all-reduce between those takes by the size of what is sent.

What is a model: 8 and 256 replicas. The time of a step is that of one replica, plus a ring all-reduce
of S bytes, 2 (R - 1) / R * S / bandwidth + 2 (R - 1) * latency; what reduces in trees waits less. Links
and the speed of an accelerator are assumptions, printed beside the result. Nothing of it was run on
such machines.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

IMAGES, RECORDS, ATOMS = 25, 40_000, 32  # of a replica
REPEATS = 7
SIZES = (10**3, 10**5, 10**6, 4 * 10**6, 16 * 10**6)
LINKS = {  # bytes a second, seconds a message
    "10 Gbit/s Ethernet": (1.1e9, 30e-6),
    "100 Gbit/s network": (11e9, 10e-6),
    "NVLink": (200e9, 5e-6),
}
ACCELERATOR = 100  # times as fast as one of these cores: assumed
WORK = (1, 32)  # times the images and records of a replica here
FOLDER = pathlib.Path(__file__).parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.job:
        print("RESULT", json.dumps(measured(settings.job)))
        return
    one = run("one")
    places = {"1 replica": one, "2 devices": run("mirrored"), "2 processes": run("multiworker")}
    print(
        f"{'':14} {'joint, ms a step':>17} {'efficiency':>11} {'round, ms':>11} {'efficiency':>11}"
    )
    for name, result in places.items():
        joint, rounds = result["step_ms"], result["round_ms"]
        print(
            f"{name:14} {joint:17.1f} {one['step_ms'] / joint:11.2f} {rounds:11.1f} "
            f"{one['round_ms'] / rounds:11.2f}"
        )
    link = fitted(places["2 processes"]["all_reduce_ms"])
    print(f"all-reduce of 2 processes: {link[0] / 1e9:.2f} GB/s, {1e6 * link[1]:.0f} us a message")
    sent = {"step_ms": one["step_bytes"], "round_ms": one["round_bytes"]}
    for name, size in sent.items():
        expected = one[name] + 1e3 * all_reduce(size, 2, link)
        print(f"{name[:-3]}: {size:,} bytes; the model says {expected:.1f} ms for 2 processes")
    table = predicted(one, sent)
    if settings.json:
        results = {"measured": places, "link": link, "model": table}
        pathlib.Path(settings.json).write_text(json.dumps(results, indent=1))


def run(strategy):
    """The result of a strategy's processes, each held to as many cores as it has replicas."""
    cores = ["0", "1"]
    tasks = [",".join(cores)] if strategy == "mirrored" else cores[: 1 + (strategy != "one")]
    hosts = [f"127.0.0.1:{free_port()}" for _ in tasks]
    processes = []
    for index, pinned in enumerate(tasks):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(FOLDER)}
        if strategy == "multiworker":
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": hosts}, "task": task})
        command = ["taskset", "-c", pinned, sys.executable, __file__, f"--job={strategy}"]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    outputs = [process.communicate() for process in processes]
    found = re.search(r"^RESULT (.*)$", outputs[0][0], re.M)
    if not found:
        sys.exit(outputs[0][1])
    return json.loads(found[1])


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def measured(strategy):
    """What a process of a strategy measures; all of them take part."""
    import tensorflow as tf

    from tfdps.config.run_config import RunConfig
    from tfdps.distributed import replicas

    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
    count = 1 if strategy == "one" else 2
    settings = {"mechanism": "joint", "batch_size": count * IMAGES, "generator": "dcgan"}
    config = RunConfig(model_dir="unused", strategy=strategy, noise_multiplier=1.0, **settings)
    on = replicas.of_config(config)
    return {
        **joint_step(config, on),
        **per_record_round(on),
        "all_reduce_ms": {size: all_reduce_ms(on, size) for size in SIZES} if count > 1 else {},
    }


def joint_step(config, on):
    """{"step_ms", "step_bytes"}: a step of the joint mechanism, and what a replica sends in it."""
    from tfdps.accounting.plan import make_plan
    from tfdps.training import builders

    dataset = clouds(on)
    model = builders.build_model(
        config,
        dataset.spec,
        make_plan(config, dataset.size, num_classes=dataset.spec.num_classes),
        on=on,
    )
    model.authorize(10**9)
    probability, noise = IMAGES * on.count / dataset.size, model.learner.noise
    elements = elements_of(dataset, probability, on, 10**4, truncated=True, noise=noise)
    model.steps_per_execution = 5
    step = model.make_train_function(force=True)
    step(elements)

    def once():
        return step(elements)["noisy_steps"].numpy()

    weights = model.generator.weights
    return {
        "step_ms": milliseconds(once) / 5,
        "step_bytes": 4 * sum(int(weight.shape.num_elements()) for weight in weights),
    }


def per_record_round(on):
    """{"round_ms", "round_bytes"}: the sums and the noise of a round of the per-record mechanism."""
    import numpy as np

    from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales
    from tfdps.mechanisms.per_record import PerRecordMechanism

    dataset, mechanism = clouds(on), PerRecordMechanism(on=on)
    random = np.random.default_rng(0)
    atoms = Atoms(random.uniform(-1, 1, (10, ATOMS, 784)), np.zeros((10, ATOMS)), 10.0)
    elements = elements_of(dataset, 1.0, on, REPEATS + 1, truncated=False)
    size = []

    def once():
        release = mechanism.release(
            [next(elements)], MomentQuery(atoms, Scales(10.0, 3.0)), noise_multiplier=1.0
        )
        size.append(8 * release.vector.size)

    once()
    return {"round_ms": milliseconds(once), "round_bytes": size[0]}


def clouds(on):
    """This worker's records: RECORDS of MNIST's shape a replica, noise."""
    import numpy as np

    from tfdps.data.dataset import Dataset, DatasetSpec

    random, count = np.random.default_rng(on.worker), RECORDS * on.local_count
    images = random.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    labels = (np.arange(count) // on.local_count % 10).astype(np.int32)
    spec = DatasetSpec("noise", (28, 28, 1), tuple("0123456789"))
    return Dataset(images, labels, spec, RECORDS * on.count)


def elements_of(dataset, probability, on, steps, *, truncated, noise=None):
    from tfdps.mechanisms import batches

    places = {"shards": on.local_count, "num_workers": on.num_workers}
    draws = batches.PoissonBatches(dataset, probability, truncated=truncated, noise=noise, **places)
    return iter(on.distribute(draws.dataset(steps)))


def all_reduce_ms(on, size):
    import tensorflow as tf

    def on_replica():
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.zeros([size // 4]))

    reduce = on.compiled(on_replica)
    on.first(reduce()).numpy()
    return milliseconds(lambda: on.first(reduce()).numpy())


def milliseconds(once):
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        once()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def fitted(times):
    """(bytes a second, seconds a message) of the two-replica ring that took these times."""
    import numpy as np

    sizes = np.array([float(size) for size in times])
    seconds = np.array(list(times.values())) / 1e3
    # R = 2: S / bandwidth + 2 latency; relative errors, so that small sizes count.
    terms = np.stack([sizes, np.full_like(sizes, 2)], axis=1) / seconds[:, None]
    (per_byte, latency), *_ = np.linalg.lstsq(terms, np.ones_like(sizes), rcond=None)
    return 1 / per_byte, max(latency, 0.0)


def all_reduce(size, count, link):
    bandwidth, latency = link
    return 2 * (count - 1) / count * size / bandwidth + 2 * (count - 1) * latency


def predicted(one, sent):
    """Prints and returns the model's efficiency of weak scaling, for assumed links and speed."""
    print(f"MODEL, not measured: replicas {ACCELERATOR} times as fast as a core here")
    table = []
    for name, link in LINKS.items():
        for count, work in itertools.product((8, 256), WORK):
            row = {"link": name, "replicas": count, "work": work}
            for part, size in sent.items():
                alone = work * one[part] / ACCELERATOR / 1e3
                row[part[:-3]] = alone / (alone + all_reduce(size, count, link))
            table.append(row)
            print(
                f"  {name:20} {count:4} replicas, {work:2} x the work: efficiency "
                f"{row['step']:.2f} of a joint step, {row['round']:.2f} of a round"
            )
    return table


if __name__ == "__main__":
    main()
