"""Clicks that a run knows, and what an update learns of them."""

import numpy as np
import pandas as pd
import pytest

from cost_hf.data.click_log import (
    CLICKS,
    HELD_OUT,
    LATER,
    PART,
    KnownClicks,
    load_clicks,
    save_clicks,
    training_clicks,
)
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import prepare_data
from cost_hf.data.tables import read_interactions
from cost_hf.files import DamagedFileError

ITEMS = pd.DataFrame({"item_id": list("abcdef"), "title": [f"tea number {n}" for n in range(6)]})
ROWS = pd.Series(range(6), index=list("abcdef"))


def log_of(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def first_log(users: int = 12, length: int = 6) -> pd.DataFrame:
    rows = [
        (f"u{user}", "abcdef"[(user + step) % 6], 100 * step + user) for user in range(users) for step in range(length)
    ]
    return log_of(*rows)


def known_of(options: DataOptions, log: pd.DataFrame) -> KnownClicks:
    data = prepare_data(options, items=ITEMS, interactions=log)
    return KnownClicks(training_clicks(data.tables, options))


def unknown(known: KnownClicks, log: pd.DataFrame, options: DataOptions, *, number: int = 1) -> pd.DataFrame:
    return known.unknown(read_interactions(log, options=options), options, number=number)


OPTIONS = DataOptions(reader="tables")


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        DataOptions(reader="tables", split="time"),
        DataOptions(reader="tables", split="source", split_column="part"),
        DataOptions(reader="tables", event_column="kind", event_weights={"view": 1, "buy": 3}, target_events=["buy"]),
    ],
    ids=["leave one out", "time", "source", "events"],
)
def test_guard_cases_are_the_validation_cases_of_the_run(options, tmp_path):
    log = first_log()
    log["part"] = np.where(log["timestamp"] < 300, "train", np.where(log["timestamp"] < 400, "valid", "test"))
    log["kind"] = ["view", "buy", "buy"] * (len(log) // 3)
    data = prepare_data(options, items=ITEMS, interactions=log)
    save_clicks(training_clicks(data.tables, options), tmp_path / CLICKS)

    cases = KnownClicks.load(tmp_path / CLICKS, []).guard_cases(ROWS, options)

    assert len(cases) > 0
    assert cases.items.tolist() == data.split.validation.items.tolist()
    assert [list(one) for one in cases.histories] == [list(one) for one in data.split.validation.histories]
    assert cases.user_ids.tolist() == data.split.validation.user_ids.tolist()


def test_clicks_that_come_again_are_known_and_late_ones_are_not():
    known = known_of(OPTIONS, first_log())
    late = ("u0", "d", 250)  # between two known clicks of its user
    again = first_log().head(20)

    fresh = unknown(known, pd.concat([again, log_of(late, ("new", "a", 5))], ignore_index=True), OPTIONS)

    assert fresh[["user_id", "item_id", "timestamp"]].values.tolist() == [["new", "a", 5], ["u0", "d", 250]]
    today = known.today(fresh)
    mine = today.clicks.loc[today.clicks["user_id"] == "u0"]
    assert mine["timestamp"].is_monotonic_increasing
    assert mine["item_id"].tolist() == ["a", "b", "c", "d", "d", "e", "f"]


def test_the_same_item_at_one_time_is_two_clicks_where_the_events_differ():
    options = DataOptions(reader="tables", event_column="kind", event_weights={"view": 1, "buy": 3})
    known = known_of(options, first_log().assign(kind="view"))

    fresh = unknown(known, log_of(("u0", "a", 0), ("u1", "b", 1)).assign(kind=["buy", "view"]), options)

    assert fresh[["user_id", "item_id"]].values.tolist() == [["u0", "a"]]
    assert fresh["event_weight"].tolist() == [3]


def test_without_times_whole_sequences_and_the_same_log_are_recognised():
    def positions(*rows):
        return pd.DataFrame(rows, columns=["user_id", "item_id", "position"])

    log = positions(*[(f"u{user}", "abcdef"[(user + step) % 6], step) for user in range(6) for step in range(4)])
    known = known_of(OPTIONS, log)
    whole = [("u0", item, step) for step, item in enumerate("abcdf")]

    fresh = unknown(known, positions(*whole, ("u1", "b", 0), ("u9", "c", 0)), OPTIONS)

    # the first click of u1 is "b", but one click is no whole sequence
    assert fresh[["user_id", "item_id"]].values.tolist() == [["u0", "f"], ["u1", "b"], ["u9", "c"]]
    later = KnownClicks(known.trained, [known.today(fresh).brought(np.zeros(len(known.trained) + 3, dtype=bool))])
    assert unknown(later, positions(("u0", "f", 0), ("u1", "b", 0), ("u9", "c", 0)), OPTIONS, number=2).empty


def test_without_times_a_log_that_comes_again_is_known_though_some_of_it_was_known_before():
    def positions(*rows):
        return pd.DataFrame(rows, columns=["user_id", "item_id", "position"])

    log = positions(*[(f"u{user}", "abcdef"[(user + step) % 6], step) for user in range(6) for step in range(4)])
    known = known_of(OPTIONS, log)
    # all of u0 and one more click, later clicks of u1 alone, and a new user
    second = positions(*[("u0", item, step) for step, item in enumerate("abcdf")], ("u1", "b", 0), ("u9", "c", 0))
    fresh = unknown(known, second, OPTIONS)

    later = KnownClicks(known.trained, [known.today(fresh).brought(np.zeros(len(known.trained) + 3, dtype=bool))])

    assert unknown(later, second, OPTIONS, number=2).empty
    # one of its clicks alone may be another one
    assert len(unknown(later, positions(("u1", "b", 0)), OPTIONS, number=2)) == 1


@pytest.mark.parametrize("column", ["timestamp", "position"])
def test_clicks_that_the_training_has_cut_off_are_not_new(column):
    options = DataOptions(reader="tables", max_user_interactions=4)
    steps = "abcdefa"
    log = pd.DataFrame(
        [(f"u{user}", item, step) for user in range(4) for step, item in enumerate(steps)],
        columns=["user_id", "item_id", column],
    )
    known = known_of(options, log)
    later = pd.DataFrame([("u0", "b", len(steps))], columns=log.columns)

    fresh = unknown(known, pd.concat([log, later], ignore_index=True), options)

    assert fresh[["user_id", "item_id"]].values.tolist() == [["u0", "b"]]


def test_guests_of_two_exports_are_not_taken_for_one_and_their_clicks_are_known_again():
    options = DataOptions(reader="tables", on_missing_user="session", session_gap=30.0)
    guests = log_of((None, "a", 0), (None, "b", 10), (None, "c", 10_000), (None, "d", 10_010))
    known = known_of(options, pd.concat([first_log(), guests], ignore_index=True))

    tomorrow = log_of((None, "e", 90_000), (None, "f", 90_010))
    fresh = unknown(known, pd.concat([guests, tomorrow], ignore_index=True), options)

    assert fresh["item_id"].tolist() == ["e", "f"]
    assert not set(fresh["user_id"]) & set(known.trained["user_id"])


def test_one_log_with_times_and_one_without_is_an_error():
    known = known_of(OPTIONS, first_log())
    with pytest.raises(DataError, match="the new clicks have no times"):
        unknown(known, pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "position": [0]}), OPTIONS)


def test_an_update_learns_what_is_unlearned_but_what_it_is_judged_by():
    known = known_of(OPTIONS, first_log())
    fresh = unknown(known, log_of(*[(f"u{user}", "a", 1000 + user) for user in range(10)]), OPTIONS)
    today = known.today(fresh)
    held_out = today.last_clicks(0.2, seed=0)
    split = today.training_split(held_out, ROWS, replay=0.0, seed=0)

    assert today.clicks.loc[held_out, "user_id"].tolist() == ["u8", "u9"]  # the latest two of ten
    cases = today.cases(held_out, ROWS, OPTIONS)
    assert [len(history) for history in cases.histories] == [6, 6]
    # test targets of the run and new clicks that are not held out; a validation target is read, and counts nothing
    assert split.num_labels() == 12 + 8
    assert sum(map(len, split.train)) == 12 * 6 + 8
    assert split.popularity(6).sum() == 12 * 5 + 8

    second = KnownClicks(known.trained, [today.brought(held_out)])
    again = second.today(unknown(second, log_of(("u0", "b", 2000)), OPTIONS, number=2))
    learned = again.clicks.loc[again.is_unlearned, ["user_id", "item_id", "timestamp"]].values.tolist()
    assert learned == [["u0", "b", 2000], ["u8", "a", 1008], ["u9", "a", 1009]]


@pytest.mark.parametrize("replay", [0.0, 0.3, 0.6])
def test_the_share_of_old_clicks_among_the_labels_is_that_of_the_replay(replay):
    known = known_of(OPTIONS, first_log(users=300))
    fresh = unknown(known, log_of(*[(f"u{user}", "a", 1000 + user) for user in range(20)]), OPTIONS)
    today = known.today(fresh)
    nothing = np.zeros(len(today.clicks), dtype=bool)
    fewer = today.training_split(nothing, ROWS, replay=0.0, seed=0).num_labels()

    split = today.training_split(nothing, ROWS, replay=replay, seed=0)

    wanted = fewer * replay / (1 - replay)
    assert 0 <= split.num_labels() - fewer - wanted < 6 or replay == 0.0
    assert split.popularity(6).sum() == sum(map(len, split.train)) - 300  # labels change no count


def test_late_clicks_follow_where_positions_decided_the_order():
    log = first_log(users=3)
    log["position"] = log.groupby("user_id").cumcount()
    log.loc[log["position"] == 0, "timestamp"] = 9999  # the first by position, the last by time
    known = known_of(OPTIONS, log)

    today = known.today(unknown(known, log_of(("u0", "d", 50)), OPTIONS))

    assert today.clicks.loc[today.clicks["user_id"] == "u0", "item_id"].tolist()[-1] == "d"


def test_a_log_is_read_back_as_it_was(tmp_path):
    known = known_of(OPTIONS, first_log())
    save_clicks(known.trained, tmp_path / CLICKS)
    save_clicks(known.trained, tmp_path / "again.parquet")

    pd.testing.assert_frame_equal(load_clicks(tmp_path / CLICKS), known.trained, check_dtype=False)
    assert (tmp_path / CLICKS).read_bytes() == (tmp_path / "again.parquet").read_bytes()
    known.trained.drop(columns=PART).to_parquet(tmp_path / CLICKS)
    with pytest.raises(DamagedFileError, match="has the columns"):
        load_clicks(tmp_path / CLICKS)
    assert {HELD_OUT, PART} <= set(unknown(known, log_of(("z", "a", 5)), OPTIONS))
    assert (unknown(known, log_of(("z", "a", 5)), OPTIONS)[PART] == LATER).all()


def test_sequences_of_a_part_that_knows_fewer_items():
    known = known_of(OPTIONS, first_log(users=4))
    fresh = unknown(known, log_of(("u0", "f", 2000), ("u1", "a", 2001)), OPTIONS)
    split = known.today(fresh).training_split(np.zeros(26, dtype=bool), ROWS, replay=0.0, seed=0)

    fewer = split.first_items(5)

    kept = np.concatenate(split.train) < 5
    assert np.concatenate(fewer.train).tolist() == np.concatenate(split.train)[kept].tolist()
    assert fewer.train_user_ids.tolist() == split.train_user_ids.tolist()
    for name in ("train_times", "train_weights", "train_labels"):
        assert getattr(fewer, name).tolist() == getattr(split, name)[kept].tolist()
    assert split.first_items(6) is split


def test_weights_of_labels_are_of_mean_one_over_what_is_learned():
    options = DataOptions(reader="tables", event_column="kind", event_weights={"view": 1, "buy": 3})
    known = known_of(options, first_log(users=3).assign(kind="view"))
    fresh = unknown(known, log_of(("u0", "a", 2000), ("u1", "a", 2001)).assign(kind=["buy", "view"]), options)
    today = known.today(fresh)

    split = today.training_split(np.zeros(len(today.clicks), dtype=bool), ROWS, replay=0.0, seed=0)

    weights = np.concatenate(split.label_weights())
    learned = weights[weights > 0]
    assert len(learned) == split.num_labels() == 3 + 2  # test clicks of the run, and the new ones
    assert learned.mean() == pytest.approx(1.0)
    assert learned.max() / learned.min() == pytest.approx(3.0)


def test_what_follows_a_validation_target_with_its_item_is_not_learned():
    """Who learns that an article was bought knows which view the guard asks for."""
    options = DataOptions(
        reader="tables",
        event_column="kind",
        event_weights={"view": 1, "buy": 3},
        target_events=["view"],
        on_duplicate_click="keep",
    )
    log = first_log().assign(kind="view")
    purchases = log.assign(kind="buy", timestamp=log["timestamp"] + 1)
    known = known_of(options, pd.concat([log, purchases], ignore_index=True))
    later = log_of(("u0", "f", 2_000)).assign(kind="view")
    today = known.today(unknown(known, later, options))
    guard = known.guard_cases(ROWS, options)

    split = today.training_split(today.last_clicks(0.0, seed=0), ROWS, replay=0.9, seed=0)

    targets = dict(zip(guard.user_ids.tolist(), guard.items.tolist(), strict=True))
    assert len(targets) == 12
    ends = np.cumsum([len(own) for own in split.train])
    for user, own, end in zip(split.train_user_ids, split.train, ends, strict=True):
        is_target = own == targets[user]
        labels = split.train_labels[end - len(own) : end]
        weights = split.train_weights[end - len(own) : end]
        assert is_target.sum() == 2 and not labels[is_target].any() and not weights[is_target].any()
        assert weights[~is_target].all()
