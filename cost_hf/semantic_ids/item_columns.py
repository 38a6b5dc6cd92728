"""Columns of a catalog, such as brand, price and stock: what filters and diverse lists read of an item.

They have the types of the item table and are stored as parquet, in a file of their own: stock and prices change hourly,
and neither semantic IDs nor what a search is made of depend on them. Every column is one Arrow array, so a change of
one column copies no other, and digests and groups of the others stay known.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cost_hf.files import DamagedFileError, atomic_path, content_digest, first_line
from cost_hf.row_groups import readable_parquet_errors
from cost_hf.semantic_ids.catalog_tables import read_table, write_table

# what a catalog keeps of every item by itself
ITEM_ID = "item_id"
TITLE = "title"
NUMBERS = "numbers"
TRUTHS = "true or false"
TEXTS = "texts"
TIMES = "times"
LISTS = "lists"
VALUES = "values"


class ItemColumns:
    """Columns of N items by name, one Arrow array each; immutable.

    Args:
        arrays: by name; all have one entry an item. No columns at all fit any number of items.

    Examples:
        >>> columns = ItemColumns.of({"brand": ["Ikea", None], "price": [9.5, 20.0]})
        >>> columns
        ItemColumns(brand: string, price: double)
        >>> columns.with_values([1], {"price": [18.0]}).value("price", 1)
        18.0
    """

    def __init__(self, arrays: Mapping[str, pa.Array] | None = None):
        self.arrays = dict(arrays or {})
        # of every column: they stay known while it does
        self._digests: dict[str, str] = {}
        self._groups: dict[str, ColumnGroups] = {}

    @classmethod
    def of(cls, columns: Any) -> "ItemColumns":
        """Return the columns of a mapping of names to values, a DataFrame or an Arrow table, row by row.

        A column `item_id` and those without any value are left out. NaN is a missing value.

        Raises:
            ValueError: for what is no table, titles, values of mixed types or of a type that no catalog keeps, or
                columns of different lengths.
        """
        if isinstance(columns, ItemColumns):
            return columns
        arrays = {name: as_array(values, name) for name, values in _by_name(columns).items()}
        found = {name: array for name, array in arrays.items() if not pa.types.is_null(array.type)}
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns must be equally long, one value an item, got {sorted(lengths)} values")
        return cls(found)

    def __repr__(self) -> str:
        """Return names and types."""
        kinds = ", ".join(f"{name}: {type_name(array.type)}" for name, array in self.arrays.items())
        return f"ItemColumns({kinds})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy without caches."""
        return {"arrays": self.arrays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` returned."""
        self.__init__(state["arrays"])  # type: ignore[misc]

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.arrays)

    def of_kind(self, kind: str) -> list[str]:
        """Return the names of the columns of one kind, as `kind_of` gives it."""
        return [name for name, array in self.arrays.items() if kind_of(array.type) == kind]

    def check_rows(self, num_items: int) -> None:
        """Raise ValueError unless every column has `num_items` values."""
        for name, array in self.arrays.items():
            if len(array) != num_items:
                raise ValueError(f"column {name!r} must hold one value for each of {num_items} items, got {len(array)}")

    def require(self, name: Any, *, what: str) -> pa.Array:
        """Return a column.

        Args:
            name: of the column.
            what: what names it, for errors.

        Raises:
            ValueError: for a column that is not there.
        """
        if name not in self.arrays:
            close = difflib.get_close_matches(str(name), self.names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            held = ", ".join(self.names) or "none; add them by add_columns, or train with an item table that has them"
            raise ValueError(
                f"{what} names the column {name!r:.80}, which the catalog does not have{hint}; its columns are {held}"
            )
        return self.arrays[name]

    def value(self, name: str, row: int) -> Any:
        """Return the value of an item as a Python object, None where it is missing."""
        return self.arrays[name][row].as_py()

    @property
    def digest(self) -> str:
        """Digest of names in their order, types and values."""
        for name, array in self.arrays.items():
            if name not in self._digests:
                self._digests[name] = _array_digest(array)
        return content_digest("cost_hf.columns.1", [[name, self._digests[name]] for name in self.arrays])

    def with_values(self, rows: Sequence[int] | np.ndarray, values: Any) -> "ItemColumns":
        """Return the columns in which some items have other values; types stay.

        Args:
            rows: of the items, n different ones.
            values: n values by column name, as for `of`; None is a missing value.

        Raises:
            ValueError: for a column that is not there, another number of values, or values of another type.
        """
        given = _by_name(values)
        places = np.asarray(rows, dtype=np.int64)
        changed = {}
        for name, entries in given.items():
            held = self.require(name, what="columns")
            new = values_like(held, entries, name)
            if len(new) != len(places):
                raise ValueError(f"expected one value of {name!r} per item, got {len(new)} for {len(places)} items")
            changed[name] = _put(held, places, new)
        return self._replaced(self.arrays | changed, changed)

    def differing(self, rows: Sequence[int] | np.ndarray, values: Any) -> dict[str, np.ndarray]:
        """Return by column which items have another value than the given one, bool `[n]`.

        Args:
            rows, values: as for `with_values`.

        Raises:
            ValueError: as `with_values`.

        Examples:
            >>> columns = ItemColumns.of({"brand": ["Ikea", None], "price": [9.5, 20.0]})
            >>> columns.differing([1], {"price": [20], "brand": ["Hay"]})
            {'price': array([False]), 'brand': array([ True])}
        """
        places = np.asarray(rows, dtype=np.int64)
        found = {}
        for name, entries in _by_name(values).items():
            held = self.require(name, what="columns")
            new = values_like(held, entries, name)
            if len(new) != len(places):
                raise ValueError(f"expected one value of {name!r} per item, got {len(new)} for {len(places)} items")
            found[name] = _differ(held.take(pa.array(places)), new)
        return found

    def with_columns(self, columns: "ItemColumns") -> "ItemColumns":
        """Return the columns with more of them, or others in the place of those with the same names."""
        return self._replaced(self.arrays | columns.arrays, columns.arrays)

    def without(self, names: Sequence[str]) -> "ItemColumns":
        """Return the columns without some of them; names that are not there do not matter."""
        return self._replaced({name: array for name, array in self.arrays.items() if name not in names}, {})

    def taken(self, rows: Sequence[int]) -> "ItemColumns":
        """Return the columns of some items, in this order."""
        places = pa.array(np.asarray(rows, dtype=np.int64))
        return ItemColumns({name: array.take(places) for name, array in self.arrays.items()})

    def extended(self, count: int) -> "ItemColumns":
        """Return the columns of `count` more items, whose values are missing."""
        if not count:
            return self
        return ItemColumns(
            {name: pa.concat_arrays([array, pa.nulls(count, array.type)]) for name, array in self.arrays.items()}
        )

    def over(self, held: "ItemColumns", rows: np.ndarray, num_items: int) -> "ItemColumns":
        """Return columns of `num_items` items with these values in `rows`, in their order.

        Elsewhere they have the values of `held`, in columns of the same type, or missing ones.
        """
        arrays = {}
        for name, array in self.arrays.items():
            base = held.arrays.get(name)
            if base is None or base.type != array.type:
                base = pa.nulls(num_items, array.type)
            arrays[name] = _put(base, rows, array)
        return ItemColumns(arrays)

    def groups(self, name: str, *, what: str) -> "ColumnGroups":
        """Return the items by their value in a column.

        Raises:
            ValueError: for a column that is not there, or holds no single value an item.
        """
        array = self.require(name, what=what)
        if kind_of(array.type) in (LISTS, VALUES):
            raise ValueError(
                f"{what} names the column {name!r}, which holds {type_name(array.type)}, expected one value an item; "
                "make a column of it, such as the first entry"
            )
        if name not in self._groups:
            codes = array.dictionary_encode().indices.fill_null(-1)
            self._groups[name] = ColumnGroups(codes.to_numpy(zero_copy_only=False).astype(np.int64))
        return self._groups[name]

    def save(self, path: str | Path) -> None:
        """Write the columns as parquet, in the order of the catalog's rows; nothing where there are none."""
        if self.arrays:
            with atomic_path(path, durable=True) as temporary:
                write_table(temporary, self.arrays)

    @classmethod
    def read(cls, path: str | Path, *, rows: int) -> "ItemColumns":
        """Read what `save` wrote.

        Args:
            rows: number of items of the catalog.

        Raises:
            OSError: for a file that can't be opened.
            DamagedFileError: for a file that is not parquet, has another number of rows, or holds what no catalog
                keeps.
        """
        with readable_parquet_errors(path):
            table = read_table(path, rows=rows)
        try:
            return cls.of(table)
        except ValueError as error:
            raise DamagedFileError(f"{path} holds no columns of a catalog ({error}); copy it again") from error

    def _replaced(self, arrays: Mapping[str, pa.Array], changed: Mapping[str, Any]) -> "ItemColumns":
        """Return other arrays, with what is known of those that did not change."""
        other = ItemColumns(arrays)
        kept = set(arrays) - set(changed)
        other._digests = {name: digest for name, digest in self._digests.items() if name in kept}
        other._groups = {name: groups for name, groups in self._groups.items() if name in kept}
        return other


@dataclass(frozen=True, eq=False)
class ColumnGroups:
    """Items by their value in a column.

    Attributes:
        codes: group of every item, int64 `[N]`; -1 for an item without a value, which is in no group.
    """

    codes: np.ndarray

    def rows_of(self, groups: Sequence[int]) -> np.ndarray:
        """Return the rows of all items of some groups, `[n]` int64."""
        order, ends = self._sorted
        return np.concatenate([order[ends[group] : ends[group + 1]] for group in groups] or [order[:0]])

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by group, and where every group begins among them."""
        order = np.argsort(self.codes, kind="stable")
        counts = np.bincount(self.codes + 1, minlength=1)
        return order, counts.cumsum()


def kind_of(kind: pa.DataType) -> str:
    """Return what a type is for a filter: numbers, texts, times, true or false, lists of them, or other values."""
    types = pa.types
    if types.is_boolean(kind):
        return TRUTHS
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return NUMBERS
    if types.is_string(kind):
        return TEXTS
    if types.is_timestamp(kind) or types.is_date(kind):
        return TIMES
    if types.is_list(kind) and kind_of(kind.value_type) not in (LISTS, VALUES):
        return LISTS
    return VALUES


def type_name(kind: pa.DataType) -> str:
    """Return the name of a type, the same however the fields inside of lists are called."""
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {type_name(field.type)}' for field in kind)}>"
    return str(kind)


def type_words(kind: pa.DataType) -> str:
    """Return what a value of a type is, in plain words.

    Examples:
        >>> type_words(pa.float64()), type_words(pa.list_(pa.string()))
        ('a number', 'a list, each entry text')
    """
    types = pa.types
    if types.is_integer(kind):
        return "a whole number"
    if types.is_list(kind):
        return f"a list, each entry {type_words(kind.value_type)}"
    words = {NUMBERS: "a number", TRUTHS: "true or false", TEXTS: "text", TIMES: "a time"}
    others = ((types.is_struct, "an object"), (types.is_time, "a time"), (types.is_binary, "bytes"))
    other = next((text for fits, text in others if fits(kind)), "a value of another type")
    return words.get(kind_of(kind), other)


def as_array(values: Any, name: str) -> pa.Array:
    """Return the values of a column as an Arrow array of a type that catalogs keep; NaN is a missing value.

    Raises:
        ValueError: for values of mixed types, or of a type that parquet files do not keep.
    """
    try:
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
        kept = _kept_type(array.type)
        array = array if kept == array.type else array.cast(kept)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"column {name!r} must hold values of one type that parquet files keep ({first_line(error)}); convert it, "
            "as with frame[name].astype(str), or leave it out"
        ) from error
    if pa.types.is_floating(array.type):
        is_missing = pc.is_nan(array).fill_null(False)
        if pc.any(is_missing).as_py():
            array = pc.if_else(is_missing, pa.scalar(None, array.type), array)
    return array


def _kept_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a parquet file gives back for one; raise ValueError where it gives none."""
    types = pa.types
    if types.is_dictionary(kind):
        return _kept_type(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_kept_type(kind.value_type))
    if types.is_struct(kind):
        if not kind.num_fields:
            raise ValueError(f"{kind} without a field is kept by no parquet file")
        return pa.struct([field.with_type(_kept_type(field.type)) for field in kind])
    if types.is_float16(kind):
        return pa.float32()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", tz=kind.tz)
    if types.is_time32(kind):
        return pa.time32("ms")
    if isinstance(kind, pa.BaseExtensionType):
        raise ValueError(f"{kind} is kept by no parquet file")
    return kind


def _put(array: pa.Array, rows: np.ndarray, values: pa.Array) -> pa.Array:
    """Return an array with other values in some rows."""
    sources = np.arange(len(array))
    sources[rows] = len(array) + np.arange(len(rows))
    return pa.concat_arrays([array, values]).take(pa.array(sources))


def _differ(held: pa.Array, new: pa.Array) -> np.ndarray:
    """Return where two arrays of one type differ, bool `[n]`; missing values are equal."""
    if kind_of(held.type) in (LISTS, VALUES):  # which Arrow does not compare
        pairs = zip(held.to_pylist(), new.to_pylist(), strict=True)
        return np.fromiter((old != own for old, own in pairs), dtype=bool, count=len(new))
    is_other = pc.fill_null(pc.not_equal(held, new), False)
    is_one_missing = pc.not_equal(pc.is_null(held), pc.is_null(new))
    return pc.or_(is_other, is_one_missing).to_numpy(zero_copy_only=False)


def _by_name(values: Any) -> dict[str, Any]:
    """Return the values of columns by name."""
    if isinstance(values, ItemColumns):
        return dict(values.arrays)
    if not isinstance(values, pa.Table | pd.DataFrame | Mapping):
        raise ValueError(
            f"columns must map names to one value an item, got {values!r:.80} ({type(values).__name__}); pass a dict "
            "of lists, a DataFrame or an Arrow table"
        )
    names = values.column_names if isinstance(values, pa.Table) else list(values)
    if TITLE in names:
        raise ValueError("titles are no column of a catalog; pass them as titles, and leave them out of columns")
    return {str(name): values[name] for name in names if name != ITEM_ID}


def values_like(held: pa.Array, values: Any, name: str) -> pa.Array:
    """Return values in the type of a column.

    Args:
        held: the column of the catalog.
        values: n values, of which None and NaN are missing.
        name: of the column, for errors.

    Raises:
        ValueError: for values of another type.
    """
    given = as_array(values, name)
    is_alike = pa.types.is_null(given.type) or _comparable(given.type, held.type)
    array = _cast(given, held.type) if is_alike else None
    if array is not None:
        return array
    misfit = given.drop_null()
    while is_alike and len(misfit) > 1:  # halves, one of which can't be cast either
        half = len(misfit) // 2
        misfit = misfit.slice(half) if _cast(misfit.slice(0, half), held.type) is not None else misfit.slice(0, half)
    words = type_words(given.type)
    got = f"{misfit[0].as_py()!r:.80} ({words})" if len(misfit) else words
    raise ValueError(f"column {name!r}: expected {type_words(held.type)}, got {got}; convert the values")


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return values in another type, None where it can't hold one of them."""
    try:
        return array.cast(kind)
    except (pa.ArrowException, ValueError):
        return None


def _comparable(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values of a type may be cast to another without changing what they are."""
    ours = kind_of(given)
    theirs = kind_of(wanted)
    if ours == theirs == LISTS:
        return _comparable(given.value_type, wanted.value_type)
    if ours == theirs == VALUES:
        return True  # the cast decides
    if pa.types.is_list(given) and pa.types.is_null(given.value_type):
        return pa.types.is_list(wanted)
    return ours == theirs or (ours, theirs) == (TEXTS, TIMES)


def _array_digest(array: pa.Array) -> str:
    """Return the digest of type and values; what stands in the place of a missing value does not matter."""
    kind = array.type
    known = array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)
    parts: list[Any]
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        parts = [array.fill_null(False if pa.types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False)]
    elif pa.types.is_string(kind):
        parts = _string_parts(array.fill_null(""))
    elif pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        whole = pa.int32() if pa.types.is_date32(kind) else pa.int64()
        parts = [array.cast(whole).fill_null(0).to_numpy(zero_copy_only=False)]
    else:
        parts = [json.dumps(array.to_pylist(), default=str, ensure_ascii=True)]
    return content_digest("cost_hf.column.1", type_name(kind), known, *parts)


def _string_parts(array: pa.Array) -> list[Any]:
    """Return the lengths and the joined bytes of strings without missing ones."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    start, stop = (int(ends[0]), int(ends[-1])) if len(ends) else (0, 0)
    content = b"" if data is None else data.slice(start, stop - start).to_pybytes()
    return [np.diff(ends), content]
