"""Columns of an item table that stay with a recommender."""

import pandas as pd
import pyarrow as pa
import pytest

import cost_hf
from cost_hf.data import DataError, DataOptions
from cost_hf.data.item_columns import MAX_FIELDS, changed_columns, item_columns
from cost_hf.data.prepare import prepare_data
from cost_hf.semantic_ids.item_columns import ItemColumns

ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b"],
        "title": ["Lamp", "Desk"],
        "price": [9.5, None],
        "stock": [3, 4],
        "mixed": [3, "many"],
        "tags": [["x"], ["y", "z"]],
        "either": [["x"], "y"],
        "empty": [None, None],
    }
)
CLICKS = pd.DataFrame({"user_id": ["u", "u", "u"], "item_id": ["a", "b", "a"], "position": [0, 1, 2]})


def test_types_stay_and_mixed_ones_become_text():
    table = item_columns(ITEMS, ["stock"])

    assert {field.name: field.type for field in table.schema} == {
        "price": pa.float64(),
        "mixed": pa.string(),
        "tags": pa.list_(table.schema.field("tags").type.value_type),
        "either": pa.string(),
    }
    assert table.to_pydict() == {
        "price": [9.5, None],
        "mixed": ["3", "many"],
        "tags": [["x"], ["y", "z"]],
        "either": ['["x"]', "y"],
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.period_range("2026-01", periods=2, freq="M"), ["2026-01", "2026-02"]),
        (pd.arrays.IntervalArray.from_breaks([0, 1, 2]), ["(0, 1]", "(1, 2]"]),
        ([{}, {"a": {}}], [None, None]),
        ([[{}], [{}]], ["[{}]", "[{}]"]),
        ([{str(name): 1 for name in range(MAX_FIELDS + 1)}, None], [None]),
        ([1 + 2j, 3], ["(1+2j)", "(3+0j)"]),
    ],
    ids=["periods", "intervals", "no field", "lists of no field", "many fields", "complex"],
)
def test_what_no_file_keeps_becomes_text(values, expected, tmp_path):
    columns = ItemColumns.of(item_columns(pd.DataFrame({"item_id": ["a", "b"], "x": values, "y": [1, 2]})))

    columns.save(tmp_path / "columns.parquet")
    assert ItemColumns.read(tmp_path / "columns.parquet", rows=2).digest == columns.digest
    assert columns.arrays["x"].type == pa.string()
    assert len(expected) == 1 or columns.arrays["x"].to_pylist() == expected


def test_values_of_few_items_are_of_the_types_of_the_catalog():
    items = pd.DataFrame(
        {"item_id": ["a", "b"], "title": ["A", "B"], "size": [36.0, None], "stock": [3, 4], "offer": [None, None]}
    )

    changed = changed_columns(items, texts=["size", "brand"])

    assert changed.to_pydict() == {"size": ["36", None], "stock": [3, 4], "offer": [None, None]}
    assert changed.schema.field("size").type == pa.string()


def test_excluded_columns_are_part_of_the_text_and_not_of_the_catalog():
    data = prepare_data(DataOptions(exclude_columns=["mixed", "tags"]), items=ITEMS, interactions=CLICKS)

    assert data.columns.column_names == ["price", "stock", "either"]
    assert list(data.tables.items.columns) == list(ITEMS.columns)


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        ("prise", "data.exclude_columns names 'prise', expected columns of the items .* did you mean 'price'"),
        ("title", "names 'title', expected columns of the items besides item_id and title"),
    ],
)
def test_a_column_that_can_not_be_excluded_is_an_error(excluded, message):
    with pytest.raises(DataError, match=message):
        prepare_data(DataOptions(exclude_columns=[excluded]), items=ITEMS, interactions=CLICKS)


def test_a_trained_recommender_has_the_columns_of_its_data(tmp_path):
    items = pd.DataFrame({"item_id": list("abcdef"), "title": [f"tea {n}" for n in range(6)], "price": range(6)})
    rows = [(user, "abcdef"[(user + step) % 6], step) for user in range(20) for step in range(4)]
    clicks = pd.DataFrame(rows, columns=["user_id", "item_id", "position"])
    overrides = {"method": "popularity", "evaluation.baselines": [], "evaluation.num_beams": 5}

    run = cost_hf.train(items=items, interactions=clicks, overrides=overrides, output_dir=tmp_path / "run")

    loaded = cost_hf.Recommender.from_pretrained(tmp_path / "run")
    for recommender in (run.recommender, loaded):
        found = recommender.recommend(["a"], where={"price": (2, 3)})
        assert {answer.item_id for answer in found} == {"c", "d"}
