"""Fusion: several methods as one, by a weighted sum of their reciprocal ranks or of their standardised scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import Fitted, Method, MethodOptions, Variant, Workspace, register
from cost_hf.methods.fusion.options import FusionOptions
from cost_hf.methods.parts import HybridMethod, fit_parts, part_protocol

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets

SUMMARY = "fusion of several methods, weights chosen on validation"


@register
class Fusion(HybridMethod[FusionOptions]):
    """Sums the parts' ranks or scores of their candidates, with weights that are chosen on validation."""

    name = "fusion"
    summary = SUMMARY
    options_class: ClassVar[type[MethodOptions]] = FusionOptions
    recommenders: ClassVar[Mapping[str, str]] = {"fusion": "cost_hf.methods.fusion.recommender"}

    @property
    def parts(self) -> dict[str, Method[Any]]:
        """The methods that are fused, by name."""
        return self.options.fusion.methods()

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Fit every part, then choose the weights."""
        from cost_hf.methods.fusion.fitting import chosen_weights, fusion_stage

        fitted = fit_parts(self.parts, workspace, seed=seed)
        recommender = fusion_stage(workspace, self.options, fitted, seed=seed)
        return Fitted(recommender, parts={"weights": chosen_weights(workspace)})

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return section `fusion`: the weight of every part, 0 for one that is left out."""
        return {"fusion": {"weights": fitted.parts["weights"]}}

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return how lists are made."""
        scores = {
            "reciprocal_rank": "sum of weight / (10 + rank) over the parts' lists",
            "score_sum": "weighted sum of the parts' scores, standardised over the candidates of a request",
        }
        return {"score": scores[self.options.fusion.kind], **part_protocol(self.parts)}

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for both kinds."""
        yield Variant(cls.name, cls.name, {}, cls.summary, is_compared=True)
        yield Variant("score_sum", cls.name, {"fusion.kind": "score_sum"}, f"{SUMMARY}: sum of standardised scores")
