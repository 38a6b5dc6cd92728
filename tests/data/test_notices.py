"""What is said about a log that is odd but no error: with counts and the flag that mends it."""

import logging

import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables
from cost_hf.data.prepare import prepare_data

ITEMS = pd.DataFrame({"item_id": [f"i{number}" for number in range(6)], "title": [f"word{n}" for n in range(6)]})
LOG = pd.DataFrame(
    {
        "user_id": ["u"] * 4 + ["v"] * 3,
        "item_id": ["i0", "i1", "i2", "i3", "i4", "i5", "i0"],
        "timestamp": [1, 2, 3, 4, 1, 2, 3],
    }
)
PLACED = LOG.assign(position=[0, 1, 2, 3, 0, 1, 2])


def read(clicks, **options):
    return read_tables(DataOptions(**options), items=ITEMS, interactions=clicks)


def test_clean_log_needs_no_notice():
    assert read(LOG).notices == read(PLACED).notices == ()


@pytest.mark.parametrize("step", [1, 0.001])
def test_position_against_time_is_counted_and_the_flag_named(step):
    clicks = PLACED.assign(timestamp=[step * time for time in (4, 3, 2, 5, 1, 2, 3)])

    (notice,) = read(clicks).notices

    assert "2 of 5 clicks are earlier than the one before" in notice.message
    assert "--data.order timestamp" in notice.remedy
    assert read(clicks, order="position").notices == read(clicks, order="timestamp").notices == ()


def test_missing_times_are_no_contradiction():
    clicks = PLACED.assign(timestamp=pd.array([4, None, 5, None, None, None, 1], dtype="Int64"))

    assert read(clicks).notices == ()


@pytest.mark.parametrize("times", [2, 3])
def test_a_log_joined_to_itself_is_called_that(times):
    doubled = pd.concat([LOG] * times)

    tables = read(doubled)

    assert f"every click is in the log at least {times} times" in tables.notices[0].message
    assert tables.notices[0].remedy == "--data.on_duplicate_click drop"
    assert tables.counts["duplicate_clicks"] == (times - 1) * 7
    assert tables.counts["tied_timestamps"] == 0
    assert not any("coarse" in notice.message for notice in tables.notices)


def test_dropping_repeats_gives_the_log_back():
    once, cleaned = read(LOG), read(pd.concat([LOG, LOG]), on_duplicate_click="drop")

    assert cleaned.interactions.equals(once.interactions)
    assert cleaned.digest == once.digest
    assert cleaned.counts["dropped_duplicate_clicks"] == 7
    assert cleaned.notices == ()


def test_repeats_of_positions_name_the_flag():
    placed = PLACED.drop(columns="timestamp")

    with pytest.raises(DataError, match=r"7 rows repeat .*data.on_duplicate_click: drop"):
        read(pd.concat([placed, placed]))
    assert read(pd.concat([placed, placed]), on_duplicate_click="drop").interactions.equals(read(placed).interactions)


def test_a_doubled_log_with_new_positions_is_noticed():
    placed = PLACED.drop(columns="timestamp")

    (notice,) = read(pd.concat([placed, placed.assign(position=placed["position"] + 10)])).notices

    assert "every user has each of their items at least 2 times" in notice.message


def test_some_repeats_are_counted():
    (notice,) = read(pd.concat([LOG, LOG.head(2)])).notices

    assert "2 of 9 clicks repeat user, item and time" in notice.message


def test_of_a_click_in_two_parts_the_earlier_part_is_kept():
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["i0", "i0"], "timestamp": 1, "split": ["test", "train"]})

    tables = read(clicks, split="source", on_duplicate_click="drop")

    assert tables.interactions["split"].tolist() == ["train"]


def test_clicks_at_different_fractions_of_a_second_are_no_repeats():
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["i0", "i0", "i1"], "timestamp": [1.25, 1.5, 2]})

    assert read(clicks).counts["duplicate_clicks"] == 0


def test_dates_in_one_number_are_noticed():
    clicks = LOG.assign(timestamp=[20240101, 20240102, 20240131, 20240201, 20240101, 20240102, 20240131])

    assert "look like dates (the first is 20240101)" in read(clicks).notices[0].message


def test_a_run_logs_the_notices(caplog):
    with caplog.at_level(logging.WARNING):
        prepare_data(DataOptions(min_history=0), items=ITEMS, interactions=pd.concat([LOG, LOG]))

    assert "--data.on_duplicate_click drop" in caplog.text
