"""Trains stacks of generators on a GPU and writes how good their images are after how many steps.

    python experiment.py PLAN.json DATA.xz OUT_FOLDER

A plan is {"seconds": most in all, "stacks": [...]}, and a stack is

    {"name": ..., "shapes": fields of training.Shapes, "runs": [fields of training.Settings, ...],
     "steps": of the whole run, "checkpoints": [...], "chunk": steps a call, "all": false,
     "full": false}

where `all` trains on all records (default: a tenth is held out) and `full` ends with the three
classifiers on 60,000 images each. OUT_FOLDER gets results.jsonl, a line for every checkpoint of a run,
a grid of samples for every stack, and best.npz, the averaged weights of the best runs.
"""

import concurrent.futures
import functools
import json
import pathlib
import sys
import time

import classifiers
import data
import generator
import jax
import jax.numpy as jnp
import numpy as np
import training

GROUP = 8  # runs that are evaluated at once
_KEPT = 3  # best runs whose weights are written
_START = time.monotonic()


def main(plan_path, data_path, folder):
    """Runs the plan."""
    jax.config.update("jax_default_prng_impl", "rbg")
    plan, folder = json.loads(pathlib.Path(plan_path).read_text()), pathlib.Path(folder)
    images = data.load(data_path)
    stacks = [_Stack(number, stack, images) for number, stack in enumerate(plan["stacks"])]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        warm = pool.submit(_compile_evaluation, images)
        compiled = [pool.submit(stack.compile) for stack in stacks]
        best = []
        for stack, ready in zip(stacks, compiled, strict=True):
            ready.result()
            stack.train(folder, best, plan["seconds"], warm)
    _say("done")


class _Stack:
    """A stack of runs, compiled once."""

    def __init__(self, number, stack, images):
        self.stack, self.images = stack, images
        self.shapes = training.Shapes(
            **{**stack.get("shapes", {}), "widths": tuple(stack.get("widths", (256, 128, 64)))}
        )
        self.runs = [
            {k: v for k, v in run.items() if k in training.Settings._fields}
            for run in stack["runs"]
        ]
        self.settings = training.Settings(
            *(
                jnp.asarray(
                    [getattr(training.Settings(**run), f) for run in self.runs], jnp.float32
                )
                for f in training.Settings._fields
            )
        )
        self.key = jax.random.key(number + 1000 * stack.get("seed", 0))
        start = jax.vmap(lambda k: training.initial_state(k, self.shapes))
        states = start(jax.random.split(self.key, len(self.runs)))
        self.states = jax.tree.map(jnp.copy, states)  # they are donated: no two may share memory
        self.private = images.train if stack.get("all") else images.chosen
        self.chunk = stack.get("chunk", 500)

    def compile(self):
        begin = time.monotonic()
        self.step = training.train.lower(
            *self._arguments(0), steps=self.chunk, shapes=self.shapes
        ).compile()
        _say(f"{self.stack['name']}: compiled in {time.monotonic() - begin:.1f} s")

    def _arguments(self, start):
        end = jnp.float32(self.stack["steps"])
        return self.states, self.settings, self.key, *self.private, jnp.int32(start), end

    def train(self, folder, best, seconds, warm):
        spent, checkpoints = 0.0, set(self.stack["checkpoints"]) | {self.stack["steps"]}
        for start in range(0, self.stack["steps"], self.chunk):
            begin = time.monotonic()
            self.states = self.step(*self._arguments(start))
            jax.block_until_ready(self.states.taken)
            spent += time.monotonic() - begin
            late = time.monotonic() - _START > seconds
            if start + self.chunk in checkpoints or late:
                warm.result()
                last = start + self.chunk >= self.stack["steps"] or late
                self.measure(folder, best, start + self.chunk, spent, last)
            if late:
                _say("out of time")
                break

    def measure(self, folder, best, steps, spent, last):
        begin, results = time.monotonic(), []
        full = last and self.stack.get("full", False)
        for first in range(0, len(self.runs), GROUP):
            wanted = np.minimum(np.arange(first, first + GROUP), len(self.runs) - 1)
            weights = jax.tree.map(lambda w, wanted=wanted: w[wanted], self.states.average)
            found = evaluated(weights, self.images, self.shapes, full=full)
            results += [{n: float(v[i]) for n, v in found.items()} for i in range(GROUP)]
        for number, (run, result) in enumerate(zip(self.stack["runs"], results, strict=False)):
            line = {
                "stack": self.stack["name"], "run": number, **run, "steps": steps,
                "total": self.stack["steps"], **{n: round(100 * v, 2) for n, v in result.items()},
                "stack_s": round(spent, 1),
            }  # fmt: skip
            with (folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            if last and run.get("noise_multiplier", 1):
                weights = jax.tree.map(lambda w, i=number: np.asarray(w[i]), self.states.average)
                _keep(folder, best, result["heldout"], f"{self.stack['name']}/{number}", weights)
        shown = " ".join(f"{100 * r['heldout']:.1f}" for r in results[: len(self.runs)])
        rate = len(self.runs) * steps / spent
        took = time.monotonic() - begin
        _say(f"{self.stack['name']} {steps}: {shown}  ({rate:.0f} run-steps/s, {took:.1f} s)")
        if last:
            _draw(folder / f"{self.stack['name']}.png", self.states.average, self.shapes)


def evaluated(weights, images, shapes, *, full):
    """Returns {"heldout": accuracies [GROUP], "test": ..., and of each classifier if `full`}."""
    key, found = jax.random.key(7), {}
    recipes = classifiers.FULL if full else [classifiers.QUICK]
    count = 60_000 if full else 10_000
    generated, labels = sampled(weights, key, shapes, count)
    for recipe in recipes:
        fitted = classifiers.trained(key, generated, labels, recipe=recipe)
        for name, (real, truth) in (("heldout", images.heldout), ("test", images.test)):
            value = classifiers.accuracies(fitted, real, truth, name=recipe.name)
            found[f"{recipe.name}_{name}" if full else name] = value
    if full:
        found |= {name: found[f"cnn_{name}"] for name in ("heldout", "test")}
    return {name: np.asarray(value) for name, value in found.items()}


def sampled(weights, key, shapes, count):
    """Returns (images uint8 [K, count, 784], labels): with statistics of one batch of 2,000."""
    return _sampled(weights, key, shapes.latent_dim, count)


@jax.jit
def _statistics(weights, z, labels):
    return jax.vmap(lambda w: generator.images(w, z, labels)[1])(weights)


def _sampled(weights, key, latent_dim, count):
    labels = jnp.arange(2000) % 10
    statistics = _statistics(weights, jax.random.uniform(key, (2000, latent_dim)), labels)
    parts = [
        _drawn(weights, statistics, jax.random.fold_in(key, i), labels, latent_dim)
        for i in range(count // 2000)
    ]
    return jnp.concatenate(parts, axis=1), jnp.tile(labels, count // 2000)


@functools.partial(jax.jit, static_argnums=4)
def _drawn(weights, statistics, key, labels, latent_dim):
    z = jax.random.uniform(key, (2000, latent_dim))

    def images(weights, statistics):
        return generator.images(weights, z, labels, statistics=statistics)[0]

    pixels = jax.vmap(images)(weights, statistics).reshape(-1, 2000, 784)
    return jnp.clip(jnp.round((pixels + 1) * 127.5), 0, 255).astype(jnp.uint8)


def _compile_evaluation(images):
    shapes = training.Shapes()
    state = training.initial_state(jax.random.key(0), shapes)
    stack = jax.tree.map(lambda w: jnp.stack([w] * GROUP), state.weights)
    begin = time.monotonic()
    evaluated(stack, images, shapes, full=False)
    _say(f"evaluation: first in {time.monotonic() - begin:.1f} s")


def _draw(path, weights, shapes):
    """Ten images of each class, a row, for every run; runs from left to right."""
    from PIL import Image

    pixels, _ = sampled(weights, jax.random.key(1), shapes, 2000)
    grid = np.asarray(pixels[:, :80]).reshape(-1, 8, 10, 28, 28).transpose(2, 3, 0, 1, 4)
    Image.fromarray(grid.reshape(280, -1)).save(path)


def _keep(folder, best, score, name, weights):
    best.append((score, name, weights))
    best.sort(key=lambda item: -item[0])
    del best[_KEPT:]
    if any(kept == name for _, kept, _ in best):
        arrays = {f"{n}/{k}": v for _, n, w in best for k, v in w.items()}
        np.savez(folder / "best.npz", **{k.replace("/", "__"): v for k, v in arrays.items()})


def _say(text):
    print(f"{time.monotonic() - _START:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
