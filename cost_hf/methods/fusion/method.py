"""Reciprocal-rank fusion (Cormack, Clarke and Büttcher 2009) of several methods as one method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import DataFacts, Estimate, Fitted, Method, MethodOptions, Workspace, register
from cost_hf.methods.fusion.members import NAME, TEXT_MEMBER, member_methods
from cost_hf.methods.fusion.options import FusionOptions

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets


@register
class ReciprocalRankFusion(Method[FusionOptions]):
    """Fuses the lists of its members with weights that are chosen on validation."""

    name = NAME
    family = "hybrid"
    summary = "reciprocal-rank fusion of several methods, weights chosen on validation"
    options_class: ClassVar[type[MethodOptions]] = FusionOptions
    needs_text_vectors = True
    recommenders: ClassVar[Mapping[str, str]] = {"fusion": "cost_hf.methods.fusion.recommender"}

    @property
    def members(self) -> dict[str, Method[Any]]:
        """The methods that are fused, by name."""
        return member_methods(self.options.fusion.members, self.options.fusion.overrides)

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Fit every member as a row of its own, then choose the weights."""
        from cost_hf.methods.fusion.fitting import chosen_weights, fusion_stage

        prefix = workspace.row or self.name
        members = self.members
        rows = {name: dataclasses.replace(workspace, row=f"{prefix}-{name}") for name in members}
        fitted = {name: method.fit(rows[name], seed=seed) for name, method in members.items()}
        recommender = fusion_stage(workspace, self.options, fitted, prefix=prefix, seed=seed)
        return Fitted(recommender, parts={"weights": chosen_weights(workspace)})

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Return the sum of the members' costs, by member; their lists are made one after the other."""
        seconds = {"evaluation": 0.0}
        memory_mb = 0.0
        assumptions: list[str] = []
        for name, method in self.members.items():
            own = method.estimate(facts)
            if isinstance(own, str):
                return f"member {name}: {own}"
            seconds[name] = sum(value for stage, value in own.seconds.items() if stage != "evaluation")
            seconds["evaluation"] += own.seconds.get("evaluation", 0.0)
            memory_mb = max(memory_mb, own.memory_mb)
            assumptions += own.assumptions
        return Estimate(seconds, memory_mb, list(dict.fromkeys(assumptions)))

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return section `fusion`: the weight of every member, 0 for one that is left out."""
        return {"fusion": {"weights": fitted.parts["weights"]}}

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return how lists are made."""
        from cost_hf.evaluation.rank_fusion import DEPTH, OFFSET

        return {
            "score": f"sum of weight / ({OFFSET} + rank) over the members' lists of {DEPTH}",
            "members": list(self.options.fusion.members),
        }

    @classmethod
    def fused_rows(cls, candidates: Mapping[str, tuple[str, float]]) -> list[str] | None:
        """Return the first generative row, the dense row that is best on validation, and the texts of the last item."""
        generative = [name for name, (family, _) in candidates.items() if family == "generative"]
        dense = [name for name, (family, _) in candidates.items() if family == "dense"]
        if not generative or not dense:
            return None
        best = max(dense, key=lambda name: candidates[name][1])
        return [generative[0], best, *(name for name in candidates if name == TEXT_MEMBER)]

    def input_parts(self) -> list[Any]:
        """Return those of the members."""
        return [part for method in self.members.values() for part in method.input_parts()]

    def check_paths(self) -> None:
        """Raise FileNotFoundError for a path in a member's options that is not there."""
        for method in self.members.values():
            method.check_paths()
