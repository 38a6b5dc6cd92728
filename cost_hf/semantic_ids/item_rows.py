"""Items by row and by id: what a catalog of semantic IDs and a plain list of items have in common."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

from cost_hf.semantic_ids.item_ids import item_id_list, item_id_text, title_list

MANY = 100_000  # rows


class ItemRows:
    """Lookup of rows by item id, for whatever has `item_ids`, one per row."""

    item_ids: tuple[str, ...]
    titles: tuple[str | None, ...] | None
    removed: np.ndarray
    version: Any  # digest of all that is held, titles included: a cached property of those below
    digest: Any  # the catalog digest; likewise

    @property
    def stem(self) -> str:
        """Name of this version's files."""
        return f"catalog-{self.version[:16]}"

    def save(self, directory: str | Path, stem: str) -> None:
        """Write the files of this version."""
        raise NotImplementedError

    @classmethod
    def load(cls, directory: str | Path, stem: str) -> Self:
        """Read what `save` wrote; raise OSError or ValueError for missing or damaged files."""
        raise NotImplementedError

    def with_titles(self, item_ids: Sequence[str], titles: Sequence[str | None]) -> Self:
        """Return the same rows with other titles of some items."""
        ids = item_id_list(item_ids, is_unique=True)
        names = list(self.titles or [None] * len(self))
        for row, title in zip(self.rows_of(ids).tolist(), title_list(titles, ids), strict=True):
            names[row] = title
        return replace(self, titles=tuple(names))  # type: ignore[type-var]

    def without_titles(self) -> Self:
        """Return the same rows without titles."""
        return replace(self, titles=None)  # type: ignore[type-var]

    def row_of(self, item_id: str) -> int:
        """Return the row of an item, removed or not; raise KeyError for an unknown id."""
        return int(self.rows_of([item_id])[0])

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the rows of items, `[n]` int64, removed or not.

        Args:
            item_ids: a list, array or column of ids; whole numbers stand for their digits.

        Raises:
            KeyError: naming the unknown ids.
            ValueError: for one string instead of a list, or what is no id.
        """
        ids = item_id_list(item_ids)
        try:
            # one call for all of them, which takes two
            many = itemgetter(*ids)(self._rows) if len(ids) > 1 else map(self._rows.__getitem__, ids)
            return np.fromiter(many, dtype=np.int64, count=len(ids))
        except KeyError:
            unknown = [item for item in ids if item not in self]
        raise KeyError(
            f"{len(unknown)} of {len(ids)} item ids are not in the catalog of {len(self)} items: "
            f"{', '.join(map(repr, unknown[:5]))}"
            f"{' …' if len(unknown) > 5 else ''}; {self._alike(unknown)}check their spelling, or add them first"
        )

    def _alike(self, unknown: Sequence[str]) -> str:
        """Return a hint at an item whose id looks like one that is not there; "" where there is none."""
        sought = {_plain(item): item for item in unknown[:5] if not item.isascii() or item != item.strip()}
        for held in self.item_ids if sought else ():
            if (item := sought.get(_plain(held))) is not None:
                return f"{item!a} differs from {held!a} of the catalog by blanks or its Unicode form alone; "
        return ""

    def __len__(self) -> int:
        return len(self.item_ids)

    def __contains__(self, item_id: object) -> bool:
        """Tell whether the catalog has a row for `item_id`, removed or not."""
        text = item_id_text(item_id)
        return text is not None and text in self._rows

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}


def _plain(item: str) -> str:
    return unicodedata.normalize("NFC", item.strip())


def describe_items(rows: ItemRows) -> str:
    """Return how many items a catalog holds, and how many of them are removed, as words."""
    removed = int(rows.removed.sum())
    return f"{len(rows)} items" + (f", {removed} of them removed" if removed else "")


def describe_digest(rows: ItemRows) -> str:
    """Return the catalog digest in short; that of a large catalog only where it is known, since it takes seconds."""
    if len(rows) > MANY and "digest" not in rows.__dict__:
        return "digest not computed yet"
    return f"digest {rows.digest[:12]}"
