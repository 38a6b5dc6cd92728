"""Items to texts, by the template of a recipe."""

import string
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.schema import DataError, is_empty


def render_texts(items: pd.DataFrame, template: str | None) -> list[str]:
    """Fill the template for every item; an empty field vanishes with the separator before it.

    Args:
        items: catalog, N rows.
        template: text with `{column}` fields; None joins all text columns but `item_id` by ". ".

    Returns:
        N texts, empty where an item has none of the fields.
    """
    if template is None:
        names = [str(name) for name in items.columns if name != "item_id" and _is_text(items[name])]
        if not names:
            raise DataError(
                f"items has no text column beside item_id, only {list(map(str, items.columns))}; "
                "add one, or name columns to use in vectors.template"
            )
        parts = [("" if number == 0 else ". ", name) for number, name in enumerate(names)]
        ending = ""
    else:
        parts, ending = _parse_template(template, items)
    columns = [(separator, [_cell(value) for value in items[name]]) for separator, name in parts]
    return [_join([(separator, cells[row]) for separator, cells in columns], ending) for row in range(len(items))]


def item_titles(items: pd.DataFrame) -> list[str | None] | None:
    """Return a title per item, None where a cell holds none; None where there is no such column."""
    names = items.get("title")
    return None if names is None else [name if isinstance(name, str) else None for name in names]


def _parse_template(template: str, items: pd.DataFrame) -> tuple[list[tuple[str, str]], str]:
    """Split a template into (separator before, column) pairs and the text after the last field."""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"vectors.template {template!r} is malformed ({error}); write fields as {{column}}") from error
    parts, pending = [], ""
    for literal, name, spec, conversion in pieces:
        pending += literal
        if name is None:
            continue
        if name not in items.columns or spec or conversion:
            suffix = " with a format" if spec or conversion else ""
            raise DataError(
                f"vectors.template {template!r} has the field {name!r}{suffix}: "
                f"expected a plain column name of items, one of {list(map(str, items.columns))}; correct the template"
            )
        parts.append((pending, name))
        pending = ""
    if not parts:
        raise DataError(f"vectors.template {template!r} has no field; write at least one as {{column}}")
    return parts, pending


def _join(parts: list[tuple[str, str]], ending: str) -> str:
    text = ""
    for number, (separator, cell) in enumerate(parts):
        if not cell:
            continue
        # a separator whose left neighbour vanished keeps only its words: ", by " becomes "by "
        text += (separator if text or number == 0 else separator.lstrip(" .,;:|/-")) + cell
    return text + ending if text else ""


def _is_text(values: pd.Series) -> bool:
    return pd.api.types.infer_dtype(values.astype(object), skipna=True) == "string"


def _cell(value: Any) -> str:
    if is_empty(value):
        return ""
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(filter(None, map(_cell, value)))
    return str(value).strip()
