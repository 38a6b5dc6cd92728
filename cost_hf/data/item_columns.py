"""Columns of an item table that stay with a recommender, so that requests can filter by them."""

import difflib
from collections.abc import Collection, Sequence

import pandas as pd
import pyarrow as pa

from cost_hf.data.cells import cell_text
from cost_hf.data.errors import DataError

KEPT = ("item_id", "title")  # what a recommender keeps of every item anyway
MAX_FIELDS = 100  # of an object; a file has a column for each of them


def item_columns(items: pd.DataFrame, excluded: Sequence[str] = ()) -> pa.Table:
    """Return the columns of a catalog besides ids and titles, as Arrow types.

    A column of mixed types, or of a type that parquet files do not keep, becomes text, lists and objects among it JSON;
    one without any value is left out.

    Args:
        items: the catalog, N rows.
        excluded: columns to leave out.

    Examples:
        >>> import pandas as pd
        >>> items = pd.DataFrame({"item_id": ["a", "b"], "title": ["Lamp", "Desk"], "price": [9.5, None]})
        >>> item_columns(items).schema.to_string()
        'price: double'
    """
    names = [name for name in items.columns if name not in (*KEPT, *excluded) and items[name].notna().any()]
    return pa.table({name: _array(items[name]) for name in names})


def changed_columns(items: pd.DataFrame, texts: Collection[str]) -> pa.Table:
    """Return the columns of a table of some items, whose values are to replace those of a catalog.

    Few items may not show the type of a column: one that holds texts in the catalog becomes text here, too, and one
    without any value is kept, for it says that values are missing now.

    Args:
        items: `item_id`, and other columns of these items.
        texts: columns that hold texts in the catalog.

    Examples:
        >>> import pandas as pd
        >>> changed = changed_columns(pd.DataFrame({"item_id": ["a"], "size": [36], "offer": [None]}), ["size"])
        >>> changed.to_pydict()
        {'size': ['36'], 'offer': [None]}
    """
    arrays = {}
    for name in items.columns:
        if name not in KEPT:
            is_known = items[name].notna().any()
            arrays[name] = (_texts if name in texts else _array)(items[name]) if is_known else pa.nulls(len(items))
    return pa.table(arrays)


def check_excluded(items: pd.DataFrame, excluded: Sequence[str]) -> None:
    """Raise `DataError` for a column that the catalog does not have, or that a recommender needs."""
    columns = [str(name) for name in items.columns if name not in KEPT]
    for name in excluded:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            raise DataError(
                f"data.exclude_columns names {name!r}, expected columns of the items besides {' and '.join(KEPT)}"
                f"{f'; did you mean {close[0]!r}?' if close else ''}: they are {', '.join(columns) or 'none'}"
            )


def _array(values: pd.Series) -> pa.Array:
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _texts(values)
    return array if _is_kept(array.type) else _texts(values)


def _texts(values: pd.Series) -> pa.Array:
    return pa.array([cell_text(value) for value in values], pa.string())


def _is_kept(kind: pa.DataType) -> bool:
    """Return whether a parquet file keeps a type."""
    if pa.types.is_struct(kind):
        return 0 < kind.num_fields <= MAX_FIELDS and all(_is_kept(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_kept(kind.value_type)
    return not isinstance(kind, pa.BaseExtensionType)
