"""Every check of the two tables by the message a user would read, and the notices about what is odd but no error."""

import logging

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables
from cost_hf.data.prepare import prepare_data


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


ITEMS = pd.DataFrame({"item_id": [f"i{number}" for number in range(6)], "title": [f"word{n}" for n in range(6)]})
LOG = pd.DataFrame(
    {
        "user_id": ["u"] * 4 + ["v"] * 3,
        "item_id": ["i0", "i1", "i2", "i3", "i4", "i5", "i0"],
        "timestamp": [1, 2, 3, 4, 1, 2, 3],
    }
)
PLACED = LOG.assign(position=[0, 1, 2, 3, 0, 1, 2])


def read_log(clicks, **options):
    return read_tables(DataOptions(**options), items=ITEMS, interactions=clicks)


def test_clean_log_needs_no_notice():
    assert read_log(LOG).notices == read_log(PLACED).notices == ()


@pytest.mark.parametrize("step", [1, 0.001])
def test_position_against_time_is_counted_and_the_flag_named(step):
    clicks = PLACED.assign(timestamp=[step * time for time in (4, 3, 2, 5, 1, 2, 3)])

    (notice,) = read_log(clicks).notices

    assert "2 of 5 clicks are earlier than the one before" in notice.message
    assert "--data.order timestamp" in notice.remedy
    assert read_log(clicks, order="position").notices == read_log(clicks, order="timestamp").notices == ()


def test_missing_times_are_no_contradiction():
    clicks = PLACED.assign(timestamp=pd.array([4, None, 5, None, None, None, 1], dtype="Int64"))

    assert read_log(clicks).notices == ()


@pytest.mark.parametrize("times", [2, 3])
def test_a_log_joined_to_itself_is_called_that(times):
    doubled = pd.concat([LOG] * times)

    tables = read_log(doubled)

    assert f"every click is in the log at least {times} times" in tables.notices[0].message
    assert tables.notices[0].remedy == "--data.on_duplicate_click drop"
    assert tables.counts["duplicate_clicks"] == (times - 1) * 7
    assert tables.counts["tied_timestamps"] == 0
    assert not any("coarse" in notice.message for notice in tables.notices)


def test_dropping_repeats_gives_the_log_back():
    once, cleaned = read_log(LOG), read_log(pd.concat([LOG, LOG]), on_duplicate_click="drop")

    assert cleaned.interactions.equals(once.interactions)
    assert cleaned.digest == once.digest
    assert cleaned.counts["dropped_duplicate_clicks"] == 7
    assert cleaned.notices == ()


def test_repeats_of_positions_name_the_flag():
    placed = PLACED.drop(columns="timestamp")

    with pytest.raises(DataError, match=r"7 rows repeat .*data.on_duplicate_click: drop"):
        read_log(pd.concat([placed, placed]))
    assert read_log(pd.concat([placed, placed]), on_duplicate_click="drop").interactions.equals(
        read_log(placed).interactions
    )


def test_a_doubled_log_with_new_positions_is_noticed():
    placed = PLACED.drop(columns="timestamp")

    (notice,) = read_log(pd.concat([placed, placed.assign(position=placed["position"] + 10)])).notices

    assert "every user has each of their items at least 2 times" in notice.message


def test_some_repeats_are_counted():
    (notice,) = read_log(pd.concat([LOG, LOG.head(2)])).notices

    assert "2 of 9 clicks repeat user, item and time" in notice.message


def test_of_a_click_in_two_parts_the_earlier_part_is_kept():
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["i0", "i0"], "timestamp": 1, "split": ["test", "train"]})

    tables = read_log(clicks, split="source", on_duplicate_click="drop")

    assert tables.interactions["split"].tolist() == ["train"]


def test_clicks_at_different_fractions_of_a_second_are_no_repeats():
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["i0", "i0", "i1"], "timestamp": [1.25, 1.5, 2]})

    assert read_log(clicks).counts["duplicate_clicks"] == 0


def test_dates_in_one_number_are_noticed():
    clicks = LOG.assign(timestamp=[20240101, 20240102, 20240131, 20240201, 20240101, 20240102, 20240131])

    assert "look like dates (the first is 20240101)" in read_log(clicks).notices[0].message


def test_a_run_logs_the_notices(caplog):
    with caplog.at_level(logging.WARNING):
        prepare_data(DataOptions(min_history=0), items=ITEMS, interactions=pd.concat([LOG, LOG]))

    assert "--data.on_duplicate_click drop" in caplog.text
