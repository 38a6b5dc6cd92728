"""Forms of ids: outer blanks, Unicode forms, case and zeros, by which ids that look alike differ between two tables."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

FORMS: dict[str, Callable[[str], str]] = {
    "strip": str.strip,
    "nfc": lambda text: text if text.isascii() else unicodedata.normalize("NFC", text),
    "lower": str.lower,
}  # in the order in which they are applied
NAMES = {"strip": "outer blanks", "nfc": "their Unicode form", "lower": "case"}
TWIN_FORMS = ("strip", "nfc")  # ids that differ by case alone may be different ones
SAMPLE = 10_000


@dataclass(frozen=True)
class Mismatch:
    """Ids of clicks that the catalog knows in another form.

    Attributes:
        reason: by what they differ.
        found: how many different ids do, of `tried`.
        example: one pair: as in the clicks, as in the catalog.
        forms: values of `data.normalize_ids` that mend it; empty where none does.
    """

    reason: str
    found: int
    tried: int
    example: tuple[str, str]
    forms: tuple[str, ...]

    @property
    def text(self) -> str:
        """The mismatch in one sentence; what looks alike is written out in escapes."""
        ours, theirs = (ascii(text) for text in self.example)
        more = "all" if self.found == self.tried else f"{self.found} of {self.tried}"
        return (
            f"{more} of the unknown ids differ from ids of items by {self.reason} alone, as {ours} (interactions) and "
            f"{theirs} (items)"
        )

    @property
    def remedy(self) -> str:
        """What to set or do."""
        if self.forms:
            return f"--data.normalize_ids '[{', '.join(self.forms)}]'"
        return "write the ids of both tables alike, as text"


def normalized(ids: pd.Series, forms: Sequence[str]) -> pd.Series:
    """Return ids in the forms of `data.normalize_ids`."""
    numbers, distinct = pd.factorize(ids)
    texts = [_in_forms(text, forms) for text in distinct]
    return pd.Series(pd.array(texts, dtype=object)[numbers], index=ids.index).astype(str)


def find_mismatch(unknown: pd.Series, known: pd.Series) -> Mismatch | None:
    """Return how ids of clicks that the catalog lacks differ from ids that it has, None where nothing explains it.

    Args:
        unknown: ids of clicks without a catalog row.
        known: ids of the catalog.
    """
    sought = unknown.drop_duplicates().iloc[:SAMPLE].tolist()
    one_by_one: list[tuple[str, ...]] = [(form,) for form in FORMS]
    candidates = [(_reason(forms), forms, _with_forms(forms)) for forms in [*one_by_one, TWIN_FORMS, tuple(FORMS)]]
    candidates += [("leading zeros", (), _without_zeros), ("a trailing .0", (), _without_fraction)]
    found = [mismatch for each in candidates if (mismatch := _compare(sought, known, *each)) is not None]
    # of equal ones the first, which changes least
    return max(found, key=lambda mismatch: mismatch.found, default=None)


def count_twins(ids: pd.Series) -> int:
    """Return how many different ids become equal to another one without outer blanks and in one Unicode form."""
    distinct = pd.Series(ids.unique(), dtype=object)
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
    return lambda text: _in_forms(text, forms)


def _in_forms(text: str, forms: Sequence[str]) -> str:
    for name, change in FORMS.items():
        if name in forms:
            text = change(text)
    return text


def _without_zeros(text: str) -> str:
    return text.lstrip("0") or "0"


def _without_fraction(text: str) -> str:
    return text.removesuffix(".0")
