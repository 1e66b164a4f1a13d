"""Faults that a programmer could make, planted in per-record runs: the audit names each."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from planted import (
    audited,
    check_doubling_is_found,
    double_sampling_probability,
    draws_alone,
    found_by,
    one_pair_attacked,
)

from tfdps.auditing import canaries
from tfdps.config.run_config import RunConfig
from tfdps.learners.per_record.learner import MomentLearner
from tfdps.mechanisms import batches, exact_gaussian
from tfdps.mechanisms.per_record import PerRecordMechanism
from tfdps.training import job

pytestmark = pytest.mark.slow
ROUNDS = ("centre", "scatter", "spread")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the digits: an atom a class in 8 dimensions."""
    return trained(tmp_path_factory.mktemp("per_record"))


def trained(folder, **changes):
    """The model_dir of a finished run in a folder."""
    config = RunConfig(
        mechanism="per_record",
        num_atoms=1,
        latent_dim=9,
        model_dir=str(folder / "run"),
        **changes,
    )
    job.train(config)
    return config.model_dir


def test_an_honest_run_is_not_accused(run, tmp_path):
    assert found_by(run, tmp_path) == []


def test_a_missing_clip_of_one_inner_class_is_found(run, tmp_path, monkeypatch):
    honest = PerRecordMechanism._contributions

    def forgetful(self, batch, query):
        images, labels, weights = batch
        scales = dataclasses.replace(query.scales, clip_norm=100 * query.scales.clip_norm)
        loose = dataclasses.replace(query, scales=scales)
        inner = tf.where(labels == 4, weights, 0)
        clipped = honest(self, (images, labels, weights - inner), query)
        return clipped + honest(self, (images, labels, inner), loose)

    monkeypatch.setattr(PerRecordMechanism, "_contributions", forgetful)
    found = found_by(run, tmp_path, by=one_pair_attacked)
    assert found  # no crafted neighbour is of the class: short runs of training show it
    assert all(name.startswith("un-noised sums, step") for name in found)


def test_noise_that_ends_at_three_standard_deviations_is_found(run, tmp_path, monkeypatch):
    honest = exact_gaussian.draw
    monkeypatch.setattr(
        exact_gaussian,
        "draw",
        lambda size, stddev: np.clip(honest(size, stddev), -int(3 * stddev), int(3 * stddev)),
    )
    found = found_by(run, tmp_path, by=one_pair_attacked)
    assert "noise has the law that is accounted, all steps of a run" in found
    assert all(name.startswith("noise has the law that is accounted") for name in found)


def test_no_noise_on_a_draw_of_two_parts_is_found(run, tmp_path, monkeypatch):
    honest = PerRecordMechanism.release

    def release(self, draw, query, *, noise_multiplier):
        parts = list(draw)
        sigma = noise_multiplier if len(parts) == 1 else 1e-15
        return honest(self, parts, query, noise_multiplier=sigma)

    monkeypatch.setattr(PerRecordMechanism, "release", release)
    found = found_by(run, tmp_path)
    for name in ROUNDS:
        assert f"{name}: two records, and a third" in found
        assert f"{name}: an empty draw, and one record" not in found
    assert "noise has the law that is accounted, all steps of a run" in found


def test_a_tenth_of_the_noise_in_training_alone_is_found(run, tmp_path, monkeypatch):
    honest = MomentLearner.step

    def step(self, draw, number):
        plan = self._plan
        self._plan = dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 10)
        honest(self, draw, number)
        self._plan = plan

    monkeypatch.setattr(MomentLearner, "step", step)
    found = found_by(run, tmp_path, by=one_pair_attacked)
    assert "noise has the law that is accounted, step 1 of a run" in found
    assert all(name.startswith("noise has the law that is accounted") for name in found)


def test_atoms_at_un_noised_class_means_are_found(run, tmp_path, monkeypatch):
    honest = MomentLearner.step

    def step(self, draw, number):
        parts = list(draw)
        asked = self._rounds[self._next_round(int(number))]
        asked.query = lambda model, rng: _at_means(*type(asked).query(asked, model, rng), parts)
        honest(self, parts, number)

    monkeypatch.setattr(MomentLearner, "step", step)
    assert found_by(run, tmp_path, by=one_pair_attacked) == [
        "nothing but releases depends on the records"
    ]


def _at_means(query, expected, parts):
    """(A MomentQuery whose atoms are centred at the means of the draw's classes, expected)."""
    images, labels, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    pixels = images.reshape(len(images), -1) / 127.5 - 1
    positions = query.atoms.positions.copy()
    for label in range(len(positions)):
        mean = pixels[(labels == label) & (weights > 0)].mean(axis=0)
        positions[label] += mean - positions[label].mean(axis=0)
    moved = dataclasses.replace(query.atoms, positions=positions)
    return dataclasses.replace(query, atoms=moved), expected


def test_a_second_release_in_a_step_is_found(run, tmp_path, monkeypatch):
    """A mean of two releases is paid for once."""
    honest = MomentLearner.release

    def release(self, state, draw):
        parts = list(draw)
        one, other = honest(self, state, parts), honest(self, state, parts)
        return dataclasses.replace(one, vector=(one.vector + other.vector) / 2)

    monkeypatch.setattr(MomentLearner, "release", release)
    found = found_by(run, tmp_path, by=one_pair_attacked)
    assert "un-noised sums, step 1 of a run" in found
    assert "noise has the law that is accounted, step 1 of a run" in found


def test_a_doubled_sampling_probability_is_found(tmp_path, monkeypatch):
    quarter = trained(tmp_path, batch_size=1797 // 4, accountant="rdp")
    assert found_by(quarter, tmp_path, by=draws_alone) == []
    double_sampling_probability(monkeypatch)
    check_doubling_is_found(found_by(quarter, tmp_path, by=draws_alone))


def test_a_record_in_two_parts_of_a_draw_is_found(run, tmp_path, monkeypatch):
    honest = batches.PoissonBatches._draw

    def off_by_one(self, part, shard):
        """The second part begins with the last record of the first."""
        return honest(self, part, shard) - min(part, 1)

    monkeypatch.setattr(batches.PoissonBatches, "_draw", off_by_one)
    found = found_by(run, tmp_path, by=one_pair_attacked)
    assert "a record is in a draw once" in found
    assert "un-noised sums, step 1 of a run" in found


def test_canaries_find_a_twentieth_of_the_noise_of_a_run_that_claims_ten(
    run, tmp_path, monkeypatch
):
    """Of 200 guesses 194 +- 2 were right in 6 such runs, and 169 show an epsilon of more than 1.

    Canaries hide each other, so that they never are all told; at an epsilon of 2 that takes 192.
    """
    monkeypatch.setattr(canaries, "_LARGEST_EPSILON", 1.0)
    honest = PerRecordMechanism.release

    def release(self, *args, noise_multiplier, **options):
        return honest(self, *args, noise_multiplier=noise_multiplier / 20, **options)

    result, _ = audited(run, tmp_path, parts="canaries")
    assert result["verdict"] == "no violation found"
    monkeypatch.setattr(PerRecordMechanism, "release", release)
    result, _ = audited(run, tmp_path, parts="canaries")
    assert result["verdict"] == "violation found"
    found = result["canaries"]
    assert found["claim"]["epsilon"] <= 1 < found["lower_bound"]["epsilon"]
    assert found["lower_bound"]["epsilon"] <= found["largest"]["epsilon"]
