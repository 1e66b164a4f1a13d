"""Devices whose sums of integers are rounded are refused before anything is booked."""

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from tfdps import checks
from tfdps.config.run_config import RunConfig
from tfdps.distributed import replicas
from tfdps.distributed.replicas import Replicas
from tfdps.mechanisms import exactness
from tfdps.training import job


def test_a_cpu_adds_up_integers_exactly():
    assert exactness.mistakes(Replicas()) == 0
    exactness.check(Replicas())


def test_the_check_comes_near_to_the_largest_sum_that_float64_has():
    left, right, expected = exactness._problem()
    by_numbers = sum(int(a) * int(b) for a, b in zip(left[3], right[:, 5], strict=True))
    assert int(expected[3, 5]) == by_numbers
    assert expected.min() > 0.999 * 2**53
    assert expected.max() < 2**53
    assert np.mean(expected % 2) > 0.4  # so that a lost last digit shows


def rounded_product(dtype):
    def matmul(left, right):
        return tf.cast(tf.linalg.matmul(tf.cast(left, dtype), tf.cast(right, dtype)), tf.float64)

    return matmul


def two_halves(left, right):
    """As pairs of float32 would: 48 bits of each sum."""
    product = tf.linalg.matmul(left, right)
    return tf.round(product / 2**5) * 2**5


@pytest.mark.parametrize("product", [rounded_product(tf.float32), two_halves])
def test_a_device_that_emulates_float64_by_less_is_refused(monkeypatch, product):
    monkeypatch.setattr(tf, "matmul", product)
    fresh = tf.function(exactness._on_device.python_function, jit_compile=True, autograph=False)
    monkeypatch.setattr(exactness, "_on_device", fresh)
    assert exactness.mistakes(Replicas()) > 3000
    with pytest.raises(checks.UsageError, match="must add up integers exactly, .* of 4097"):
        exactness.check(Replicas())


def test_a_sum_over_replicas_that_passes_through_float64_is_refused(monkeypatch):
    context = type(tf.distribute.get_replica_context())
    honest = context.all_reduce

    def all_reduce(self, operation, values):
        values = [tf.cast(tf.cast(value, tf.float64), tf.int64) for value in values]
        return honest(self, operation, values)

    monkeypatch.setattr(context, "all_reduce", all_reduce)
    assert exactness.mistakes(Replicas()) == 1


def test_a_run_on_such_a_device_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(exactness, "mistakes", lambda on: 7)
    config = RunConfig(model_dir=str(tmp_path / "run"), num_atoms=1)
    assert config.mechanism == "per_record"
    with pytest.raises(checks.UsageError, match="received 7 wrong sums"):
        job.train(config)
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


def test_the_joint_mechanism_needs_no_float64(tmp_path, monkeypatch):
    monkeypatch.setattr(exactness, "mistakes", lambda on: pytest.fail("was checked"))
    monkeypatch.setattr(replicas.Replicas, "distribute", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it got as far as its draws
        job.train(small_config(tmp_path / "run"))
