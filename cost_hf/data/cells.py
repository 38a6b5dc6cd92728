"""Cells: what a value of any type that a file can hold is as text."""

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.errors import DataError

EXACT_WHOLE = 2**53  # floats tell whole numbers below it apart, and no others


def is_empty(value: Any) -> bool:
    """Say whether a cell holds nothing: null, NaN, or a list, object or text of length 0."""
    if isinstance(value, (str, list, tuple, dict, np.ndarray)):
        return len(value) == 0
    return bool(pd.isna(value))


def cell_text(value: Any) -> str | None:
    """Return one text for equal cells, whatever the format they came from; None for an empty one.

    Whole numbers are their digits, lists and objects JSON without what is empty.
    """
    value = _plain(value)
    if is_empty(value):
        return None
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    """Return a value of plain Python types, all leaves as text; objects lose their empty fields."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        plain = {str(name): _plain(part) for name, part in value.items()}
        return {name: part for name, part in plain.items() if not is_empty(part)}
    if is_empty(value):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def column_words(values: pd.Series) -> list[str]:
    """Return every cell of a column as the words of an item text, "" for an empty one.

    Whole numbers are their digits even where empty cells beside them made the column one of floats.

    Raises:
        DataError: for bytes, whose encoding nobody named.
    """
    if pd.api.types.is_float_dtype(values):
        known = np.asarray(values.dropna(), dtype=np.float64)
        if (np.abs(known) < EXACT_WHOLE).all() and (known % 1 == 0).all():
            values = values.astype("Int64")
        return ["" if is_empty(value) else str(value) for value in values]
    for row, value in enumerate(values):
        if isinstance(value, (bytes, bytearray)):
            raise DataError(
                f"items.{values.name}, row {row}: expected text, got bytes {value!r:.60}; decode the column where the "
                "table is made, as with frame[name].str.decode('utf-8')"
            )
    return [cell_words(value) for value in values]


def cell_words(value: Any) -> str:
    """Return a cell as words: lists with commas, objects as `name: value`, numbers and truth values as they read."""
    if is_empty(value):
        return ""
    if isinstance(value, dict):
        pairs = ((name, cell_words(part)) for name, part in value.items())
        return ", ".join(f"{name}: {words}" for name, words in pairs if words)
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(filter(None, map(cell_words, value)))
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < EXACT_WHOLE:
        return str(int(value))
    return str(value).strip()


def holds_words(value: Any) -> bool:
    """Say whether a cell is a text or a list with one."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return any(map(holds_words, value))
    return isinstance(value, str)


def map_texts(values: pd.Series, change: Callable[[str], str]) -> pd.Series:
    """Return a column with every text in it changed, those within lists too; other cells stay as they are."""
    return pd.Series([_changed(value, change) for value in values], index=values.index, dtype=object)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_changed(part, change) for part in value]
    return value


def has_control(text: str) -> bool:
    """Say whether a text holds a control character, which a terminal would obey."""
    return not text.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in text)
