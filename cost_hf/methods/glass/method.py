"""GLASS (arXiv 2602.05663) as a method: a generator of semantic IDs that reads long histories level by level.

Its semantic IDs are those of any `codes.kind`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import Fitted, MethodOptions, Variant, Workspace, register
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.glass.options import GlassOptions

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.splits import Targets
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.methods.glass.recommender import GlassRecommender
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.recommenders.rankers import Ranker
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.trie import SidTrie

DESCRIBED_CASES = 512  # of the test part, for the section `long_history` of results.json
NO_TIER_TOKEN = {"long_history.tier_token": False, "long_history.neighbour_codes": 0}
NO_RETRIEVAL = {"long_history.retrieval": False, "long_history.neighbour_codes": 0}
T5 = {"generator.kind": "seq2seq"}
CAUSAL = {"generator.kind": "causal", "generator.size": "small", "long_history.positions": False}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "glass": (T5, "GLASS: a generator that reads long histories"),
    "glass_no_tier_token": (T5 | NO_TIER_TOKEN, "GLASS without the tier token"),
    "glass_no_retrieval": (T5 | NO_RETRIEVAL, "GLASS without retrieved items"),
    "glass_off": (T5 | NO_TIER_TOKEN | NO_RETRIEVAL, "GLASS with both off: the plain generator"),
    "glass_causal_tier_token": (NO_RETRIEVAL | CAUSAL, "the tier token alone, on the causal generator"),
}


@register
class Glass(GenerativeMethod[GlassOptions]):
    """A generator of semantic IDs that reads the items of long histories by their first codes."""

    name = "glass"
    family = "generative"
    summary = "GLASS: a generator that reads long histories by first-level codes"
    options_class: ClassVar[type[MethodOptions]] = GlassOptions
    auto_models = "cost_hf.methods.glass.auto_glass"
    recommenders: ClassVar[Mapping[str, str]] = {"glass": "cost_hf.methods.glass.recommender"}

    @property
    def long_history(self) -> int:  # type: ignore[override]
        """Most recent items of a history that are read; 0 where all is off."""
        own = self.options.long_history
        return own.max_items if own.is_on else 0

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method, for each ablation and for the causal variant."""
        for name, (changes, text) in ROWS.items():
            yield Variant(name, cls.name, changes, text)

    def build_catalog(self, workspace: Workspace, codes: CodesResult | None, *, seed: int) -> Catalog:
        """Return the catalog of the data's items, with their text vectors where they are read."""
        catalog = super().build_catalog(workspace, codes, seed=seed)
        if not self.options.long_history.reads_vectors:
            return catalog
        return catalog.with_vectors(list(catalog.item_ids), workspace.text_vectors().vectors)

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the untrained model."""
        from cost_hf.methods.glass.training import build_glass

        options = self.options
        fit_rows = workspace.data.fit_rows
        return build_glass(options.generator, options.long_history, catalog, fit_rows=fit_rows, seed=seed)

    def attach_catalog(self, model: Any, catalog: Catalog, popularity: np.ndarray) -> None:
        """Give a model the tokens and vectors of a catalog; prototypes are those of the training from scratch."""
        from cost_hf.methods.glass.training import attach_catalog

        attach_catalog(model, catalog)

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed."""
        own = self.options.long_history
        vectors = [workspace.text_vectors().digest] if own.reads_vectors else []
        return [*super().training_inputs(workspace), dataclasses.asdict(own), *vectors]

    def ranker(
        self, model: Any, prompts: PromptBuilder, trie: SidTrie, catalog: Catalog, popularity: np.ndarray, *, beams: int
    ) -> Ranker:
        """Return the beam search with what the model in training reads of whole histories."""
        from cost_hf.methods.glass.ranker import GlassRanker

        return GlassRanker(
            model,
            prompts,
            trie,
            long_history=self.options.long_history.max_items,
            item_tiers=model.item_tiers,
            num_beams=beams,
        )

    def untrained(self, catalog: Catalog, item_dim: int) -> tuple[Backbone, Catalog]:
        """Return a model with fresh weights, and the catalog with vectors of noise where it reads any."""
        from cost_hf.methods.benchmarking import with_noise
        from cost_hf.methods.glass.training import build_glass

        options = self.options
        catalog = with_noise(catalog, item_dim) if options.long_history.reads_vectors else catalog
        return build_glass(options.generator, options.long_history, catalog, seed=0), catalog

    def recommender_class(self) -> type[GlassRecommender]:
        """Return the class that loads what `make_recommender` wrote."""
        from cost_hf.methods.glass.recommender import GlassRecommender

        return GlassRecommender

    def search_settings(self, workspace: Workspace) -> dict[str, Any]:
        """Return beams, normalization and how much of a history is read."""
        return super().search_settings(workspace) | {"long_history": self.options.long_history.max_items}

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Add how much of a history is read beside the prompt."""
        return super().protocol(fitted, workspace, targets) | {"long_history": self.long_history}

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Add section `long_history`: ranks of true prefixes in the beams, and how far the gates open."""
        from cost_hf.methods.glass.diagnostics import describe_long_history

        described = super().describe(fitted, workspace, targets, seed=seed)
        recommender: Any = fitted.recommender
        found = describe_long_history(
            recommender.ranker_for(workspace.evaluation.num_beams),
            recommender.catalog,
            targets.sample(DESCRIBED_CASES, seed=workspace.data_seed),
            batch_size=workspace.evaluation.batch_size,
        )
        return described | {"long_history": found}
