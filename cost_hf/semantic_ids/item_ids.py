"""Conversion and checks of item ids, titles, texts, codes and vectors given by callers.

Ids are strings. Callers have them in lists, arrays or columns of tables, often as numbers; all of these become one list
of strings, by position and never by an index. Unordered collections and ambiguous values are refused.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd
import torch

# characters that a terminal would interpret or that no file can store
UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
CHECKED_ENTRIES = 2**22  # numbers that are checked at once
SURROGATE = re.compile("[\ud800-\udfff]")


def ordered_list(values: Any, *, name: str, what: str = "item ids") -> list[Any]:
    """Return the members of an ordered iterable as a list; those of a table's column by position, not by index.

    Args:
        values: list, tuple, numpy array `[n]`, pandas Series or Index, pyarrow array, generator, …
        name: of the argument, for errors.
        what: the kind of its members, for errors.

    Raises:
        ValueError: for a single string, None, a set or mapping (which have no order), a table, or a non-iterable.
    """
    if isinstance(values, list | tuple):
        return list(values)
    if isinstance(values, str):
        raise ValueError(f"{name} must be a list of {what}, got the string {values!r:.80}; pass [{values!r:.80}]")
    if isinstance(values, (AbstractSet, Mapping)):
        kind = type(values).__name__
        raise ValueError(f"{name} must be a list of {what}, got a {kind}, which has no order; pass a list")
    if isinstance(values, pd.DataFrame):
        columns = ", ".join(map(str, values.columns[:5]))
        raise ValueError(f"{name} must be a list of {what}, got a DataFrame; pass one of its columns ({columns})")
    if isinstance(values, torch.Tensor):
        raise ValueError(
            f"{name} must be a list of {what}, got Tensor of {values.dtype}; pass strings, and make a table over "
            "catalog rows a mask: CatalogMask(num_items, torch.as_tensor(table))"
        )
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise ValueError(f"{name} must be a list of {what}, got an array of shape {values.shape}; pass one dimension")
    if isinstance(values, bytes | bytearray | memoryview) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a list of {what}, got {values!r:.80} ({type(values).__name__})")
    if isinstance(values, np.ndarray | pd.Series | pd.Index):
        return values.tolist()
    if hasattr(values, "to_pylist"):  # pyarrow, whose members are boxes otherwise
        return values.to_pylist()
    return list(values)


def item_id_list(
    values: Any,
    *,
    name: str = "item_ids",
    what: str = "item ids",
    is_unique: bool = False,
    is_stored: bool = False,
    is_ordered: bool = True,
) -> list[str]:
    """Return item ids as a list of strings; whole numbers become their digits.

    Args:
        values: as for `ordered_list`.
        name: of the argument, for errors.
        what: the kind of the members, for errors.
        is_unique: refuse repeated ids.
        is_stored: refuse control characters and lone surrogates, which files and terminals can't handle.
        is_ordered: False if the order is irrelevant, so that a set is accepted; its ids are sorted.

    Raises:
        ValueError: as `ordered_list`, or for a member that is neither a string nor a whole number: None, NaN, a float,
            a bool.
    """
    if isinstance(values, AbstractSet) and not is_ordered:
        return sorted(item_id_list(list(values), name=name, what=what, is_stored=is_stored))
    members = ordered_list(values, name=name, what=what)
    if not set(map(type, members)) <= {str}:
        members = [
            member if type(member) is str else _id_text(member, name, place, what)
            for place, member in enumerate(members)
        ]
    if is_unique and len(set(members)) != len(members):
        seen: set[str] = set()
        repeated = next(item for item in members if item in seen or seen.add(item))  # type: ignore[func-returns-value]
        raise ValueError(f"{what} must be unique, got {repeated!r} more than once; keep one of them in {name}")
    # all ids at once: one after the other takes far longer for a million of them
    if is_stored and (UNSTORABLE.search("".join(members)) or not all(map(str.strip, members))):
        place = next(place for place, item in enumerate(members) if UNSTORABLE.search(item) or not item.strip())
        raise ValueError(
            f"{name} must hold {what} without control characters and lone surrogates that are not blank, got "
            f"{members[place]!a:.80} at position {place}; use another id"
        )
    return members


def item_id_text(value: Any) -> str | None:
    """Return one item id as a string; None for a value that is not an id."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    return None


def _id_text(value: Any, name: str, place: int, what: str) -> str:
    text = item_id_text(value)
    if text is not None:
        return text
    if isinstance(value, float | np.floating) and not np.isnan(value):
        remedy = "ids are strings, and a float loses the digits of long ones: read the column as text"
    else:
        remedy = "leave it out, or convert it by str"
    raise ValueError(
        f"{what} must be strings (or whole numbers, which become their digits), got {value!r:.80} "
        f"({type(value).__name__}) at position {place} of {name}; {remedy}"
    )


def parallel_list(values: Any, item_ids: Sequence[str], *, name: str, one: str) -> list[Any]:
    """Return values that belong to item ids, one each, as a list by position.

    Args:
        values: as for `ordered_list`.
        item_ids: n ids.
        name: of the argument, such as `texts`, for errors.
        one: kind of a member, such as `text`.

    Raises:
        ValueError: as `ordered_list`, or for another number than n.
    """
    if isinstance(values, str):
        raise ValueError(
            f"expected one {one} per item, got one string for {len(item_ids)} items; pass a list of {name}"
        )
    members = ordered_list(values, name=name, what=f"{one}s")
    if len(members) != len(item_ids):
        raise ValueError(f"expected one {one} per item, got {len(members)} for {len(item_ids)} items")
    return members


def title_list(values: Any, item_ids: Sequence[str]) -> list[str | None]:
    """Return titles, one string or None per item; raise ValueError for anything else."""
    titles = parallel_list(values, item_ids, name="titles", one="title")
    for item, title in zip(item_ids, titles, strict=True):
        if title is not None and not isinstance(title, str):
            raise ValueError(f"expected a title or None for item {item!r}, got {title!r:.80}; convert it by str")
        check_storable(item, title, "title")
    return titles


def text_list(values: Any, item_ids: Sequence[str]) -> list[str]:
    """Return texts, a non-blank string per item; raise ValueError for anything else."""
    texts = parallel_list(values, item_ids, name="texts", one="text")
    for item, text in zip(item_ids, texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"expected a text with at least one word for item {item!r}, got {text!r:.80}; leave it out"
            )
        check_storable(item, text, "text")
    return texts


def check_storable(item: str, text: str | None, one: str) -> None:
    """Raise ValueError for a text that no file can store."""
    if text is not None and not text.isascii() and SURROGATE.search(text):
        raise ValueError(
            f"the {one} of item {item!r} has a lone surrogate, which no file can store: {text!a:.80}; it was read "
            "with a wrong encoding: read it as UTF-8"
        )


def code_table(codes: Any, *, name: str = "codes") -> np.ndarray:
    """Return codes as an array by position, from lists, arrays, tensors of any device or DataFrames.

    Raises:
        ValueError: for anything but a table of integers; floats are refused whatever their value.
    """
    table = _as_array(codes, name)
    # an empty list has no dtype to check
    if table.size and not np.issubdtype(table.dtype, np.integer):
        raise ValueError(
            f"{name} must be integers, one row of codes per item, got {table.dtype} {table.shape}; convert codes by int"
        )
    return table if table.size else table.astype(np.int64)


def check_codes(codes: np.ndarray, level_sizes: Sequence[int], *, min_items: int = 0) -> None:
    """Raise ValueError unless codes are integers `[N, L]`, N at least `min_items`, and every code is in its level.

    Args:
        codes: model-level codes, or codes of all levels of a catalog.
        level_sizes: number of codes of the same levels, L numbers.
        min_items: 1 if an empty table is an error.
    """
    if codes.ndim != 2 or codes.shape[1] != len(level_sizes) or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            f"codes must be integers [N, {len(level_sizes)}] for level_sizes={tuple(level_sizes)}, got {codes.dtype} "
            f"{codes.shape}; pass both with the appended level, or both without it"
        )
    if len(codes) < min_items:
        raise ValueError(f"codes must hold at least {min_items} item, got shape {codes.shape}")
    sizes = np.asarray(level_sizes)
    # minima and maxima first: valid codes, the usual case, then need no table of flags
    if not len(codes) or (codes.min() >= 0 and (codes.max(axis=0) < sizes).all()):
        return
    row, level = np.argwhere((codes < 0) | (codes >= sizes))[0].tolist()
    raise ValueError(
        f"codes of level {level} must be in 0 … {int(sizes[level]) - 1}, got {int(codes[row, level])!r} in row {row}; "
        "pass the level_sizes of the quantizer that made the codes"
    )


def vector_table(vectors: Any, item_ids: Sequence[str], *, name: str = "vectors") -> np.ndarray:
    """Return item vectors as a float array `[n, E]` by position, from arrays, tensors, DataFrames or lists of vectors.

    Raises:
        ValueError: unless they are finite floats, one row per item.
    """
    table = _as_array(vectors, name)
    if table.ndim != 2 or len(table) != len(item_ids) or not np.issubdtype(table.dtype, np.floating):
        raise ValueError(
            f"expected {name} [{len(item_ids)}, E] of floats, one per item, got {table.dtype} {table.shape}"
        )
    step = max(1, CHECKED_ENTRIES // max(table.shape[1], 1))
    for start in range(0, len(table), step):
        with np.errstate(over="ignore"):  # values too large for fp32 become inf
            wrong = ~np.isfinite(table[start : start + step].astype(np.float32, copy=False)).all(1)
        if wrong.any():
            item = item_ids[start + int(wrong.argmax())]
            raise ValueError(f"the vector of item {item!r} is not finite; encode it again")
    return table


def vectors_of_width(vectors: Any, item_ids: Sequence[str], *, width: int) -> np.ndarray:
    """Return item vectors as float32 `[n, width]`, for a catalog that has vectors.

    Raises:
        ValueError: for missing vectors, or vectors of another width.
    """
    table = None if vectors is None else vector_table(vectors, item_ids)
    if table is None or table.shape[1] != width:
        shape = "none" if table is None else tuple(table.shape)
        raise ValueError(
            f"expected vectors [{len(item_ids)}, {width}], as wide as those of the other items, got {shape}; "
            "encode them by the encoder of this catalog"
        )
    return table.astype(np.float32)


def _as_array(values: Any, name: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, str | bytes | AbstractSet | Mapping) or values is None:
        raise ValueError(f"{name} must be a table with one row per item, got {values!r:.80} ({type(values).__name__})")
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} must be a table with one row per item, got one with {int(np.ma.count_masked(values))} masked "
            "entries; fill them, or leave these items out"
        )
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    elif not isinstance(values, np.ndarray):
        values = ordered_list(values, name=name, what="rows")
    if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
        values = values.tolist()  # a column that holds one vector per row
    try:
        return np.array([np.asarray(row) for row in values]) if isinstance(values, list) else np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be a table with rows of one length, got rows of several; check them") from error


def id_ranks(item_ids: Sequence[str]) -> np.ndarray:
    """Return the rank of each distinct id in code point order, `[n]` int64.

    Ids are not put into an array of strings, which would give every id the width of the longest.
    """
    ranks = np.empty(len(item_ids), dtype=np.int64)
    ranks[sorted(range(len(item_ids)), key=item_ids.__getitem__)] = np.arange(len(item_ids))
    return ranks


def check_ids(item_ids: Sequence[str], *, rows: int, titles: Sequence[str | None] | None) -> None:
    """Raise ValueError unless ids are unique strings, and ids, titles and rows are equal in number."""
    if len(item_ids) != rows or (titles is not None and len(titles) != rows):
        counts = f"{len(item_ids)} ids, {'no' if titles is None else len(titles)} titles"
        raise ValueError(f"expected one item id (and title) per row, got {counts} for {rows} rows")
    item_id_list(item_ids, is_unique=True)
