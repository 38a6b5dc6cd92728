"""COBRA as a recommender: beams of semantic IDs, and dense vectors that choose among their items.

What the model reads of items is stored with the catalog: frozen text vectors or, for the light encoder, the ids of
their words. A new item gets its semantic ID from the quantizer and its dense vector from its text.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from cost_hf.generators.backbones import Backbone
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.cobra.options import FusionOptions
from cost_hf.methods.cobra.ranker import BeamFusion, CobraRanker
from cost_hf.methods.cobra.training import with_dense_tokens
from cost_hf.methods.cobra.word_ids import word_ids
from cost_hf.quantizers.base import reads_texts
from cost_hf.recommenders.catalog_changes import CatalogChange
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.text_generative import TextGenerativeRecommender, TextSnapshot
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.growing_rows import with_rows


class CobraRecommender(TextGenerativeRecommender):
    """Recommends items by COBRA; its scores are logarithms of BeamFusion's.

    A model without a dense head (`dense.weight: 0`) ranks by its beams alone, with their log-probabilities.

    Args:
        backbone: trained COBRA with its vocabulary and prompt.
        catalog: the items; with their texts, where the model reads them.
        tau, psi, items_per_leaf, domain: of `BeamFusion`.
        parts: the other arguments of `TextGenerativeRecommender`; `num_beams` is raised to `top_k` where that is
            larger.
    """

    kind = "cobra"
    source = "cobra"
    search_fields: ClassVar[dict[str, type]] = {"tau": float, "psi": float, "items_per_leaf": int, "domain": str}

    def __init__(
        self,
        backbone: Backbone,
        catalog: Catalog,
        *,
        tau: float = 0.9,
        psi: float = 16.0,
        items_per_leaf: int = 50,
        domain: str = "leaf",
        **parts: Any,
    ):
        FusionOptions(tau, psi, items_per_leaf, domain).validate()
        self.tau = tau
        self.psi = psi
        self.items_per_leaf = items_per_leaf
        self.domain = domain
        super().__init__(backbone, catalog, **parts)

    @property
    def reads_words(self) -> bool:
        """Whether the model reads the words of texts, which text vectors do not hold."""
        config = self.generator.config
        return config.reads_text and config.text_encoder == "light"

    @property
    def new_item_inputs(self) -> tuple[str, ...]:
        """What `add_items` takes for a new item."""
        inputs = super().new_item_inputs
        return tuple(name for name in inputs if name != "vectors") if self.reads_words else inputs

    def text_vectors(self, catalog: Catalog) -> np.ndarray | None:
        """Return the item text vectors `[N, E]` of a catalog; None for a model that reads words."""
        return None if self.reads_words else super().text_vectors(catalog)

    def add_items(
        self,
        item_ids: Sequence[str],
        texts: Sequence[str] | None = None,
        *,
        vectors: np.ndarray | None = None,
        codes: np.ndarray | None = None,
        titles: Sequence[str | None] | None = None,
        columns: Any = None,
    ) -> CatalogChange:
        """Add items, as `CatalogUpdates.add_items` does; a model that reads words takes texts alone."""
        if vectors is not None and self.reads_words:
            raise ValueError("this COBRA reads the words of texts, which vectors do not hold; pass texts of new items")
        return super().add_items(item_ids, texts, vectors=vectors, codes=codes, titles=titles, columns=columns)

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> CobraRanker:  # type: ignore[override]
        """Return the ranker of the present (or the given) snapshot, with at least `top_k` beams."""
        at = snapshot if isinstance(snapshot, TextSnapshot) else self.snapshot
        fusion = BeamFusion(
            num_beams=max(self.num_beams, top_k),
            tau=self.tau,
            psi=self.psi,
            items_per_leaf=self.items_per_leaf,
            domain=self.domain,
            normalization=self.normalization,
        )
        return CobraRanker(self.generator, at.prompts, at.trie, at.table, at.tie_rank, fusion)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the model-level codes of texts, int64 `[n, L_model]`; items with the same ones share a semantic ID."""
        return super().encode(texts) if reads_texts(self.quantizer) else self.encode_vectors(super()._vectors_of(texts))

    def _prompts_for(self, catalog: Catalog) -> PromptBuilder:
        prompts = super()._prompts_for(catalog)
        return with_dense_tokens(prompts) if self.generator.config.use_text_input else prompts

    def _vectors_of(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors of texts `[n, E]`, with the ids of their words after them where the model reads words."""
        vectors = super()._vectors_of(texts)
        return np.concatenate([vectors, self._words_of(texts)], axis=1) if self.reads_words else vectors

    def _words_of(self, texts: Sequence[str]) -> np.ndarray:
        config = self.generator.config
        return word_ids(texts, words=config.text_dim, ids=config.text_vocab_size)

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
        if vectors is None or not self.reads_words:
            return super()._with_appended_items(
                catalog, item_ids, vectors=vectors, codes=codes, titles=titles, texts=texts
            )
        cut = vectors.shape[1] - self.generator.config.text_dim
        table = self._coded_inputs(texts, vectors[:, :cut])
        grown = replace(catalog, vectors=None).with_embeddings(item_ids, table, self._required_quantizer, titles=titles)
        order = [item_ids.index(item) for item in grown.item_ids[len(catalog) :]]
        words = vectors[order, cut:]
        return replace(grown, vectors=words if catalog.vectors is None else with_rows(catalog.vectors, words))

    def _with_updated_texts(self, catalog: Catalog, item_ids: list[str], texts: Sequence[str]) -> tuple[Catalog, int]:
        if not self.reads_words:
            return super()._with_updated_texts(catalog, item_ids, texts)
        would_differ = 0
        if self.quantizer is not None and self.encoder is not None:
            own = None if reads_texts(self.quantizer) else super()._vectors_of(texts)
            would_differ = self._would_differ(catalog, item_ids, self._coded_inputs(texts, own))
        return catalog.with_vectors(item_ids, self._words_of(texts)), would_differ
