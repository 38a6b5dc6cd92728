"""Cells: what a value of any type that a file can hold is as text."""

import json
from typing import Any

import numpy as np
import pandas as pd


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
    if isinstance(value, (float, np.floating)) and value % 1 == 0:
        return str(int(value))
    return str(value)
