"""PRISM's recommender: beams of a generator that reads the vectors of the history's items.

The vectors are stored with the catalog: those of the texts and, after them, those learned from clicks. A new item gets
its text vector and its semantic ID from the quantizer; its collaborative vector is 0, as for an item without a click.
"""

from collections.abc import Sequence

import numpy as np

from cost_hf.recommenders.text_generative import TextGenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog


class PrismRecommender(TextGenerativeRecommender):
    """Recommends items by PRISM's generator; its scores are log-probabilities of beams.

    Args:
        backbone: trained model with its vocabulary and prompt.
        catalog: the items; with vectors, where the model reads them.
        parts: the other arguments of `TextGenerativeRecommender`.
    """

    kind = "prism"
    source = "prism"

    def text_vectors(self, catalog: Catalog) -> np.ndarray | None:
        """Return the item text vectors `[N, E]` of a catalog, without the collaborative ones."""
        vectors = super().text_vectors(catalog)
        return None if vectors is None else vectors[:, : self.generator.config.content_dim]

    def _stored_vectors(self, catalog: Catalog, item_ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Return text vectors `[n, E]` with the collaborative ones that the catalog holds; 0 for new items."""
        config = self.generator.config
        if not config.use_fusion:
            return vectors
        stored = np.zeros((len(item_ids), config.text_dim), dtype=np.float32)
        stored[:, : config.content_dim] = vectors
        known = [place for place, item in enumerate(item_ids) if item in catalog]
        if catalog.vectors is not None and known:
            rows = catalog.rows_of([item_ids[place] for place in known])
            stored[known, config.content_dim :] = catalog.vectors[rows, config.content_dim :]
        return stored
