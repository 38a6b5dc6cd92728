"""A generator whose encoder reads items merged to latents, as a method: ACERec's merger without the rest of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import MethodOptions, Variant, Workspace, register
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.token_merger.options import TokenMergerOptions

if TYPE_CHECKING:
    from cost_hf.generators.backbones import Backbone
    from cost_hf.methods.token_merger.recommender import TokenMergerRecommender
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.semantic_ids.catalog import Catalog


@register
class TokenMerger(GenerativeMethod[TokenMergerOptions]):
    """A T5 that reads merged items and writes whole semantic IDs."""

    name = "token_merger"
    family = "generative"
    summary = "T5 that reads items merged to latents"
    options_class: ClassVar[type[MethodOptions]] = TokenMergerOptions
    auto_models = "cost_hf.methods.token_merger.auto_merged_t5"
    recommenders: ClassVar[Mapping[str, str]] = {"token_merger": "cost_hf.methods.token_merger.recommender"}

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield the row, on a T5."""
        yield Variant(cls.name, cls.name, {"generator.kind": "seq2seq"}, cls.summary)

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the untrained model."""
        return self._build(catalog, seed=seed)

    def untrained(self, catalog: Catalog, item_dim: int) -> tuple[Backbone, Catalog]:
        """Return a model with fresh weights, and the catalog."""
        return self._build(catalog, seed=0), catalog

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed."""
        return [*super().training_inputs(workspace), dataclasses.asdict(self.options.merger)]

    def recommender_class(self) -> type[TokenMergerRecommender]:
        """Return the class that loads what `make_recommender` wrote."""
        from cost_hf.methods.token_merger.recommender import TokenMergerRecommender

        return TokenMergerRecommender

    def _build(self, catalog: Catalog, *, seed: int) -> Backbone:
        from cost_hf.generators.backbones import build_backbone
        from cost_hf.generators.model_classes import ModelClasses
        from cost_hf.methods.token_merger.modeling_merged_t5 import MergedT5ForConditionalGeneration
        from cost_hf.semantic_ids.vocabulary import SidVocabulary

        merger = self.options.merger
        fields = {
            "level_sizes": list(catalog.level_sizes),
            "first_code_id": SidVocabulary.for_catalog(catalog).first_id,
            "num_latents": merger.num_latents,
            "merger": merger.kind,
            "merger_heads": merger.num_heads,
        }
        classes = ModelClasses({"t5": MergedT5ForConditionalGeneration}, fields)
        return build_backbone(self.options.generator, catalog, seed=seed, model_classes=classes)
