"""Ids: exact or refused, and the two tables' ids compared with an eye on what looks alike."""

import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables
from cost_hf.data.cells import column_words, is_missing

ITEMS = pd.DataFrame({"item_id": ["a", "b"], "title": ["Red", "Green"]})


def users(values):
    clicks = pd.DataFrame({"user_id": values, "item_id": "a", "timestamp": range(len(values))})
    return set(read_tables(DataOptions(), items=ITEMS, interactions=clicks).interactions["user_id"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([2**53, 2**53 + 1]), {"9007199254740992", "9007199254740993"}),
        (np.array([2**64 - 1, 2**64 - 2], dtype=np.uint64), {"18446744073709551615", "18446744073709551614"}),
        (pd.array([2**53 + 1, 2**53 + 2], dtype="Int64"), {"9007199254740993", "9007199254740994"}),
        ([2**70, 2**70 + 1], {"1180591620717411303424", "1180591620717411303425"}),
        ([2.0**53 - 1, 1.0], {"9007199254740991", "1"}),
        (pd.Series([1.0, 1, "1"], dtype=object), {"1"}),
        ([Decimal("1.0"), Decimal("1E+2")], {"1", "100"}),
        ([uuid.UUID(int=1)], {"00000000-0000-0000-0000-000000000001"}),
        (pd.Categorical(["x", "y", "x"]), {"x", "y"}),
    ],
)
def test_whole_numbers_and_texts_are_ids(values, expected):
    assert users(values) == expected


@pytest.mark.parametrize(
    "values",
    [
        [1e19, 2e19],
        [2.0**53, 2.0**53 + 2],
        pd.array([2.0**53, 1], dtype="Float64"),
        np.array([2**24, 1], dtype=np.float32),
        pd.Series([1e19, "x"], dtype=object),
        [2**53, None, 2.0**53],
        [True, False],
        pd.Series(["x", True], dtype=object),
        [1.5, 2.0],
        [Decimal("1.5")],
        [float("inf"), 1.0],
        [b"a", b"b"],
        [["a"], ["b"]],
        pd.to_datetime(["2024-01-01"]),
        pd.Series(["\ud800"], dtype=object),
    ],
)
def test_what_is_no_exact_id_is_refused(values):
    with pytest.raises(DataError, match=r"interactions.user_id, row \d: expected"):
        users(values)


@pytest.mark.parametrize("dtype", [object, "str", "string", "string[pyarrow]"])
def test_empty_and_blank_ids_are_missing_whatever_holds_the_texts(dtype):
    ids = pd.Series(["a", " ", None, "b "], dtype=dtype)

    assert is_missing(ids).tolist() == [False, True, True, False]


def read(item_ids, click_ids, **options):
    items = pd.DataFrame({"item_id": item_ids, "title": [f"title {number}" for number in range(len(item_ids))]})
    clicks = pd.DataFrame({"user_id": "u", "item_id": click_ids, "timestamp": range(len(click_ids))})
    return read_tables(DataOptions(**options), items=items, interactions=clicks)


@pytest.mark.parametrize(
    ("item_ids", "click_ids", "forms", "reason"),
    [
        (["caf\u00e9"], ["cafe\u0301"], ["nfc"], r"their Unicode form, as 'cafe\\u0301' .* 'caf\\xe9'"),
        (["b", "c"], ["b ", "\tc"], ["strip"], "only by outer blanks"),
        (["B", "c"], ["b", "C"], ["lower"], "only by case"),
        (["caf\u00e9"], [" CAFE\u0301"], ["strip", "nfc", "lower"], "outer blanks and their Unicode form and case"),
    ],
)
def test_ids_that_differ_by_their_form_are_reported_with_the_flag_that_fixes_it(item_ids, click_ids, forms, reason):
    with pytest.raises(DataError, match=f"{reason}.*data.normalize_ids '.{', '.join(forms)}.'"):
        read(item_ids, click_ids)

    assert len(read(item_ids, click_ids, normalize_ids=forms).interactions) == len(click_ids)
    (notice,) = read([*item_ids, "z"], [*click_ids, "z"], on_unknown_item="drop").notices
    assert "--data.normalize_ids" in notice.remedy


def test_a_log_without_a_known_id_is_explained():
    with pytest.raises(DataError, match=r"no interactions are left.*only by case.*--data.normalize_ids '\[lower\]'"):
        read(["B", "C"], ["b", "c"], on_unknown_item="drop")


def test_numbers_beside_texts_are_told():
    with pytest.raises(DataError, match=r"leading zeros.*read as whole numbers in items and as text in interactions"):
        read([7, 8], ["007", "008"])
    with pytest.raises(DataError, match="read as whole numbers in items and as text in interactions"):
        read([7, 8], ["x", "8"])
    with pytest.raises(DataError, match=r"trailing \.0"):
        read(["7", "8"], ["7.0", "8.0"])


def test_forms_that_make_two_items_one_are_refused():
    with pytest.raises(DataError, match=r"expected each id once, got 'a'.*data.normalize_ids"):
        read(["a", "A"], ["a"], normalize_ids=["lower"])


def test_users_that_become_one_are_counted():
    clicks = pd.DataFrame({"user_id": ["u", "u "], "item_id": "a", "timestamp": [1, 2]})
    tables = read_tables(DataOptions(normalize_ids=["strip"]), items=ITEMS, interactions=clicks)

    assert tables.counts["merged_users"] == 1
    assert tables.counts["users"] == 1


def test_unknown_form_is_named():
    with pytest.raises(DataError, match=r"data.normalize_ids has 'trim', expected some of \['strip', 'nfc', 'lower'\]"):
        DataOptions(normalize_ids=["trim"])


def test_ids_that_look_the_same_or_steer_a_terminal_are_noticed():
    clicks = pd.DataFrame({"user_id": ["u", "u ", "v\x1b[31m"], "item_id": "a", "timestamp": [1, 2, 3]})
    notices = read_tables(DataOptions(), items=ITEMS, interactions=clicks).notices

    controls, twins = (notice.message for notice in notices)
    assert r"like 'v\x1b[31m'" in controls and "\x1b" not in controls
    assert twins.startswith("2 of 3 ids of interactions.user_id")


@pytest.mark.parametrize("item", ["a\x1b[2J", "a\nb", "a\x00"])
def test_an_item_id_with_control_characters_is_refused_in_escapes(item):
    with pytest.raises(DataError, match=r"items.item_id, row 1: expected an id without control characters") as told:
        read(["x", item], ["x"])
    assert str(told.value).isprintable()


def test_a_line_break_at_the_end_of_an_id_goes_with_its_blanks():
    assert read(["x\n", "y"], ["x"], normalize_ids=["strip"]).items["item_id"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([9.0, 9.5, None], ["9", "9.5", ""]),
        (np.array([1e20, 2.0, 0.1], dtype=np.float32), ["1.0000000200408773e+20", "2", "0.10000000149011612"]),
        (pd.array([1, None, 2**60], dtype="Int64"), ["1", "", str(2**60)]),
        ([True, None, "x"], ["True", "", "x"]),
    ],
)
def test_the_words_of_a_cell_do_not_depend_on_its_column(values, words):
    column = pd.Series(values)

    assert column_words(column) == words
    assert [column_words(column.iloc[row : row + 1]) for row in range(len(column))] == [[word] for word in words]
