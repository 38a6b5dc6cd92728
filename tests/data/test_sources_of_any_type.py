"""Sources of other types than expected, and tables with odd column names."""

import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables, render_texts

ITEMS = pd.DataFrame({"item_id": ["a", "b"], "title": ["Red", "Green"]})
CLICKS = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2]})


def read(items=ITEMS, clicks=CLICKS, **options):
    return read_tables(DataOptions(**options), items=items, interactions=clicks)


@pytest.mark.parametrize(
    "source",
    [
        {"a", "b"},
        (row for row in [1]),
        [{"item_id": "a"}],
        {"item_id": ["a"]},
        {},
        5,
        b"items.csv",
        ITEMS["title"],
        ITEMS.to_numpy(),
    ],
    ids=["set", "generator", "rows", "columns", "empty", "number", "bytes", "series", "array"],
)
def test_other_types_are_refused_with_what_is_expected(source):
    with pytest.raises(DataError, match=r"cannot read items from .*expected a DataFrame, a datasets.Dataset"):
        read(source)


def test_number_as_column_name_is_its_text():
    assert read(ITEMS.assign(x=[1, 2]).rename(columns={"x": 7})).items["7"].tolist() == [1, 2]


@pytest.mark.parametrize("names", [["item_id", "title", "title"], ["item_id", 7, "7"]])
def test_equal_column_names_are_refused(names):
    items = pd.DataFrame([["a", "x", "y"]]).set_axis(names, axis=1)

    with pytest.raises(DataError, match=r"items has more than one column '(title|7)'"):
        read(items)


def test_column_names_of_several_levels_are_refused():
    with pytest.raises(DataError, match="items has column names of 2 levels"):
        read(pd.concat({"x": ITEMS}, axis=1))


def test_an_index_that_is_a_column_counts_as_one():
    indexed = ITEMS.set_index("item_id")

    assert read(indexed).items["item_id"].tolist() == ["a", "b"]
    assert read(indexed.rename_axis("sku"), columns={"items.item_id": "sku"}).items["item_id"].tolist() == ["a", "b"]


def test_sorted_frames_keep_their_rows_together():
    assert read(ITEMS.sort_values("item_id", ascending=False)).items["title"].tolist() == ["Green", "Red"]


def test_frames_by_part_are_joined_under_their_names():
    assert read(clicks={"train": CLICKS[:1], "test": CLICKS[1:]}).interactions["split"].tolist() == ["train", "test"]


def test_one_column_is_not_mapped_twice():
    with pytest.raises(DataError, match="maps both 'title' and 'brand' to 'title' of items"):
        read(columns={"title": "title", "brand": "title"})


def test_catalog_without_rows_is_refused():
    with pytest.raises(DataError, match="items has 0 rows"):
        read(ITEMS.head(0))


def test_half_characters_are_refused_wherever_they_stand():
    for column in (["a\ud800", "b"], [["x", "y\udfff"], []]):
        with pytest.raises(DataError, match=r"items.tags, row 0: expected text, got half of a character"):
            read(ITEMS.assign(tags=pd.Series(column, dtype=object)))


def test_title_of_bytes_is_named():
    with pytest.raises(DataError, match=r"items.title, row 1: expected text, got bytes b'Gr\\xfcn'; decode"):
        read(ITEMS.assign(title=["Red", b"Gr\xfcn"]))


def test_column_of_bytes_is_no_text_and_said_to_be_left_out():
    tables = read(ITEMS.assign(brand=[b"x", b"y"]))

    assert render_texts(tables.items, None) == ["Red", "Green"]
    assert [notice.message for notice in tables.notices] == [
        "items.brand contains bytes instead of text and is left out"
    ]


def test_half_a_character_in_a_categorical_column_is_named():
    names = pd.Index(["\ud800", "b"], dtype=object)

    with pytest.raises(DataError, match=r"items.title, row 0: expected text, got half of a character"):
        read(ITEMS.assign(title=pd.Categorical(names)))


def test_sparse_columns_are_read_as_plain_ones():
    clicks = CLICKS.assign(timestamp=pd.arrays.SparseArray([2.5, 1.0]))

    assert read(clicks=clicks).interactions["timestamp"].tolist() == [1, 2]
