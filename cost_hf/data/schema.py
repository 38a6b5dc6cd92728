"""Tables: a catalog and a click log that have passed the checks every later stage relies on.

All checks stand here and nowhere else, so that a bad file fails at the door, in the words of that file: each error
names table, column, row (0-based, as read), value and remedy. What later code may assume is the docstring of `Tables`.

Dimension letters of this package: B batch, T history length, L levels, K codes per level, D latent, E text width,
N items, R beams or results, M evaluation cases. An item's row in `Tables.items` is its number everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.files import content_digest

# Epoch seconds stay below this until the year 5138; epoch milliseconds have been above it since 1973.
MAX_EPOCH_SECONDS = 10**11


@dataclass(frozen=True, eq=False)
class Tables:
    """A checked catalog and its click log.

    Attributes:
        items: index 0..N-1 is the catalog row; column `item_id` (text, unique), then any others.
        interactions: `user_id`, `item_id` (text), `item_row` (int64), `position` (int64, 0 is a user's oldest, no
            gaps), `timestamp` (Int64 epoch seconds, where the source has them), then any others; sorted by
            (user_id, position).
        counts: what was found and dropped on the way in, by name.
    """

    items: pd.DataFrame
    interactions: pd.DataFrame
    counts: dict[str, int]

    @property
    def num_items(self) -> int:
        """Number N of catalog rows."""
        return len(self.items)

    @cached_property
    def digest(self) -> str:
        """Sha256 over every cell of both tables; equal content gives an equal digest, whatever the file format."""
        return content_digest(*_cells(self.items), *_cells(self.interactions))


def _cells(frame: pd.DataFrame) -> list[Any]:
    parts: list[Any] = []
    for column in sorted(frame.columns):
        values = frame[column]
        if pd.api.types.is_integer_dtype(values) and not values.isna().any():
            parts += [column, values.to_numpy(dtype=np.int64)]
        else:
            parts += [column, [None if is_empty(value) else str(value) for value in values]]
    return parts


def is_empty(value: Any) -> bool:
    """Say whether a cell holds nothing: null, NaN, or a list or text of length 0."""
    if isinstance(value, (str, list, tuple, np.ndarray)):
        return len(value) == 0
    return bool(pd.isna(value))


def require_columns(frame: pd.DataFrame, table: str, names: Sequence[str]) -> None:
    """Raise `DataError` for the first of `names` that `frame` lacks."""
    for name in names:
        if name not in frame.columns:
            raise DataError(
                f"{table} has no column {name!r}, only {list(map(str, frame.columns))}; "
                f"rename it in the source or map it with data.columns: {{{name}: <name in the source>}}"
            )


def clean_ids(frame: pd.DataFrame, table: str, column: str) -> pd.Series:
    """Return an id column as text (numbers become their digits); null and empty ids are errors."""
    values = frame[column]
    _forbid(values.isna(), frame, table, column, "an id in every row", "fill it or remove the row")
    if pd.api.types.is_float_dtype(values):
        fractional = values % 1 != 0
        _forbid(fractional, frame, table, column, "a text or a whole number as id", "store ids as text")
        values = values.astype("int64")
    texts = values.astype(str)
    _forbid(texts.str.strip() == "", frame, table, column, "an id that is not blank", "fill it or remove the row")
    return texts


def clean_positions(frame: pd.DataFrame) -> pd.Series:
    """Return `position` as int64; nulls and fractions are errors."""
    numbers = pd.to_numeric(frame["position"], errors="coerce")
    remedy = "fill it, or order by time with data.order: timestamp"
    _forbid(numbers.isna() | (numbers % 1 != 0), frame, "interactions", "position", "a whole number", remedy)
    return numbers.astype("int64")


def clean_timestamps(frame: pd.DataFrame) -> pd.Series:
    """Return `timestamp` as Int64 epoch seconds from numbers, dates or ISO 8601 texts (UTC where no zone is given)."""
    values = frame["timestamp"]
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.astype("Float64")
    else:
        numbers = pd.to_numeric(values, errors="coerce") if not _holds_dates(values) else values.map(lambda _: np.nan)
        if (numbers.isna() & values.notna()).any():
            numbers = _seconds_of_dates(values)
        numbers = numbers.astype("Float64")
    unreadable = numbers.isna() & values.notna()
    _forbid(unreadable, frame, "interactions", "timestamp", "epoch seconds or an ISO 8601 date", "correct the value")
    remedy = "round it, or give the order as position"
    _forbid((numbers % 1 != 0).fillna(False), frame, "interactions", "timestamp", "whole epoch seconds", remedy)
    too_large = (numbers.abs() > MAX_EPOCH_SECONDS).fillna(False)
    remedy = "divide by 1000 if these are milliseconds"
    _forbid(too_large, frame, "interactions", "timestamp", "epoch seconds", remedy)
    return numbers.astype("Int64")


def _holds_dates(values: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(values)


def _seconds_of_dates(values: pd.Series) -> pd.Series:
    is_typed = _holds_dates(values)
    dates = pd.to_datetime(values, utc=True, errors="coerce", format=None if is_typed else "ISO8601")
    return (dates - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)


def check_unique_items(items: pd.DataFrame) -> None:
    """Raise `DataError` where an item id stands in two rows of the catalog."""
    repeated = items["item_id"].duplicated()
    _forbid(repeated, items, "items", "item_id", "each id once", "remove one of the rows")


def unknown_items(interactions: pd.DataFrame, items: pd.DataFrame, *, drops: bool) -> np.ndarray:
    """Return which clicks are on items without a catalog row, bool; unless `drops`, any is an error."""
    unknown = ~interactions["item_id"].isin(items["item_id"])
    if not drops:
        remedy = "add the item to the catalog, or drop such clicks with data.on_unknown_item: drop"
        _forbid(unknown, interactions, "interactions", "item_id", "an id that items has", remedy)
    return unknown.to_numpy()


def empty_texts(items: pd.DataFrame, texts: Sequence[str], *, drops: bool) -> np.ndarray:
    """Return which items have an empty rendered text, bool; unless `drops`, any is an error."""
    empty = np.fromiter((not text.strip() for text in texts), dtype=bool, count=len(texts))
    if empty.any() and not drops:
        row = int(empty.argmax())
        raise DataError(
            f"items, row {row} (item_id {items['item_id'].iloc[row]!r}): expected a text, got {texts[row]!r} "
            f"({_rows(int(empty.sum()))} like this); fill a field of vectors.template, name other fields there, "
            "or drop such items with data.on_empty_text: drop"
        )
    return empty


def check_positions(interactions: pd.DataFrame) -> None:
    """Raise `DataError` where a user has two clicks at one position."""
    clashing = interactions.duplicated(["user_id", "position"])
    if clashing.any():
        row = int(clashing.to_numpy().argmax())
        user = interactions["user_id"].iloc[row]
        raise DataError(
            f"interactions.position, row {row}: expected each position once per user, got "
            f"{int(interactions['position'].iloc[row])!r} a second time for user_id {user!r} "
            f"({_rows(int(clashing.sum()))} like this); renumber them, or order by time with data.order: timestamp"
        )


def check_strict(items: pd.DataFrame, interactions: pd.DataFrame, texts: Sequence[str]) -> None:
    """Raise `DataError` for what only `data.strict` forbids: duplicate texts and repeated (user, item) pairs."""
    duplicated = pd.Series(list(texts), dtype=object).duplicated()
    if duplicated.any():
        row = int(duplicated.to_numpy().argmax())
        raise DataError(
            f"items, row {row} (item_id {items['item_id'].iloc[row]!r}): data.strict expects distinct texts, got "
            f"{texts[row]!r} a second time ({_rows(int(duplicated.sum()))} like this); "
            "add a field to vectors.template or set data.strict: false"
        )
    repeated = interactions.duplicated(["user_id", "item_id"])
    if repeated.any():
        click = interactions.loc[repeated].iloc[0]
        raise DataError(
            f"interactions.item_id: data.strict expects each item once per user, got {click['item_id']!r} again at "
            f"position {int(click['position'])} of user_id {click['user_id']!r} ({_rows(int(repeated.sum()))} like "
            "this); remove the repeats or set data.strict: false"
        )


def _forbid(bad: pd.Series, frame: pd.DataFrame, table: str, column: str, expected: str, remedy: str) -> None:
    """Raise `DataError` for the first row where `bad` is true."""
    flags = bad.to_numpy(dtype=bool)
    if not flags.any():
        return
    row = int(flags.argmax())
    value = frame[column].iloc[row]
    value = value.item() if isinstance(value, np.generic) else value
    raise DataError(
        f"{table}.{column}, row {row}: expected {expected}, got {value!r} "
        f"({_rows(int(flags.sum()))} like this); {remedy}"
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
