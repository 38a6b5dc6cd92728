"""Filters by columns: what they keep, against plain Python, and errors that name column, value and remedy."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_list import ItemList
from cost_hf.semantic_ids.where import Filter
from tests.semantic_ids.test_item_columns import TYPES, columns_of_three, typed

FRAME = pd.DataFrame(
    {
        "price": [9.5, 20.0, None, 60.0],
        "stock": [0, 3, 5, 1],
        "in_stock": [False, True, None, True],
        "brand": ["Alba", "Brisa", None, "Alba"],
        "tags": [["x", "y"], ["y"], [], None],
        "cost": [decimal.Decimal("1.20"), decimal.Decimal("3.00"), None, decimal.Decimal("9.99")],
        "day": [datetime.date(2026, 1, day) for day in (1, 2, 3, 4)],
        "added": pd.to_datetime([f"2026-01-0{day} 12:00" for day in (1, 2, 3, 4)]),
        "changed": pd.to_datetime([f"2026-01-0{day} 12:00" for day in (1, 2, 3, 4)]).tz_localize("Asia/Tokyo"),
        "sizes": [{"cm": 3}] * 4,
    }
)
COLUMNS = ItemColumns.of(FRAME)
CATALOG = ItemList(tuple("abcd"), np.array([False, False, False, True])).with_columns(COLUMNS)


def kept(where) -> list[int]:
    return np.flatnonzero(Filter(where, COLUMNS).matches(COLUMNS)).tolist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"price": (None, 20)}, [0, 1]),
        ({"price": (20, None)}, [1, 3]),
        ({"price": (9.5, 20.0)}, [0, 1]),
        ({"price": {"min": 10}}, [1, 3]),
        ({"price": {"min": None, "max": 9.5}}, [0]),
        ({"price": 60}, [3]),
        ({"price": [60, 9.5]}, [0, 3]),
        ({"stock": (0.5, 3.5)}, [1, 3]),
        ({"stock": (None, 10**30)}, [0, 1, 2, 3]),
        ({"stock": [5.0, np.int64(1)]}, [2, 3]),
        ({"stock": (decimal.Decimal("0.5"), None)}, [1, 2, 3]),
        ({"in_stock": True}, [1, 3]),
        ({"in_stock": np.False_}, [0]),
        ({"in_stock": [True, False]}, [0, 1, 3]),
        ({"brand": "Alba"}, [0, 3]),
        pytest.param({"brand": {"Alba", "Brisa"}}, [0, 1, 3], id="a set"),
        ({"brand": np.array(["Brisa", "Corva"])}, [1]),
        ({"brand": pd.Series(["Brisa"], index=[7])}, [1]),
        ({"tags": "y"}, [0, 1]),
        ({"tags": ["x", "z"]}, [0]),
        ({"cost": (None, 3)}, [0, 1]),
        ({"cost": (1.2, 5.5)}, [0, 1]),
        ({"cost": [9.99]}, [3]),
        ({"day": ("2026-01-02", datetime.date(2026, 1, 3))}, [1, 2]),
        ({"day": datetime.date(2026, 1, 4)}, [3]),
        ({"added": (None, "2026-01-02T12:00")}, [0, 1]),
        ({"added": [pd.Timestamp("2026-01-03 12:00"), np.datetime64("2026-01-04T12:00")]}, [2, 3]),
        ({"added": ("2026-01-03T12:00+00:00", None)}, [2, 3]),
        ({"changed": (None, "2026-01-01T03:00")}, [0]),
        ({"changed": ("2026-01-04T12:00+09:00", None)}, [3]),
        ({"price": (None, 50), "brand": ["Alba", "Brisa"], "in_stock": True}, [1]),
        (pc.field("price").is_null(), [2]),
        ((pc.field("stock") > 2) | pc.field("brand").isin(["Alba"]), [0, 1, 2, 3]),
        (pc.field("price") < 30, [0, 1]),
    ],
    ids=str,
)
def test_a_filter_keeps_the_items_that_fulfil_all_conditions(where, expected):
    assert kept(where) == expected


@pytest.mark.parametrize(
    ("column", "bounds", "expected"),
    [
        ("whole", (2**60 + 1, None), [1]),
        ("whole", (None, 2**60), [0]),
        ("whole", (0.5, None), [0, 1]),
        ("whole", (None, 10**400), [0, 1]),
        ("whole", (-(10**400), None), [0, 1]),
        ("whole", (10**400, None), []),
        ("whole", (None, -(10**400)), []),
        ("whole", (float("-inf"), float("inf")), [0, 1]),
        ("whole", (float("inf"), None), []),
        ("unsigned", (2**63, None), [1]),
        ("unsigned", (-1, 2**63 + 4.5), [0]),
        ("unsigned", (None, -1), []),
        ("price", (None, 10**400), [0, 1]),
        ("price", (10**400, None), []),
        ("price", (float("-inf"), 1.5), [0]),
    ],
)
def test_bounds_of_any_size_are_compared_exactly(column, bounds, expected):
    unsigned = pa.array([1, 2**63 + 5, None], pa.uint64())
    columns = ItemColumns.of({"whole": [2**60, 2**60 + 1, None], "unsigned": unsigned, "price": [1.5, 2.5, None]})

    found = Filter({column: bounds}, columns).matches(columns)

    assert np.flatnonzero(found).tolist() == expected


@st.composite
def conditions(draw):
    """Return conditions of columns of three items, and the same as plain functions."""
    where, tests = {}, {}
    ends = {"count": st.integers(-5, 5), "price": st.floats(-9, 9)}
    entries = {**ends, "name": st.text("aé", max_size=2), "flag": st.booleans(), "tags": st.text("ab", max_size=1)}
    for name in draw(st.lists(st.sampled_from(list(TYPES)), unique=True, min_size=1)):
        if name in ends and draw(st.booleans()):
            low, high = draw(st.none() | ends[name]), draw(st.none() | ends[name])
            if low is None and high is None:
                high = 0
            if None not in (low, high):
                low, high = sorted([low, high])
            where[name] = (low, high)
            tests[name] = lambda value, low=low, high=high: (
                (low is None or value >= low) and (high is None or value <= high)
            )
        else:
            values = draw(st.lists(entries[name], min_size=1, max_size=3))
            where[name] = values
            tests[name] = lambda value, values=values: (
                any(part in values for part in value) if isinstance(value, list) else value in values
            )
    return where, tests


@given(columns_of_three, conditions())
def test_filters_equal_plain_loops(values, both):
    where, tests = both
    columns = typed(values)
    held = {name: values[name] for name in where}
    columns = columns.without([name for name in columns.names if name not in held])

    if len(columns.names) < len(where):  # a column without values is none
        with pytest.raises(ValueError, match="which the catalog does not have"):
            Filter(where, columns)
        return
    found = Filter(where, columns).matches(columns)

    expected = [
        all(held[name][row] is not None and test(held[name][row]) for name, test in tests.items()) for row in range(3)
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"prise": 5}, "where names the column 'prise', which the catalog does not have; did you mean 'price'"),
        ({"colour": 5}, "its columns are price, stock, in_stock, brand, tags"),
        ({"price": "5"}, r"where\['price'\] must be a number, as the column holds double, got '5' \(str\)"),
        ({"price": (None, "50")}, r"must be a number, as the column holds double, got '50'"),
        ({"price": True}, "must be a number"),
        ({"price": float("nan")}, "must be a number"),
        ({"price": decimal.Decimal("NaN")}, "must be a number"),
        ({"price": None}, "must be a number"),
        ({"price": (5, 1)}, r"bounds of 'price' must rise, got \(5, 1\); swap them"),
        ({"price": (1, 2, 3)}, r"bounds of 'price' are \(low, high\)"),
        ({"price": (None, None)}, "of which one may be None"),
        ({"price": {"max": 5, "mni": 1}}, "min and max in a mapping"),
        ({"price": []}, r"where\['price'\] is empty"),
        ({"stock": [1.5]}, r"where\['stock'\] must be values that int64 can hold"),
        ({"stock": [10**30]}, "must be values that int64 can hold"),
        ({"brand": ("A", "B")}, "is a pair of bounds, and the column holds string, which has none"),
        ({"in_stock": (False, True)}, "the column holds bool, which has none"),
        ({"tags": (1, 2)}, r"holds list<item: string>|holds list<string>"),
        ({"brand": 5}, r"must be a text, as the column holds string, got 5 \(int\)"),
        ({"brand": [["Alba"]]}, "must be a text"),
        ({"in_stock": 1}, r"must be true or false, as the column holds bool, got 1 \(int\)"),
        ({"in_stock": "yes"}, "must be true or false"),
        ({"added": "yesterday at tea"}, r"where\['added'\] must be a time, got 'yesterday at tea'"),
        ({"added": 5}, "must be a date or time, also as ISO 8601 text"),
        ({"sizes": 3}, "column 'sizes' holds struct<cm: int64>, which a filter can't compare"),
        ({}, "where must map columns to conditions"),
        (["price"], "where must map columns to conditions"),
    ],
    ids=str,
)
def test_what_fits_no_column_is_refused(where, message):
    with pytest.raises(ValueError, match=message):
        Filter(where, COLUMNS).matches(COLUMNS)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (pc.field("prise") < 3, r"does not fit the columns .*prise"),
        (pc.field("brand") < 3, "does not fit the columns"),
        (pc.field("price"), "gives double, expected true or false"),
    ],
    ids=["unknown", "types", "no test"],
)
def test_an_expression_that_fits_no_column_is_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        Filter(expression, COLUMNS).matches(COLUMNS)


def test_the_key_of_a_filter_tells_values_apart_that_python_takes_for_equal():
    assert Filter({"price": [1, 2]}, COLUMNS).key == Filter({"price": [1, 2]}, COLUMNS).key
    assert Filter({"price": (1, None)}, COLUMNS).key != Filter({"price": (None, 1)}, COLUMNS).key
    assert Filter({"price": (1, 2)}, COLUMNS).key == Filter({"price": {"min": 1, "max": 2}}, COLUMNS).key
    many = [str(number) for number in range(1000)]
    other = [*many[:500], "other", *many[501:]]  # a long expression is not shown in whole
    keys = [Filter(pc.field("brand").isin(values), COLUMNS).key for values in (many, many, other)]
    assert keys[0] == keys[1] != keys[2]


def test_a_mask_of_a_filter_has_no_removed_items_and_none_that_came_later():
    mask = CatalogMask.where(CATALOG, {"price": (None, 100)})

    assert mask.dense(1).tolist() == [[True, True, False, False]]
    later = CATALOG.restored(["d"]).with_items(["e"])
    assert mask.for_catalog(later).dense(1).tolist() == [[True, True, False, True, False]]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"price": (70, None)}, r"no item of 4 items, 1 of them removed fulfils where price of at least 70"),
        (
            {"price": (None, 10), "in_stock": True},
            "price of at most 10 alone keeps 1; in_stock in .True. alone keeps 1",
        ),
        ({"brand": ["Albo"]}, r"brand in \['Albo'\] \(did you mean 'Alba'\?\)"),
        ({"tags": "xx"}, "did you mean 'x'"),
        (pc.field("price") > 70, r"fulfils where \(price > 70\)"),
    ],
    ids=str,
)
def test_a_filter_that_no_item_fulfils_is_an_error_that_counts_every_condition(where, message):
    with pytest.raises(ValueError, match=message):
        CatalogMask.where(CATALOG, where)


def test_a_catalog_without_columns_names_the_remedy():
    with pytest.raises(ValueError, match="its columns are none; add them by add_columns, or train with an item table"):
        CatalogMask.where(ItemList(("a",), np.zeros(1, dtype=bool)), {"price": 5})
