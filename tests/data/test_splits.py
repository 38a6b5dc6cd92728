"""Which clicks train, which are targets, and that no history holds what comes later."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from cost_hf.data import DataError, DataOptions, Split, make_news, read_tables, split_interactions

ITEMS = pd.DataFrame({"item_id": list("abcdefgh"), "title": [f"word{letter}" for letter in "abcdefgh"]})


def tables_of(sequences, **extra):
    rows = [(user, item, place) for user, items in sequences.items() for place, item in enumerate(items)]
    clicks = pd.DataFrame(rows, columns=["user_id", "item_id", "position"]).assign(**extra)
    return read_tables(DataOptions(), items=ITEMS, interactions=clicks)


def split_of(tables, **options):
    return split_interactions(tables, DataOptions(**options))


def as_words(rows):
    return "".join(ITEMS["item_id"].iloc[rows])


def cases_of(targets):
    pairs = zip(targets.user_ids, targets.histories, targets.items, strict=True)
    return [(user, as_words(history), as_words([item])) for user, history, item in pairs]


def test_leave_one_out_takes_the_last_for_test_and_the_one_before_for_validation():
    split = split_of(tables_of({"u": "abcd", "v": "efg"}))

    assert [as_words(rows) for rows in split.train] == ["ab", "e"]
    assert cases_of(split.validation) == [("u", "ab", "c"), ("v", "e", "f")]
    assert cases_of(split.test) == [("u", "abc", "d"), ("v", "ef", "g")]


def test_users_with_fewer_than_three_clicks_only_train():
    split = split_of(tables_of({"u": "abc", "v": "de", "w": "f"}))

    assert [as_words(rows) for rows in split.train] == ["a", "de", "f"]
    assert split.train_user_ids.tolist() == ["u", "v", "w"]
    assert split.counts["short_users"] == 2
    assert len(split.test) == 1


def test_cases_with_short_histories_are_dropped_and_counted():
    split = split_of(tables_of({"u": "abcd", "v": "efg"}), min_history=2)

    assert cases_of(split.validation) == [("u", "ab", "c")]
    assert len(split.test) == 2
    assert split.counts["dropped_short_history_validation"] == 1
    assert split.counts["dropped_short_history_test"] == 0


def test_source_column_makes_every_marked_click_a_target_with_all_earlier_clicks():
    marks = ["history", "valid", "valid", "test", "train", "Test"]
    split = split_of(tables_of({"u": "abcd", "v": "ef"}, split=marks), split="source")

    assert [as_words(rows) for rows in split.train] == ["a", "e"]
    assert cases_of(split.validation) == [("u", "a", "b"), ("u", "ab", "c")]
    assert cases_of(split.test) == [("u", "abc", "d"), ("v", "e", "f")]


def test_source_split_reads_the_named_column():
    tables = tables_of({"u": "abc"}, part=["train", "dev", "test"])

    assert cases_of(split_of(tables, split="source", split_column="part").test) == [("u", "ab", "c")]
    with pytest.raises(DataError, match=r"interactions has no column 'split'"):
        split_of(tables, split="source")


def test_source_split_names_an_unknown_mark():
    tables = tables_of({"u": "abc"}, split=["train", "later", "test"])
    with pytest.raises(
        DataError, match=r"interactions\.split: expected one of .*got 'later' at position 1 of user_id 'u'"
    ):
        split_of(tables, split="source")


def test_source_split_names_a_null_mark():
    tables = tables_of({"u": "abc"}, split=pd.Series(["train", None, "test"], dtype=object))
    with pytest.raises(DataError, match=r"got (None|nan) at position 1"):
        split_of(tables, split="source")


def test_time_split_takes_cutoffs_as_the_first_second_of_a_part():
    tables = tables_of({"u": "abcd", "v": "efgh"}, timestamp=[1, 5, 9, 12, 1, 2, 4, 10])
    split = split_of(tables, split="time", time_cutoffs=[5, 10])

    assert [as_words(rows) for rows in split.train] == ["a", "efg"]
    assert cases_of(split.validation) == [("u", "a", "b"), ("u", "ab", "c")]
    assert cases_of(split.test) == [("u", "abc", "d"), ("v", "efg", "h")]
    assert (split.counts["validation_from"], split.counts["test_from"]) == (5, 10)


def test_time_split_names_how_many_times_are_null_and_the_way_out():
    tables = tables_of({"u": "abc"}, timestamp=pd.array([1, None, None], dtype="Int64"))
    with pytest.raises(DataError, match=r"got 2 null of 3; fill them, or set data\.split: leave_one_out"):
        split_of(tables, split="time")


def test_time_split_without_times_names_the_column():
    with pytest.raises(DataError, match=r"interactions has no column 'timestamp'"):
        split_of(tables_of({"u": "abc"}), split="time")


def test_time_split_refuses_times_that_contradict_the_order():
    tables = tables_of({"u": "abc"}, timestamp=[5, 3, 9])
    with pytest.raises(DataError, match=r"got 3 at position 1 of user_id 'u' after a later time.*order: timestamp"):
        split_of(tables, split="time")


@pytest.fixture(scope="module")
def news_tables():
    news = make_news(num_users=200, num_items=120)
    return read_tables(DataOptions(), items=news.items, interactions=news.interactions)


def test_time_split_of_the_news_set_keeps_past_and_future_apart(news_tables):
    split = split_of(news_tables, split="time")
    times = news_tables.interactions.set_index(["user_id", "item_row"])["timestamp"].to_dict()  # items are read once
    first, second = split.counts["validation_from"], split.counts["test_from"]

    assert (
        max(times[user, row] for user, rows in zip(split.train_user_ids, split.train, strict=True) for row in rows)
        < first
    )
    for targets, low, high in ((split.validation, first, second), (split.test, second, np.inf)):
        for user, history, item in zip(targets.user_ids, targets.histories, targets.items, strict=True):
            assert low <= times[user, item] < high
            assert all(times[user, row] < times[user, item] for row in history)


def test_time_shares_hold_within_a_few_clicks(news_tables):
    split = split_of(news_tables, split="time")

    total = len(news_tables.interactions)
    dropped = split.counts["dropped_short_history_test"]
    assert split.counts["train_interactions"] / total == pytest.approx(0.8, abs=0.01)
    assert (len(split.test) + dropped) / total == pytest.approx(0.1, abs=0.01)


def test_training_clicks_keep_their_times_in_the_order_of_the_sequences():
    times = {"v": [5, 6, 7, 8], "u": [1, 2, 3, 4]}
    tables = tables_of({"v": "efgh", "u": "abcd"}, timestamp=[*times["v"], *times["u"]])

    split = split_of(tables)

    found = np.split(split.train_times, np.cumsum([len(rows) for rows in split.train])[:-1])
    assert {user: own.tolist() for user, own in zip(split.train_user_ids, found, strict=True)} == {
        user: own[:2] for user, own in times.items()
    }
    assert split.train_times.dtype == np.int64


def test_clicks_of_which_one_has_no_time_have_none():
    times = pd.array([1, None, 3, 4, 5, 6, 7, 8], dtype="Int64")

    assert split_of(tables_of({"u": "abcd", "v": "efgh"}, timestamp=times)).train_times is None
    assert split_of(tables_of({"u": "abcd", "v": "efgh"})).train_times is None


def test_times_of_the_training_part_match_its_clicks(news_tables):
    clicks = news_tables.interactions.set_index(["user_id", "item_row"])["timestamp"].to_dict()  # items are read once
    for options in ({"split": "time"}, {"cold_share": 0.1}):
        split = split_of(news_tables, **options)
        pairs = [(user, row) for user, rows in zip(split.train_user_ids, split.train, strict=True) for row in rows]

        assert split.train_times.tolist() == [clicks[pair] for pair in pairs]


def test_times_of_other_clicks_are_refused(tmp_path, news_tables):
    split_of(news_tables).save(tmp_path)
    tensors = load_file(tmp_path / "split.safetensors")
    tensors["train_times"] = tensors["train_times"][1:]
    save_file(tensors, tmp_path / "split.safetensors")

    with pytest.raises(DataError, match=r"has the times of \d+ training clicks, expected \d+"):
        Split.load(tmp_path)


def test_part_without_cases_is_an_error():
    with pytest.raises(DataError, match=r"split 'leave_one_out' leaves 0 validation cases"):
        split_of(tables_of({"u": "ab"}))
    with pytest.raises(DataError, match=r"split 'time' leaves 0 train cases"):
        split_of(tables_of({"u": "abc"}, timestamp=[7, 8, 9]), split="time", time_cutoffs=[1, 9])


SEQUENCES = st.dictionaries(st.sampled_from("uvwxyz"), st.text("abcdefgh", min_size=1, max_size=9), min_size=1)


@given(sequences=SEQUENCES, least=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_leave_one_out_loses_and_doubles_nothing(sequences, least):
    split = split_of(tables_of(sequences | {"t": "abcdefg"}), min_history=least)

    for user, history, target in cases_of(split.test):
        assert history + target == (sequences | {"t": "abcdefg"})[user]
    for user, history, target in cases_of(split.validation):
        assert history + target == (sequences | {"t": "abcdefg"})[user][:-1]
    dropped = split.counts["dropped_short_history_validation"] + split.counts["dropped_short_history_test"]
    used = sum(map(len, split.train)) + len(split.validation) + len(split.test)
    assert used + dropped == sum(map(len, sequences.values())) + (0 if "t" in sequences else 7)


def test_histories_start_at_the_left_and_are_filled_with_minus_one():
    targets = split_of(tables_of({"u": "abcd", "v": "efg"})).test

    assert targets.histories_matrix([0, 1]).tolist() == [[0, 1, 2], [4, 5, -1]]
    assert targets.histories_matrix(np.array([1])).tolist() == [[4, 5]]
    assert targets.histories_matrix(np.array([], dtype=int)).shape == (0, 0)


def test_popularity_counts_training_clicks_alone():
    split = split_of(tables_of({"u": "aabc", "v": "adh"}))

    assert split.popularity(8).tolist() == [3, 0, 0, 0, 0, 0, 0, 0]
    assert split.popularity(8).dtype == np.int64


def test_shares_of_repeated_and_unseen_targets():
    split = split_of(tables_of({"u": "abca", "v": "acg"}))

    assert split.shares() == {
        "repeated_target": 0.5,
        "unseen_target": 0.5,
        "validation_repeated_target": 0.0,
        "validation_unseen_target": 1.0,
    }


def test_split_survives_saving_with_equal_bytes(tmp_path, news_tables):
    split = split_of(news_tables, split="time")
    split.save(tmp_path / "one")
    loaded = Split.load(tmp_path / "one")
    loaded.save(tmp_path / "two")

    assert loaded.digest == split.digest
    assert loaded.counts == split.counts
    assert cases_equal(loaded, split)
    assert loaded.train_times.tolist() == split.train_times.tolist()
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def cases_equal(first, second):
    return all(
        a.user_ids.tolist() == b.user_ids.tolist()
        and a.items.tolist() == b.items.tolist()
        and [rows.tolist() for rows in a.histories] == [rows.tolist() for rows in b.histories]
        for a, b in ((first.validation, second.validation), (first.test, second.test))
    ) and [rows.tolist() for rows in first.train] == [rows.tolist() for rows in second.train]


def test_files_of_two_splits_are_not_mixed(tmp_path):
    split_of(tables_of({"u": "abcd"})).save(tmp_path / "one")
    split_of(tables_of({"u": "abce"})).save(tmp_path / "two")
    (tmp_path / "two" / "split.json").replace(tmp_path / "one" / "split.json")
    with pytest.raises(DataError, match=r"has digest .*come from different runs"):
        Split.load(tmp_path / "one")


def test_empty_histories_survive_saving(tmp_path):
    tables = tables_of({"u": "ab", "v": "cd"}, split=["test", "valid", "train", "valid"])
    split = split_of(tables, split="source", min_history=0)
    split.save(tmp_path)

    assert cases_of(Split.load(tmp_path).test) == [("u", "", "a")]
    assert split.test.histories_matrix([0]).shape == (1, 0)


def test_what_the_source_marks_as_history_behind_a_target_of_the_user_does_not_train():
    tables = tables_of({"u": "abcd", "v": "ab"}, split=["history", "test", "history", "valid", "history", "history"])

    split = split_of(tables, split="source")

    assert [rows.tolist() for rows in split.train] == [[0], [0, 1]]
    assert split.counts["dropped_history_behind_target"] == 1
