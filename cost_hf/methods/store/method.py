"""STORE-style recommendation (arXiv 2409.07276v1) as a method: one language model tokenizes, rebuilds and recommends.

Codes are those of `codes.kind: text_slots`, made by the same weights with an adapter of their own; the mixture of tasks
is that of every pretrained generator. This module sets what belongs together, lets the recommending adapter start from
the other, and reports how well texts are rebuilt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import Fitted, MethodOptions, Variant, Workspace, register
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.store.options import BACKBONE, KIND, RANK, TASKS, StoreOptions

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets
    from cost_hf.generators.backbones import Backbone
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.semantic_ids.catalog import Catalog

ROW: dict[str, Any] = {
    "catalog.reference": None,
    "codes.kind": KIND,
    "codes.backbone": BACKBONE,
    "codes.adapter_rank": RANK,
    "generator.kind": "causal",
    "generator.backbone": BACKBONE,
    "generator.prompt": "continuation",
    "generator.embedding_init": "mapped",
    "generator.overflow": "drop_oldest",
    "generator.dropout": None,
    "adapter.r": RANK,
    "adapter.alpha": None,
    "adapter.target_modules": None,
    "tasks.weights": TASKS,
}
ABLATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "store_contrastive": ({"codes.contrastive_weight": 0.5}, "with a contrastive term of two views of a text"),
    "store_alignment": ({"codes.alignment_weight": 0.5}, "with slots aligned to the words of the text"),
    "store_residual": ({"codes.clustering": "residual"}, "with residual clusters of all slots"),
    "store_fresh": ({"start.from_tokenizer": False}, "whose recommending adapter starts from nothing"),
}


@register
class Store(GenerativeMethod[StoreOptions]):
    """One language model that makes codes of item texts and recommends by them."""

    name = "store"
    family = "generative"
    summary = "one language model that makes codes of texts and recommends by them (STORE-style)"
    options_class: ClassVar[type[MethodOptions]] = StoreOptions

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield the row and its ablations."""
        yield Variant(cls.name, cls.name, ROW, cls.summary)
        for name, (changes, what) in ABLATIONS.items():
            yield Variant(name, cls.name, ROW | changes, f"STORE-style, {what}")

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the language model with LoRA, which starts from the adapter of the codes by `start.from_tokenizer`."""
        backbone = super().build_backbone(workspace, catalog, codes, seed=seed)
        if self.options.start.from_tokenizer and codes is not None:
            from cost_hf.methods.store.start import start_adapter

            start_adapter(backbone.model, codes.model)
        return backbone

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed."""
        return [*super().training_inputs(workspace), dataclasses.asdict(self.options.start)]

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return the sections of a generator and `reconstruction`: texts generated from slots and codes."""
        from cost_hf.methods.store.reconstruction import describe_reconstruction

        described = super().describe(fitted, workspace, targets, seed=seed)
        return described | {"reconstruction": describe_reconstruction(fitted, workspace, seed=seed)}
