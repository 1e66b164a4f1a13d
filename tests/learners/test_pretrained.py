"""Denoisers that the package keeps: what they were made of, and what they fit."""

import numpy as np
import pytest

from tfdps.data.procedural import families
from tfdps.generators import denoiser as denoisers
from tfdps.learners.refiner import pretrained, pretraining

KEPT = [(28, 28, 1), (16, 40, 1), (32, 32, 3)]
SETTINGS = {
    "family": pretrained.FAMILY,
    "steps": pretrained.STEPS,
    "width": pretrained.WIDTH,
}


def denoiser_of(shape, num_classes=3):
    return denoisers.Denoiser(shape, num_classes=num_classes, width=pretrained.WIDTH)


def loss_of(denoiser, family, num=32):
    random = np.random.default_rng(1)
    shape = denoiser.image_shape
    images = families.images(family, num, image_shape=shape, seed=10**6).astype(np.float32)
    noise = random.normal(size=images.shape).astype(np.float32)
    levels = np.full(num, 0.3, np.float32)
    labels = np.full(num, denoiser.num_classes, np.int32)
    return float(np.mean(denoiser.loss(images / 127.5 - 1, noise, levels, labels)))


@pytest.mark.parametrize(
    "shape",
    [pytest.param(s, marks=[pytest.mark.slow] * (s != KEPT[0])) for s in KEPT],
)
def test_a_kept_denoiser_takes_noise_out_of_images_that_it_has_not_seen(shape):
    assert pretrained.is_kept(shape, **SETTINGS)
    denoiser = denoiser_of(shape)
    fresh = {family: loss_of(denoiser, family) for family in families.FAMILIES}
    pretrained.restore(denoiser)
    for family in families.FAMILIES:
        assert loss_of(denoiser, family) < 0.5 * fresh[family]


def test_a_class_changes_nothing_in_it():
    shape = (28, 28, 1)
    images = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    levels, outputs = np.full(3, 0.4, np.float32), []
    for num_classes in (2, 7):
        denoiser = denoiser_of(shape, num_classes)
        pretrained.restore(denoiser)
        for labels in ([0, 1, 1], [num_classes] * 3):
            outputs.append(np.asarray(denoiser([images, levels, np.array(labels, np.int32)])))
    for output in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0])


@pytest.mark.slow
def test_what_is_kept_is_written_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_FOLDER", tmp_path)
    monkeypatch.setattr(pretraining, "NUM_IMAGES", 100)
    assert not pretrained.is_kept((8, 8, 1), **SETTINGS)
    denoiser, other = denoiser_of((8, 8, 1)), denoiser_of((10, 10, 1), num_classes=5)
    pretraining.pretrain(denoiser, "mixed", steps=2)
    pretrained.keep(denoiser)
    assert pretrained.is_kept((10, 10, 1), **SETTINGS)
    assert not pretrained.is_kept((10, 10, 1), **{**SETTINGS, "steps": 1499})
    assert not pretrained.is_kept((10, 10, 1), **{**SETTINGS, "family": "strokes"})
    assert not pretrained.is_kept((10, 10, 3), **SETTINGS)
    pretrained.restore(other)
    for kept, read in zip(denoiser.weights, other.weights, strict=True):
        rows = denoisers.NUM_FEATURES if len(kept.shape) == 2 else kept.shape[0]
        np.testing.assert_array_equal(np.asarray(kept)[:rows], np.asarray(read)[:rows])
        assert not np.asarray(read)[rows:].any()


def test_a_run_takes_the_kept_one_and_learns_where_there_is_none(monkeypatch, caplog):
    learned = []
    monkeypatch.setattr(pretraining, "pretrain", lambda *_, **settings: learned.append(settings))
    with caplog.at_level("INFO"):
        pretraining.prepare(denoiser_of((28, 28, 1)), "mixed", steps=1500)
        assert not learned
        pretraining.prepare(denoiser_of((28, 28, 1)), "mixed", steps=30)
        pretraining.prepare(denoiser_of((28, 28, 1)), "strokes", steps=1500)
    assert [each["steps"] for each in learned] == [30, 1500]
    assert ["has learned" in line for line in caplog.messages] == [True, False, False]
