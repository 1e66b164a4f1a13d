"""Made-up images: of the promised shape, the same for a seed, and each family of its own kind."""

import numpy as np
import pytest

from tfdps import checks
from tfdps.config import refiners
from tfdps.data import procedural

FAMILIES = ("strokes", "shapes", "scenes", "mixed")


def images(family, num=6, *, image_shape=(16, 16, 1), seed=0):
    return procedural.images(family, num, image_shape=image_shape, seed=seed)


def grey(family, num=40):
    """float [num, 256]."""
    return images(family, num, seed=3).reshape(num, -1).astype(float)


def test_a_run_may_ask_for_these_families_and_no_others():
    assert procedural.FAMILIES == refiners.FAMILIES == FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "image_shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (9, 20, 1), (21, 7, 3), (4, 4, 1)]
)
def test_images_have_the_shape_that_was_asked_for_and_none_is_like_another(family, image_shape):
    found = images(family, image_shape=image_shape)
    assert found.shape == (6, *image_shape)
    assert found.dtype == np.uint8
    assert len(np.unique(found.reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_images_and_another_seed_others(family):
    once, again, other = (images(family, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(once, again)
    for one in once:
        assert not (one == other).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_images_of_a_seed_do_not_follow_how_many_are_asked_for(family):
    np.testing.assert_array_equal(images(family, 5)[:2], images(family, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_state_of_numpys_matters_and_none_changes(family):
    """A function of its arguments alone: the guarantee."""
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    once = images(family)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    np.testing.assert_array_equal(images(family), once)


@pytest.mark.parametrize(("family", "black"), [("strokes", 0.7), ("shapes", 0.2)])
def test_things_are_on_black(family, black):
    """The share of black pixels of 200 images is 0.79 and 0.31; something is there in each."""
    found = grey(family)
    assert np.mean(found < 8) > black  # 8: what `shapes` counts as background
    assert (found.max(axis=1) > 20).all()


def test_scenes_fill_the_image():
    """The share of black pixels of 200 images is 0.02, and few images are half black."""
    found = grey("scenes")
    assert np.mean(found < 8) < 0.05
    assert np.mean((found < 8).mean(axis=1) > 0.5) <= 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_images_of_three_channels_have_colour_and_those_of_one_have_none_to_lose(family):
    found = images(family, 10, image_shape=(16, 16, 3)).astype(float)
    apart = np.ptp(found, axis=3).max(axis=(1, 2))
    assert (apart > 5).mean() >= 0.8  # a tint or a palette may be next to grey


def test_strokes_are_as_wide_a_part_of_a_small_image_as_of_a_large_one():
    """A pen of 1.3 to 3.6 of 28 pixels: the share of ink is the same at 14, 28 and 56."""
    shares = [
        images("strokes", 60, image_shape=(side, side, 1)).mean() / 255 for side in (14, 28, 56)
    ]
    # The blur and the rounding to whole pixels of the canvas change a share by less than a third.
    assert max(shares) < 1.33 * min(shares)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"family": "faces"},
            "family must be one of strokes, shapes, scenes, mixed; received 'faces'",
        ),
        ({"image_shape": (8, 8, 2)}, "channels must be one of 1, 3; received 2"),
        ({"num": 0}, "num must be >= 1, received 0"),
        ({"seed": -1}, "seed must be >= 0, received -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    settings = {"family": "strokes", "num": 1, "image_shape": (8, 8, 1), "seed": 0, **changes}
    with pytest.raises(checks.UsageError, match=message):
        procedural.images(settings.pop("family"), settings.pop("num"), **settings)
