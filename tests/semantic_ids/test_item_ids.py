"""Item ids, titles, texts, codes and vectors: every ordered form is accepted, and all others are refused."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.evaluation.statistics import numbered
from cost_hf.recommenders.rankers import ScoringRanker, popularity_order
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.item_ids import code_table, id_ranks, item_id_list, text_list, title_list, vector_table
from cost_hf.semantic_ids.item_list import ItemList
from cost_hf.semantic_ids.options import whole_number
from cost_hf.semantic_ids.trie import SidTrie

FORMS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "objects": lambda values: np.array(values, dtype=object),
    "series": pd.Series,
    "sorted series": lambda values: pd.Series(values, index=range(len(values), 0, -1)),
    "labelled series": lambda values: pd.Series(values, index=[f"row{value}" for value in values]),
    "categories": lambda values: pd.Series(values, dtype="category"),
    "index": pd.Index,
    "arrow": pa.array,
    "arrow column": lambda values: pa.chunked_array([values[:1], values[1:]]),
    "generator": iter,
    "map": lambda values: map(lambda value: value, values),
    "dict values": lambda values: dict(enumerate(values)).values(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("values", [["b", "a", "c"], [3, 1, 2], [np.int64(3), np.uint8(1), 2]], ids=str)
def test_every_ordered_form_is_a_list_by_position(form, values):
    if form.startswith("arrow") and isinstance(values[0], np.generic):
        values = [int(value) for value in values]

    assert item_id_list(FORMS[form](values)) == [str(value) for value in values]


def test_whole_numbers_of_every_column_type_are_their_digits():
    for dtype in ("int8", "uint64", "Int64", "int64[pyarrow]"):
        assert item_id_list(pd.Series([7, 12], dtype=dtype)) == ["7", "12"]
    assert item_id_list([2**70]) == [str(2**70)]
    assert all(type(item) is str for item in item_id_list(np.array(["a"])))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("12", r"item_ids must be a list of item ids, got the string '12'; pass \['12'\]"),
        (b"12", r"got b'12' \(bytes\)"),
        (None, r"got None \(NoneType\)"),
        (12, r"got 12 \(int\)"),
        ({"a", "b"}, "got a set, which has no order"),
        (frozenset("ab"), "got a frozenset"),
        ({"a": 1}, "got a dict"),
        ({"a": 1}.keys(), "got a dict_keys"),
        (pd.DataFrame({"item_id": ["a"]}), r"got a DataFrame; pass one of its columns \(item_id\)"),
        (np.array([["a"]]), r"got an array of shape \(1, 1\)"),
        (np.array("a"), r"got an array of shape \(\)"),
        (torch.tensor([1]), "got Tensor of torch.int64"),
        ([1.0], r"got 1.0 \(float\) at position 0 of item_ids; ids are strings, and a float loses"),
        (["a", np.nan], r"got nan \(float\) at position 1"),
        (["a", None], r"got None \(NoneType\) at position 1"),
        ([True], r"got True \(bool\)"),
        (np.array([True]), r"got True \(bool\)"),
        ([b"a"], r"got b'a' \(bytes\)"),
        ([["a"]], r"got \['a'\] \(list\)"),
        (pd.Series([1, None]), r"got 1.0 \(float\)"),
        (pd.Series([1, None], dtype="Int64"), "at position 1"),
        (pd.Series(["a", None]), "at position 1"),
        (pd.to_datetime(pd.Series(["2020-01-01"])), r"\(Timestamp\)"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value[:30],
)
def test_what_is_no_list_of_ids_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        item_id_list(values)


@pytest.mark.parametrize("item", ["a\x1b[31m", "a\nb", "\x00", "a\x7f", "a\x9b", "\ud800", "", "  "])
def test_ids_that_no_file_or_terminal_can_take_are_not_stored(item):
    assert item_id_list([item]) == [item]
    for build in (
        lambda: Catalog.from_codes([item], [[0]], level_sizes=[2]),
        lambda: Catalog.from_codes(["x"], [[0]], level_sizes=[2]).with_items([item], codes=[[1]]),
        lambda: ItemList(("x",), np.zeros(1, dtype=bool)).with_items([item]),
    ):
        with pytest.raises(ValueError, match="without control characters and lone surrogates that are not blank") as e:
            build()
        assert str(e.value).isprintable()


def test_other_alphabets_are_stored():
    for item in ("ä/…", "東京", "a b", "😀", "e\u0301"):
        assert item in Catalog.from_codes([item], [[0]], level_sizes=[2])


def test_a_set_will_do_where_order_means_nothing():
    assert item_id_list({"b", "a", 3}, is_ordered=False) == ["3", "a", "b"]
    with pytest.raises(ValueError, match="got a dict"):
        item_id_list({"b": 1}, is_ordered=False)


def test_an_id_that_stands_twice_is_named():
    with pytest.raises(ValueError, match="must be unique, got '1' more than once"):
        item_id_list(["1", 1], is_unique=True)


@pytest.mark.parametrize("form", FORMS)
def test_what_stands_beside_ids_is_taken_by_position(form):
    assert title_list(FORMS[form](["B", "A", "C"]), ["b", "a", "c"]) == ["B", "A", "C"]
    assert text_list(FORMS[form](["B", "A", "C"]), ["b", "a", "c"]) == ["B", "A", "C"]


def test_lengths_and_kinds_of_texts_are_checked():
    for values, message in (
        (["A"], "expected one text per item, got 1 for 2 items"),
        ("AB", "got one string for 2 items; pass a list of texts"),
        ({"A", "B"}, "got a set, which has no order"),
        (["A", 7], "at least one word for item 'b', got 7"),
        (["A", "\ud800"], "the text of item 'b' has a lone surrogate"),
    ):
        with pytest.raises(ValueError, match=message):
            text_list(values, ["a", "b"])


@pytest.mark.parametrize(
    "codes",
    [
        [[1, 0], [0, 2]],
        ((1, 0), (0, 2)),
        np.array([[1, 0], [0, 2]], dtype=np.uint8),
        torch.tensor([[1, 0], [0, 2]]),
        pd.DataFrame({"x": [1, 0], "y": [0, 2]}, index=[5, 1]),
        pd.Series([[1, 0], [0, 2]], index=[5, 1]),
        iter([[1, 0], np.array([0, 2])]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_codes_are_a_table_by_position(codes):
    assert code_table(codes).tolist() == [[1, 0], [0, 2]]


MASKED = np.ma.array([[1, 0], [0, 2]], mask=[[0, 1], [0, 0]])


@pytest.mark.parametrize(
    "codes",
    [[[3.0, 0]], torch.tensor([[3.0]]), [[True]], [["3"]], [[1], [1, 2]], {"a": [1]}, None, "12", [[None, 1]], MASKED],
    ids=repr,
)
def test_what_is_no_table_of_codes_is_refused(codes):
    with pytest.raises(ValueError, match="codes must be"):
        code_table(codes)


def test_vectors_are_a_table_by_position():
    wanted = [[0.5, 1.0], [2.0, 0.25]]
    for vectors in (
        wanted,
        np.array(wanted, dtype=np.float16),
        torch.tensor(wanted, dtype=torch.bfloat16, requires_grad=True),
        pd.DataFrame(wanted, index=[9, 3]),
        pd.Series([np.array(row) for row in wanted], index=[9, 3]),
    ):
        assert vector_table(vectors, ["a", "b"]).tolist() == wanted
    for vectors, message in (
        ([[1, 2], [3, 4]], r"expected vectors \[2, E\] of floats, one per item, got int64"),
        ([[0.1], [np.inf]], "the vector of item 'b' is not finite"),
        ([[0.1], [1e300]], "the vector of item 'b' is not finite"),
        ([[0.1]], r"expected vectors \[2, E\]"),
    ):
        with pytest.raises(ValueError, match=message):
            vector_table(vectors, ["a", "b"])


def test_all_ways_to_a_catalog_take_ids_by_position():
    ids, codes = pd.Series(["b", "a"], index=[1, 0]), pd.DataFrame([[1, 0], [0, 1]], index=[7, 2])
    titles = pd.Series(["B", "A"], index=[4, 9])

    catalog = Catalog.from_codes(ids, codes, level_sizes=np.array([2, 2]), titles=titles, collisions="none")

    assert catalog.item_ids == ("b", "a") and catalog.titles == ("B", "A")
    assert catalog.codes.tolist() == [[1, 0], [0, 1]]
    more = catalog.with_items(pd.Series([61, 60], index=["x", "y"]), codes=torch.tensor([[1, 1], [0, 0]]))
    assert dict(zip(more.item_ids, more.codes.tolist(), strict=True))["61"] == [1, 1]
    frame = pd.DataFrame({"item_id": [7, 3], "sid": [["<a_0>"], ["<a_1>"]]}, index=[1, 0])
    assert Catalog.from_reference(frame, collisions="none").item_ids == ("7", "3")
    assert Catalog.from_reference(frame, collisions="none", item_ids=np.array([3])).item_ids == ("3",)


def test_numbers_find_their_rows():
    catalog = Catalog.from_codes(["7", "12", "007"], [[0], [1], [0]], level_sizes=[2])

    assert catalog.row_of(12) == catalog.row_of(np.int32(12)) == catalog.row_of("12") == 1
    assert catalog.rows_of(pd.Series([12, 7], index=[3, 1])).tolist() == [1, 0]
    assert 7 in catalog and np.int64(12) in catalog and 1 not in catalog and 7.0 not in catalog and True not in catalog
    assert catalog.without_items(np.array([7])).removed.tolist() == [True, False, False]
    with pytest.raises(ValueError, match=r"got the string '12'; pass \['12'\]"):
        catalog.without_items("12")
    with pytest.raises(ValueError, match="got the string"):
        catalog.rows_of("12")


def test_an_unknown_id_that_looks_like_a_known_one_is_told_apart():
    catalog = Catalog.from_codes(["caf\u00e9", "a"], [[0], [1]], level_sizes=[2])

    with pytest.raises(KeyError) as caught:
        catalog.rows_of(["b", "cafe\u0301"])
    assert (
        r"'cafe\u0301' differs from 'caf\xe9' of the catalog only by blanks or its Unicode form" in caught.value.args[0]
    )
    with pytest.raises(KeyError, match=r"'a ' differs from 'a' of the catalog"):
        catalog.rows_of(["a "])
    with pytest.raises(KeyError) as plain:
        catalog.rows_of(["\u00e9"])
    assert "differs" not in str(plain.value)


def test_a_plain_list_holds_an_item_once():
    items = ItemList(("a",), np.zeros(1, dtype=bool), vectors=np.ones((1, 2), dtype=np.float32))

    for ids, message in ((["x", "x"], "must be unique, got 'x'"), (["a", "x"], "holds 'a' already")):
        with pytest.raises(ValueError, match=message):
            items.with_items(ids, vectors=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"expected vectors \[1, 2\], as wide as those of the other items, got none"):
        items.with_items(["x"])
    with pytest.raises(ValueError, match=r"expected vectors \[1, 2\].*got \(1, 3\)"):
        items.with_vectors(["a"], np.ones((1, 3)))
    with pytest.raises(ValueError, match="must be unique, got 'a'"):
        ItemList(("a", "a"), np.zeros(2, dtype=bool))


@given(st.lists(st.text(max_size=4), unique=True, max_size=12))
def test_ids_are_ranked_by_code_points(ids):
    ranks = id_ranks(ids)

    assert [ids[place] for place in np.argsort(ranks)] == sorted(ids)


@given(st.lists(st.sampled_from(["a", "b", "Z", "ä", "aa"]), min_size=1, max_size=9))
def test_labels_are_numbered_in_their_order(labels):
    assert numbered(labels).tolist() == [sorted(set(labels)).index(label) for label in labels]


def test_one_long_id_does_not_widen_all_others():
    count = 20_000
    ids = [f"item{row}" for row in range(count - 1)] + ["x" * 5_000]
    popularity, codes = np.arange(count) % 7, np.zeros((count, 1), dtype=np.int64)

    tracemalloc.start()
    order = popularity_order(popularity, ids)
    trie = SidTrie(codes, [1], priority=popularity, item_ids=ids)
    ScoringRanker(None, popularity=popularity, item_ids=ids)
    numbered(ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 40_000_000  # an array of strings would take 400 MB
    expected = sorted(range(count), key=lambda row: (-popularity[row], ids[row]))
    assert order.tolist() == trie.leaf_items.tolist() == expected


def test_counts_are_whole_numbers():
    assert whole_number(np.int8(3), "n") == 3 and type(whole_number(np.int8(3), "n")) is int
    for value in (True, 3.0, "3", None, float("nan"), np.float32(3), [3]):
        with pytest.raises(ValueError, match="n must be a whole number of at least 1, got"):
            whole_number(value, "n")
    for value in (0, -1, np.int64(-5)):
        with pytest.raises(ValueError, match="n must be at least 1, got"):
            whole_number(value, "n")
    with pytest.raises(ValueError, match="n must be at most 5, got 6"):
        whole_number(6, "n", most=5)
