"""The comparison of ranked lists must not forgive more than rounding."""

import pytest

from tests.near_ties import assert_same_list

LIST = [("a", -1.0), ("b", -2.0), ("c", -2.00001), ("d", -3.0)]


@pytest.mark.parametrize(
    "found",
    [
        LIST,
        [("a", -1.00001), ("c", -2.0), ("b", -2.00001), ("d", -3.0)],
        [*LIST[:3], ("e", -3.00002)],
    ],
    ids=["equal", "near ties change places", "a near tie at the end"],
)
def test_lists_that_rounding_explains_are_the_same(found):
    assert_same_list(found, LIST)


@pytest.mark.parametrize(
    "found",
    [
        LIST[:3],
        [("b", -1.0), ("a", -2.0), *LIST[2:]],
        [("a", -1.0), ("b", -2.1), *LIST[2:]],
        [("e", -1.0), *LIST[1:]],
        [("a", -1.0), ("b", -2.0), ("b", -2.00001), ("d", -3.0)],
    ],
    ids=["shorter", "other places", "another score", "another item", "an item twice"],
)
def test_other_lists_are_told_apart(found):
    with pytest.raises(AssertionError):
        assert_same_list(found, LIST)
