import numpy as np
import pytest

from tfdps import class_labels
from tfdps.checks import UsageError

NAMES = ("T-shirt", "Trouser", "Bag", "7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("2", [2]),
        ("0-2", [0, 1, 2]),
        ("3,0-1", [3, 0, 1]),
        (" 1 , 1 ", [1, 1]),
        ("bag,t-shirt", [2, 0]),
        ("7", [3]),  # a name before a number
    ],
)
def test_numbers_ranges_and_names_are_understood(text, expected):
    assert class_labels.chosen(text, NAMES) == expected


@pytest.mark.parametrize("text", ["4", "0-4", "2-1", "-1", "shoe", "", "1,", "1-", "0.5"])
def test_what_names_no_class_is_refused_with_what_is_allowed(text):
    with pytest.raises(UsageError, match=r"from 0 to 3, .*T-shirt, Trouser, Bag, 7\), received"):
        class_labels.chosen(text, NAMES)


def test_classes_are_taken_in_turn_wherever_one_starts():
    whole = class_labels.in_turn([2, 0, 1], 0, 10)
    assert whole.tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(class_labels.in_turn([2, 0, 1], 4, 5), whole[4:9])
