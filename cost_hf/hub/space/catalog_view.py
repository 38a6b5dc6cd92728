"""A catalog for the demo: search, the tree of semantic IDs, neighbours, and shared prefixes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cost_hf.hub.space.filters import ColumnFilter, column_filters, item_facts, repeated_columns

Prefix = tuple[int, ...]
FOUND = 20  # search results
MAX_QUERY = 200  # characters of a search that are read
SHOWN = 40  # items under a prefix


@dataclass(frozen=True)
class Branch:
    """A code that continues a prefix, and the number of items below it."""

    code: int
    items: int


class Listed(NamedTuple):
    """A recommended item.

    Attributes:
        row: of the catalog.
        score: of the model.
        is_added: whether it was added in this demo.
        explanation: why it is listed, in a few lines; empty where the recommender gives none.
        shared_levels: most leading codes that it has in common with an item of the history.
    """

    row: int
    score: float
    is_added: bool = False
    explanation: str = ""
    shared_levels: int = 0


class CatalogView:
    """One snapshot of a catalog, for display.

    Args:
        catalog: a `Catalog`, or an `ItemList`, which has no semantic IDs.
    """

    def __init__(self, catalog: Any):
        self.catalog = catalog
        self.has_sids = hasattr(catalog, "codes")
        self.has_tree = self.has_sids and not catalog.has_parallel_levels

    @property
    def num_items(self) -> int:
        """Items that can be recommended."""
        return len(self.catalog) - int(self.catalog.removed.sum())

    @cached_property
    def filters(self) -> list[ColumnFilter]:
        """Columns that visitors can filter by."""
        return column_filters(self.catalog.columns)

    @cached_property
    def limited_columns(self) -> list[str]:
        """Columns of which visitors can limit how many items of a list share a value."""
        return repeated_columns(self.catalog.columns)

    def facts(self, row: int) -> str:
        """Return what an item has in these columns, in one line; empty where there are none."""
        return item_facts(self.filters, self.catalog.columns, row)

    def label(self, row: int) -> str:
        """Return the title of an item, or its id where it has none."""
        title = None if self.catalog.titles is None else self.catalog.titles[row]
        return title or self.catalog.item_ids[row]

    def search(self, text: str, limit: int = FOUND) -> list[int]:
        """Return rows of items, not removed, whose title or id holds all words of `text`; few letters find starts."""
        words = list(dict.fromkeys(text[:MAX_QUERY].lower().split()))
        found: list[int] = []
        for row, name in enumerate(self._names if words else ()):
            if not self.catalog.removed[row] and all(word in name for word in words):
                found.append(row)
                if len(found) == limit:
                    break
        return found

    def sid(self, row: int) -> Prefix:
        """Return the codes of an item, L numbers."""
        return tuple(self.catalog.codes[row].tolist())

    def branches(self, prefix: Prefix) -> list[Branch]:
        """Return the codes that continue a prefix, with their numbers of items."""
        below = self._below(prefix)
        if len(prefix) == self.catalog.codes.shape[1]:
            return []
        codes, counts = np.unique(self.catalog.codes[below, len(prefix)], return_counts=True)
        return [Branch(code, count) for code, count in zip(codes.tolist(), counts.tolist(), strict=True)]

    def items(self, prefix: Prefix, limit: int = SHOWN) -> tuple[list[int], int]:
        """Return the first rows below a prefix, and how many there are."""
        rows = self._below(prefix)
        return rows[:limit].tolist(), len(rows)

    def neighbours(self, codes: Prefix, *, without: int | None = None, limit: int = 8) -> list[tuple[int, int]]:
        """Return (row, shared levels) of the items whose IDs share the most levels, at least one.

        First levels count, or, where levels are parallel, any.
        """
        shared = self.catalog.num_shared_levels(np.array(codes))
        if without is not None:
            shared[without] = 0
        shared[self.catalog.removed] = 0
        best = np.argsort(-shared, kind="stable")[:limit]
        return [(row, int(shared[row])) for row in best.tolist() if shared[row]]

    def _below(self, prefix: Prefix) -> np.ndarray:
        is_below = (self.catalog.codes[:, : len(prefix)] == np.asarray(prefix, dtype=np.int64)).all(1)
        return np.flatnonzero(is_below & ~self.catalog.removed)

    @cached_property
    def _names(self) -> list[str]:
        titles = self.catalog.titles or [None] * len(self.catalog)
        return [f"{title or ''} {item}".lower() for title, item in zip(titles, self.catalog.item_ids, strict=True)]
