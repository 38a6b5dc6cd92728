"""COBRA (arXiv 2503.02453) as a method: coarse semantic IDs are generated, and dense vectors rank their items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import Fitted, MethodOptions, Variant, Workspace, register
from cost_hf.methods.cobra.options import CobraOptions
from cost_hf.methods.generative import GenerativeMethod

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.splits import Targets
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.methods.cobra.recommender import CobraRecommender
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.recommenders.rankers import Ranker
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.trie import SidTrie

SHARED_SIDS = {"catalog.collisions": "none"}  # dense vectors distinguish items of one semantic ID


@register
class Cobra(GenerativeMethod[CobraOptions]):
    """Cascaded sparse and dense representations in one causal model."""

    name = "cobra"
    family = "hybrid"
    summary = "COBRA: coarse semantic IDs, then dense vectors, BeamFusion"
    options_class: ClassVar[type[MethodOptions]] = CobraOptions
    auto_models = "cost_hf.methods.cobra.auto_cobra"
    recommenders: ClassVar[Mapping[str, str]] = {"cobra": "cost_hf.methods.cobra.recommender"}

    @property
    def names_items(self) -> bool:  # type: ignore[override]
        """True where texts are read."""
        return self.options.dense.reads_text

    @property
    def requires_texts(self) -> bool:  # type: ignore[override]
        """True where words are read, by the model or by the quantizer, not vectors."""
        reads_words = self.options.dense.reads_text and self.options.dense.text_encoder == "light"
        return super().requires_texts or reads_words

    @property
    def weighs_labels(self) -> bool:  # type: ignore[override]
        """False where texts are read: the dense loss compares items that are all alike."""
        return not self.options.dense.reads_text

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method and one for the ablation without dense vectors."""
        yield Variant(cls.name, cls.name, SHARED_SIDS, cls.summary)
        changes = SHARED_SIDS | {"dense.inputs": False, "dense.weight": 0.0}
        yield Variant("cobra_no_dense", cls.name, changes, "COBRA without dense vectors: its semantic IDs alone")

    def build_catalog(self, workspace: Workspace, codes: CodesResult | None, *, seed: int) -> Catalog:
        """Return the catalog of the data's items, with what the model reads of their texts."""
        catalog = super().build_catalog(workspace, codes, seed=seed)
        dense = self.options.dense
        if not dense.reads_text:
            return catalog
        if dense.text_encoder == "vectors":
            return catalog.with_vectors(list(catalog.item_ids), workspace.text_vectors().vectors)
        from cost_hf.data.item_texts import render_texts
        from cost_hf.methods.cobra.word_ids import word_ids

        texts = render_texts(workspace.data.tables.items, workspace.vector_options.item_template)
        return catalog.with_vectors(list(catalog.item_ids), word_ids(texts, words=dense.words, ids=dense.word_ids))

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the untrained model."""
        from cost_hf.methods.cobra.training import build_cobra
        from cost_hf.methods.training_stages import training_clicks

        options = self.options
        return build_cobra(options.generator, options.dense, catalog, popularity=training_clicks(workspace), seed=seed)

    def attach_catalog(self, model: Any, catalog: Catalog, popularity: np.ndarray) -> None:
        """Give a model the texts of the items, where it reads any."""
        from cost_hf.methods.cobra.training import attach_catalog

        attach_catalog(model, catalog, popularity)

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed."""
        options = self.options
        # the fusion chooses the checkpoint
        sections = [dataclasses.asdict(options.dense), dataclasses.asdict(options.beam_fusion)]
        return [*super().training_inputs(workspace), *sections, options.search.normalization]

    def ranker(
        self, model: Any, prompts: PromptBuilder, trie: SidTrie, catalog: Catalog, popularity: np.ndarray, *, beams: int
    ) -> Ranker:
        """Return the ranking by BeamFusion, which is also that of the recommender."""
        from cost_hf.methods.cobra.ranker import BeamFusion
        from cost_hf.methods.cobra.training import ranker_of

        fusion = BeamFusion(num_beams=beams, normalization=self.options.search.normalization, **self._fusion)
        return ranker_of(model, prompts, trie, catalog, popularity, fusion)

    def untrained(self, catalog: Catalog, item_dim: int) -> tuple[Backbone, Catalog]:
        """Return a model with fresh weights, and the catalog with noise as texts where it reads them."""
        from cost_hf.methods.cobra.training import build_cobra, with_noise

        options = self.options
        catalog = with_noise(catalog, options.dense, item_dim) if options.dense.reads_text else catalog
        clicks = [1] * len(catalog)
        return build_cobra(options.generator, options.dense, catalog, popularity=clicks, seed=0), catalog

    def recommender_class(self) -> type[CobraRecommender]:
        """Return the class that loads what `make_recommender` wrote."""
        from cost_hf.methods.cobra.recommender import CobraRecommender

        return CobraRecommender

    def search_settings(self, workspace: Workspace) -> dict[str, Any]:
        """Return beams, normalization and the fields of BeamFusion."""
        return super().search_settings(workspace) | self._fusion

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return candidates and score of the lists, and how often a free search leaves the catalog."""
        found = super().protocol(fitted, workspace, targets)
        fusion = self.options.beam_fusion
        if self.options.dense.weight == 0:
            return found
        domain = {"leaf": "those of the semantic ID", "all": "all candidates"}[fusion.domain]
        terms = f"log softmax({fusion.tau:g} log p) of the beam + log softmax({fusion.psi:g} cosine) over {domain}"
        return found | {
            "candidates": f"the items of {workspace.evaluation.num_beams} beams, at most {fusion.items_per_leaf} each",
            "score": terms,
        }

    @property
    def _fusion(self) -> dict[str, Any]:
        """Settings of the recommender that rank the items of the beams."""
        return dataclasses.asdict(self.options.beam_fusion)
