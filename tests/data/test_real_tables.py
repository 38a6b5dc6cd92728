"""The real data sets pass the checks, with the figures of their descriptions."""

import pytest

from cost_hf.data import DataError, DataOptions, read_tables, split_interactions

SETS = {
    "mind_subset": (721, 2000, 3228, 0, 66, None),
    "amazon_industrial": (3285, 3686, 22743, 11, 1079, "{title}. {brand}. {description}"),
    "amazon_beauty": (22363, 12101, 198502, 0, 0, "{categories}. {keywords}"),
    "yelp": (30431, 20033, 316354, 832, 11830, "{title}. {categories}"),
    "amazon_games": (50546, 16859, 440264, 456, 0, "{title}"),
}


@pytest.mark.parametrize("name", SETS)
def test_real_set_reads_with_its_published_counts(shared_data, name):
    users, items, interactions, duplicates, repeats, template = SETS[name]

    tables = read_tables(DataOptions(path=str(shared_data / name)), template=template)
    split = split_interactions(tables, DataOptions())

    assert (tables.counts["users"], tables.num_items, len(tables.interactions)) == (users, items, interactions)
    assert (tables.counts["duplicate_texts"], tables.counts["repeated_pairs"]) == (duplicates, repeats)
    assert len(split.test) == len(split.validation) == users
    assert split.counts["train_interactions"] == interactions - 2 * users


def test_repeat_share_of_yelp_is_the_known_one(shared_data):
    tables = read_tables(DataOptions(path=str(shared_data / "yelp")), template="{title}. {categories}")

    assert split_interactions(tables, DataOptions()).shares()["repeated_target"] == pytest.approx(0.067, abs=5e-4)


def test_partly_null_times_stand_beside_positions_and_refuse_a_time_split(shared_data):
    tables = read_tables(DataOptions(path=str(shared_data / "mind_subset")))

    assert tables.interactions["timestamp"].isna().sum() == 3155
    with pytest.raises(DataError, match=r"got 3155 null of 3228"):
        split_interactions(tables, DataOptions(split="time"))


def test_clicks_without_a_catalog_row_are_an_error_or_dropped(shared_data):
    options = {"path": str(shared_data / "mind_subset"), "interactions": "interactions_full.parquet"}
    with pytest.raises(DataError, match=r"interactions\.item_id, row \d+: expected an id that is in items"):
        read_tables(DataOptions(**options))

    tables = read_tables(DataOptions(**options, on_unknown_item="drop"))

    assert tables.counts["dropped_unknown_item_interactions"] + len(tables.interactions) == 146474
    assert (tables.interactions.groupby("user_id")["position"].max() + 1).sum() == len(tables.interactions)


def test_core_of_the_full_clicks_is_what_the_subset_holds(shared_data):
    options = DataOptions(
        path=str(shared_data / "mind_subset"),
        interactions="interactions_full.parquet",
        on_unknown_item="drop",
        min_user_interactions=3,
    )

    tables = read_tables(options)

    assert (tables.counts["users"], len(tables.interactions), tables.counts["repeated_pairs"]) == (721, 3228, 66)


def test_source_split_of_industrial_has_several_targets_a_user(shared_data):
    options = DataOptions(path=str(shared_data / "amazon_industrial"), split="source")
    tables = read_tables(options, template="{title}")

    split = split_interactions(tables, options)

    marks = tables.interactions["split"].value_counts()
    assert (len(split.validation), len(split.test)) == (marks["valid"], marks["test"])
    assert split.counts["train_interactions"] == marks["history"]
    assert min(map(len, split.test.histories)) >= 1
    assert len(set(split.test.user_ids)) < len(split.test)
