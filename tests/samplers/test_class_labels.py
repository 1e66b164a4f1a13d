import numpy as np
import pytest

from tfdps.checks import UsageError
from tfdps.samplers import class_labels

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


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([2**40], r"labels must be in \[-5, 10\), received 1099511627776 to 1099511627776\."),
        ([9, -6, 0], r"labels must be in \[-5, 10\), received -6 to 9\."),
        ([], "at least one integer, received float64 \\[0\\]"),
        ([0.5], "at least one integer, received float64 \\[1\\]"),
        ([[1]], "at least one integer, received int64 \\[1, 1\\]"),
        (["1"], "at least one integer, received <U1 \\[1\\]"),
    ],
)
def test_a_list_of_labels_is_refused_for_what_is_wrong_with_it(labels, message):
    with pytest.raises(UsageError, match=message):
        class_labels.listed(labels, smallest=-5, largest=9)


def test_the_ends_of_the_range_are_labels():
    assert class_labels.listed([-5, 9], smallest=-5, largest=9).tolist() == [-5, 9]
    assert class_labels.check([0, 9], 10).dtype == np.int32
