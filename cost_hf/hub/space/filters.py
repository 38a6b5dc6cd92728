"""Filters of the demo: columns that visitors can filter by, what they chose, and columns for diverse lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cost_hf.semantic_ids.item_columns import LISTS, NUMBERS, TEXTS, TRUTHS, ItemColumns, kind_of

MAX_FILTERS = 6
MAX_CHOICES = 50  # values of a column that can be chosen from
MAX_LABEL = 60  # characters of a value


@dataclass(frozen=True)
class ColumnFilter:
    """What visitors can choose of one column.

    Attributes:
        column: its name.
        kind: `truth` (a box to tick), `choice` (some of `choices`) or `range` (two bounds).
        choices: values of a `choice`.
        low, high: least and greatest value of a `range`.
    """

    column: str
    kind: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0


def column_filters(columns: ItemColumns) -> list[ColumnFilter]:
    """Return filters of the first columns that can be chosen from: true or false, numbers, and texts of few values."""
    found = [_filter_of(name, array) for name, array in columns.arrays.items()]
    return [own for own in found if own is not None][:MAX_FILTERS]


def repeated_columns(columns: ItemColumns) -> list[str]:
    """Return the first columns of texts that several items share, such as brands, of which a list may be limited."""
    names = [name for name in columns.of_kind(TEXTS) if _are_repeated(columns.arrays[name].drop_null())]
    return names[:MAX_FILTERS]


def chosen_conditions(filters: Sequence[ColumnFilter], chosen: Sequence[Any]) -> dict[str, Any] | None:
    """Return what visitors chose as conditions of `where`; None where nothing is chosen.

    A bound that leaves out no value is none, so that items without a value stay.

    Args:
        filters: of the catalog.
        chosen: a bool for every `truth`, a list for every `choice`, two numbers or None for every `range`, in order.
    """
    conditions: dict[str, Any] = {}
    entries = iter(chosen)
    for own in filters:
        value = next(entries)
        if own.kind == "truth" and value:
            conditions[own.column] = True
        elif own.kind == "choice" and value:
            conditions[own.column] = list(value)
        elif own.kind == "range":
            least = value
            most = next(entries)
            low = None if least is None or least <= own.low else least
            high = None if most is None or most >= own.high else most
            if (low, high) != (None, None):
                conditions[own.column] = (low, high)
    return conditions or None


def item_facts(filters: Sequence[ColumnFilter], columns: ItemColumns, row: int) -> str:
    """Return what an item has in the columns of the filters, in one line."""
    parts = []
    for own in filters:
        value = columns.value(own.column, row)
        if own.kind == "truth":
            parts += [] if value is None else [own.column if value else f"not {own.column}"]
        elif value is not None:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            parts.append(f"{own.column} {shown:g}" if isinstance(shown, float) else f"{own.column} {shown}")
    return " · ".join(parts)


def _filter_of(name: str, array: pa.Array) -> ColumnFilter | None:
    kind = kind_of(array.type)
    if kind == TRUTHS:
        return ColumnFilter(name, "truth")
    if kind == NUMBERS:
        ends = [pc.min_max(array)[end].as_py() for end in ("min", "max")]
        if None in ends or not np.isfinite([float(end) for end in ends]).all() or ends[0] == ends[1]:
            return None
        return ColumnFilter(name, "range", low=float(ends[0]), high=float(ends[1]))
    if kind == LISTS and pa.types.is_string(array.type.value_type):
        array = array.flatten()
    elif kind != TEXTS:
        return None
    known = array.drop_null()
    values = known.unique()
    if len(values) > MAX_CHOICES or not _are_repeated(known):
        return None
    names = sorted(values.to_pylist())
    return ColumnFilter(name, "choice", tuple(names)) if max(map(len, names)) <= MAX_LABEL else None


def _are_repeated(known: pa.Array) -> bool:
    """Return whether the values of an array without missing ones occur twice on average, or more often."""
    return 0 < 2 * pc.count_distinct(known).as_py() <= len(known)
