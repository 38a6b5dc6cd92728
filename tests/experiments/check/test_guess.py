"""Columns of foreign tables: found by content first, by name where content can't tell, and never in silence."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataError
from cost_hf.experiments.check.guess import guess_columns

ITEMS = pd.DataFrame({"asin": [f"B{number:03}" for number in range(40)], "title": [f"lamp {n}" for n in range(40)]})


def clicks_of(**columns):
    rng = np.random.default_rng(0)
    rows = {
        "reviewerID": [f"u{number}" for number in rng.integers(0, 15, 200)],
        "asin": rng.choice(ITEMS["asin"], 200),
        "unixReviewTime": rng.integers(1_400_000_000, 1_500_000_000, 200),
    }
    return pd.DataFrame(rows | columns)


def test_names_that_are_ours_need_no_mapping():
    items = ITEMS.rename(columns={"asin": "item_id"})
    clicks = clicks_of().rename(columns={"asin": "item_id", "reviewerID": "user_id", "unixReviewTime": "timestamp"})

    assert guess_columns(items, clicks).columns == {}


def test_a_review_dump_is_mapped_whole():
    guess = guess_columns(ITEMS, clicks_of())

    assert guess.columns == {"item_id": "asin", "user_id": "reviewerID", "timestamp": "unixReviewTime"}
    assert guess.doubts == []


def test_ids_are_matched_by_their_values_where_no_name_helps():
    items = ITEMS.rename(columns={"asin": "left"}).assign(other=[f"x{number}" for number in range(40)])
    clicks = clicks_of(noise=[f"n{number}" for number in range(200)]).rename(columns={"asin": "right"})

    columns = guess_columns(items, clicks).columns

    assert (columns["items.item_id"], columns["interactions.item_id"]) == ("left", "right")


def test_a_rating_is_no_item_although_all_its_values_are_ids():
    items = pd.DataFrame({"movieId": range(1, 41), "title": "x"})
    clicks = pd.DataFrame({"userId": [1, 1, 2, 2, 3] * 8, "movieId": range(1, 41), "rating": [1, 2, 3, 4, 5] * 8})
    clicks["timestamp"] = 1_400_000_000

    assert guess_columns(items, clicks).columns == {"item_id": "movieId", "user_id": "userId"}


def test_users_numbered_like_items_are_told_apart_by_name():
    items = pd.DataFrame({"id": range(100), "title": "x"})
    clicks = pd.DataFrame({"user": [*range(50)] * 4, "product": [*range(100)] * 2, "date": ["2024-01-01"] * 200})

    columns = guess_columns(items, clicks).columns

    assert columns == {"items.item_id": "id", "interactions.item_id": "product", "user_id": "user", "timestamp": "date"}


def test_a_name_that_both_tables_have_is_mapped_in_one_of_them_alone():
    items = ITEMS.assign(date="2020-01-01")

    columns = guess_columns(items, clicks_of().rename(columns={"unixReviewTime": "date"})).columns

    assert columns["interactions.timestamp"] == "date"
    assert "timestamp" not in columns


def test_a_customer_is_taken_before_a_session_and_with_guests_and_a_line_of_totals():
    users = pd.Series([*(number % 15 for number in range(198)), None, "Total:"], dtype=object)
    clicks = clicks_of(session_id=[f"s{number // 4}" for number in range(200)], Kundennr=users)

    assert guess_columns(ITEMS, clicks.drop(columns="reviewerID")).columns["user_id"] == "Kundennr"


def test_two_columns_as_good_as_each_other_are_both_named():
    guess = guess_columns(ITEMS, clicks_of(customer_id=clicks_of()["reviewerID"]))

    assert len(guess.doubts) == 1
    assert "'customer_id'" in guess.doubts[0] and "'reviewerID'" in guess.doubts[0]


@pytest.mark.parametrize(
    "times",
    [1_500_000_000, 1_500_000_000_000, "2024-05-01T10:00:00Z", pd.Timestamp("2024-05-01")],
    ids=["seconds", "milliseconds", "ISO text", "dates"],
)
def test_times_of_every_form_are_found(times):
    clicks = clicks_of(ts=times).drop(columns="unixReviewTime")

    assert guess_columns(ITEMS, clicks).columns["timestamp"] == "ts"


def test_a_column_called_time_without_times_is_not_taken():
    clicks = clicks_of(time=range(200), order=range(200)).drop(columns="unixReviewTime")

    columns = guess_columns(ITEMS, clicks).columns

    assert columns["position"] == "order"
    assert "timestamp" not in columns


def test_an_empty_timestamp_beside_a_position_asks_for_nothing():
    clicks = clicks_of(timestamp=None, position=range(200)).drop(columns="unixReviewTime")

    assert set(guess_columns(ITEMS, clicks).columns) == {"item_id", "user_id"}


def test_a_product_name_becomes_the_title():
    assert (
        guess_columns(ITEMS.rename(columns={"title": "product_name"}), clicks_of()).columns["title"] == "product_name"
    )


def test_tables_without_common_ids_are_refused_with_both_lists_of_columns():
    with pytest.raises(DataError, match=r"no column of interactions .*'noise'.* holds ids of a unique column of items"):
        guess_columns(ITEMS, clicks_of(asin="elsewhere", noise="x"))


def test_a_log_without_users_is_refused():
    with pytest.raises(DataError, match=r"looks like a user id .*data.columns: {user_id"):
        guess_columns(ITEMS, clicks_of().drop(columns="reviewerID"))


@given(order=st.permutations(["reviewerID", "asin", "unixReviewTime", "rating", "vote"]))
@settings(max_examples=20)
def test_the_order_of_columns_decides_nothing(order):
    clicks = clicks_of(rating=5, vote=range(200))

    assert guess_columns(ITEMS, clicks[list(order)]).columns == guess_columns(ITEMS, clicks).columns


def test_dates_are_known_by_what_they_are():
    clicks = clicks_of().drop(columns="unixReviewTime")
    clicks["am"] = [f"{number % 28 + 1:02d}.01.2026 10:30:00" for number in range(len(clicks))]

    assert guess_columns(ITEMS, clicks).columns["timestamp"] == "am"
