"""Every check at the door, by the message a user would read."""

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables


def make_items(**columns):
    return pd.DataFrame({"item_id": ["a", "b", "c"], "title": ["Red", "Green", "Blue"]} | columns)


def make_clicks(**columns):
    base = {"user_id": ["u", "u", "v"], "item_id": ["a", "b", "c"], "position": [0, 1, 0]}
    return pd.DataFrame(base | columns)


def read(items=None, clicks=None, template=None, **options):
    items = make_items() if items is None else items
    clicks = make_clicks() if clicks is None else clicks
    return read_tables(DataOptions(**options), items=items, interactions=clicks, template=template)


def test_missing_item_column_is_named_with_what_is_there():
    with pytest.raises(DataError, match=r"items has no column 'item_id', only \['asin', 'title'\].*data\.columns"):
        read(items=make_items().rename(columns={"item_id": "asin"}))


def test_missing_user_column_is_named():
    with pytest.raises(DataError, match=r"interactions has no column 'user_id'.*data\.columns: \{user_id:"):
        read(clicks=make_clicks().drop(columns="user_id"))


def test_duplicate_item_id_names_row_and_value():
    with pytest.raises(DataError, match=r"items\.item_id, row 2: expected each id once, got 'a' \(1 row like this\)"):
        read(items=make_items(item_id=["a", "b", "a"]))


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_null_id_in_clicks_names_row_and_value(column):
    clicks = make_clicks()
    clicks[column] = clicks[column].astype(object)
    clicks.loc[1, column] = None
    with pytest.raises(DataError, match=rf"interactions\.{column}, row 1: expected an id in every row, got (None|nan)"):
        read(clicks=clicks)


def test_nan_in_numeric_item_ids_is_an_error():
    with pytest.raises(
        DataError, match=r"items\.item_id, row 1: expected an id in every row, got nan .*remove the row"
    ):
        read(items=make_items(item_id=[1.0, np.nan, 3.0]))


def test_blank_id_is_an_error():
    with pytest.raises(DataError, match=r"items\.item_id, row 0: expected an id that is not blank, got ' '"):
        read(items=make_items(item_id=[" ", "b", "c"]))


def test_fractional_id_is_an_error():
    with pytest.raises(DataError, match=r"row 1: expected a string or a whole number as id, got 2\.5"):
        read(items=make_items(item_id=[1.0, 2.5, 3.0]))


def test_unknown_item_names_row_value_and_remedy():
    with pytest.raises(DataError, match=r"interactions\.item_id, row 1.*got 'zz' .*data\.on_unknown_item: drop"):
        read(clicks=make_clicks(item_id=["a", "zz", "c"]))


def test_unknown_item_is_dropped_and_counted_where_the_recipe_says_so():
    tables = read(clicks=make_clicks(item_id=["zz", "b", "c"]), on_unknown_item="drop")

    assert tables.counts["dropped_unknown_item_interactions"] == 1
    assert tables.interactions["position"].tolist() == [0, 0]


def test_empty_text_names_item_and_remedy():
    with pytest.raises(DataError, match=r"items, row 1 \(item_id 'b'\): expected a text, got ''.*on_empty_text: drop"):
        read(items=make_items(title=["Red", None, "Blue"]))


def test_text_is_judged_after_rendering():
    items = make_items(title=["Red", None, "Blue"], brand=["x", "y", None])

    assert read(items=items).num_items == 3
    with pytest.raises(DataError, match=r"items, row 2 \(item_id 'c'\)"):
        read(items=items, template="{brand}")


def test_empty_text_is_dropped_with_its_clicks_and_both_are_counted():
    tables = read(items=make_items(title=["Red", " ", "Blue"]), on_empty_text="drop")

    assert tables.items["item_id"].tolist() == ["a", "c"]
    assert tables.interactions["item_row"].tolist() == [0, 1]
    assert tables.counts["dropped_empty_text_items"] == 1
    assert tables.counts["dropped_empty_text_interactions"] == 1


def test_clashing_positions_name_user_row_and_value():
    expected = (
        r"interactions\.position, row 1: expected each position once per user, got 0 a second time for user_id 'u'"
    )
    with pytest.raises(DataError, match=expected):
        read(clicks=make_clicks(position=[0, 0, 0]))


@pytest.mark.parametrize("value", [None, 1.5, "first"], ids=["null", "fraction", "word"])
def test_position_must_be_a_whole_number(value):
    clicks = make_clicks(position=pd.Series([0, value, 0], dtype=object))
    with pytest.raises(DataError, match=r"interactions\.position, row 1: expected a whole number.*data\.order"):
        read(clicks=clicks)


def test_neither_position_nor_time_is_an_error():
    with pytest.raises(DataError, match=r"neither position nor timestamp with values, only \['user_id', 'item_id'\]"):
        read(clicks=make_clicks().drop(columns="position"))


def test_null_time_is_an_error_when_ordering_by_time():
    clicks = make_clicks(timestamp=pd.array([5, None, 7], dtype="Int64"))
    with pytest.raises(DataError, match=r"got 1 null of 3 \(first: user_id 'u'\); fill them or give position"):
        read(clicks=clicks, order="timestamp")


def test_milliseconds_are_recognized():
    with pytest.raises(DataError, match=r"timestamp, row 0.*got 1700000000000.*divide by 1000"):
        read(clicks=make_clicks(timestamp=[1_700_000_000_000] * 3))


def test_unreadable_date_names_row_and_value():
    dates = ["2024-01-01T00:00:00", "yesterday", "2024-01-02"]
    with pytest.raises(
        DataError, match=r"timestamp, row 1: expected epoch seconds or an ISO 8601 date, got 'yesterday'"
    ):
        read(clicks=make_clicks(timestamp=dates))


def test_duplicate_texts_and_repeated_pairs_are_counted():
    tables = read(
        items=make_items(title=["Red", "Red", "Blue"]),
        clicks=make_clicks(user_id=["u"] * 3, item_id=["a", "a", "c"], position=[0, 1, 2]),
    )

    assert tables.counts["duplicate_texts"] == 1
    assert tables.counts["repeated_pairs"] == 1


def test_duplicate_texts_are_an_error_under_strict():
    with pytest.raises(DataError, match=r"row 1 \(item_id 'b'\): data\.strict expects distinct texts, got 'Red'"):
        read(items=make_items(title=["Red", "Red", "Blue"]), strict=True)


def test_repeated_pairs_are_an_error_under_strict():
    with pytest.raises(DataError, match=r"each item once per user, got 'a' again at position 1 of user_id 'u'"):
        read(clicks=make_clicks(item_id=["a", "a", "c"]), strict=True)


def test_log_without_rows_is_an_error():
    with pytest.raises(DataError, match=r"interactions has 0 rows, expected at least 1; check that the source"):
        read(clicks=make_clicks().iloc[:0])


def test_nothing_left_says_what_was_dropped():
    with pytest.raises(DataError, match=r"no interactions are left.*'dropped_unknown_item_interactions': 3"):
        read(clicks=make_clicks(item_id=["x", "y", "z"]), on_unknown_item="drop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reader": "yelp"}, r"data\.reader is 'yelp', expected one of \['tables', 'synthetic', 'mind', "),
        ({"split": "random"}, r"data\.split is 'random'"),
        ({"order": "id"}, r"data\.order is 'id'"),
        ({"on_unknown_item": "skip"}, r"data\.on_unknown_item is 'skip'"),
        ({"min_history": -1}, r"data\.min_history is -1, expected at least 0"),
        ({"max_user_interactions": 0}, r"data\.max_user_interactions is 0, expected at least 1"),
        ({"time_shares": [0.5, 0.5]}, r"data\.time_shares is \[0\.5, 0\.5\], expected three shares"),
        ({"time_cutoffs": [5, 5]}, r"data\.time_cutoffs is \[5, 5\], expected two rising"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_option_outside_its_range_is_named(options, message):
    with pytest.raises(DataError, match=message):
        DataOptions(**options)


def test_option_set_after_construction_is_checked_when_reading():
    options = DataOptions()
    options.order = "random"
    with pytest.raises(DataError, match=r"data\.order is 'random'"):
        read_tables(options, items=make_items(), interactions=make_clicks())
