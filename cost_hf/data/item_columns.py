"""Columns of an item table that stay with a recommender, so that requests can filter by them."""

import difflib
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from cost_hf.data.cells import cell_text
from cost_hf.data.errors import DataError

KEPT = ("item_id", "title")  # what a recommender keeps of every item anyway


def item_columns(items: pd.DataFrame, excluded: Sequence[str] = ()) -> pa.Table:
    """Return the columns of a catalog besides ids and titles, as Arrow types.

    A column of mixed types becomes text, lists and objects among it JSON; one without any value is left out.

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
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([cell_text(value) for value in values], pa.string())
