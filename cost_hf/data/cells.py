"""Cells as text: values of any type that a file can hold, and ids that look alike but differ."""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.errors import DataError

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # the category Cc of Unicode
EXACT_WHOLE = 2**53  # whole numbers below it are exact as floats


def is_empty(value: Any) -> bool:
    """Return whether a cell is empty: null, NaN, or a list, object or string of length 0."""
    if isinstance(value, (str, list, tuple, dict, np.ndarray)):
        return len(value) == 0
    return bool(pd.isna(value))


def is_missing(values: pd.Series) -> np.ndarray:
    """Return which cells of a column of ids are empty or blank, bool `[rows]`."""
    if pd.api.types.is_numeric_dtype(values):
        return values.isna().to_numpy(dtype=bool)
    if isinstance(values.dtype, pd.StringDtype):
        return (values.fillna("").str.strip() == "").to_numpy(dtype=bool)
    is_blank = [isinstance(value, str) and not value.strip() for value in values]
    return values.isna().to_numpy(dtype=bool) | np.array(is_blank, dtype=bool)


def plain_value(values: pd.Series, row: int) -> Any:
    """Return the cell in a row, counted from 0, as a Python value, for messages."""
    value = values.iloc[row]
    return value.item() if isinstance(value, np.generic) else value


def cell_text(value: Any) -> str | None:
    """Return a string that is equal for equal cells of any file format; None for an empty cell.

    Whole numbers become their digits, lists and objects JSON without empty parts.
    """
    value = _plain(value)
    if is_empty(value):
        return None
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    """Return a value of plain Python types with all leaves as strings; empty fields of objects are dropped."""
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
    """Return every cell of a column as text for a template, whatever the other cells are.

    Raises:
        DataError: for bytes, whose encoding is unknown.
    """
    for row, value in enumerate(values):
        if isinstance(value, (bytes, bytearray)):
            raise DataError(
                f"items.{values.name}, row {row}: expected text, got bytes {value!r:.60}; decode the column where the "
                "table is built, as with frame[name].str.decode('utf-8')"
            )
    return [cell_words(value) for value in values]


def cell_words(value: Any) -> str:
    """Return a cell as text: "" for an empty one, lists joined by commas, objects as `name: value`, others by `str`.

    Whole numbers become their digits, since missing values turn a column of them into floats.
    """
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


def cell_parts(value: Any) -> list[str]:
    """Return the parts of a list, or of a text with commas, as text; one empty part, or none, for an empty cell.

    Examples:
        >>> cell_parts(["Beauty", "Hair, Nails"]), cell_parts("Beauty, Hair"), cell_parts(None)
        (['Beauty', 'Hair, Nails'], ['Beauty', 'Hair'], [''])
    """
    if isinstance(value, (list, tuple, np.ndarray)):
        return [cell_words(part) for part in value]
    return [part.strip() for part in cell_words(value).split(",")]


def column_parts(values: pd.Series) -> pd.DataFrame:
    """Return the parts of every cell of a column, `[rows, most parts]`, "" where a cell has fewer."""
    parts = [cell_parts(value) for value in values]
    width = max(map(len, parts), default=0)
    padded = [[*own, *[""] * (width - len(own))] for own in parts]
    return pd.DataFrame(padded, index=values.index, columns=range(width), dtype=object)


def holds_words(value: Any) -> bool:
    """Return whether a cell is a string or a list with one."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return any(map(holds_words, value))
    return isinstance(value, str)


def map_texts(values: pd.Series, change: Callable[[str], str]) -> pd.Series:
    """Return a column with `change` applied to every string, also within lists; other cells are unchanged."""
    return pd.Series([_changed(value, change) for value in values], index=values.index, dtype=object)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_changed(part, change) for part in value]
    return value


def has_control(text: str) -> bool:
    """Return whether a text contains a control character, which a terminal would interpret."""
    return CONTROL.search(text) is not None


FORMS: dict[str, Callable[[str], str]] = {
    "strip": str.strip,
    "nfc": lambda text: text if text.isascii() else unicodedata.normalize("NFC", text),
    "lower": str.lower,
}  # in the order of application
NAMES = {"strip": "outer blanks", "nfc": "their Unicode form", "lower": "case"}
TWIN_FORMS = ("strip", "nfc")  # ids that differ only by case may be different items
SAMPLE = 10_000


@dataclass(frozen=True)
class Mismatch:
    """Item ids of the click log that the catalog has in another form.

    Attributes:
        reason: the difference.
        found: number of distinct ids with this difference, of `tried`.
        example: one pair: id in the click log, id in the catalog.
        forms: values of `data.normalize_ids` that fix it; empty if none does.
    """

    reason: str
    found: int
    tried: int
    example: tuple[str, str]
    forms: tuple[str, ...]

    @property
    def text(self) -> str:
        """The mismatch in one sentence; ids are written with escapes, since they may look identical."""
        ours, theirs = (ascii(text) for text in self.example)
        more = "all" if self.found == self.tried else f"{self.found} of {self.tried}"
        return (
            f"{more} of the unknown ids differ from ids of items only by {self.reason}, as {ours} (interactions) and "
            f"{theirs} (items)"
        )

    @property
    def remedy(self) -> str:
        """The option or action that fixes it."""
        if self.forms:
            return f"--data.normalize_ids '[{', '.join(self.forms)}]'"
        return "write the ids of both tables in one form, as text"


def normalized(ids: pd.Series, forms: Sequence[str]) -> pd.Series:
    """Return ids in the forms of `data.normalize_ids`."""
    numbers, distinct = pd.factorize(ids)
    texts = [in_forms(text, forms) for text in distinct]
    return pd.Series(pd.array(texts, dtype=object)[numbers], index=ids.index).astype(str)


def in_forms(text: str, forms: Sequence[str]) -> str:
    """Return an id in the forms of `data.normalize_ids`."""
    for name, change in FORMS.items():
        if name in forms:
            text = change(text)
    return text


def find_mismatch(unknown: pd.Series, known: pd.Series) -> Mismatch | None:
    """Return how unknown ids of the click log differ from ids of the catalog, None if no form explains them.

    Args:
        unknown: ids of clicks without a catalog row.
        known: ids of the catalog.
    """
    sought = unknown.drop_duplicates().iloc[:SAMPLE].tolist()
    one_by_one: list[tuple[str, ...]] = [(form,) for form in FORMS]
    candidates = [(_reason(forms), forms, _with_forms(forms)) for forms in [*one_by_one, TWIN_FORMS, tuple(FORMS)]]
    candidates += [("leading zeros", (), _without_zeros), ("a trailing .0", (), _without_fraction)]
    found = [mismatch for each in candidates if (mismatch := _compare(sought, known, *each)) is not None]
    # among equal counts the first, which changes least
    return max(found, key=lambda mismatch: mismatch.found, default=None)


def count_twins(ids: pd.Series) -> int:
    """Return how many distinct ids equal another one after stripping blanks and Unicode normalisation (NFC)."""
    distinct = pd.Series(ids.unique(), dtype=str)
    if not distinct.str.contains("[^\x00-\x7f]").any() and (distinct.str.strip() == distinct).all():
        return 0  # these are in every form already
    distinct = distinct.astype(object)
    plain = distinct.map(_with_forms(TWIN_FORMS))
    return int(plain.duplicated(keep=False).sum()) if not plain.is_unique else 0


def _compare(
    sought: list[str], known: pd.Series, reason: str, forms: tuple[str, ...], change: Callable[[str], str]
) -> Mismatch | None:
    catalog = {change(text): text for text in known}
    found = [text for text in sought if change(text) in catalog]
    if not found:
        return None
    return Mismatch(reason, len(found), len(sought), (found[0], catalog[change(found[0])]), forms)


def _reason(forms: Sequence[str]) -> str:
    return " and ".join(NAMES[form] for form in forms)


def _with_forms(forms: Sequence[str]) -> Callable[[str], str]:
    return lambda text: in_forms(text, forms)


def _without_zeros(text: str) -> str:
    return text.lstrip("0") or "0"


def _without_fraction(text: str) -> str:
    return text.removesuffix(".0")
