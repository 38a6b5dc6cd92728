"""Recommenders whose items have semantic IDs: what a quantizer does for their catalog, whatever ranks it.

The quantizer gives new items their codes and tells whether a changed text would have others.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cost_hf.data.encoders import ItemEncoder
from cost_hf.quantizers.base import Quantizer, load_quantizer, nearest_levels, reads_texts
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.repository import QUANTIZER
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.semantic_ids.options import MOVING_POLICIES
from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)


class SidRecommender(Recommender):
    """A recommender of items with semantic IDs; a kind adds the model that ranks them.

    Args:
        catalog: the items.
        popularity: training clicks of every catalog row, `[N]`.
        vocabulary: tokens of the codes.
        quantizer: gives vectors their codes; None for codes that came without a model.
        encoder: gives texts their vectors.
        journal, versions: of `CatalogUpdates`.
    """

    catalog_class = Catalog

    def __init__(
        self,
        catalog: Catalog,
        *,
        popularity: np.ndarray,
        vocabulary: SidVocabulary,
        quantizer: Quantizer | None = None,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        if len(popularity) != len(catalog) or vocabulary.level_sizes != catalog.level_sizes:
            raise ValueError(
                f"popularity and vocabulary must fit the catalog of {len(catalog)} items and levels "
                f"{catalog.level_sizes}, got {len(popularity)} counts and levels {vocabulary.level_sizes}; "
                "take all of them from one run"
            )
        self.vocabulary = vocabulary
        self.quantizer = None if quantizer is None else quantizer.eval()
        super().__init__(catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)

    @property
    def needs_vectors(self) -> bool:
        """Whether a new item needs a vector: not where the quantizer reads its text."""
        return not reads_texts(self.quantizer)

    @property
    def new_item_inputs(self) -> tuple[str, ...]:
        """What `add_items` takes for a new item; no vectors where the quantizer reads its text."""
        inputs = super().new_item_inputs
        return tuple(name for name in inputs if name != "vectors") if reads_texts(self.quantizer) else inputs

    @property
    def sid_keys(self) -> np.ndarray:
        """Number of each row's group of equal model-level codes, `[N]`."""
        return self.catalog.sid_keys

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the model-level codes of texts, int64 `[n, L_model]`; collisions are resolved by the catalog.

        Raises:
            ValueError: where the quantizer, or a text encoder that it needs, is missing.
            OSError: where the language model of a quantizer that reads texts can't be loaded.
        """
        if reads_texts(self.quantizer):
            return self.quantizer.encode(self._coded_inputs(texts, None)).cpu().numpy()
        return self.encode_vectors(self._vectors_of(texts))

    def encode_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Return the model-level codes of vectors `[n, E]` of the text encoder, int64 `[n, L_model]`.

        Raises:
            ValueError: where the quantizer is missing or reads texts, or for vectors of another width.
        """
        if reads_texts(self.quantizer):
            raise ValueError("the quantizer of this recommender reads texts, not vectors; pass texts")
        return self._required_quantizer.encode(torch.from_numpy(vectors)).cpu().numpy()

    def _check_parts(self) -> None:
        digest = None if self.quantizer is None else assignment_digest(self.quantizer)
        if digest not in (None, self.catalog.quantizer_digest):
            raise ValueError(
                f"the quantizer has assignment digest {digest}, the catalog's codes {self.catalog.quantizer_digest}; "
                "save the quantizer that they were made with"
            )

    def _write_quantizer(self, folder: Path) -> None:
        if self.quantizer is not None:
            self.quantizer.save_pretrained(folder / QUANTIZER)

    @staticmethod
    def _read_quantizer(source: Path) -> Quantizer | None:
        return load_quantizer(source / QUANTIZER) if (source / QUANTIZER).is_dir() else None

    @property
    def _required_quantizer(self) -> Quantizer:
        if self.quantizer is None:
            raise ValueError(
                "this recommender has no quantizer: its codes came from elsewhere; pass the codes of new items"
            )
        return self.quantizer

    def _require_encoder(self, *, by_codes: bool) -> None:
        if not by_codes:
            _ = self._required_quantizer

    def _with_appended_items(
        self,
        catalog: Catalog,
        item_ids: list[str],
        *,
        vectors: np.ndarray | None,
        codes: np.ndarray | None,
        titles: Sequence[str | None] | None,
        texts: Sequence[str] | None = None,
    ) -> Catalog:
        if codes is not None:
            return catalog.with_items(item_ids, codes=codes, titles=titles)
        stored = None
        if vectors is not None:
            vectors = np.asarray(vectors, dtype=np.float32)
            stored = self._stored_vectors(catalog, item_ids, vectors)
        table = self._coded_inputs(texts, vectors)
        return catalog.with_embeddings(item_ids, table, self._required_quantizer, titles=titles, vectors=stored)

    def _coded_inputs(self, texts: Sequence[str] | None, vectors: np.ndarray | None) -> torch.Tensor:
        """Return what the quantizer encodes of n items, fp32 `[n, …]`: their vectors, or what it reads in their texts.

        Raises:
            ValueError: where it reads texts and there are none.
        """
        quantizer = self._required_quantizer
        if not reads_texts(quantizer):
            return torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
        if texts is None:
            raise ValueError("the codes of this recommender are made from texts; pass the texts of new items, or codes")
        return quantizer.embed_texts(self._listed_texts(texts))

    def _stored_vectors(self, catalog: Catalog, item_ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Return what a catalog with vectors stores of items whose text vectors are `[n, E]`: these, by default."""
        return vectors

    def _with_updated_texts(self, catalog: Catalog, item_ids: list[str], texts: Sequence[str]) -> tuple[Catalog, int]:
        if reads_texts(self.quantizer):
            return catalog, self._would_differ(catalog, item_ids, self._coded_inputs(texts, None))
        if self.quantizer is None or not self.encodes_texts:
            return catalog, 0
        return catalog, self._would_differ(catalog, item_ids, self._coded_inputs(texts, self._vectors_of(texts)))

    def _would_differ(self, catalog: Catalog, item_ids: Sequence[str], encoded: torch.Tensor) -> int:
        """Return how many items have other codes by new text vectors, before the catalog takes these.

        Levels are left out on which an item's code is not the nearest one in any case. For a quantizer that encoded the
        items by more than their texts, codes of the new and the old text vectors are compared, both without the rest.

        Args:
            catalog: with the old text vectors, where it holds any.
            item_ids: n ids.
            encoded: what the quantizer encodes of the new texts, `[n, …]`.
        """
        quantizer = self._required_quantizer
        rows = catalog.rows_of(list(item_ids))
        held = catalog.codes[rows]
        levels = nearest_levels(quantizer)
        if getattr(quantizer, "reads_more", False):
            old = self.text_vectors(catalog)
            if old is None:
                logger.warning(
                    "whether items with new texts would have other codes is not known: their codes were made of more "
                    "than texts, and the catalog holds no vectors of the old ones"
                )
                return 0
            levels = len(quantizer.level_sizes)
            held = quantizer.encode(torch.from_numpy(np.ascontiguousarray(old[rows]))).cpu().numpy()
        elif catalog.policy in MOVING_POLICIES:
            levels = min(levels, len(quantizer.level_sizes) - 1)
        codes = quantizer.encode(encoded).cpu().numpy()
        return int((codes[:, :levels] != held[:, :levels]).any(1).sum())
