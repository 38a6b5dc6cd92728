"""Learned ranking: LambdaMART over the candidates of several methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import (
    DataFacts,
    Estimate,
    Fitted,
    Method,
    MethodOptions,
    Variant,
    WarmStart,
    Workspace,
    register,
)
from cost_hf.methods.parts import HybridMethod, fit_parts, part_protocol
from cost_hf.methods.ranker.options import RankerOptions, is_installed

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets
    from cost_hf.recommenders.rankers import Ranker as RankerProtocol

SUMMARY = "LambdaMART over the candidates of several methods"
SECONDS_PER_CANDIDATE = 2e-5  # of one thread: features and boosting in all folds
CANDIDATES_PER_PART = 35  # lists of 50 overlap


@register
class Ranker(HybridMethod[RankerOptions]):
    """Ranks the union of its parts' lists by boosted trees that are trained on validation targets."""

    name = "ranker"
    summary = SUMMARY
    options_class: ClassVar[type[MethodOptions]] = RankerOptions
    recommenders: ClassVar[Mapping[str, str]] = {"ranker": "cost_hf.methods.ranker.recommender"}

    @property
    def parts(self) -> dict[str, Method[Any]]:
        """The methods that give candidates, by name."""
        return self.options.ranker.methods()

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Fit every part, then the trees."""
        from cost_hf.methods.ranker.features import ItemTable
        from cost_hf.methods.ranker.fitting import ranker_stage, training_facts
        from cost_hf.semantic_ids.item_columns import ItemColumns

        data = workspace.data
        # before the parts, which may take hours: it refuses columns that can't be features
        columns = ItemColumns.of(data.columns)
        table = ItemTable.of(columns, data.split, self.options.ranker.columns, num_items=data.tables.num_items)
        fitted = fit_parts(self.parts, workspace, seed=seed)
        recommender = ranker_stage(workspace, self.options, fitted, table, seed=seed)
        return Fitted(recommender, parts=training_facts(workspace))

    def warm_start(self, recommender: Any, start: WarmStart) -> Fitted:
        """Train the parts on; the trees stay, and read the trend of today's clicks."""
        from cost_hf.methods.ranker.fitting import with_trend

        return Fitted(with_trend(super().warm_start(recommender, start).recommender, start.split))

    def validation_ranker(self, fitted: Fitted, workspace: Workspace) -> RankerProtocol:
        """Return the ranker whose trees have not seen the user that they rank for."""
        from cost_hf.methods.ranker.fitting import held_out_ranker

        recommender: Any = fitted.recommender
        return held_out_ranker(workspace, recommender, top_k=workspace.evaluation.num_beams)

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Return the sum of the parts' costs, by part, and that of the trees."""
        found = super().estimate(facts)
        if isinstance(found, str):
            return found
        cases = min(len(facts.split.validation), self.options.ranker.cases or len(facts.split.validation))
        catalogs = 2 if self.options.ranker.new_item_share else 1
        candidates = cases * catalogs * CANDIDATES_PER_PART * len(self.parts)
        return Estimate(
            {**found.seconds, "ranker": candidates * SECONDS_PER_CANDIDATE}, found.memory_mb, found.assumptions
        )

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return section `ranker`: cases, rounds, and features with their shares of the gain, largest first."""
        return {"ranker": dict(fitted.parts)}

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return how lists are made."""
        return {
            "score": "LambdaMART over the union of the parts' lists, trained on validation targets",
            "validation": "every user by the trees of the folds without this user",
            **part_protocol(self.parts),
        }

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield the row of the method; a comparison has it where LightGBM is installed."""
        yield Variant(cls.name, cls.name, {}, cls.summary, is_compared=is_installed())
