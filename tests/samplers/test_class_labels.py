import numpy as np
import pytest

from tfdps.checks import UsageError
from tfdps.samplers import class_labels

NAMES = ("T-shirt", "Trouser", "Bag", "red, blue")
WEEKS = ("1", "2", "3", "10", "later")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("2", [2]),
        ("0-2", [0, 1, 2]),
        ("3,0-1", [3, 0, 1]),
        (" 1 , 1 ", [1, 1]),
        ("bag,t-shirt", [2, 0]),
        ("red, blue", [3]),
        ('"red, blue",Bag', [3, 2]),
        ('Bag, "RED, blue"', [2, 3]),
    ],
)
def test_numbers_ranges_and_names_are_understood(text, expected):
    assert class_labels.chosen(text, NAMES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("1", [0]),
        ("1-3", [0, 1, 2]),
        ("2-10,later", [1, 2, 3, 4]),
        ("003", [2]),
    ],
)
def test_where_names_are_numbers_numbers_and_ranges_are_names(text, expected):
    assert class_labels.chosen(text, WEEKS) == expected


def test_names_with_dashes_and_spaces_are_names():
    names = ("0-2", "a b", "0", "1", "2")
    assert class_labels.chosen("0-2", names) == [0]
    assert class_labels.chosen("a b,1-2", names) == [1, 3, 4]


@pytest.mark.parametrize("text", ["4", "0-4", "2-1", "-1", "shoe", "", "1,", "1-", "0.5", "red"])
def test_what_names_no_class_is_refused_with_what_is_allowed(text):
    message = r"from 0 to 3, .*T-shirt, Trouser, Bag, red, blue\), received .*goes in quotes"
    with pytest.raises(UsageError, match=message):
        class_labels.chosen(text, NAMES)


@pytest.mark.parametrize("text", ["0", "4", "0-2", "1-4", "3-1", "1-later"])
def test_where_names_are_numbers_class_numbers_are_refused(text):
    message = r"must be class names \(1, 2, 3, 10, later\), received"
    with pytest.raises(UsageError, match=message):
        class_labels.chosen(text, WEEKS)


def test_a_number_or_a_case_that_two_names_share_is_refused():
    assert class_labels.chosen("01,1", ("1", "01")) == [1, 0]
    assert class_labels.chosen("A", ("a", "A")) == [1]
    for text, names in (("001", ("1", "01")), ("straSSE", ("strasse", "STRASSE"))):
        with pytest.raises(UsageError, match="received"):
            class_labels.chosen(text, names)


def test_labels_are_class_numbers_or_names():
    assert class_labels.numbers([2, 0], WEEKS).tolist() == [2, 0]
    assert class_labels.numbers(["2", "later", "2"], WEEKS).tolist() == [1, 4, 1]
    assert class_labels.numbers(np.array(["bag", "red, blue"]), NAMES).tolist() == [2, 3]
    assert class_labels.numbers(["2"], NAMES).dtype == np.int32
    with pytest.raises(UsageError, match="all numbers or all names, received both"):
        class_labels.numbers(["2", 2], WEEKS)
    with pytest.raises(UsageError, match="must be a list, received the text 'bag': \\['bag'\\]"):
        class_labels.numbers("bag", NAMES)
    with pytest.raises(UsageError, match="name one class each, received '1-3', which are 3"):
        class_labels.numbers(["1-3"], WEEKS)
    with pytest.raises(UsageError, match="received 'shoe'"):
        class_labels.numbers(["shoe"], NAMES)


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
    assert class_labels.numbers([0, 9], [str(k) for k in range(10)]).dtype == np.int32
