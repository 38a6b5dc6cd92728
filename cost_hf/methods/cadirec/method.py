"""CaDiRec (arXiv 2405.09369) as a method: SASRec with contrastive views that a diffusion model makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import MethodOptions, Variant, Workspace, register
from cost_hf.methods.cadirec.options import CaDiRecOptions
from cost_hf.methods.sasrec.method import PUBLISHED, SequenceMethod

if TYPE_CHECKING:
    from cost_hf.methods.dense_training import DenseTraining


@register
class CaDiRec(SequenceMethod[CaDiRecOptions]):
    """Context-aware diffusion-based contrastive learning for sequential recommendation."""

    name = "cadirec"
    summary = "CaDiRec"
    options_class: ClassVar[type[MethodOptions]] = CaDiRecOptions
    recommenders: ClassVar[Mapping[str, str]] = {"cadirec": "cost_hf.methods.cadirec.recommender"}
    can_warm_start = False  # the diffusion is not kept

    def untrained(self, *, num_items: int, text_dim: int | None, seed: int) -> Any:
        """Return a SASRec and its diffusion with fresh weights."""
        from cost_hf.methods.cadirec.modeling_cadirec import CaDiRecModel
        from cost_hf.methods.sasrec.training import build_model

        return build_model(
            CaDiRecModel,
            self.options.model,
            num_items=num_items,
            text_dim=text_dim,
            seed=seed,
            **dataclasses.asdict(self.options.diffusion),
        )

    def recommended(self, model: Any) -> Any:
        """Return the SASRec."""
        return model.sasrec

    def training(self, workspace: Workspace, *, seed: int) -> DenseTraining:
        """Return how the model is trained on the training part."""
        from cost_hf.methods.cadirec.recommender import CaDiRecRecommender
        from cost_hf.methods.sasrec.stages import sequence_training

        return sequence_training(self, CaDiRecRecommender, workspace, seed=seed)

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield the row over the tuned SASRec, and the one of the paper."""
        yield Variant(cls.name, cls.name, {}, cls.summary)
        paper = PUBLISHED | {"model.intermediate_size": 128}
        yield Variant("cadirec_published", cls.name, paper, f"{cls.summary} over the SASRec of its paper")
