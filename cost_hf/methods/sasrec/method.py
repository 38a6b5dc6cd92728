"""SASRec (arXiv 1808.09781) as a method, a baseline row, and a source of collaborative item vectors."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cost_hf.methods.base import (
    Advice,
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
from cost_hf.methods.sasrec.options import AUTO, FULL_LOSS_BYTES, SasRecOptions, SequenceOptions

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.splits import Targets
    from cost_hf.methods.dense_training import DenseTraining
    from cost_hf.options import ItemFacts
    from cost_hf.recommenders.dense import DenseRecommender

SequenceOptionsT = TypeVar("SequenceOptionsT", bound=SequenceOptions)

# SASRec as later papers train it, such as those of contrastive learning (arXiv 2108.06479, 2405.09369)
PUBLISHED: dict[str, Any] = {
    "model.inputs": "ids",
    "model.loss": "binary",
    "model.similarity": "dot",
    "model.num_negatives": 1,
    "model.norm_first": False,
    "model.attention_dropout": 0.5,
    "model.linear_init": "normal",
    "model.positions": "newest",
    "training.epochs": 200,
    "training.batch_size": 256,
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.0,
    "training.beta2": 0.999,
    "training.warmup_steps": 0,
    "training.scheduler": "constant",
    "training.gradient_clip": 0.0,
    "training.validate_every": 5,
    "training.patience": 8,
}
# an objective, and what was tuned together with it
OBJECTIVES: dict[str, dict[str, Any]] = {
    "sasrec_ce": {"model.inputs": "ids", "model.loss": "cross_entropy", "model.similarity": "cosine"},
    "sasrec_sampled": {"model.inputs": "ids", "model.loss": "sampled_softmax", "model.similarity": "cosine"},
    "sasrec_bce": {"model.inputs": "ids", "model.loss": "binary", "model.similarity": "dot"},
    "sasrec_published": PUBLISHED,
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


class SequenceMethod(Method[SequenceOptionsT]):
    """What methods share that train a model on histories item by item; a method gives its `training`."""

    family = "dense"
    gives_item_vectors = True
    selects_on_validation = True
    can_warm_start = True

    @property
    def requires_texts(self) -> bool:  # type: ignore[override]
        """True where texts are an input."""
        return self.options.model.inputs != "ids"

    @abstractmethod
    def untrained(self, *, num_items: int, text_dim: int | None, seed: int) -> Any:
        """Return the model that is trained.

        Args:
            num_items: N, of the catalog.
            text_dim: width of the item vectors that it reads; None for ids alone.
            seed: of its weights.
        """

    def recommended(self, model: Any) -> Any:
        """Return what recommends from the model that is trained: itself, or a part of it."""
        return model

    @property
    def views(self) -> int:
        """Augmented copies of every sequence that a training step reads beside the sequence."""
        return 0

    @abstractmethod
    def training(self, workspace: Workspace, *, seed: int) -> DenseTraining:
        """Return how the model is trained on the training part."""

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Train on the training part."""
        from cost_hf.methods.dense_training import fit_dense

        return fit_dense(self.training(workspace, seed=seed), workspace)

    def warm_start(self, recommender: DenseRecommender, start: WarmStart) -> Fitted:
        """Train the model on; new items have rows with fresh weights, where ids are read."""
        from cost_hf.methods.sasrec.stages import warm_start

        return warm_start(self.options, recommender, start)

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Time a training step and a ranking of the untrained model."""
        from cost_hf.methods.sasrec.estimate import estimate

        return estimate(self, facts)

    def advice(self, items: ItemFacts) -> list[Advice]:
        """Return that a sampled loss suits a catalog for whose full softmax `auto` allows no memory."""
        from cost_hf.methods.sasrec.training import full_loss_bytes

        needed = full_loss_bytes(self.options.model, num_items=len(items.table))
        if self.options.model.loss != "cross_entropy" or needed <= FULL_LOSS_BYTES:
            return []
        message = (
            f"a training step computes the softmax over all {len(items.table):,} items, which takes about "
            f"{needed >> 20:,} MB besides the weights"
        )
        return [Advice(message, f"--model.loss {AUTO}")]

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return how lists are made."""
        return {"score": "over the whole catalog", "max_history": self.options.model.max_history}

    def item_vectors(self, workspace: Workspace, width: int, *, seed: int) -> np.ndarray:
        """Return the item table of a model of ids, `[N, width]`; zero for items without a training click."""
        from cost_hf.methods.dense_training import collaborative_vectors
        from cost_hf.methods.sasrec.training import chosen_loss

        model = dataclasses.replace(self.options.model, inputs="ids", loss=AUTO, hidden_size=width)
        loss = chosen_loss(model, num_items=workspace.data.tables.num_items)
        own = type(self)(dataclasses.replace(self.options, model=dataclasses.replace(model, loss=loss)))
        return collaborative_vectors(own.training(workspace, seed=seed), workspace)

    def check_item_width(self, width: int, *, field: str) -> None:
        """Raise ValueError for a width that the attention heads do not divide."""
        heads = self.options.model.num_heads
        if width % heads:
            raise ValueError(
                f"collaborative vectors of {self.summary} must be as wide as a multiple of {heads!r}, its attention "
                f"heads, got {width!r}; change {field}"
            )


@register
class SasRec(SequenceMethod[SasRecOptions]):
    """Self-attentive sequential recommendation."""

    name = "sasrec"
    summary = "SASRec"
    options_class: ClassVar[type[MethodOptions]] = SasRecOptions
    auto_models = "cost_hf.methods.sasrec.auto_sasrec"
    recommenders: ClassVar[Mapping[str, str]] = {"sasrec": "cost_hf.methods.sasrec.recommender"}

    def untrained(self, *, num_items: int, text_dim: int | None, seed: int) -> Any:
        """Return a SASRec with fresh weights."""
        from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
        from cost_hf.methods.sasrec.training import build_model

        return build_model(SasRecModel, self.options.model, num_items=num_items, text_dim=text_dim, seed=seed)

    def training(self, workspace: Workspace, *, seed: int) -> DenseTraining:
        """Return how SASRec is trained on the training part."""
        from cost_hf.methods.sasrec.recommender import SasRecRecommender
        from cost_hf.methods.sasrec.stages import sequence_training

        return sequence_training(self, SasRecRecommender, workspace, seed=seed)

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method as the recipe has it, and one for each objective."""
        yield Variant(cls.name, cls.name, {}, cls.summary)
        for name, changes in OBJECTIVES.items():
            text = ", ".join(f"{dotted.partition('.')[2]} {value}" for dotted, value in changes.items())
            yield Variant(name, cls.name, changes, f"{cls.summary}: {text}", is_compared=name in COMPARED)
