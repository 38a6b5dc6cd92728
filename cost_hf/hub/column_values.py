"""Values of a table that a column of the catalog can't take, such as the price `on request`, found cell by cell."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cost_hf.data.item_columns import changed_columns
from cost_hf.data.text_files import COMMA_NUMBER, TRUTH
from cost_hf.semantic_ids.item_columns import NUMBERS, TEXTS, TRUTHS, ItemColumns, kind_of, type_words, values_like

POINT_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MISFIT = object()


@dataclass(frozen=True)
class Misfit:
    """A cell that a column of the catalog can't take.

    Attributes:
        place: position of its row.
        column: name of the column.
        value: what the cell holds.
        expected: what the column takes, in words.
    """

    place: int
    column: str
    value: Any
    expected: str

    @property
    def reason(self) -> str:
        """What is wrong, in a few words."""
        return f"column {self.column!r:.80}: expected {self.expected}, got {self.value!r:.80}"


def fitting_values(
    frame: pd.DataFrame, columns: ItemColumns, *, table: str, decimal: str
) -> tuple[pd.DataFrame, list[Misfit]]:
    """Return a table whose cells fit the columns of a catalog, and the cells that did not, which are missing in it.

    One such cell makes text of a whole column of a file, so numbers and `true` and `false` are read again there.

    Args:
        frame: `item_id` and other columns, n rows.
        columns: of the catalog.
        table: name of the table, for errors.
        decimal: mark of numbers in text; with a comma, points separate thousands.

    Raises:
        ValueError: for a column most of whose values do not fit.
    """
    fitting = {}
    misfits: list[Misfit] = []
    for name in frame.columns:
        held = columns.arrays.get(name)
        if held is None or kind_of(held.type) == TEXTS or _fits(frame[[name]], held, name):
            continue
        fitting[name], found = _fitting_cells(frame[name], held, decimal)
        num_known = int(frame[name].notna().sum())
        # one cell of a column that is empty elsewhere does not tell that the column is of another type
        is_one_of_many = len(found) == 1 and len(frame) > 1
        if 2 * len(found) > num_known and not is_one_of_many:
            first = found[0]
            item = frame["item_id"].iloc[first.place]
            raise ValueError(
                f"{table}, row {frame.index[first.place]} (item_id {item!r:.80}): {first.reason}; {len(found):,} of "
                f"{num_known:,} values of the column do not fit: correct the file, or train again where the column is "
                "to hold values of another type"
            )
        misfits += found
    return frame.assign(**fitting), sorted(misfits, key=lambda misfit: misfit.place)


def _fits(frame: pd.DataFrame, held: pa.Array, name: str) -> bool:
    """Return whether a column of a table can be taken as it is."""
    try:
        values_like(held, changed_columns(frame, ())[name], name)
    except ValueError:
        return False
    return True


def _fitting_cells(cells: pd.Series, held: pa.Array, decimal: str) -> tuple[pd.Series, list[Misfit]]:
    """Return the cells of a column, missing where they do not fit, and those that do not."""
    name = str(cells.name)
    kind = kind_of(held.type)
    given = [None if is_missing else value for value, is_missing in zip(cells.tolist(), cells.isna(), strict=True)]
    fitting = _as_held([_read_again(value, kind, decimal) for value in given], held, name)
    misfits = []
    for place, value in enumerate(given):
        if fitting[place] is MISFIT:
            fitting[place] = None
            misfits.append(Misfit(place, name, value, type_words(held.type)))
        elif kind not in (NUMBERS, TRUTHS):
            fitting[place] = value  # as it was written, since texts may be made of it
    is_float = pa.types.is_floating(held.type)
    return pd.Series(fitting, index=cells.index, dtype="float64" if is_float else object), misfits


def _as_held(values: list[Any], held: pa.Array, name: str) -> list[Any]:
    """Return values as a column holds them, `MISFIT` where it can't; halves are tried until each part fits."""
    try:
        return values_like(held, values, name).to_pylist()
    except ValueError:
        if len(values) == 1:
            return [MISFIT]
    half = len(values) // 2
    return _as_held(values[:half], held, name) + _as_held(values[half:], held, name)


def _read_again(value: Any, kind: str, decimal: str) -> Any:
    """Return the number or truth that a text holds; other values as they are."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if kind == TRUTHS:
        return TRUTH.get(text, value)
    if kind != NUMBERS:
        return value
    if decimal == ",":
        if COMMA_NUMBER.fullmatch(text) is None:
            return value
        text = text.replace(".", "").replace(",", ".")
    elif POINT_NUMBER.fullmatch(text) is None:
        return value
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def is_misfit(misfits: Sequence[Misfit], num_rows: int) -> np.ndarray:
    """Return which rows have a cell that does not fit, bool `[num_rows]`."""
    found = np.zeros(num_rows, dtype=bool)
    found[[misfit.place for misfit in misfits]] = True
    return found
