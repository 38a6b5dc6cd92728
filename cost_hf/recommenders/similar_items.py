"""Items that are similar to one, by what a recommender knows of its items.

In this order, the first that it has for the item: cosines of item text vectors (`text`); of other item vectors, which
items are encoded by or a model has learned (`item_vectors`); the number of leading codes that semantic IDs share, or of
any where levels are parallel (`semantic_id`). Counts alone know no similar items, but what follows an item: there the
list is that of `recommend` for a history of the item alone, and `source` is that of the recommender.
"""

from dataclasses import dataclass

import numpy as np

from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.item_evidence import ItemEvidence, cosines_with

DIGITS = 6  # of a cosine
TEXT = "text"
ITEM_VECTORS = "item_vectors"
SEMANTIC_ID = "semantic_id"


@dataclass(frozen=True, eq=False)
class SimilarItems:
    """Similar items, most similar first.

    Attributes:
        rows: of the catalog, R of them.
        scores: cosines, or numbers of shared codes.
        source: what they are of: `text`, `item_vectors` or `semantic_id`.
    """

    rows: list[int]
    scores: list[float]
    source: str


class SimilarItemSearch:
    """Finds similar items in one snapshot of a catalog.

    Args:
        snapshot: of the recommender.
        evidence: of its catalog.
        item_vectors: that the model has learned, `[n, D]`; None for none.
    """

    def __init__(self, snapshot: CatalogSnapshot, evidence: ItemEvidence, item_vectors: np.ndarray | None = None):
        self.snapshot = snapshot
        self.evidence = evidence
        self._tables = {TEXT if evidence.is_of_texts else ITEM_VECTORS: evidence.vectors}
        if item_vectors is not None and not len(evidence.vectors):
            self._tables[ITEM_VECTORS] = item_vectors
        self._norms = {name: np.linalg.norm(table, axis=1) for name, table in self._tables.items()}

    def find(self, row: int, top_k: int, allowed: np.ndarray) -> SimilarItems | None:
        """Return the most similar items; None where nothing is known of the item that others could be compared by.

        Args:
            row: of the item, which is not in its own list.
            top_k: items wanted; fewer are returned where fewer are allowed, have a vector, or share a code.
            allowed: items that may be listed, bool `[N]`.
        """
        for source, table in self._tables.items():
            norms = self._norms[source]
            if row < len(table) and norms[row] > 0:
                # rounded, so that popularity decides among equal texts, on every machine alike
                scores = cosines_with(table[row], table, norms).astype(np.float64).round(DIGITS)
                return self._best(row, scores, allowed & self._has(norms > 0), top_k, source)
        if row < len(self.evidence.codes):
            shared = self.evidence.shared_levels(row, slice(None))
            return self._best(row, shared, allowed & self._has(shared > 0), top_k, SEMANTIC_ID)
        return None

    def _has(self, first: np.ndarray) -> np.ndarray:
        """Return flags `[n]` of the first items for the whole catalog, `[N]`."""
        flags = np.zeros(len(self.snapshot.catalog), dtype=bool)
        flags[: len(first)] = first
        return flags

    def _best(self, row: int, scores: np.ndarray, is_listed: np.ndarray, top_k: int, source: str) -> SimilarItems:
        """Return the items of the highest scores `[n]`, ties by popularity and then by id."""
        is_listed[row] = False
        rows = np.flatnonzero(is_listed)
        if len(rows) > top_k:
            threshold = np.partition(scores[rows], -top_k)[-top_k]
            rows = rows[scores[rows] >= threshold]
        rows = rows[np.lexsort((self.snapshot.tie_ranks[rows], -scores[rows]))][:top_k]
        return SimilarItems(rows.tolist(), scores[rows].tolist(), source)
