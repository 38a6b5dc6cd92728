"""Features of candidates against plain loops, columns of catalogs, and what is not known of items that came later."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.data import DataError, DataOptions, read_tables, split_interactions
from cost_hf.data.item_columns import item_columns
from cost_hf.methods.ranker.features import (
    MAX_CATEGORIES,
    PREFIX_ITEMS,
    ItemFacts,
    ItemTable,
    candidate_features,
    click_trend,
    feature_names,
)
from cost_hf.recommenders.candidates import merge_lists
from cost_hf.recommenders.hybrid import text_vectors_of
from cost_hf.semantic_ids.item_columns import ItemColumns
from tests.evaluation.stand_ins import pad
from tests.methods.cobra.cobra_toys import text_recommender as cobra_recommender
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.ranker.ranker_toys import ranker_of, toy_table
from tests.recommenders.toys import TOY_CLICKS, TOY_ITEMS, toy_catalog

PARTS = ["a", "b"]


@st.composite
def requests(draw):
    """Return histories of 10 items (some of them empty), candidates of two parts, and facts about the items."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, known, coded = draw(st.integers(1, 4)), draw(st.integers(1, 10)), draw(st.integers(1, 10))
    histories = pad([generator.integers(0, 10, draw(st.integers(0, 8))).tolist() for _ in range(size)])
    lists = [np.argsort(generator.random((size, 10)), axis=1)[:, : draw(st.integers(0, 6))] for _ in range(2)]
    found = merge_lists(lists, [generator.normal(size=own.shape) for own in lists])
    vectors = generator.normal(size=(known, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    topic = generator.integers(0, 3, 10).astype(np.float64)
    topic[0] = np.nan
    table = ItemTable({"trend": generator.random(known), "column_topic": topic}, ("column_topic",))
    codes = {"b": generator.integers(0, 2, (coded, 3))}
    return histories, found, ItemFacts(generator.integers(0, 9, 10), vectors, codes, table)


def plain_features(history, found, request, column, facts):
    """Return the features of one candidate by name."""
    item = int(found.items[request, column])
    scores, ranks = found.scores[request], found.ranks[request]
    standardised = found.standardised()[request]
    values = {}
    for part, name in enumerate(PARTS):
        values[f"{name}_score"] = scores[column, part]
        values[f"{name}_standardised"] = standardised[column, part]
        values[f"{name}_rank"] = ranks[column, part]
    values["lists"] = sum(not np.isnan(rank) for rank in ranks[column])
    values["best_rank"] = min(rank for rank in ranks[column] if not np.isnan(rank))
    values["popularity"] = np.log(1 + facts.clicks[item])
    values["times_in_history"] = history.count(item)
    values["steps_since_last"] = history[::-1].index(item) if item in history else np.nan
    values["history_length"] = len(history)
    shared = []
    for past in history[::-1][:PREFIX_ITEMS]:
        codes = facts.codes["b"]
        same = 0
        if item < len(codes) and past < len(codes):
            while same < codes.shape[1] and codes[item, same] == codes[past, same]:
                same += 1
        shared.append(same)
    values["b_prefix_last"] = shared[0] if shared else 0
    values["b_prefix_recent"] = max(shared, default=0)
    vectors = facts.vectors
    known = [past for past in history if past < len(vectors)]
    values["cosine_last"] = values["cosine_mean"] = np.nan
    if known and item < len(vectors):
        mean = np.mean([vectors[past] for past in known], axis=0)
        values["cosine_mean"] = vectors[item] @ mean / np.linalg.norm(mean)
        if history[-1] < len(vectors):
            values["cosine_last"] = vectors[item] @ vectors[history[-1]]
    for name, table in facts.table.columns.items():
        values[name] = table[item] if item < len(table) else np.nan
    topics = [facts.table.columns["column_topic"][past] for past in history]
    same_topic = sum(topic == values["column_topic"] for topic in topics)
    values["same_column_topic"] = same_topic / len(history) if history else 0.0
    return values


@given(requests())
def test_features_equal_plain_loops(case):
    histories, found, facts = case
    names = feature_names(PARTS, facts)

    features = candidate_features(histories, found, facts)

    assert features.shape == (*found.items.shape, len(names)) and features.dtype == np.float32
    for request, rows in enumerate(histories.tolist()):
        history = [row for row in rows if row >= 0]
        for column in np.flatnonzero(found.items[request] >= 0):
            expected = plain_features(history, found, request, column, facts)
            assert list(expected) == names
            np.testing.assert_allclose(features[request, column], list(expected.values()), rtol=1e-4, atol=1e-5)


@given(requests())
def test_features_do_not_depend_on_the_batch(case):
    histories, found, facts = case
    together = candidate_features(histories, found, facts)

    for request in range(len(histories)):
        is_item = found.items[request] >= 0
        own = type(found)(*(table[[request]][:, is_item] for table in (found.items, found.ranks, found.scores)))
        longer = np.pad(histories[[request]], ((0, 0), (0, 3)), constant_values=-1)
        np.testing.assert_allclose(
            candidate_features(longer, own, facts)[0], together[request][is_item], rtol=1e-6, atol=1e-6
        )


def test_very_long_histories_need_no_table_of_items_times_clicks():
    lists = [np.arange(200)[None]] * 2
    history = np.arange(300_000)[None] % 250
    facts = ItemFacts(np.ones(250), None, {}, ItemTable({"column_x": np.arange(250.0) % 7}, ("column_x",)))

    features = candidate_features(history, merge_lists(lists, [np.zeros((1, 200))] * 2), facts)

    names = feature_names(PARTS, facts)
    assert (features[0, :, names.index("times_in_history")] == 1200).all()
    assert features[0, 49, names.index("steps_since_last")] == 200


def test_no_requests_and_no_candidates_have_no_features():
    facts = ItemFacts(np.ones(3), np.eye(3, dtype=np.float32), {"b": np.zeros((3, 2), dtype=np.int64)}, ItemTable())
    width = len(feature_names(PARTS, facts))
    for size in (0, 2):
        empty = np.empty((size, 0), dtype=np.int64)
        found = merge_lists([empty, empty], [np.empty((size, 0))] * 2)
        assert candidate_features(np.full((size, 2), 1), found, facts).shape == (size, 0, width)


def test_facts_of_a_catalog_have_its_vectors_at_unit_length_and_the_codes_of_its_parts():
    system = toy_fusion()

    vectors = text_vectors_of(system.parts, system.catalog)
    facts = ItemFacts.of(system.catalog, vectors, system.popularity, toy_table())

    assert np.linalg.norm(facts.vectors, axis=1) == pytest.approx(1)
    assert set(facts.codes) == {"sids"} and facts.codes["sids"].shape == (TOY_ITEMS, 3)
    assert facts.clicks.tolist() == TOY_CLICKS.tolist()
    assert {"sids_prefix_last", "sids_prefix_recent", "cosine_last"} <= set(feature_names(list(system.parts), facts))


def test_an_appended_level_counts_as_a_leading_code_alone():
    plain = toy_catalog(12, (4, 5))
    parts = {"a": plain, "b": replace(plain, has_parallel_levels=True)}

    facts = ItemFacts.of(SimpleNamespace(parts=parts), None, np.ones(12), ItemTable())

    assert facts.codes["a"].shape == (12, 3) and facts.codes["b"].shape == (12, 2)
    assert facts.parallel == {"b"}


@pytest.mark.parametrize("first", ["words", "texts"])
def test_ids_of_words_are_no_text_vectors(first):
    """The catalog of a COBRA with the light encoder holds ids of words, in the place of text vectors."""
    both = {"words": cobra_recommender("light"), "texts": toy_counting("text_last")}
    system = ranker_of({first: both[first], **both})
    before = system.snapshot.facts.vectors

    system.add_items(["new"], ["football in oslo"])

    vectors = both["texts"].catalog.vectors
    assert before == pytest.approx(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), abs=1e-6)
    assert np.array_equal(system.snapshot.facts.vectors[:TOY_ITEMS], before)


def test_without_a_part_that_reads_text_vectors_there_is_no_cosine():
    system = ranker_of({"words": cobra_recommender("light"), "markov": toy_counting("markov")})

    assert system.snapshot.facts.vectors is None and "cosine_last" not in system.features


# --- trend and columns ---


def test_the_trend_is_the_share_of_the_latest_quarter_of_all_clicks():
    rows, times = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([1, 2, 3, 80, 5, 6, 7, 90])

    trend = click_trend(rows, times, 4)

    assert trend == pytest.approx([2 / 8, 1 / 6, 2 / 6, 1 / 4])


ITEMS = pd.DataFrame({"item_id": list("abcd"), "title": ["word"] * 4})


def split_of(**extra):
    clicks = [(user, item, place) for user in "uvw" for place, item in enumerate("abcd")]
    frame = pd.DataFrame(clicks, columns=["user_id", "item_id", "position"]).assign(**extra)
    return split_interactions(read_tables(DataOptions(), items=ITEMS, interactions=frame), DataOptions())


def table_of(**columns) -> ItemTable:
    items = ItemColumns.of(item_columns(ITEMS.assign(**columns)))
    return ItemTable.of(items, split_of(), list(columns), num_items=len(ITEMS))


def test_a_catalog_without_times_has_no_trend():
    assert dict(table_of().columns) == {}
    timed = ItemTable.of(ItemColumns(), split_of(timestamp=np.arange(12)), [], num_items=4)
    assert set(timed.columns) == {"trend"} and timed.columns["trend"].shape == (4,)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        (pd.array([1, None, 3, 4], dtype="Int64"), [1, np.nan, 3, 4]),
        ([True, False, True, True], [1, 0, 1, 1]),
        (pd.array([True, None, False, True], dtype="boolean"), [1, np.nan, 0, 1]),
        ([1.5, np.inf, -np.inf, 1e300], [1.5, np.nan, np.nan, np.nan]),
        (["1.5", "2", None, "-3e2"], [1.5, 2, np.nan, -300]),
        (["", "2", " ", " 3 "], [np.nan, 2, np.nan, 3]),
        (
            pd.to_datetime(["1970-01-02", None, "1970-01-01 00:00:10", "1969-12-31"], format="ISO8601"),
            [86400, np.nan, 10, -86400],
        ),
        (pd.to_datetime(["1970-01-02"] * 4, utc=True), [86400] * 4),
    ],
    ids=["int", "Int64", "bool", "boolean", "float", "text", "blank", "time", "utc"],
)
def test_numbers_become_numbers(values, expected):
    table = table_of(x=values)

    np.testing.assert_array_equal(table.columns["column_x"], expected)
    assert table.categories == ()


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_other_texts_become_categories_in_alphabetical_order(dtype):
    table = table_of(x=pd.Series(["tea", "coffee", None, "12"], dtype=dtype))

    np.testing.assert_array_equal(table.columns["column_x"], [2, 1, np.nan, 0])
    assert table.categories == ("column_x",) and table.values == {"column_x": ("12", "coffee", "tea")}


def test_blank_texts_are_no_category():
    table = table_of(x=["tea", "", " ", " tea"])

    np.testing.assert_array_equal(table.columns["column_x"], [0, np.nan, np.nan, 0])


def test_another_state_of_the_catalog_has_its_own_values_and_the_numbers_of_the_training():
    prices = [1.0, 2.0, 3.0, 4.0]
    table = table_of(x=["tea", "coffee", None, "12"], price=prices, size=["1", "2", "3", "4"], old=prices)
    table = replace(table, columns={"trend": np.arange(4.0), **table.columns})
    items = ItemColumns.of(
        {"x": ["coffee", "milk", "tea", None, "12"], "price": [9, 8, 7, 6, None], "size": ["4", "x", None, "2", "1"]}
    )

    later = table.at(items, 5)

    assert later.columns["trend"].tolist() == [0, 1, 2, 3] and later.categories == table.categories
    np.testing.assert_array_equal(later.columns["column_x"], [1, np.nan, 2, np.nan, 0])
    np.testing.assert_array_equal(later.columns["column_price"], [9, 8, 7, 6, np.nan])
    np.testing.assert_array_equal(later.columns["column_size"], [4, np.nan, np.nan, 2, 1])
    assert np.isnan(later.columns["column_old"]).all() and len(later.columns["column_old"]) == 5
    lists = ItemColumns.of({"x": [["tea"]] * 5, "price": ["dear"] * 5})
    assert all(np.isnan(table.at(lists, 5).columns[f"column_{name}"]).all() for name in ("x", "price"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["price"], "ranker.columns names 'price', expected columns that stay with the catalog: tags; data.exclude"),
        (["item_id"], "ranker.columns names 'item_id', expected columns that stay with the catalog: tags"),
        (["tags"], "ranker.columns names 'tags', which holds lists or mappings"),
    ],
)
def test_columns_that_are_no_features_are_an_error(columns, message):
    with pytest.raises(DataError, match=message):
        items = ItemColumns.of({"tags": [["a"], ["b", "c"], None, []]})
        ItemTable.of(items, split_of(), columns, num_items=4)


def test_a_column_of_very_many_texts_is_an_error():
    items = ItemColumns.of({"asin": [f"a{n}" for n in range(MAX_CATEGORIES + 1)]})

    with pytest.raises(DataError, match=r"column 'asin' has 10001 different values, a feature at most 10000"):
        ItemTable.of(items, split_of(), ["asin"], num_items=MAX_CATEGORIES + 1)
