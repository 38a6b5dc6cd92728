"""Types of events, their weights, targets, and sessions of guests."""

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, Split, read_tables, split_interactions
from cost_hf.data.tables import read_interactions

ITEMS = pd.DataFrame({"item_id": list("abcdef"), "title": [f"tea number {number}" for number in range(6)]})
WEIGHTS = {"view": 1, "cart": 3, "purchase": 5}
KINDS = {"v": "view", "c": "cart", "p": "purchase"}
SHOP = {"event_column": "kind", "event_weights": WEIGHTS}


def log(**users: str) -> pd.DataFrame:
    """Return a log of pairs such as `av bp`: item and first letter of the event, one after the other."""
    rows = [
        (user, pair[0], step, KINDS[pair[1]])
        for user, pairs in users.items()
        for step, pair in enumerate(pairs.split(), start=1)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "kind"])


def split_of(clicks: pd.DataFrame, **options) -> Split:
    options = DataOptions(**options)
    return split_interactions(read_tables(options, items=ITEMS, interactions=clicks), options)


def named(rows) -> str:
    return "".join(ITEMS["item_id"].iloc[row] for row in rows)


def test_the_last_target_tests_and_the_one_before_it_validates():
    split = split_of(log(u="av bp cv dp ev fp av"), **SHOP, target_events=["purchase"])

    assert (named(split.test.items), named(split.test.histories[0])) == ("f", "abcde")
    assert (named(split.validation.items), named(split.validation.histories[0])) == ("d", "abc")
    assert named(split.train[0]) == "abc"
    assert split.train_weights.tolist() == [1, 5, 1]
    assert split.counts["history_clicks_of_evaluation"] == 2  # e between the targets, a after the last one


def test_a_single_target_tests_and_a_first_click_trains():
    other = {"w": "av bv cp dp"}  # gives the validation part a case
    split = split_of(log(u="av bv cp dv", v="ap bv cv", **other), **SHOP, target_events=["purchase"])

    assert dict(zip(split.test.user_ids, map(named, split.test.histories), strict=True)) == {"u": "ab", "w": "abc"}
    trained = dict(zip(split.train_user_ids, map(named, split.train), strict=True))
    assert trained == {"u": "ab", "v": "abc", "w": "ab"}
    assert named(split.validation.items) == "c"


def test_with_every_event_a_target_the_split_is_that_of_plain_clicks():
    clicks = log(u="av bp cv dp", v="av bv cp", w="av bp")
    plain = split_of(clicks)

    split = split_of(clicks, event_column="kind", target_events=["view", "purchase"])

    assert split.digest == plain.digest
    assert split.counts == plain.counts


def test_weights_of_one_leave_the_split_as_it_is():
    clicks = log(u="av bp cv dp", v="av bv cp")

    split = split_of(clicks, event_column="kind", event_weights=dict.fromkeys(WEIGHTS, 1))

    assert split.train_weights is None
    assert split.label_weights() is None
    assert split.digest == split_of(clicks).digest


@pytest.mark.parametrize("rule", ["time", "source"])
def test_other_events_of_an_evaluation_part_are_history(rule):
    clicks = log(u="av bv cp dv ep fv ap bp").assign(
        split=["train", "train", "train", "valid", "valid", "test", "test", "test"]
    )
    options = {"time": {"time_cutoffs": [4, 6]}, "source": {}}[rule]

    split = split_of(clicks, split=rule, **options, **SHOP, target_events=["purchase"])

    assert named(split.train[0]) == "abc"
    assert (named(split.validation.items), named(split.validation.histories[0])) == ("e", "abcd")
    assert [named(history) for history in split.test.histories] == ["abcdef", "abcdefa"]
    assert named(split.test.items) == "ab"


def test_clicks_count_their_weight_and_labels_have_mean_weight_one():
    split = split_of(log(u="av bc cp dp ep", v="av bv cp dp ep"), **SHOP)

    assert split.popularity(6).tolist() == [2, 4, 10, 0, 0, 0]
    weights = np.concatenate(split.label_weights())
    assert weights.mean() == pytest.approx(1)
    assert weights[2] / weights[0] == pytest.approx(5)


def test_without_weights_only_targets_are_counted():
    split = split_of(log(u="av bp cv dp ep"), event_column="kind", target_events=["purchase"])

    assert split.train_weights.tolist() == [0, 1, 0]
    assert np.concatenate(split.label_weights()).tolist() == [0, 1, 0]


def test_a_split_is_stored_with_its_weights(tmp_path):
    split = split_of(log(u="av bc cp dp ep"), **SHOP)

    split.save(tmp_path)
    stored = Split.load(tmp_path)

    assert stored.train_weights.tolist() == split.train_weights.tolist() == [1, 3, 5]
    assert stored.digest == split.digest != split_of(log(u="av bc cp dp ep")).digest
    assert stored.fitting_part(lambda user: user == "u").train_weights.tolist() == [1, 3, 5]


def test_an_unknown_type_of_event_is_named_with_the_nearest_known_one():
    clicks = log(u="av bp cv dp").replace({"purchase": "purchased"})

    with pytest.raises(DataError, match=r"'purchased' \(2\).*did you mean 'purchase'.*on_unknown_event: ignore"):
        split_of(clicks, **SHOP)


def test_unknown_types_and_empty_cells_can_be_ignored():
    clicks = log(u="av bp cv dp ev").replace({"cart": "wish"})
    clicks.loc[4, "kind"] = None
    clicks.loc[2, "kind"] = "wish"
    options = DataOptions(**SHOP, on_unknown_event="ignore")

    tables = read_tables(options, items=ITEMS, interactions=clicks)

    assert tables.interactions["item_id"].tolist() == ["a", "b", "d"]
    assert tables.counts["dropped_unknown_events"] == 2
    assert (tables.counts["events.view"], tables.counts["events.purchase"]) == (1, 2)


def test_a_view_and_a_purchase_at_one_time_are_two_clicks():
    clicks = log(u="av bp cv").assign(timestamp=1)
    clicks = pd.concat([clicks, clicks.assign(kind="cart"), clicks.head(1)])

    tables = read_tables(DataOptions(**SHOP, on_duplicate_click="drop"), items=ITEMS, interactions=clicks)

    assert len(tables.interactions) == 6
    assert tables.counts["dropped_duplicate_clicks"] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event_weights": WEIGHTS}, "needs the column"),
        (
            {"event_column": "kind", "event_weights": {"view": 0.5, "buy": 2}},
            r"multiply all of them: \{view: 1, buy: 4\}",
        ),
        ({"event_column": "kind", "event_weights": {"view": -1}}, "from 0 to 1000"),
        ({"event_column": "kind", "event_weights": {"view": 0}}, "a weight above 0"),
        ({"event_column": "kind", "event_weights": {"view": float("inf")}}, "from 0 to 1000"),
        ({**SHOP, "target_events": ["purchases"]}, "does not name"),
        ({"on_missing_user": "session"}, "one of the two"),
        ({"session_gap": 30}, "on_missing_user: session"),
        ({"on_missing_user": "session", "session_gap": 0}, "minutes above 0"),
    ],
)
def test_options_of_events_are_checked_before_anything_is_read(fields, message):
    with pytest.raises(DataError, match=message):
        DataOptions(**fields)


def test_a_target_that_no_click_is_an_error():
    with pytest.raises(DataError, match=r"'order', and no click .* 'view' \(2\), 'purchase' \(2\)"):
        split_of(log(u="av bp cv dp"), event_column="kind", target_events=["order"])


GUESTS = pd.DataFrame(
    [
        (None, "a", 0, "s1"),
        ("", "b", 60, "s1"),
        (" ", "c", 60, "s2"),
        (None, "d", 6000, "s1"),
        (None, "e", 6001, None),
        ("u", "f", 6002, "s3"),
    ],
    columns=["user_id", "item_id", "timestamp", "session"],
)


def histories(**options) -> tuple[dict[str, str], dict[str, int]]:
    tables = read_tables(DataOptions(**options), items=ITEMS, interactions=GUESTS)
    found = tables.interactions.groupby("user_id")["item_id"].agg("".join).to_dict()
    return found, tables.counts


def test_clicks_without_a_user_are_an_error_that_names_the_ways_out():
    with pytest.raises(DataError, match=r"row 0: .*5 of 6 rows.*on_missing_user: drop.*on_missing_user: session"):
        histories()


def test_clicks_without_a_user_can_be_dropped():
    found, counts = histories(on_missing_user="drop")

    assert found == {"u": "f"}
    assert counts["dropped_guest_clicks"] == 5


def test_sessions_of_guests_become_users():
    found, counts = histories(on_missing_user="session", session_column="session")

    assert found == {"session:s1": "abd", "session:s2": "c", "u": "f"}
    assert (counts["guest_sessions"], counts["dropped_guest_clicks"]) == (2, 1)


def test_a_pause_begins_another_session():
    found, _ = histories(on_missing_user="session", session_column="session", session_gap=30)

    assert found == {"session:s1#1": "ab", "session:s1#2": "d", "session:s2#1": "c", "u": "f"}


def test_a_pause_alone_parts_all_guests_and_is_noted():
    options = DataOptions(on_missing_user="session", session_gap=30)

    tables = read_tables(options, items=ITEMS, interactions=GUESTS)

    found = tables.interactions.groupby("user_id")["item_id"].agg(lambda ids: "".join(sorted(ids))).to_dict()
    assert found == {"session:#1": "abc", "session:#2": "de", "u": "f"}
    assert any("guests who came at one time" in notice.message for notice in tables.notices)


def test_a_user_named_like_a_session_is_refused():
    clicks = GUESTS.replace({"u": "session:s1"})

    with pytest.raises(DataError, match="also the name of a session"):
        read_tables(DataOptions(on_missing_user="session", session_column="session"), items=ITEMS, interactions=clicks)


def test_no_option_of_events_changes_the_digest_of_the_source():
    given = GUESTS.assign(kind="view")
    digests = {
        read_tables(DataOptions(**options), items=ITEMS, interactions=given).source_digest
        for options in (
            {"on_missing_user": "drop"},
            {"on_missing_user": "session", "session_column": "session"},
            {"on_missing_user": "drop", "event_column": "kind", "event_weights": {"view": 2}},
        )
    }

    assert len(digests) == 1


def test_clicks_after_training_get_the_weights_of_training():
    clicks = log(v="cp", u="av bc")

    found = read_interactions(clicks, options=DataOptions(**SHOP, target_events=["purchase"]))

    assert found[["user_id", "item_id", "event_weight"]].to_numpy().tolist() == [
        ["u", "a", 1],
        ["u", "b", 3],
        ["v", "c", 5],
    ]


def test_clicks_after_training_are_cleaned_as_those_of_training():
    clicks = pd.concat([log(u="av bc"), log(u="av")]).replace({"a": " A "})

    found = read_interactions(clicks, options=DataOptions(normalize_ids=["strip", "lower"], on_duplicate_click="drop"))

    assert found["item_id"].tolist() == ["a", "b"]
