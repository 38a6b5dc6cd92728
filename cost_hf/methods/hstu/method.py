"""HSTU (arXiv 2402.17152) as a method, a baseline row, and a source of collaborative item vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import MethodOptions, Workspace, register
from cost_hf.methods.hstu.options import HstuOptions
from cost_hf.methods.sasrec.method import SequenceMethod

if TYPE_CHECKING:
    from cost_hf.methods.dense_training import DenseTraining


@register
class Hstu(SequenceMethod[HstuOptions]):
    """Gated attention without a softmax."""

    name = "hstu"
    summary = "HSTU"
    options_class: ClassVar[type[MethodOptions]] = HstuOptions
    auto_models = "cost_hf.methods.hstu.auto_hstu"
    recommenders: ClassVar[Mapping[str, str]] = {"hstu": "cost_hf.methods.hstu.recommender"}

    def untrained(self, *, num_items: int, text_dim: int | None, seed: int) -> Any:
        """Return an HSTU with fresh weights."""
        from cost_hf.methods.hstu.modeling_hstu import HstuModel
        from cost_hf.methods.sasrec.training import build_model

        return build_model(HstuModel, self.options.model, num_items=num_items, text_dim=text_dim, seed=seed)

    def training(self, workspace: Workspace, *, seed: int) -> DenseTraining:
        """Return how HSTU is trained on the training part."""
        from cost_hf.methods.hstu.recommender import HstuRecommender
        from cost_hf.methods.sasrec.stages import sequence_training

        return sequence_training(self, HstuRecommender, workspace, seed=seed)
