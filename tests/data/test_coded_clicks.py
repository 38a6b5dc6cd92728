"""Numbers of users and items, orders and parts equal what a loop over users finds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.data import DataError, DataOptions, Split, read_tables, split_interactions
from cost_hf.data.coded_clicks import CodedClicks, run_lengths, stable_order
from cost_hf.data.splits import part_numbers

IDS = st.sampled_from(["b", "a", "é", "B", "\U0001f600", "\uffff", "ab"])


@given(st.lists(st.tuples(IDS, IDS), max_size=12))
def test_ids_are_numbered_in_their_order(pairs):
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"], dtype=str)
    log = CodedClicks.of(frame)

    assert log.user_ids.tolist() == sorted({user for user, _ in pairs})
    assert log.user_ids[log.users].tolist() == [user for user, _ in pairs]
    assert log.item_ids[log.items].tolist() == [item for _, item in pairs]
    assert len(set(log.pairs.tolist())) == len(set(pairs))
    assert log.num_users == len({user for user, _ in pairs})


def test_a_part_keeps_its_rows_numbers_and_fractions():
    frame = pd.DataFrame({"user_id": ["u", "v", "u"], "item_id": ["a", "b", "c"]}, index=[5, 6, 9])
    log = CodedClicks.of(frame, pd.Series([1, 2, 3, 4], index=[5, 6, 7, 9])).where(np.array([True, False, True]))

    assert log.frame.index.tolist() == [5, 9]
    assert log.fractions.tolist() == [1, 4]
    assert log.user_ids[log.users].tolist() == ["u", "u"]
    assert log.where(np.ones(2, dtype=bool)) is log


KEYS = st.integers(1, 9).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 2), min_size=size, max_size=size), min_size=1, max_size=4)
)


@given(KEYS)
def test_orders_are_those_of_lexsort(keys):
    arrays = [np.array(key) for key in keys]

    assert stable_order(*arrays).tolist() == np.lexsort(arrays).tolist()
    assert run_lengths(np.sort(arrays[0])).tolist() == np.unique(arrays[0], return_counts=True)[1].tolist()


ITEMS = pd.DataFrame({"item_id": list("abc"), "title": ["Red", "Green", "Blue"]})


def slow_leave_one_out(flags):
    """Return the parts of one user's clicks, of which `flags` may be targets."""
    targets = [place for place, flag in enumerate(flags) if flag and place and len(flags) >= 3]
    parts = [0] * len(flags)
    for part, number in ((1, -2), (2, -1)):
        if len(targets) >= -number:
            parts[targets[number] :] = [part] * (len(flags) - targets[number])
    return parts


def slow_source(marks):
    """Return the parts of one user's clicks by what the source says."""
    names = {"train": 0, "valid": 1, "test": 2}
    parts = [names[mark] for mark in marks]
    return [-1 if part == 0 and max(parts[: place + 1]) > 0 else part for place, part in enumerate(parts)]


CLICKS = st.lists(
    st.tuples(
        st.sampled_from("uvw"), st.sampled_from("abc"), st.booleans(), st.sampled_from(["train", "valid", "test"])
    ),
    min_size=1,
    max_size=14,
)


@given(CLICKS)
def test_parts_are_those_of_a_loop_over_users(clicks):
    frame = pd.DataFrame(clicks, columns=["user_id", "item_id", "is_wanted", "split"]).assign(
        timestamp=range(len(clicks))
    )
    frame["event"] = np.where(frame["is_wanted"], "buy", "view")
    tables = read_tables(DataOptions(event_column="event"), items=ITEMS, interactions=frame)
    log = tables.interactions.assign(is_target=tables.interactions["is_wanted"])

    for split, column, slow in (("leave_one_out", "is_target", slow_leave_one_out), ("source", "split", slow_source)):
        found = part_numbers(log, DataOptions(split=split), {})
        expected = [part for _, own in log.groupby("user_id", sort=False) for part in slow(own[column].tolist())]
        assert found.tolist() == expected


def test_a_log_without_a_click_says_what_was_dropped():
    clicks = pd.DataFrame({"user_id": [None, None], "item_id": ["a", "b"], "timestamp": [1, 2]})

    with pytest.raises(DataError, match=r"no interactions are left.*dropped_guest_clicks"):
        read_tables(DataOptions(on_missing_user="drop"), items=ITEMS, interactions=clicks)


def test_a_split_with_sequences_beyond_its_rows_is_refused(tmp_path):
    clicks = pd.DataFrame({"user_id": ["u"] * 4, "item_id": list("abca"), "timestamp": range(4)})
    options = DataOptions()
    split = split_interactions(read_tables(options, items=ITEMS, interactions=clicks), options)
    split.validation.histories.lengths[:] = 99
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cost_hf.data.splits._pooled", lambda targets: (np.arange(2), np.zeros(1, dtype=np.int64)))
        split.save(tmp_path)

    with pytest.raises(DataError, match=r"sequences beyond the rows of its part 'validation'"):
        Split.load(tmp_path)
