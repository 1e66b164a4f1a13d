"""Drawing images from an export: by SavedModel, ONNX Runtime and a browser; latency, speed, memory.

    python benchmarks/sampling.py saved_models/mnist_eps1 saved_models/cifar10_eps10

Each backend is a process of its own, which tells how long it took from its start to the first image,
the median time of a batch of 1, 64 and 1024 images, and how much memory it had at most. The browser
(headless Chromium, if there is one) runs the page of --mode=demo with one thread; its start is from
the request for the page to the first image, its memory that of the tab's process. Prints rows of a
table in Markdown; benchmarks/sampling.md has what was measured.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
BATCHES = (1, 64, 1024)
SECONDS = 3.0  # of repetitions of a batch
BACKENDS = {"onnx": "ONNX Runtime", "saved_model": "SavedModel, TensorFlow", "browser": "browser"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("exports", nargs="+")
    parser.add_argument("--backends", default="onnx,saved_model,browser")
    parser.add_argument("--measure", choices=BACKENDS, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure:
        print(json.dumps(MEASURES[settings.measure](settings.exports[0])))
        return
    columns = (
        "first image, s",
        *(f"{n}, ms" for n in BATCHES),
        f"images/s at {BATCHES[-1]}",
        "MiB",
    )
    print("| export | by | " + " | ".join(columns) + " |")
    print("|---|---" + "|---" * len(columns) + "|", flush=True)
    for export in settings.exports:
        for backend in settings.backends.split(","):
            found = json.loads(
                subprocess.run(
                    [sys.executable, __file__, export, f"--measure={backend}"],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.splitlines()[-1]
            )
            times = [found["ms"][str(size)] for size in BATCHES]
            cells = [
                pathlib.Path(export).name,
                BACKENDS[backend],
                f"{found['first']:.2f}",
                *(f"{ms:.3g}" for ms in times),
                f"{1000 * BATCHES[-1] / times[-1]:,.0f}",
                f"{found['mib']:.0f}",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


def of_python(load):
    """What a sampler of this process does."""
    started = process_start()
    sampler = load()
    sampler.decode(*batch(sampler, 1))
    found = {"first": time.time() - started, "ms": {}}
    for size in BATCHES:
        z, labels = batch(sampler, size)
        # As a server answers them: the whole batch at once, not the sampler's chunks.
        work = lambda: sampler._decode_chunk(z, labels)  # noqa: B023, E731
        found["ms"][size] = median_ms(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"mib": peak / 1024}


def onnx(export):
    def load():
        from tfdps.samplers import onnx_sampler

        return onnx_sampler.load(export)

    return of_python(load)


def saved_model(export):
    def load():
        from tfdps.distributed import startup

        startup.load_tensorflow()
        from tfdps.samplers import saved_model_sampler

        return saved_model_sampler.load(export)

    return of_python(load)


def browser(export):
    sys.path.insert(0, str(ROOT / "tests"))
    import browsers

    from tfdps.serving import demo

    script = """async ([sizes, seconds]) => {
      const ort = await import("./ort/ort.wasm.bundle.min.mjs");
      const { generator } = await (await fetch("model_card.json")).json();
      const session = await ort.InferenceSession.create("generator.onnx");
      const latent = generator.latent_dim, found = {};
      for (const size of sizes) {
        const z = () => Float32Array.from({ length: size * latent }, Math.random);
        const labels = Int32Array.from({ length: size }, (_, i) => i % generator.num_classes);
        const run = () => session.run({
          z: new ort.Tensor("float32", z(), [size, latent]),
          labels: new ort.Tensor("int32", labels, [size]) });
        await run();
        const times = [], end = performance.now() + 1000 * seconds;
        while (performance.now() < end || times.length < 3) {
          const start = performance.now();
          await run();
          times.push(performance.now() - start);
        }
        found[size] = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
      }
      return found; }"""
    with demo.serving(export, port=0) as url, browsers.chromium() as chromium:
        page = chromium.new_page()
        started = time.time()
        page.goto(url)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        first = time.time() - started
        found = page.evaluate(script, [BATCHES, SECONDS])
        return {"first": first, "ms": found, "mib": tab_mib()}


def tab_mib():
    """Peak memory of the largest process that shows a page."""
    peaks = [0]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if "--type=renderer" in (process / "cmdline").read_text():
                status = (process / "status").read_text()
                peaks.append(int(status.split("VmHWM:")[1].split()[0]))
        except OSError:  # has ended
            continue
    return max(peaks) / 1024


def batch(sampler, size):
    z = np.random.default_rng(size).random((size, sampler.latent_dim), np.float32)
    return z, np.arange(size, dtype=np.int32) % len(sampler.class_names)


def median_ms(work):
    work()
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def process_start():
    """When this process began, in seconds since the epoch, from /proc."""
    ticks = int(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    uptime = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    return time.time() - (uptime - ticks / 100)


MEASURES = {"onnx": onnx, "saved_model": saved_model, "browser": browser}


if __name__ == "__main__":
    main()
