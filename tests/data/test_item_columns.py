"""Columns of an item table that stay with a recommender."""

import pandas as pd
import pyarrow as pa
import pytest

import cost_hf
from cost_hf.data import DataError, DataOptions
from cost_hf.data.item_columns import item_columns
from cost_hf.data.prepare import prepare_data

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
