"""Catalog rows as answers: ids, scores and what is known about the items."""

from typing import Any, NamedTuple

import numpy as np

from cost_hf.recommender.edition import Edition
from cost_hf.semantic_ids.catalog_mask import CatalogMask


class Recommendation(NamedTuple):
    """One recommended item: its id, its score and what is known about it (`title`, `source`)."""

    item_id: str
    score: float
    fields: dict[str, Any]


def popular(edition: Edition, top_k: int, mask: CatalogMask | None) -> list[Recommendation]:
    """Return the most clicked items, with the logarithms of their smoothed shares of training clicks."""
    order, clicks = edition.popularity_order, edition.popularity
    best = (order if mask is None else order[mask.dense(1)[0].cpu().numpy()[order]])[:top_k]
    shares = np.log((clicks[best] + 1) / (clicks.sum() + len(clicks)))
    return [
        answer_of(edition, row, share, "popularity") for row, share in zip(best.tolist(), shares.tolist(), strict=True)
    ]


def answer_of(edition: Edition, row: int, score: float, source: str) -> Recommendation:
    """Return a catalog row as an answer."""
    titles = edition.catalog.titles
    title = None if titles is None else titles[row]
    fields = {"source": source} if title is None else {"title": title, "source": source}
    return Recommendation(edition.catalog.item_ids[row], score, fields)
