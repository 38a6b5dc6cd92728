"""LightGCN (arXiv 2002.02126) as a method, a baseline row, and a source of collaborative item vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from cost_hf.methods.base import DataFacts, Estimate, Fitted, Method, MethodOptions, Workspace, register
from cost_hf.methods.lightgcn.options import LightGcnOptions

if TYPE_CHECKING:
    import numpy as np


@register
class LightGcn(Method[LightGcnOptions]):
    """Light graph convolution over the graph of training clicks."""

    name = "lightgcn"
    family = "dense"
    summary = "LightGCN"
    options_class: ClassVar[type[MethodOptions]] = LightGcnOptions
    auto_models = "cost_hf.methods.lightgcn.auto_lightgcn"
    recommenders: ClassVar[Mapping[str, str]] = {"lightgcn": "cost_hf.methods.lightgcn.recommender"}
    gives_item_vectors = True
    selects_on_validation = True

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Train on the training part."""
        from cost_hf.methods.lightgcn.stages import lightgcn_stage
        from cost_hf.methods.training_stages import training_log

        recommender = lightgcn_stage(self.options, workspace, seed=seed)
        return Fitted(recommender, {"training": training_log(workspace)})

    def estimate(self, facts: DataFacts) -> Estimate:
        """Time a step over the graph of the training clicks."""
        from cost_hf.methods.lightgcn.estimate import estimate

        return estimate(self.options, facts)

    def item_vectors(self, workspace: Workspace, width: int, *, seed: int) -> np.ndarray:
        """Return the item vectors, `[N, width]`; zero for items without a training click."""
        from cost_hf.methods.lightgcn.stages import collaborative_vectors

        model = dataclasses.replace(self.options.model, hidden_size=width)
        return collaborative_vectors(dataclasses.replace(self.options, model=model), workspace, seed=seed)
