"""The recommender of PRISM (ISR, arXiv 2601.16556) as a method: a generator fused with vectors of its items.

Its semantic IDs are those of any `codes.kind`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cost_hf.methods.base import DataFacts, Estimate, MethodOptions, Variant, Workspace, register
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.prism.options import PrismOptions

if TYPE_CHECKING:
    from cost_hf.data.category_tags import CategoryTags
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.methods.prism.recommender import PrismRecommender
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.recommenders.rankers import Ranker
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.trie import SidTrie

NO_FUSION = {"isr.fusion": False, "isr.collaborative_method": None}
NO_HEADS = {"isr.codebook_weight": 0.0, "isr.tag_column": None}
NO_DENSITY = {"isr.density_temperatures": None}
# `prism` alone would be its codes, under the plain generator
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "prism_isr": ({}, "PRISM's recommender"),
    "prism_isr_no_fusion": (NO_FUSION, "PRISM's recommender without vectors of items"),
    "prism_isr_no_heads": (NO_HEADS, "PRISM's recommender without heads for code vectors and tags"),
    "prism_isr_no_density": (NO_DENSITY, "PRISM's recommender without temperatures of the loss"),
    "prism_isr_off": (
        NO_FUSION | NO_HEADS | NO_DENSITY | {"isr.positions": False},
        "PRISM's recommender with all of it off: the plain generator",
    ),
}


@register
class Prism(GenerativeMethod[PrismOptions]):
    """A generator of semantic IDs that reads vectors of items and learns the geometry of their codes."""

    name = "prism"
    family = "generative"
    summary = "PRISM's recommender: a generator fused with vectors of items"
    options_class: ClassVar[type[MethodOptions]] = PrismOptions
    auto_models = "cost_hf.methods.prism.auto_prism"
    recommenders: ClassVar[Mapping[str, str]] = {"prism": "cost_hf.methods.prism.recommender"}

    @property
    def names_items(self) -> bool:  # type: ignore[override]
        """True where vectors, positions, heads or temperatures need the items of tokens."""
        isr = self.options.isr
        return isr.fusion or isr.adds_positions(self.options.generator.kind) or isr.changes_loss

    @property
    def weighs_labels(self) -> bool:  # type: ignore[override]
        """False where the loss is more than that of tokens."""
        return not self.options.isr.changes_loss

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method and one for each ablation."""
        for name, (changes, text) in ROWS.items():
            yield Variant(name, cls.name, changes, text)

    def build_catalog(self, workspace: Workspace, codes: CodesResult | None, *, seed: int) -> Catalog:
        """Return the catalog of the data's items, with their text and collaborative vectors where they are read."""
        catalog = super().build_catalog(workspace, codes, seed=seed)
        isr = self.options.isr
        if not isr.fusion:
            return catalog
        parts = [workspace.text_vectors().vectors]
        source = isr.source()
        if source is not None:
            own = workspace.part("fusion")
            if self._shares_vectors:  # with the codes, which may have a seed of their own
                own = workspace
                seed = seed if self.options.codes.seed is None else self.options.codes.seed
            parts.append(source.item_vectors(own, isr.collaborative_dim, seed=seed))
        return catalog.with_vectors(list(catalog.item_ids), np.concatenate(parts, 1))

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the untrained model."""
        from cost_hf.methods.prism.training import build_prism, code_vectors

        options = self.options
        return build_prism(
            options.generator,
            options.isr,
            catalog,
            levels=code_vectors(None if codes is None else codes.model, catalog.model_levels),
            tags=self._tags(workspace, catalog),
            seed=seed,
        )

    def attach_catalog(self, model: Any, catalog: Catalog, popularity: np.ndarray) -> None:
        """Give a model vectors and branches of a catalog; tags belong to the training from scratch."""
        from cost_hf.methods.prism.training import attach_catalog

        attach_catalog(model, catalog)

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed."""
        isr = self.options.isr
        parts: list[Any] = [dataclasses.asdict(isr)]
        if isr.fusion:
            parts.append(workspace.text_vectors().digest)
        items = workspace.data.tables.items
        if isr.has_tags and isr.tag_column in items:
            parts.append(items[isr.tag_column].fillna("").astype(str).tolist())
        return [*super().training_inputs(workspace), *parts]

    def ranker(
        self, model: Any, prompts: PromptBuilder, trie: SidTrie, catalog: Catalog, popularity: np.ndarray, *, beams: int
    ) -> Ranker:
        """Return the beam search with what the model in training makes of the items' vectors."""
        from cost_hf.recommenders.beam_ranker import BeamRanker

        return BeamRanker(
            model,
            prompts,
            trie,
            num_beams=beams,
            names_items=model.config.use_text_input,
            item_table=model.item_table() if model.config.use_fusion else None,
        )

    def untrained(self, catalog: Catalog, item_dim: int) -> tuple[Backbone, Catalog]:
        """Return a model with fresh weights, and the catalog with vectors of noise where it reads any."""
        from cost_hf.methods.benchmarking import with_noise
        from cost_hf.methods.prism.training import build_prism, code_vectors

        options = self.options
        if options.isr.fusion:
            clicks = 0 if options.isr.collaborative_method is None else options.isr.collaborative_dim
            catalog = with_noise(catalog, item_dim + clicks)
        model = options.codes.build_model(item_dim)
        levels = code_vectors(model, 0 if model is None else len(model.level_sizes))
        if [len(vectors) for vectors in levels] != list(catalog.level_sizes[: catalog.model_levels]):
            levels = []
        return build_prism(options.generator, options.isr, catalog, levels=levels, seed=0), catalog

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Add the training of collaborative vectors to what the generator costs."""
        found = super().estimate(facts)
        source = self.options.isr.source()
        if isinstance(found, str) or source is None or self._shares_vectors:
            return found
        own = source.estimate(facts)
        if isinstance(own, str):
            return own
        seconds = sum(seconds for stage, seconds in own.seconds.items() if stage != "evaluation")
        added = {**found.seconds, "collaborative": seconds}
        return dataclasses.replace(found, seconds=added, assumptions=[*found.assumptions, *own.assumptions])

    def recommender_class(self) -> type[PrismRecommender]:
        """Return the class that loads what `make_recommender` wrote."""
        from cost_hf.methods.prism.recommender import PrismRecommender

        return PrismRecommender

    @property
    def _shares_vectors(self) -> bool:
        """Whether codes are learned from the same collaborative vectors that items are fused with."""
        isr = self.options.isr
        codes = self.options.codes
        return (
            self.options.catalog.reference is None
            and codes.needs_collaborative_vectors
            and (codes.collaborative_method, codes.collaborative_dim)
            == (isr.collaborative_method, isr.collaborative_dim)
        )

    def _tags(self, workspace: Workspace, catalog: Catalog) -> CategoryTags | None:
        from cost_hf.data.category_tags import CategoryTags

        isr = self.options.isr
        if not isr.has_tags:
            return None
        items = workspace.data.tables.items
        return CategoryTags.of(items, str(isr.tag_column), levels=catalog.model_levels, field="isr.tag_column")
