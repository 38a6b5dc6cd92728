"""Columns of a catalog: types that files give back, changes of some items, digests of content alone."""

import datetime
import decimal
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.files import DamagedFileError
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.item_columns import ItemColumns, type_name
from cost_hf.semantic_ids.item_list import ItemList

DAY = datetime.date(2026, 11, 29)
TIMES = pd.to_datetime(["2026-11-29 10:00", None, "2026-11-28"], format="ISO8601")
FRAME = pd.DataFrame(
    {
        "price": [9.5, float("nan"), 20.0],
        "stock": [3, 0, 12],
        "in_stock": [True, False, None],
        "brand": ["Alba", None, "Brisa"],
        "kind": pd.Categorical(["a", "b", "a"]),
        "tags": [["x", "y"], [], None],
        "sizes": [{"cm": 3}, None, {"cm": 4}],
        "cost": [decimal.Decimal("1.20"), None, decimal.Decimal("3.00")],
        "day": [DAY, None, DAY],
        "added": TIMES,
        "changed": TIMES.tz_localize("Europe/Berlin"),
        "seconds": np.array(["2026-11-29", "NaT", "2026-11-28"], dtype="datetime64[s]"),
        "small": np.array([1, 2, 3], dtype=np.int8),
        "half": np.array([1, 2, 3], dtype=np.float16),
    }
)
columns_of_three = st.fixed_dictionaries(
    {
        "count": st.lists(st.none() | st.integers(-5, 5), min_size=3, max_size=3),
        "price": st.lists(st.none() | st.floats(-9, 9), min_size=3, max_size=3),
        "name": st.lists(st.none() | st.text("aé", max_size=2), min_size=3, max_size=3),
        "flag": st.lists(st.none() | st.booleans(), min_size=3, max_size=3),
        "tags": st.lists(st.none() | st.lists(st.text("ab", max_size=1), max_size=2), min_size=3, max_size=3),
    }
)
TYPES = {
    "count": pa.int64(),
    "price": pa.float64(),
    "name": pa.string(),
    "flag": pa.bool_(),
    "tags": pa.list_(pa.string()),
}


def typed(values: dict) -> ItemColumns:
    return ItemColumns.of({name: pa.array(entries, TYPES[name]) for name, entries in values.items()})


def plain(columns: ItemColumns) -> dict[str, list]:
    return {name: array.to_pylist() for name, array in columns.arrays.items()}


def test_a_file_gives_back_types_and_values_of_a_table(tmp_path):
    columns = ItemColumns.of(FRAME)

    columns.save(tmp_path / "columns.parquet")
    back = ItemColumns.read(tmp_path / "columns.parquet", rows=len(FRAME))

    assert {name: type_name(array.type) for name, array in back.arrays.items()} == {
        name: type_name(array.type) for name, array in columns.arrays.items()
    }
    assert type_name(back.arrays["price"].type) == "double" and type_name(back.arrays["stock"].type) == "int64"
    assert type_name(back.arrays["kind"].type) == "string" and type_name(back.arrays["small"].type) == "int8"
    assert plain(back) == plain(columns) and back.digest == columns.digest
    assert plain(back)["price"] == [9.5, None, 20.0] and plain(back)["sizes"] == [{"cm": 3}, None, {"cm": 4}]
    assert pickle.loads(pickle.dumps(columns)).digest == columns.digest


def test_ids_and_columns_without_values_are_no_columns_and_titles_are_refused():
    frame = FRAME[["price"]].assign(item_id=list("abc"), empty=None)

    assert ItemColumns.of(frame).names == ["price"] and repr(ItemColumns.of(frame)) == "ItemColumns(price: double)"
    for titled in (frame.assign(title="t"), {"title": ["t"]}):
        with pytest.raises(ValueError, match="titles are no column of a catalog; pass them as titles"):
            ItemColumns.of(titled)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([1, 2], "columns must map names to one value an item, got"),
        ({"x": [1, "a"]}, "column 'x' must hold values of one type"),
        ({"x": [1, 2], "y": [1]}, r"equally long, one value an item, got \[1, 2\]"),
        ({"x": pd.period_range("2026", periods=2, freq="M")}, "column 'x' must hold values of one type that parquet"),
    ],
)
def test_what_is_no_table_is_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        ItemColumns.of(columns)


@given(columns_of_three, columns_of_three)
def test_a_digest_is_that_of_values_and_types(one, other):
    first, second = typed(one), typed(other)
    # the same values in pieces, and with other bytes in the place of missing ones
    pieces = {
        name: pa.chunked_array([array.slice(0, 1), array.slice(1)], array.type) for name, array in first.arrays.items()
    }
    masked = pa.array(["zz", "zz"], pa.string(), mask=np.array([True, True]))

    assert ItemColumns.of(pieces).digest == first.digest
    is_same = list(plain(first).items()) == list(plain(second).items())  # texts are made of columns in their order
    assert is_same == (first.digest == second.digest)
    assert ItemColumns({"x": masked}).digest == ItemColumns({"x": pa.nulls(2, pa.string())}).digest
    assert ItemColumns({"x": pa.array([1, 2])}).digest != ItemColumns({"x": pa.array([1, 2], pa.int8())}).digest


@given(columns_of_three, columns_of_three, st.permutations(range(3)), st.integers(0, 3))
def test_other_values_of_some_items_leave_the_others(before, after, order, count):
    columns = typed(before)
    rows = order[:count]
    _ = columns.digest
    new = columns.with_values(rows, {name: [after[name][row] for row in rows] for name in columns.names})

    expected = {
        name: [after[name][row] if row in rows else value for row, value in enumerate(before[name])]
        for name in columns.names
    }
    assert plain(new) == plain(typed(expected)) and new.digest == typed(expected).digest
    assert plain(columns) == plain(typed(before))


@given(columns_of_three, columns_of_three, st.permutations(range(3)), st.integers(0, 3))
def test_values_differ_where_putting_them_in_would_change_something(before, after, order, count):
    columns = typed(before)
    rows = order[:count]
    values = {name: [after[name][row] for row in rows] for name in columns.names}

    found = columns.differing(rows, values)

    assert {name: differs.tolist() for name, differs in found.items()} == {
        name: [before[name][row] != after[name][row] for row in rows] for name in columns.names
    }


def test_values_of_every_type_equal_themselves_and_missing_ones_each_other():
    columns = ItemColumns.of(FRAME)
    same = columns.differing(range(3), FRAME.drop(columns=["item_id"], errors="ignore"))
    missing = columns.differing([0, 1, 2], {name: [None] * 3 for name in columns.names})

    assert set(same) == set(columns.names) and not np.any(list(same.values()))
    assert all(missing[name].tolist() == columns.arrays[name].is_valid().to_pylist() for name in columns.names)


def test_whole_numbers_become_numbers_of_the_column_and_times_may_be_texts():
    columns = ItemColumns.of(FRAME[["price", "stock", "added", "day"]])

    values = {"price": [5], "stock": [4.0], "added": ["2026-01-02T03:04:05"], "day": ["2026-01-02"]}
    new = columns.with_values([2], values)

    assert [new.value(name, 2) for name in ("price", "stock")] == [5.0, 4]
    assert new.value("added", 2) == datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert new.value("day", 2) == datetime.date(2026, 1, 2)
    assert columns.with_values([0], {"price": [None]}).value("price", 0) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"colour": ["red"]},
            "names the column 'colour', which the catalog does not have; its columns are price, stock",
        ),
        ({"prise": [1.0]}, "did you mean 'price'"),
        ({"price": ["9.5"]}, "column 'price': expected a number, got '9.5' \\(text\\)"),
        ({"price": [True]}, "column 'price': expected a number, got True"),
        ({"stock": [9.5]}, "column 'stock': expected a whole number, got 9.5"),
        ({"in_stock": [1]}, "column 'in_stock': expected true or false, got 1"),
        ({"brand": [5]}, "column 'brand': expected text, got 5"),
        ({"tags": ["x"]}, "column 'tags': expected a list, each entry text, got 'x'"),
        ({"price": [1.0, 2.0]}, "one value of 'price' per item, got 2 for 1 items"),
        ([1.0], "columns must map names"),
    ],
)
def test_values_of_another_type_or_number_are_refused(values, message):
    columns = ItemColumns.of(FRAME[["price", "stock", "in_stock", "brand", "tags"]])

    with pytest.raises(ValueError, match=message):
        columns.with_values([0], values)


def test_groups_are_equal_values_and_missing_ones_are_in_none():
    columns = ItemColumns.of({"brand": ["b", None, "a", "b", None], "tags": [["x"]] * 5})

    groups = columns.groups("brand", what="diversify")

    assert groups.codes[0] == groups.codes[3] != groups.codes[2] and (groups.codes[[1, 4]] == -1).all()
    assert sorted(groups.rows_of([groups.codes[0]]).tolist()) == [0, 3]
    assert sorted(groups.rows_of([groups.codes[0], groups.codes[2]]).tolist()) == [0, 2, 3]
    assert groups.rows_of([]).tolist() == []
    with pytest.raises(ValueError, match=r"'tags', which holds list<string>, expected one value an item"):
        columns.groups("tags", what="diversify")


@pytest.mark.parametrize("kind", ["catalog", "items"])
def test_a_catalog_keeps_its_columns_through_every_change(kind, tmp_path):
    codes = np.array([[0, 0], [0, 1], [1, 0]])
    catalog = Catalog.from_codes(list("abc"), codes, level_sizes=(2, 2), titles=list("ABC"))
    if kind == "items":
        catalog = ItemList(tuple("abc"), np.zeros(3, dtype=bool), tuple("ABC"))
    with_columns = catalog.with_columns({"price": [1.0, 2.0, 3.0]})

    grown = with_columns.with_items(["d"], codes=[[1, 1]]) if kind == "catalog" else with_columns.with_items(["d"])
    changed = grown.with_values(["d", "a"], {"price": [4.0, None]}).without_items(["b"]).with_titles(["a"], ["AA"])

    assert plain(grown.columns) == {"price": [1.0, 2.0, 3.0, None]}
    assert plain(changed.columns) == {"price": [None, 2.0, 3.0, 4.0]}
    assert plain(with_columns.columns) == {"price": [1.0, 2.0, 3.0]}
    assert catalog.version == catalog.items_version == with_columns.items_version != with_columns.version
    assert with_columns.digest == catalog.digest and with_columns.stem != catalog.stem
    assert changed.without_metadata().columns.names == [] and changed.without_metadata().titles is None
    changed.save(tmp_path, "x")
    back = type(catalog).load(tmp_path, "x")
    assert back.version == changed.version and back.columns.digest == changed.columns.digest
    catalog.save(tmp_path, "x")  # in place of one with columns
    assert type(catalog).load(tmp_path, "x").version == catalog.version


def test_columns_of_another_number_of_items_are_refused():
    catalog = ItemList(tuple("abc"), np.zeros(3, dtype=bool))

    with pytest.raises(ValueError, match="'price' must hold one value for each of 3 items, got 2"):
        catalog.with_columns({"price": [1.0, 2.0]})
    with pytest.raises(KeyError, match="item ids are not in the catalog"):
        catalog.with_columns({"price": [1.0, 2.0, 3.0]}).with_values(["z"], {"price": [1.0]})


def test_metadata_of_a_table_replace_those_of_its_items_and_leave_the_others():
    catalog = ItemList(tuple("abcd"), np.zeros(4, dtype=bool), tuple("ABCD"))
    held = catalog.with_columns({"price": [1.0, 2.0, 3.0, 4.0], "old": [1, 2, 3, 4], "own": list("wxyz")})

    new = held.with_metadata(
        ["c", "a"], ["C2", "A2"], ItemColumns.of({"price": [30.0, 10.0], "kind": ["k", "l"]}), without=["old"]
    )

    assert new.titles == ("A2", "B", "C2", "D")
    assert plain(new.columns) == {
        "price": [10.0, 2.0, 30.0, 4.0],
        "own": list("wxyz"),
        "kind": ["l", None, "k", None],
    }


def test_a_damaged_file_of_columns_is_named(tmp_path):
    (tmp_path / "columns.parquet").write_bytes(b"PAR1 and nothing else")

    with pytest.raises(DamagedFileError, match=r"columns\.parquet is not a valid parquet file"):
        ItemColumns.read(tmp_path / "columns.parquet", rows=2)
    with pytest.raises(FileNotFoundError):
        ItemColumns.read(tmp_path / "none.parquet", rows=2)
