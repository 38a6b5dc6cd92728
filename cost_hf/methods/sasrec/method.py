"""SASRec (arXiv 1808.09781) as a method, a baseline row, and a source of collaborative item vectors."""

from __future__ import annotations

import dataclasses
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
from cost_hf.methods.sasrec.options import SasRecOptions

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.splits import Targets
    from cost_hf.methods.sasrec.recommender import SasRecRecommender

# an objective, and what was tuned together with it
OBJECTIVES: dict[str, dict[str, Any]] = {
    "sasrec_ce": {"model.inputs": "ids", "model.loss": "cross_entropy", "model.similarity": "cosine"},
    "sasrec_bce": {"model.inputs": "ids", "model.loss": "binary", "model.similarity": "dot"},
    "sasrec_text": {
        "model.inputs": "text",
        "model.loss": "cross_entropy",
        "model.similarity": "cosine",
        "model.hidden_size": 128,
        "model.dropout": 0.2,
        "training.learning_rate": 1e-3,
    },
}
COMPARED = ("sasrec_ce", "sasrec_text")  # rows that a comparison has where none is named


@register
class SasRec(Method[SasRecOptions]):
    """Self-attentive sequential recommendation."""

    name = "sasrec"
    family = "dense"
    summary = "SASRec"
    options_class: ClassVar[type[MethodOptions]] = SasRecOptions
    auto_models = "cost_hf.methods.sasrec.auto_sasrec"
    recommenders: ClassVar[Mapping[str, str]] = {"sasrec": "cost_hf.methods.sasrec.recommender"}
    gives_item_vectors = True
    selects_on_validation = True
    can_warm_start = True

    @property
    def requires_texts(self) -> bool:  # type: ignore[override]
        """True where texts are an input."""
        return self.options.model.inputs != "ids"

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Train on the training part."""
        from cost_hf.methods.sasrec.stages import sasrec_stage
        from cost_hf.methods.training_stages import training_log

        recommender = sasrec_stage(self.options, workspace, seed=seed)
        return Fitted(recommender, {"training": training_log(workspace)})

    def warm_start(self, recommender: SasRecRecommender, start: WarmStart) -> Fitted:
        """Train the model on; new items have rows with fresh weights, where ids are read."""
        from cost_hf.methods.sasrec.stages import warm_start

        return warm_start(self.options, recommender, start)

    def estimate(self, facts: DataFacts) -> Estimate:
        """Time a step of the softmax over the catalog, which most of the time goes to."""
        from cost_hf.methods.sasrec.estimate import estimate

        return estimate(self.options, facts)

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return how lists are made."""
        return {"score": "over the whole catalog", "max_history": self.options.model.max_history}

    def item_vectors(self, workspace: Workspace, width: int, *, seed: int) -> np.ndarray:
        """Return the item table of a model of ids, `[N, width]`; zero for items without a training click."""
        from cost_hf.methods.sasrec.stages import collaborative_vectors

        return collaborative_vectors(self._of_ids(width), workspace, seed=seed)

    def check_item_width(self, width: int, *, field: str) -> None:
        """Raise ValueError for a width that the attention heads do not divide."""
        heads = self.options.model.num_heads
        if width % heads:
            raise ValueError(
                f"collaborative vectors of a {self.summary} must be as wide as a multiple of {heads!r}, its attention "
                f"heads, got {width!r}; change {field}"
            )

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method as the recipe has it, and one for each objective."""
        yield Variant(cls.name, cls.name, {}, cls.summary)
        for name, changes in OBJECTIVES.items():
            text = ", ".join(f"{dotted.partition('.')[2]} {value}" for dotted, value in changes.items())
            yield Variant(name, cls.name, changes, f"{cls.summary}: {text}", is_compared=name in COMPARED)

    def _of_ids(self, width: int) -> SasRecOptions:
        model = dataclasses.replace(self.options.model, inputs="ids", loss="cross_entropy", hidden_size=width)
        return dataclasses.replace(self.options, model=model)
