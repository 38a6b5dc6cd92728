"""Filters by columns of a catalog: `{"price": (None, 50), "category": ["a", "b"], "in_stock": True}`.

| condition | items that it keeps |
|---|---|
| `(low, high)`, in JSON `{"min": low, "max": high}` | numbers or times from `low` to `high`; None is no bound |
| a list or set | those with one of the values |
| one value | those with this value |

Of a column of lists, one entry that fits is enough. Items without a value are kept by no condition; for what these
conditions can't express, such as missing values, a filter may be a pyarrow expression over the columns.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.acero as acero
import pyarrow.compute as pc

from cost_hf.files import first_line
from cost_hf.semantic_ids.item_columns import (
    LISTS,
    NUMBERS,
    TEXTS,
    TIMES,
    TRUTHS,
    VALUES,
    ItemColumns,
    kind_of,
    type_name,
)
from cost_hf.semantic_ids.item_ids import ordered_list

Where: TypeAlias = Mapping[str, Any] | pc.Expression
BOUNDS = ("min", "max")
SHOWN = 3  # values in an error
MAX_COMPARED = 1_000  # values of a column that a misspelt one is compared with, which takes long
MAX_LENGTH = 50  # characters of it


@dataclass(frozen=True)
class Condition:
    """What a filter asks of one column; equal conditions are equal.

    Attributes:
        column: its name.
        low, high: bounds, None for none.
        values: of which an item must have one; None where there are bounds.
    """

    column: str
    low: Any = None
    high: Any = None
    values: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        """Return the condition in a few words."""
        if self.values is not None:
            more = ", …" if len(self.values) > SHOWN else ""
            return f"{self.column} in [{', '.join(map(_shown, self.values[:SHOWN]))}{more}]"
        least = [] if self.low is None else [f"at least {_shown(self.low)}"]
        most = [] if self.high is None else [f"at most {_shown(self.high)}"]
        return f"{self.column} of {' and '.join(least + most)}"


class _ExpressionKey:
    """An expression as a key: its own `==` makes another expression."""

    def __init__(self, expression: pc.Expression):
        self.expression = expression
        self._hash = hash(str(expression))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ExpressionKey) and self.expression.equals(other.expression)

    def __hash__(self) -> int:
        return self._hash


class Filter:
    """A filter that was checked against the columns of a catalog.

    Args:
        where: conditions by column, or a pyarrow expression.
        columns: of the catalog.

    Raises:
        ValueError: for a column that is not there, values of another type than the column's, or bounds of what has no
            order.

    Examples:
        >>> columns = ItemColumns.of({"brand": ["Ikea", "Hay", None], "price": [9.5, 20.0, 60.0]})
        >>> Filter({"price": (None, 50), "brand": ["Hay", "Muuto"]}, columns).matches(columns).tolist()
        [False, True, False]
    """

    def __init__(self, where: Where, columns: ItemColumns):
        self.expression: pc.Expression | None = None
        self.conditions: tuple[Condition, ...] = ()
        if isinstance(where, pc.Expression):
            self.expression = where
        elif isinstance(where, Mapping) and where:
            self.conditions = tuple(_condition(name, value, columns) for name, value in where.items())
        else:
            raise ValueError(
                f"where must map columns to conditions, such as {{'price': (None, 50)}}, got {where!r:.80}; leave it "
                "out to filter by nothing"
            )

    @property
    def key(self) -> Any:
        """What is equal for filters that keep the same items of the same columns; hashable."""
        return self.conditions if self.expression is None else _ExpressionKey(self.expression)

    def __str__(self) -> str:
        """Return the filter in a few words."""
        return " and ".join(map(str, self.conditions)) if self.expression is None else f"{self.expression!s:.200}"

    def matches(self, columns: ItemColumns) -> np.ndarray:
        """Return which items the filter keeps, bool `[N]`."""
        if self.expression is not None:
            return _evaluated(self.expression, columns)
        return np.logical_and.reduce([_holds(condition, columns) for condition in self.conditions])

    def why_none(self, columns: ItemColumns, present: np.ndarray) -> str:
        """Return, for a filter that keeps no item, how many every condition keeps by itself.

        Args:
            columns: of the catalog.
            present: items that are not removed, bool `[N]`.
        """
        if len(self.conditions) == 1:
            return _close_value(self.conditions[0], columns)
        reasons = []
        for condition in self.conditions:
            count = int((_holds(condition, columns) & present).sum())
            hint = "" if count else _close_value(condition, columns)
            reasons.append(f"{condition} alone keeps {count}{f', {hint}' if hint else ''}")
        return "; ".join(reasons)


def _condition(name: Any, value: Any, columns: ItemColumns) -> Condition:
    array = columns.require(name, what="where")
    kind = kind_of(array.type)
    inner = array.type.value_type if kind == LISTS else array.type
    if kind == VALUES:
        raise ValueError(
            f"column {name!r} holds {type_name(array.type)}, which a filter can't compare; expected a column of "
            f"numbers, texts, times, true or false, or lists of them"
        )
    if isinstance(value, Mapping | tuple):
        return _bounds(name, value, array.type)
    if isinstance(value, AbstractSet):
        value = sorted(value, key=repr)
    if not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
        entries = ordered_list(value, name=f"where[{name!r}]", what="values")
        if not entries:
            raise ValueError(f"where[{name!r}] is empty, expected one value or more; leave the column out")
    else:
        entries = [value]
    return Condition(name, values=tuple(dict.fromkeys(_checked(name, entry, inner) for entry in entries)))


def _bounds(name: str, value: Mapping[str, Any] | tuple[Any, ...], kind: pa.DataType) -> Condition:
    """Return the condition of `(low, high)` or `{"min": low, "max": high}`."""
    if isinstance(value, Mapping):
        wrong = [key for key in value if key not in BOUNDS]
        low, high = (value.get(key) for key in BOUNDS)
    else:
        wrong = [] if len(value) == 2 else [f"{len(value)} values"]
        low, high = value if len(value) == 2 else (None, None)
    if wrong or (low is None and high is None):
        raise ValueError(
            f"bounds of {name!r} are (low, high), or min and max in a mapping, of which one may be None, got "
            f"{value!r:.80}; of several values that an item may have pass a list"
        )
    if kind_of(kind) not in (NUMBERS, TIMES):
        raise ValueError(
            f"where[{name!r}] is a pair of bounds, and the column holds {type_name(kind)}, which has none; pass a list "
            "of the values that an item may have, or store the column as numbers or times"
        )
    least, most = (None if end is None else _checked(name, end, kind) for end in (low, high))
    if least is not None and most is not None and least > most:
        raise ValueError(f"bounds of {name!r} must rise, got {value!r:.80}; swap them")
    return Condition(name, least, most)


def _checked(name: str, value: Any, kind: pa.DataType) -> Any:
    """Return a value as a plain Python one, of one type a kind of column; raise ValueError for another kind."""
    sort = kind_of(kind)
    if sort == TRUTHS and isinstance(value, bool | np.bool_):
        return bool(value)
    if sort == TEXTS and isinstance(value, str):
        return str(value)
    if sort == NUMBERS and not isinstance(value, bool | np.bool_):
        if isinstance(value, Decimal) and value.is_finite():
            return value
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real) and value == value:
            return float(value)
    if sort == TIMES and isinstance(value, str | date | np.datetime64):  # a datetime is a date
        try:
            return _time(value, kind)
        except ValueError as error:
            raise ValueError(f"where[{name!r}] must be a time, got {value!r:.80} ({first_line(error)})") from error
    raise ValueError(
        f"where[{name!r}] must be {_EXPECTED[sort]}, as the column holds {type_name(kind)}, got {value!r:.80} "
        f"({type(value).__name__}); convert it"
    )


_EXPECTED = {
    TRUTHS: "true or false",
    TEXTS: "a text",
    NUMBERS: "a number",
    TIMES: "a date or time, also as ISO 8601 text",
}


def _time(value: Any, kind: pa.DataType) -> pd.Timestamp:
    """Return a time in UTC where the column has a time zone, else without one; UTC is that of times without one."""
    moment = pd.Timestamp(value)
    if moment is pd.NaT:
        raise ValueError("it is no time")
    has_zone = pa.types.is_timestamp(kind) and kind.tz is not None
    if has_zone and moment.tz is None:
        return moment.tz_localize("UTC")
    if moment.tz is None:
        return moment
    moment = moment.tz_convert("UTC")
    return moment if has_zone else moment.tz_localize(None)


def _holds(condition: Condition, columns: ItemColumns) -> np.ndarray:
    """Return which items a condition keeps, bool `[N]`."""
    array = columns.arrays[condition.column]
    if not pa.types.is_list(array.type):
        return _is_true(_entries_hold(condition, array))
    hits = _is_true(_entries_hold(condition, array.flatten()))
    found = np.zeros(len(array), dtype=bool)
    found[pc.list_parent_indices(array).to_numpy(zero_copy_only=False)[hits]] = True
    return found


def _entries_hold(condition: Condition, array: pa.Array) -> pa.Array:
    if kind_of(array.type) == TIMES:  # of all units and zones
        array = array.cast(pa.timestamp("us", tz=getattr(array.type, "tz", None)), safe=False)
    if condition.values is not None:
        return pc.is_in(array, value_set=_value_set(condition, array.type))
    tests = [
        _compared(array, end, is_low=is_low)
        for end, is_low in ((condition.low, True), (condition.high, False))
        if end is not None
    ]
    return tests[0] if len(tests) == 1 else pc.and_(*tests)


def _compared(array: pa.Array, end: Any, *, is_low: bool) -> pa.Array:
    """Return which values are within one bound; null for missing values."""
    compare = pc.greater_equal if is_low else pc.less_equal
    if not pa.types.is_integer(array.type):
        return compare(array, _bound(end, array.type))
    # whole numbers are compared as such: as floats they are not exact
    limits = np.iinfo(array.type.to_pandas_dtype())
    if limits.min <= end <= limits.max:
        return compare(array, pa.scalar(math.ceil(end) if is_low else math.floor(end), array.type))
    return pc.and_(array.is_valid(), pa.scalar((end < limits.min) == is_low))


def _value_set(condition: Condition, kind: pa.DataType) -> pa.Array:
    """Return the values of a condition as an array of a column's type."""
    values: Sequence[Any] = condition.values or ()
    if pa.types.is_decimal(kind):
        values = [Decimal(str(value)) for value in values]
    try:
        return pa.array(values).cast(kind)  # which refuses what it would round to another number
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise ValueError(
            f"where[{condition.column!r}] must be values that {type_name(kind)} can hold, got {condition} "
            f"({first_line(error)}); correct them, or pass bounds"
        ) from error


def _bound(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return a bound as a scalar that can be compared with a column."""
    if pa.types.is_floating(kind):
        return pa.scalar(_float(value), kind)  # rounded as the values of the column are
    return pa.scalar(_float(value) if isinstance(value, int) and abs(value) >= 2**63 else value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number above all floats
        return math.inf if value > 0 else -math.inf


def _is_true(answers: pa.Array) -> np.ndarray:
    return answers.fill_null(False).to_numpy(zero_copy_only=False)


def _evaluated(expression: pc.Expression, columns: ItemColumns) -> np.ndarray:
    """Return for which items an expression is true, bool `[N]`."""
    table = pa.table(columns.arrays)
    steps = [
        acero.Declaration("table_source", acero.TableSourceNodeOptions(table)),
        acero.Declaration("project", acero.ProjectNodeOptions([expression], ["kept"])),
    ]
    try:
        answers = acero.Declaration.from_sequence(steps).to_table(use_threads=False)["kept"]
    except (pa.ArrowException, NotImplementedError) as error:
        raise ValueError(
            f"the expression {expression!s:.200} does not fit the columns {columns!r} ({first_line(error)})"
        ) from error
    if not pa.types.is_boolean(answers.type):
        raise ValueError(f"the expression {expression!s:.200} gives {answers.type}, expected true or false")
    return _is_true(pa.concat_arrays(answers.chunks))


def _close_value(condition: Condition, columns: ItemColumns) -> str:
    """Return a hint at a value of the column that looks like one that no item has."""
    array = columns.arrays[condition.column]
    array = array.flatten() if pa.types.is_list(array.type) else array
    if condition.values is None or not pa.types.is_string(array.type):
        return ""
    known = array.unique()[:MAX_COMPARED].drop_null().to_pylist()
    for close in difflib.get_close_matches(condition.values[0][:MAX_LENGTH], known, n=1):
        return f"did you mean {close!r}?"
    return ""


def _shown(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, str) else str(value)[:40]
