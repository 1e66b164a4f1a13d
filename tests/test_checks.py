"""One shape of argument error: the name, what came and what is allowed, whatever came."""

import dataclasses
import json
import math
import os
import pathlib
import typing

import numpy as np
import pytest

from tfdps import checks

NO_NUMBERS = [None, "3", "", True, [1.0], 1j, np.ones(1)]


@pytest.mark.parametrize(
    ("check", "allowed"),
    [
        (checks.positive, "> 0"),
        (checks.not_negative, ">= 0"),
        (checks.fraction, "in (0, 1)"),
        (lambda name, value: checks.fraction(name, value, zero=True, one=True), "in [0, 1]"),
    ],
)
class TestNumbers:
    @pytest.mark.parametrize("value", NO_NUMBERS)
    def test_what_is_no_number_is_named_with_what_is_allowed(self, check, allowed, value):
        with pytest.raises(checks.UsageError) as error:
            check("delta", value)
        assert str(error.value) == f"delta must be a number {allowed}, received {value!r}."

    @pytest.mark.parametrize("value", [math.nan, -math.inf, -1, np.float32(-0.5), -(10**400)])
    def test_what_lies_outside_is_named_with_what_is_allowed(self, check, allowed, value):
        with pytest.raises(checks.UsageError) as error:
            check("delta", value)
        assert str(error.value) == f"delta must be {allowed}, received {value!r}."

    @pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5)])
    def test_what_is_allowed_comes_back_as_it_is(self, check, allowed, value):
        assert check("delta", value) is value


@pytest.mark.parametrize("check", [checks.positive, checks.not_negative])
def test_infinity_is_no_number_to_compute_with(check):
    with pytest.raises(checks.UsageError, match=r"mass must be >=? 0 and finite, received inf\."):
        check("mass", math.inf)


class TestIntegers:
    @pytest.mark.parametrize("value", [*NO_NUMBERS, 1.5, math.nan, math.inf, -math.inf])
    def test_what_is_no_integer_is_named_with_what_is_allowed(self, value):
        with pytest.raises(checks.UsageError) as error:
            checks.at_least("steps", value, 2)
        assert str(error.value) == f"steps must be an integer >= 2, received {value!r}."

    def test_one_that_is_too_small_is_named_with_the_smallest(self):
        with pytest.raises(checks.UsageError, match=r"^steps must be >= 2, received 1\.$"):
            checks.at_least("steps", 1, 2)

    @pytest.mark.parametrize("value", [2, 3.0, np.int32(2), np.uint8(9), 10**400])
    def test_what_is_allowed_comes_back_as_it_is(self, value):
        assert checks.at_least("steps", value, 2) is value


@checks.known_fields
@dataclasses.dataclass(frozen=True)
class Settings:
    name: str = "x"
    size: typing.Optional[int] = None
    scale: float = 1.0
    fast: typing.Optional[bool] = None


class TestFieldTypes:
    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"size": 3, "fast": True},
            {"size": 3.0, "scale": 2},
            {"scale": math.nan},  # for the range checks to refuse
            {"scale": np.float32(2), "size": np.int64(3), "fast": False},
        ],
    )
    def test_values_of_the_declared_types_pass(self, values):
        checks.field_types(Settings(**values))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"name": None}, "name must be a text, received None."),
            ({"name": b"x"}, "name must be a text, received b'x'."),
            ({"size": "3"}, "size must be an integer, received '3'."),
            ({"size": 2.5}, "size must be an integer, received 2.5."),
            ({"scale": None}, "scale must be a number, received None."),
            ({"scale": "1", "fast": 1}, "scale must be a number, received '1'."),
            ({"fast": 1}, "fast must be True or False, received 1."),
        ],
    )
    def test_the_first_value_of_another_type_is_named(self, values, message):
        with pytest.raises(checks.UsageError) as error:
            checks.field_types(Settings(**values))
        assert str(error.value) == message


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value", "plain"),
        [
            ("size", np.int64(16), 16),
            ("size", np.uint8(16), 16),
            ("size", 16.0, 16),
            ("scale", np.float32(0.25), 0.25),
            ("scale", np.float64(0.25), 0.25),
            ("scale", np.int32(2), 2.0),
            ("fast", np.True_, True),
            ("name", pathlib.Path("a") / "b", os.path.join("a", "b")),
        ],
    )
    def test_values_of_numpy_and_paths_become_plain_ones(self, name, value, plain):
        settings = Settings(**{name: value})
        checks.field_types(settings)
        found = getattr(settings, name)
        assert found == plain
        assert type(found) is type(plain)
        json.dumps(dataclasses.asdict(settings))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"sizes": 1}, "Settings has no setting 'sizes': did you mean size?"),
            ({"x": 1}, "Settings has no setting 'x': they are name, size, scale, fast."),
        ],
    )
    def test_an_unknown_one_is_named_with_what_was_meant(self, settings, message):
        with pytest.raises(checks.UsageError) as error:
            Settings(**settings)
        assert str(error.value) == message
        with pytest.raises(checks.UsageError):
            dataclasses.replace(Settings(), **settings)


@pytest.mark.parametrize("value", [np.array([1, 3]), [1], {}, "2", None])
def test_what_is_none_of_the_choices_is_named_whatever_it_is(value):
    with pytest.raises(checks.UsageError, match="channels must be one of 1, 3; received"):
        checks.one_of("channels", value, (1, 3))
