"""ACERec (arXiv 2602.13573) as a method: codes, catalog, model, and the look-up that ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.acerec.options import AceRecOptions
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
from cost_hf.semantic_ids.options import CatalogOptions

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets
    from cost_hf.methods.acerec.recommender import AceRecRecommender

# what the paper's table of ablations leaves out, one at a time
ABLATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "acerec_mean": ({"model.merger": "mean"}, "latents by means of digits, not by attention"),
    "acerec_no_intent": ({"model.use_intent_token": False}, "the last latent predicts, without an intent token"),
    "acerec_no_alignment": ({"model.alignment_weight": 0.0}, "without the alignment with next items"),
    "acerec_no_reconstruction": ({"model.reconstruction_weight": 0.0}, "without the reconstruction of digits"),
}


@register
class AceRec(Method[AceRecOptions]):
    """Long parallel codes, merged by attention and predicted all at once."""

    name = "acerec"
    family = "generative"
    summary = "ACERec: long parallel codes, the whole catalog scored by look-up"
    options_class: ClassVar[type[MethodOptions]] = AceRecOptions
    needs_text_vectors = True
    selects_on_validation = True
    can_warm_start = True
    auto_models = "cost_hf.methods.acerec.auto_acerec"
    recommenders: ClassVar[Mapping[str, str]] = {"acerec": "cost_hf.methods.acerec.recommender"}

    @property
    def is_control(self) -> bool:  # type: ignore[override]
        """True where the codes are those of a control."""
        return self.options.codes.is_control

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method and one for each ablation."""
        yield Variant(cls.name, cls.name, description=cls.summary)
        for name, (changes, text) in ABLATIONS.items():
            yield Variant(name, cls.name, changes, f"ACERec: {text}")

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Fit the quantizer and train the model."""
        from cost_hf.methods.acerec.training import acerec_training
        from cost_hf.methods.codes_stage import build_catalog, codes_stage
        from cost_hf.methods.dense_training import fit_dense

        codes = codes_stage(workspace, self.options.codes, seed=seed)
        collide = CatalogOptions(collisions="none")
        catalog = build_catalog(workspace, collide, codes, has_parallel_levels=True)
        fitted = fit_dense(acerec_training(self.options, workspace, catalog, codes.model, seed=seed), workspace)
        return Fitted(fitted.recommender, fitted.curves, {"codes": codes})

    def warm_start(self, recommender: AceRecRecommender, start: WarmStart) -> Fitted:
        """Train the model on; codes and quantizer stay."""
        from cost_hf.methods.acerec.training import warm_start

        return warm_start(self.options, recommender, start)

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Time a step of training and a ranking."""
        from cost_hf.methods.acerec.estimate import estimate

        return estimate(self.options, facts)

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return section `semantic_ids`, without figures of prefixes, which say nothing here."""
        from cost_hf.evaluation.semantic_ids import PREFIX_FIGURES
        from cost_hf.methods.generative.sid_description import describe_utilization

        recommender: Any = fitted.recommender
        found = describe_utilization(recommender.catalog, fitted.parts["codes"], workspace)
        return {"semantic_ids": {name: figure for name, figure in found.items() if name not in PREFIX_FIGURES}}

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return how lists are made."""
        return {
            "score": "sum of natural-log probabilities over codes, of every item of the catalog",
            "max_history": self.options.model.max_history,
        }
