"""What an accelerator needs of a step: one XLA program of static shapes, and bfloat16 where it may."""

import json

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from tfdps.accounting.plan import make_plan
from tfdps.checks import UsageError
from tfdps.config.run_config import RunConfig
from tfdps.data import loading
from tfdps.generators import networks
from tfdps.mechanisms import batches
from tfdps.mechanisms.moments import Atoms, MomentQuery, Scales
from tfdps.mechanisms.per_record import PerRecordMechanism
from tfdps.training import builders, job

GENERATORS = ["mlp", "dcgan", "biggan"]


@pytest.fixture(scope="module")
def digits():
    return loading.load("digits")


def model_of(digits, **changes):
    config = small_config("unused", **changes)
    return builders.build_model(config, digits.spec, make_plan(config, len(digits)))


def batch_of(digits, model):
    """With the noise of a step."""
    noise = model.learner.noise
    [batch] = batches.PoissonBatches(digits, 10 / len(digits), noise=noise).dataset(1)
    return batch


def dynamic_shapes(function, *args):
    """Names of the operations of a function, and of those it calls, with a shape that is not fixed."""
    graph = tf.function(function, autograph=False).get_concrete_function(*args).graph
    definitions = graph.as_graph_def(add_shapes=True)
    nodes = [*definitions.node, *(n for f in definitions.library.function for n in f.node_def)]
    return [
        node.name
        for node in nodes
        if node.op != "Const"  # of which those inside functions do not say theirs
        for shape in node.attr["_output_shapes"].list.shape
        if shape.unknown_rank or any(axis.size < 0 for axis in shape.dim)
    ]


def test_the_check_for_dynamic_shapes_sees_one():
    spec = tf.TensorSpec([None, 3], tf.float32)
    assert dynamic_shapes(lambda x: x + 1, spec)
    assert not dynamic_shapes(lambda x: x + 1, tf.zeros([2, 3]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generator", "precision"),
    [("mlp", "float32"), ("dcgan", "bfloat16")],
)
def test_the_whole_step_is_one_xla_program_and_takes_the_same_step(
    digits, monkeypatch, generator, precision
):
    """As on a TPU: the generator, transport, clip, noise, update and average, compiled as one."""
    stepped, first, batch = [], None, None
    for compiled in (False, True):
        model = model_of(digits, generator=generator, precision=precision, learning_rate=1e-4)
        first = first or model.generator.get_weights()
        batch = batch or batch_of(digits, model)  # noise that is the same in both
        model.generator.set_weights(first)
        learner = model.learner
        z = tf.constant(np.random.default_rng(0).random([12, 16]), tf.float32)
        labels = tf.range(12, dtype=tf.int32) % 10
        monkeypatch.setattr(learner, "latents", lambda z=z, labels=labels: (z, labels))
        before = [w.numpy() for w in model.generator.trainable_variables]
        step = tf.function(learner._step_of_replica, jit_compile=compiled, autograph=False)
        assert not dynamic_shapes(learner._step_of_replica, batch)
        step.get_concrete_function(batch)(*batch)
        after = [w.numpy() for w in model.generator.trainable_variables]
        assert all((a != b).any() for a, b in zip(before, after, strict=True))
        stepped.append(
            np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)])
        )
    plain, compiled = stepped
    # Adam's first step has the gradient's sign, so that rounding turns the small ones around.
    assert np.mean(np.abs(plain - compiled) > 1e-5) < (0.03 if precision == "float32" else 0.3)


@pytest.mark.slow
def test_a_round_is_one_xla_program(digits):
    mechanism = PerRecordMechanism()
    atoms = Atoms(np.zeros([10, 3, 64]), np.zeros([10, 3]), 1.0)
    query = MomentQuery(atoms, Scales(3.0, 1.0))
    batch = (digits.images, digits.labels, np.ones(len(digits), np.float32))
    batch = tuple(map(tf.constant, batch))

    def contributions(batch):
        return mechanism._contributions(batch, query)

    expected = contributions(batch).numpy()
    noise = np.arange(len(expected))

    def noisy_sum(*batch):
        return mechanism._noisy_sum.add_up([batch], contributions, noise=noise)

    assert not dynamic_shapes(noisy_sum, *batch)
    compiled = tf.function(noisy_sum, jit_compile=True, autograph=False)
    np.testing.assert_array_equal(compiled(*batch), expected + noise)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_bfloat16_generator_has_float32_weights_and_images_near_the_float32_ones(generator):
    shape = {"image_shape": (8, 8, 1), "num_classes": 10, "latent_dim": 16}
    exact = networks.build(generator, **shape)
    half = networks.build(generator, precision="bfloat16", **shape)
    assert {w.dtype for w in half.weights} == {"float32"}
    half.set_weights(exact.get_weights())
    z, labels = np.random.default_rng(0).random([20, 16]).astype(np.float32), np.arange(20) % 10
    images = [model([z, labels], training=True).numpy() for model in (exact, half)]
    assert images[1].dtype == np.float32
    differences = np.abs(images[0] - images[1])
    assert 1e-4 < differences.max() < 0.3  # 8 bits of a mantissa, a few layers
    assert np.sqrt(np.mean(differences**2)) < 0.03
    assert networks.build(generator, **shape).layers[-1].compute_dtype == "float32"


@pytest.mark.slow
def test_what_enters_transport_and_mechanism_is_float32_in_bfloat16_too(digits, monkeypatch):
    model = model_of(digits, precision="bfloat16")
    seen = []
    release = model.mechanism.release
    monkeypatch.setattr(
        model.mechanism, "release", lambda *given: seen.append(given) or release(*given)
    )
    model.authorize(1)
    model.train_step([batch_of(digits, model)])
    [(gradient, noise)] = seen
    assert (gradient.dtype, noise.dtype) == (tf.float32, tf.int64)


@pytest.mark.slow
def test_a_run_in_bfloat16_exports_float32_that_agrees_in_both_formats(tmp_path):
    config = small_config(tmp_path / "run", precision="bfloat16", generator="dcgan", num_steps=20)
    job.train(config)
    card = json.loads((tmp_path / "run" / "export" / "model_card.json").read_text())
    assert card["parity"]["onnx_max_abs_error"] < 1e-5
    assert "--precision=bfloat16" in card["training"]["flags"]


def test_a_precision_means_nothing_where_no_network_is_trained():
    with pytest.raises(UsageError, match="precision=bfloat16 means nothing with mechanism=per_rec"):
        RunConfig(model_dir="unused", precision="bfloat16")
