"""Catalog rows as answers: ids, scores and what is known about the items."""

from typing import Any, NamedTuple

import numpy as np

from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.semantic_ids.catalog_mask import CatalogMask


class Recommendation(NamedTuple):
    """One recommended item: its id, its score and what is known about it (`title`, `source`)."""

    item_id: str
    score: float
    fields: dict[str, Any]


def popular(snapshot: CatalogSnapshot, top_k: int, mask: CatalogMask | None) -> list[Recommendation]:
    """Return the most clicked items, with the logarithms of their smoothed shares of training clicks."""
    order, clicks = snapshot.popularity_order, snapshot.popularity
    best = (order if mask is None else order[mask.dense(1)[0].cpu().numpy()[order]])[:top_k]
    shares = np.log((clicks[best] + 1) / (clicks.sum() + len(clicks)))
    return [
        answer_of(snapshot, row, share, "popularity") for row, share in zip(best.tolist(), shares.tolist(), strict=True)
    ]


def answer_of(snapshot: CatalogSnapshot, row: int, score: float, source: str) -> Recommendation:
    """Return a catalog row as an answer."""
    titles = snapshot.catalog.titles
    title = None if titles is None else titles[row]
    fields = {"source": source} if title is None else {"title": title, "source": source}
    return Recommendation(snapshot.catalog.item_ids[row], score, fields)
