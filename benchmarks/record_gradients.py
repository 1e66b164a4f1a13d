"""How fast the refiner's per-record gradients are, against other ways to get them.

    python benchmarks/record_gradients.py --image_shape=28,28,1 --width=32 --rows=64

Prints milliseconds a record, medians in random turns, and each way's time over ours:

  noted layers    what the package does: one backward pass to the layers' outputs, a product a record
  vectorized map  tf.vectorized_map of a gradient tape over records, as tensorflow-privacy does
  one by one      a compiled gradient of one record, called for each
  ghost norms     two passes: norms from the layers' inputs and outputs (Li et al., ICLR 2022), then the
                  gradient of the loss with each record weighted by its clip. No record's gradient is
                  there to be rounded to a public grid, so its sums are not exact: here for speed alone
  one batch       the gradient of the mean loss, which no clip can use: what there is to reach
"""

import argparse
import statistics
import time

import numpy as np
import tensorflow as tf

from tfdps.generators import noted_layers
from tfdps.generators.denoiser import Denoiser


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image_shape", default="28,28,1")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--turns", type=int, default=7)
    settings = parser.parse_args()
    shape = tuple(map(int, settings.image_shape.split(",")))
    denoiser = Denoiser(shape, num_classes=10, width=settings.width)
    random = np.random.default_rng(0)
    batch = (
        random.uniform(-1, 1, (settings.rows, *shape)).astype(np.float32),
        random.normal(size=(settings.rows, *shape)).astype(np.float32),
        random.uniform(0.05, 1, settings.rows).astype(np.float32),
        random.integers(0, 10, settings.rows).astype(np.int32),
    )
    batch = tuple(map(tf.constant, batch))
    ways = ways_of(denoiser, settings.rows)
    took = {name: [] for name in ways}
    for way in ways.values():
        way(*batch)  # compiled
    for _ in range(settings.turns):
        for name in random.permutation(list(ways)):
            start = time.perf_counter()
            tf.nest.map_structure(lambda tensor: tensor.numpy(), ways[name](*batch))
            took[name].append(1e3 * (time.perf_counter() - start) / settings.rows)
    medians = {name: statistics.median(times) for name, times in took.items()}
    for name, median in medians.items():
        print(f"{name:<16} {median:8.3f} ms a record   {median / medians['noted layers']:6.2f}")


def ways_of(denoiser, rows):
    """{name: function of a batch}: of the ways that the module's text names."""
    weights = [weight.value for weight in denoiser.weights]

    def one(image, noise, level, label):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            batch = (image[None], noise[None], level[None], label[None])
            loss = tf.reduce_sum(denoiser.loss(*batch))
        return tape.gradient(loss, weights)

    def weighted(batch, factors):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_sum(factors * denoiser.loss(*batch))
        return tape.gradient(loss, weights)

    def clipped(gradients):
        norms = tf.norm(gradients, axis=1, keepdims=True)
        return tf.reduce_sum(gradients / (norms + 0.02), axis=0)

    @tf.function(jit_compile=True)
    def noted(*batch):
        return clipped(
            noted_layers.gradients(lambda: denoiser.loss(*batch), denoiser.weights, rows)
        )

    @tf.function
    def mapped(*batch):
        gradients = tf.vectorized_map(lambda record: one(*record), batch)
        return clipped(tf.concat([tf.reshape(g, [rows, -1]) for g in gradients], axis=1))

    compiled_one = tf.function(one, jit_compile=True)

    def one_by_one(*batch):
        found = 0.0
        for record in zip(*batch, strict=True):
            gradient = tf.concat([tf.reshape(g, [-1]) for g in compiled_one(*record)], axis=0)
            found += gradient / (tf.norm(gradient) + 0.02)
        return found

    @tf.function(jit_compile=True)
    def ghost(*batch):
        norms = tf.sqrt(ghost_squares(denoiser, batch, rows))
        return weighted(batch, 1 / (norms + 0.02))

    @tf.function(jit_compile=True)
    def whole(*batch):
        return weighted(batch, tf.ones([rows]))

    return {
        "noted layers": noted,
        "vectorized map": mapped,
        "one by one": one_by_one,
        "ghost norms": ghost,
        "one batch": whole,
    }


def ghost_squares(denoiser, batch, rows):
    """The squared norm of each record's gradient, from products of positions and none of weights."""
    with noted_layers.noting() as notes, tf.GradientTape() as tape:
        total = tf.reduce_sum(denoiser.loss(*batch))
    found = 0.0
    of_outputs = tape.gradient(total, [output for _, _, output in notes])
    for (layer, inputs, _), gradient in zip(notes, of_outputs, strict=True):
        if isinstance(layer, noted_layers.NotedConv2D):
            size, strides = layer.kernel_size[0], layer.strides[0]
            inputs = noted_layers.patches(inputs, size, strides)
        inputs = tf.reshape(inputs, [rows, -1, inputs.shape[-1]])
        gradient = tf.reshape(gradient, [rows, -1, gradient.shape[-1]])
        products = tf.matmul(inputs, inputs, transpose_b=True)
        found += tf.reduce_sum(products * tf.matmul(gradient, gradient, transpose_b=True), [1, 2])
    return found


if __name__ == "__main__":
    main()
