"""Order, bounds and numbering of checked tables, and the digest of their source."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataOptions, read_tables

ITEMS = pd.DataFrame({"item_id": [f"i{number}" for number in range(8)], "title": [f"word{n}" for n in range(8)]})


def read(clicks, *, items=ITEMS, seed=0, **options):
    return read_tables(DataOptions(**options), items=items, interactions=clicks, seed=seed)


def clicks_of(triples, order="timestamp"):
    return pd.DataFrame(triples, columns=["user_id", "item_id", order])


def test_catalog_rows_follow_the_source_and_not_the_clicks():
    tables = read(clicks_of([("u", "i5", 1), ("u", "i2", 2)]))

    assert tables.items["item_id"].tolist() == ITEMS["item_id"].tolist()
    assert tables.interactions["item_row"].tolist() == [5, 2]
    assert tables.interactions["item_row"].dtype == np.int64


def test_positions_with_gaps_are_renumbered_in_order():
    tables = read(clicks_of([("u", "i1", 30), ("u", "i2", 10), ("v", "i3", 7)], "position"))

    assert tables.interactions["item_id"].tolist() == ["i2", "i1", "i3"]
    assert tables.interactions["position"].tolist() == [0, 1, 0]


def test_position_wins_over_time_unless_told_otherwise():
    clicks = clicks_of([("u", "i1", 5), ("u", "i2", 4)]).assign(position=[0, 1])

    assert read(clicks).interactions["item_id"].tolist() == ["i1", "i2"]
    assert read(clicks, order="timestamp").interactions["item_id"].tolist() == ["i2", "i1"]


def test_all_null_positions_count_as_absent():
    clicks = clicks_of([("u", "i1", 5), ("u", "i2", 4)]).assign(position=[None, None])

    assert read(clicks).interactions["item_id"].tolist() == ["i2", "i1"]


TRIPLES = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from(ITEMS["item_id"].tolist()), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@given(triples=TRIPLES, seed=st.integers(0, 5), data=st.data())
@settings(max_examples=40, deadline=None)
def test_file_order_never_decides_a_tie_in_time(triples, seed, data):
    shuffled = data.draw(st.permutations(triples))

    first, second = (read(clicks_of(rows), seed=seed) for rows in (triples, shuffled))

    assert first.interactions.equals(second.interactions)
    assert first.digest == second.digest


def test_ties_in_time_depend_on_the_seed_and_are_counted():
    clicks = clicks_of([("u", f"i{number}", 1) for number in range(8)])

    orders = {tuple(read(clicks, seed=seed).interactions["item_id"]) for seed in range(5)}

    assert len(orders) > 1
    assert read(clicks).counts["tied_timestamps"] == 8


@pytest.mark.parametrize(
    "times",
    [
        pd.to_datetime(["2024-01-01", "2024-01-02"]),
        pd.to_datetime(["2024-01-01 01:00", "2024-01-02 01:00"]).tz_localize("Europe/Berlin"),
        ["2024-01-01T00:00:00Z", "2024-01-02"],
        ["1704067200", "1704153600"],
        [1704067200.0, 1704153600.0],
    ],
    ids=["dates", "zoned dates", "ISO texts", "number texts", "floats"],
)
def test_times_become_epoch_seconds(times):
    clicks = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["i1", "i2"], "timestamp": times})

    tables = read(clicks)

    assert tables.interactions["timestamp"].tolist() == [1704067200, 1704153600]
    assert tables.interactions["timestamp"].dtype == "Int64"


def test_null_dates_stay_null_beside_positions():
    times = pd.to_datetime(["2024-01-01", None])
    clicks = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["i1", "i2"], "position": [0, 1], "timestamp": times})

    assert read(clicks).interactions["timestamp"].isna().tolist() == [False, True]


def test_only_the_latest_clicks_of_a_user_are_kept():
    tables = read(clicks_of([("u", f"i{number}", number) for number in range(6)]), max_user_interactions=2)

    assert tables.interactions["item_id"].tolist() == ["i4", "i5"]
    assert tables.counts["dropped_old_interactions"] == 4


@given(triples=TRIPLES, least_user=st.integers(0, 4), least_item=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_core_holds_both_bounds_when_it_ends(triples, least_user, least_item):
    anchor = [("z", f"i{number % 2}", 100 + number) for number in range(8)]

    tables = read(clicks_of(triples + anchor), min_user_interactions=least_user, min_item_interactions=least_item)

    per_user = tables.interactions["user_id"].value_counts()
    per_item = tables.interactions["item_row"].value_counts().reindex(range(tables.num_items), fill_value=0)
    assert per_user.min() >= least_user
    assert per_item.min() >= least_item
    assert tables.counts["dropped_core_items"] == len(ITEMS) - tables.num_items


@given(triples=TRIPLES, least=st.integers(0, 5), most=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_users_are_judged_by_their_whole_history_and_then_capped(triples, least, most):
    triples = triples + [("z", "i0", 100 + number) for number in range(8)]
    everything = read(clicks_of(triples)).interactions
    expected = []
    for _, whole in everything.groupby("user_id"):
        if len(whole) >= least:
            expected += whole["item_id"].tolist()[-most:]

    tables = read(clicks_of(triples), min_user_interactions=least, max_user_interactions=most)

    assert tables.interactions["item_id"].tolist() == expected
    counts = tables.counts
    dropped = counts["dropped_core_interactions"] + counts["dropped_old_interactions"]
    assert len(tables.interactions) + dropped == len(triples)


@given(triples=TRIPLES, least_user=st.integers(0, 4), least_item=st.integers(0, 3), most=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_item_bound_holds_after_the_cap_too(triples, least_user, least_item, most):
    anchor = [(user, f"i{number % 2}", 100 + number) for user in "xyz" for number in range(8)]
    bounds = {"min_user_interactions": least_user, "min_item_interactions": least_item}

    tables = read(clicks_of(triples + anchor), **bounds, max_user_interactions=most)

    per_user = tables.interactions["user_id"].value_counts()
    per_item = tables.interactions["item_row"].value_counts().reindex(range(tables.num_items), fill_value=0)
    assert per_user.between(min(least_user, most), most).all()
    assert per_item.min() >= least_item


def test_items_without_clicks_stay_where_no_core_is_asked_for():
    assert read(clicks_of([("u", "i1", 1)])).num_items == len(ITEMS)


def test_whole_number_ids_match_across_types():
    items = pd.DataFrame({"item_id": [7, 8], "title": ["x", "y"]})
    clicks = pd.DataFrame({"user_id": [1.0, 1.0], "item_id": ["8", "7"], "position": [0, 1]})

    tables = read(clicks, items=items)

    assert tables.interactions["user_id"].tolist() == ["1", "1"]
    assert tables.interactions["item_row"].tolist() == [1, 0]


def test_extra_columns_survive_and_the_input_is_not_changed():
    clicks = clicks_of([("u", "i1", 1), ("u", "i2", 0)]).assign(rating=[5.0, 3.0])
    before = clicks.copy()

    tables = read(clicks)

    assert tables.interactions["rating"].tolist() == [3.0, 5.0]
    pd.testing.assert_frame_equal(clicks, before)


@pytest.mark.parametrize("change", ["title", "order", "catalog"])
def test_digest_follows_the_content(change):
    clicks = clicks_of([("u", "i1", 1), ("u", "i2", 2)])
    items, changed = ITEMS.copy(), clicks.copy()
    if change == "title":
        items.loc[3, "title"] = "other"
    elif change == "order":
        changed["timestamp"] = [2, 1]
    else:
        items = items.iloc[::-1]

    assert read(clicks).digest == read(clicks.copy()).digest
    assert read(clicks).digest != read(changed, items=items).digest


def test_synthetic_reader_needs_no_source():
    tables = read_tables(DataOptions(reader="synthetic", synthetic_users=20, synthetic_items=60), seed=3)

    assert tables.num_items == 60
    assert tables.counts["users"] == 20
    assert tables.counts["dropped_unknown_item_interactions"] == 0


def test_toy_world_and_ties_follow_the_seed_of_the_data_section():
    options = {"reader": "synthetic", "synthetic_users": 5, "synthetic_items": 48}
    one, other = (read_tables(DataOptions(**options, seed=seed)) for seed in (0, 1))

    assert one.digest != other.digest
    assert one.digest == read_tables(DataOptions(**options, seed=0)).digest


SOURCE_ITEMS = pd.DataFrame(
    {
        "item_id": ["007", "8", "9"],
        "title": ["Red", None, "Blue"],
        "year": [1984.0, 2001.0, None],
        "tags": [["a", "b"], [], ["c"]],
        "size": [{"w": 1}, None, {"w": 2, "h": 3}],
    }
)
SOURCE_CLICKS = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": ["8", "007", "9", "9"], "timestamp": [3, 4, 5, 6]})
FLAT = SOURCE_ITEMS.drop(columns=["tags", "size"])


def digest(items=SOURCE_ITEMS, clicks=SOURCE_CLICKS, **options):
    given = {"on_empty_text": "drop"} | options
    return read_tables(DataOptions(**given), items=items, interactions=clicks).source_digest


def write_jsonl(frame, path):
    rows = json.loads(frame.to_json(orient="records"))
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows))
    return path


def test_formats_of_the_same_content_agree(tmp_path):
    SOURCE_ITEMS.to_parquet(tmp_path / "items.parquet")
    FLAT.to_csv(tmp_path / "flat.csv", index=False)
    SOURCE_CLICKS.to_csv(tmp_path / "clicks.csv", index=False)

    nested = digest()

    assert digest(tmp_path / "items.parquet") == nested
    assert digest(write_jsonl(SOURCE_ITEMS, tmp_path / "items.jsonl"), tmp_path / "clicks.csv") == nested
    assert digest(tmp_path / "flat.csv") == digest(FLAT)
    assert digest(FLAT) != nested


def test_times_of_the_same_moment_agree():
    dates = pd.to_datetime(SOURCE_CLICKS["timestamp"], unit="s")

    assert digest(clicks=SOURCE_CLICKS.assign(timestamp=dates)) == digest()
    assert digest(clicks=SOURCE_CLICKS.assign(timestamp=dates.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))) == digest()


def test_order_of_columns_and_clicks_and_empty_columns_do_not_count():
    assert digest(SOURCE_ITEMS[SOURCE_ITEMS.columns[::-1]], SOURCE_CLICKS.iloc[::-1].assign(rating=None)) == digest()


@pytest.mark.parametrize(
    "options",
    [{"min_item_interactions": 2}, {"max_user_interactions": 1}, {"seed": 3}, {"split": "time"}],
    ids=lambda options: next(iter(options)),
)
def test_options_do_not_change_it(options):
    assert digest(**options) == digest()


def test_column_names_are_ours_before_it_is_taken():
    assert digest(clicks=SOURCE_CLICKS.rename(columns={"user_id": "uid"}), columns={"user_id": "uid"}) == digest()


@pytest.mark.parametrize(
    "change",
    [
        lambda items, clicks: (items.assign(title=["Red", None, "blue"]), clicks),
        lambda items, clicks: (items.iloc[::-1], clicks),
        lambda items, clicks: (items.assign(tags=[["a b"], [], ["c"]]), clicks),
        lambda items, clicks: (items, clicks.assign(timestamp=[4, 3, 5, 6])),
        lambda items, clicks: (items, clicks.iloc[:3]),
        lambda items, clicks: (items, pd.concat([clicks, clicks])),
        lambda items, clicks: (items.assign(note=["x", None, None]), clicks),
        lambda items, clicks: (items.rename(columns={"tags": "words"}), clicks),
    ],
    ids=["a letter", "catalog order", "a list", "times", "a click less", "doubled", "a column more", "a column's name"],
)
def test_other_content_differs(change):
    assert digest(*change(SOURCE_ITEMS, SOURCE_CLICKS)) != digest()


def test_the_toy_set_has_one():
    options = {"reader": "synthetic", "synthetic_users": 5, "synthetic_items": 48}
    first, again, other = (read_tables(DataOptions(**options, seed=seed)).source_digest for seed in (0, 0, 1))

    assert first == again != other
