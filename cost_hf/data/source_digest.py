"""Digest of both source tables as they were read: tells whether a directory was made from the same data.

It is taken before anything is dropped, sorted or cut, so that no option of the data section changes it. Equal content
gives an equal digest whatever the file format and the order of columns: whole numbers count as their digits, lists and
objects as JSON, and a column without any value as absent. Rows of the click log may come in any order; the order of
the catalog counts, since it numbers the items.
"""

import hashlib

import numpy as np
import pandas as pd

from cost_hf.data.cells import cell_text
from cost_hf.data.schema import as_numbers

NUMBERS = ("position", "timestamp")  # checked to be numbers, and often all different: too many to go through texts
NOTHING = np.uint64(0x9E3779B97F4A7C15)  # stands for an empty cell
FACTOR = np.uint64(0xBF58476D1CE4E5B9)


def source_digest(items: pd.DataFrame, interactions: pd.DataFrame, fractions: pd.Series) -> str:
    """Return the sha256 hex digest of a catalog and a click log.

    Args:
        items: catalog with our column names and checked ids.
        interactions: click log, likewise, times in whole seconds.
        fractions: nanoseconds beyond these, int64.
    """
    state = hashlib.sha256()
    for table, frame, keeps_order in (("items", items, True), ("interactions", interactions, False)):
        columns = _column_hashes(frame)
        if table == "interactions" and fractions.any():
            columns[""] = pd.util.hash_array(fractions.to_numpy())  # no column has this name
        state.update(f"{table}:{len(frame)}:{len(columns)}:".encode())
        rows = np.zeros(len(frame), dtype=np.uint64)
        for name, hashes in columns.items():
            state.update(f"{len(name)}:{name}:".encode("utf-8", "surrogatepass"))
            rows = (rows ^ hashes) * FACTOR
            rows ^= rows >> np.uint64(29)
        state.update((rows if keeps_order else np.sort(rows)).astype("<u8").tobytes())
    return state.hexdigest()


def _column_hashes(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the 64-bit hashes of every cell, uint64 `[rows]`, by column name in order; empty columns are left out."""
    hashes = {}
    for name in sorted(frame.columns):
        found = _number_hashes(frame[name]) if name in NUMBERS else None
        if found is None:
            found = _text_hashes(frame[name])
        if (found != NOTHING).any():
            hashes[name] = found
    return hashes


def _number_hashes(values: pd.Series) -> np.ndarray | None:
    """Hash whole numbers by value, whatever their type; None where some are no whole numbers."""
    is_missing = values.isna().to_numpy()
    known = as_numbers(values[~is_missing])
    if not pd.api.types.is_integer_dtype(known) and not (known % 1 == 0).all():
        return None
    hashes = np.full(len(values), NOTHING)
    hashes[~is_missing] = pd.util.hash_array(known.to_numpy(dtype=np.int64))
    return hashes


def _text_hashes(values: pd.Series) -> np.ndarray:
    """Hash cells by their texts; equal texts are hashed once."""
    cells = values
    if values.dtype == object:  # numbers of different types, lists and objects, which can't be compared or hashed
        cells = pd.Series([cell_text(value) for value in values], dtype=object)
    numbers, distinct = pd.factorize(cells)
    texts = [cell_text(value) for value in distinct]
    encoded = np.array([None if text is None else text.encode("utf-8", "surrogatepass") for text in texts] + [None])
    known = pd.util.hash_array(encoded, categorize=False)
    known[[number for number, text in enumerate(encoded) if text is None]] = NOTHING
    return known[numbers]  # -1, a missing value, is the last
