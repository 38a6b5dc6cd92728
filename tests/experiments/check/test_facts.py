"""Facts of a click log, each against a slow reference or by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataOptions, read_tables
from cost_hf.experiments.check.facts import click_facts, top_share

DAY = 86_400
ITEMS = pd.DataFrame({"item_id": [f"i{number}" for number in range(10)], "title": [f"word{n}" for n in range(10)]})


def facts_of(rows, columns=("user_id", "item_id", "timestamp"), **options):
    chosen = DataOptions(**options)
    tables = read_tables(chosen, items=ITEMS, interactions=pd.DataFrame(rows, columns=list(columns)))
    return click_facts(tables, chosen)


LOG = [
    *[("a", f"i{n}", n * DAY) for n in range(4)],
    *[("b", f"i{n}", (10 + n) * DAY) for n in range(3)],
    ("c", "i0", 5 * DAY),
    ("c", "i0", 5 * DAY),
]


def test_sizes_and_lengths_are_counted():
    facts = facts_of(LOG)

    assert (facts.users, facts.items, facts.interactions) == (3, 10, 9)
    assert facts.density == pytest.approx(9 / 30)
    assert (facts.lengths.least, facts.lengths.median, facts.lengths.mean, facts.lengths.most) == (2, 3, 3, 4)
    assert (facts.short_users, facts.unclicked_items, facts.repeated_pairs) == (1, 6, 1)


def test_times_are_dated_and_ties_are_shares_of_clicks():
    time = facts_of(LOG).time

    assert (time.first, time.last) == ("1970-01-01", "1970-01-13")
    assert (time.null_share, time.tied_share) == (0.0, 0.0)  # a repeat of the same click leaves nothing to order
    assert facts_of([*LOG, ("c", "i1", 5 * DAY)]).time.tied_share == pytest.approx(2 / 10)
    assert facts_of([*LOG, ("c", "i1", 5 * DAY + 0.5)]).time.tied_share == 0.0


@given(
    times=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), min_size=9, max_size=20).filter(
        lambda rows: all(sum(user == name for user, _ in rows) >= 3 for name in "abc")
    )
)
@settings(max_examples=25)
def test_clicks_later_than_a_last_click_agree_with_counting(times):
    frame = pd.DataFrame([(user, "i0", day) for user, day in times], columns=["user_id", "item_id", "timestamp"])
    last = frame.groupby("user_id")["timestamp"].max()
    rest = frame["timestamp"].tolist()
    for day in last:
        rest.remove(day)

    facts = facts_of(frame.to_numpy().tolist())

    assert facts.time.later_share == pytest.approx(np.mean([[other > day for other in rest] for day in last]))


def test_without_times_only_the_order_is_known():
    facts = facts_of([("a", f"i{n}", n) for n in range(5)], columns=("user_id", "item_id", "position"))

    assert (facts.time.first, facts.time.null_share, facts.time.later_share) == (None, 1.0, None)
    assert [split.name for split in facts.splits] == ["leave_one_out"]


def test_targets_that_training_never_saw_are_a_share_of_the_cases():
    rows = [("a", "i0", 1), ("a", "i1", 2), ("a", "i9", 3), ("b", "i2", 1), ("b", "i1", 2), ("b", "i0", 3)]

    (split,) = facts_of(rows, columns=("user_id", "item_id", "position")).splits

    assert (split.cases, split.users, split.unseen) == (2, 2, 0.5)


def test_repeated_targets_stand_in_their_own_history():
    rows = [("a", "i0", 1), ("a", "i1", 2), ("a", "i0", 3), ("b", "i2", 1), ("b", "i1", 2), ("b", "i0", 3)]

    (split,) = facts_of(rows, columns=("user_id", "item_id", "position")).splits

    assert split.repeated == 0.5


def test_every_split_that_the_columns_allow_is_tried():
    parts = ["history", "history", "valid", "test"] * 3
    rows = [(f"u{n // 4}", f"i{n % 4}", n * DAY, part) for n, part in enumerate(parts)]

    facts = facts_of(rows, columns=("user_id", "item_id", "timestamp", "split"), time_shares=[0.5, 0.25, 0.25])

    assert [split.name for split in facts.splits] == ["leave_one_out", "time", "source"]
    assert {split.name: split.failure for split in facts.splits} == dict.fromkeys(["leave_one_out", "time", "source"])


def test_a_split_that_is_asked_for_and_impossible_says_why():
    facts = facts_of([("a", f"i{n}", n) for n in range(5)], columns=("user_id", "item_id", "position"), split="time")

    assert facts.splits[-1].name == "time"
    assert "timestamp" in facts.splits[-1].failure


def test_the_top_tenth_of_the_catalog_counts_at_least_one_item():
    assert top_share(np.array([6, 3, 1])) == 0.6
    assert top_share(np.array([1] * 90 + [10] * 10)) == pytest.approx(100 / 190)
