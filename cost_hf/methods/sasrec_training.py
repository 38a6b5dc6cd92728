"""Training SASRec with `Trainer`, selected on the ranking of validation users, continued bit for bit after a kill.

Every item of a user is a label once, all positions in one pass. Item vectors are the same for every batch and stay on
the device; negatives of the binary loss are drawn there too, from the random state that checkpoints restore.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cost_hf.methods.sasrec import SasRecConfig, SasRecModel
from cost_hf.methods.sasrec.configuration_sasrec import (
    INPUTS,
    LOSSES,
    MAX_HISTORY,
    MAX_LAYERS,
    MAX_WIDTH,
    SIMILARITIES,
)
from cost_hf.recommender.collation import SequenceDataset, pad_rows
from cost_hf.recommender.prompts import IGNORED_LABEL
from cost_hf.recommender.ranking_trainer import RankingTrainer, RankingTrainingOptions, Validate, checkpoints_of
from cost_hf.semantic_ids.sizes import whole_number

MAX_NEGATIVES = 1 << 20  # per position


@dataclass
class SasRecOptions(RankingTrainingOptions):
    """Recipe section `sasrec`."""

    section: ClassVar[str] = "sasrec"

    inputs: str = field(default="ids", metadata={"help": "what an item is: ids, text (frozen item vectors) or both"})
    loss: str = field(default="cross_entropy", metadata={"help": "cross_entropy over the catalog, or binary (sampled)"})
    similarity: str = field(default="cosine", metadata={"help": "score of an item: cosine / temperature, or dot"})
    temperature: float = field(default=0.07, metadata={"help": "divides the cosine"})
    num_negatives: int = field(
        default=64, metadata={"help": "sampled items per position of the binary loss (arXiv 1808.09781: 1)"}
    )
    hidden_size: int = field(default=64, metadata={"help": "width of items and users"})
    num_layers: int = field(default=2, metadata={"help": "self-attention layers"})
    num_heads: int = field(default=2, metadata={"help": "attention heads"})
    intermediate_size: int = field(default=256, metadata={"help": "width of feed-forward layers"})
    text_hidden_size: int = field(default=512, metadata={"help": "width of the network behind item vectors"})
    dropout: float = field(default=0.5, metadata={"help": "dropout in training"})
    max_history: int = field(default=50, metadata={"help": "most recent items that are read"})
    epochs: int = field(default=40, metadata={"help": "passes over the training set"})
    batch_size: int = field(default=128, metadata={"help": "users per device and step"})
    validate_every: int = field(default=2, metadata={"help": "epochs between validations and checkpoints"})
    validation_users: int = field(default=4096, metadata={"help": "size of the fixed seeded validation sample"})

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        super().validate()
        for name, allowed in {"inputs": INPUTS, "loss": LOSSES, "similarity": SIMILARITIES}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"sasrec.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        bounds = dict.fromkeys(("hidden_size", "num_heads", "intermediate_size", "text_hidden_size"), MAX_WIDTH)
        bounds |= {"num_layers": MAX_LAYERS, "max_history": MAX_HISTORY, "num_negatives": MAX_NEGATIVES}
        for name, most in bounds.items():
            whole_number(getattr(self, name), f"sasrec.{name}", most=most)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"sasrec.hidden_size must be a multiple of sasrec.num_heads={self.num_heads!r}, got "
                f"{self.hidden_size!r}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"sasrec.dropout is a share in [0, 1), got {self.dropout!r}")
        if not (self.temperature > 0 and isfinite(self.temperature)):
            raise ValueError(f"sasrec.temperature must be above 0, got {self.temperature!r}; take a finite number")


# what turns a recipe's section into the row of a baseline: its objective, and what was tuned together with it
VARIANTS: dict[str, dict[str, Any]] = {
    "sasrec_ce": {"inputs": "ids", "loss": "cross_entropy", "similarity": "cosine"},
    "sasrec_bce": {"inputs": "ids", "loss": "binary", "similarity": "dot"},
    "sasrec_text": {
        "inputs": "text",
        "loss": "cross_entropy",
        "similarity": "cosine",
        "hidden_size": 128,
        "dropout": 0.2,
        "learning_rate": 1e-3,
    },
}


@dataclass(frozen=True)
class TrainedSasRec:
    """The chosen weights, in eval mode, and the log of the run (one dict a logging event)."""

    model: SasRecModel
    history: list[dict[str, float]]


def train_sasrec(
    sequences: Sequence[np.ndarray],
    *,
    num_items: int,
    item_vectors: np.ndarray | None,
    options: SasRecOptions,
    validate: Validate | None,
    output_dir: str | Path,
    seed: int,
) -> TrainedSasRec:
    """Train on users' sequences, keep the checkpoint with the best validation NDCG@10, continue a killed run.

    Args:
        sequences: catalog rows of every training user, oldest first; users with one item teach nothing.
        num_items: N, size of the catalog.
        item_vectors: frozen item vectors `[N, E]`; used with inputs text or both alone.
        options: sizes and training.
        validate: ranks the validation sample with a model and returns metrics, `ndcg@10` among them; None trains the
            given epochs and keeps the last weights.
        output_dir: holds `checkpoints/` while the run is going on.
        seed: of weights, order of users, dropout and negatives.
    """
    options.validate()
    vectors = _item_vectors(item_vectors, options, num_items)
    long_enough = [np.asarray(rows) for rows in sequences if len(rows) > 1]
    if not long_enough:
        raise ValueError(
            f"the training part holds no user with two items ({len(sequences)} users); lower "
            "data.min_user_interactions or give longer histories"
        )
    text_dim = None if vectors is None else vectors.shape[1]
    users = {str(number): rows for number, rows in enumerate(long_enough)}
    trainer = SasRecTrainer(
        build_sasrec(options, num_items=num_items, text_dim=text_dim, seed=seed),
        options,
        dataset=SequenceDataset(list(users.values()), list(users), max_items=options.max_history + 1),
        collator=HistoryCollator(users if options.loss == "binary" else None),
        directory=checkpoints_of(output_dir),
        seed=seed,
        validate=validate,
        item_vectors=vectors,
        num_negatives=options.num_negatives,
    )
    trained = trainer.fit()
    if hasattr(trained.config, "use_cache"):
        del trained.config.use_cache  # Trainer leaves this generation setting in any model's configuration
    return TrainedSasRec(trained, trainer.state.log_history)


def build_sasrec(options: SasRecOptions, *, num_items: int, text_dim: int | None, seed: int) -> SasRecModel:
    """Return an untrained model whose weights depend on `seed` alone."""
    config = SasRecConfig(
        num_items=num_items,
        inputs=options.inputs,
        text_dim=text_dim,
        text_hidden_size=options.text_hidden_size,
        hidden_size=options.hidden_size,
        num_layers=options.num_layers,
        num_heads=options.num_heads,
        intermediate_size=options.intermediate_size,
        dropout=options.dropout,
        max_history=options.max_history,
        similarity=options.similarity,
        temperature=options.temperature,
        loss=options.loss,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SasRecModel(config)


class HistoryCollator:
    """Histories and the item behind every position, right-padded.

    Args:
        known: all items of every user, by the user's id; given where negatives are to be drawn.
    """

    def __init__(self, known: dict[str, np.ndarray] | None = None):
        self.known = known

    def __call__(self, examples: Sequence[tuple[str, np.ndarray, int]]) -> dict[str, Tensor]:
        """Return `histories` and `labels` `[B, T]`, and `known` `[B, S]`, padded with -1, where negatives are drawn."""
        rows = pad_rows([rows for _, rows, _ in examples])
        following = rows[:, 1:]
        first = torch.tensor([first for _, _, first in examples])[:, None]
        is_label = (following >= 0) & (torch.arange(1, rows.shape[1]) >= first)
        batch = {"histories": rows[:, :-1], "labels": following.masked_fill(~is_label, IGNORED_LABEL)}
        if self.known is not None:
            batch["known"] = pad_rows([self.known[user] for user, _, _ in examples])
        return batch


class SasRecTrainer(RankingTrainer):
    """Ranking trainer that adds what batches do not hold: item vectors and sampled negatives.

    Args:
        item_vectors: frozen item vectors `[N, E]`, for models with text inputs.
        num_negatives: K, sampled items per position, where batches hold `known` items.
    """

    def __init__(self, *args: Any, item_vectors: Tensor | None, num_negatives: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._item_vectors = None if item_vectors is None else item_vectors.to(self.args.device)
        self._num_negatives = num_negatives

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch."""
        known = inputs.pop("known", None)
        if known is not None:
            num_items = self.accelerator.unwrap_model(model).config.num_items
            length = inputs["labels"].shape[1]
            drawn = draw_negatives(known, length * self._num_negatives, num_items=num_items)
            inputs["negatives"] = drawn.view(len(known), length, self._num_negatives)
        return super().compute_loss(model, inputs | {"item_vectors": self._item_vectors}, *args, **kwargs)


def draw_negatives(known: Tensor, count: int, *, num_items: int) -> Tensor:
    """Draw items uniformly from those that a user does not have.

    A number below the count of unknown items becomes an item by stepping over the known ones, so nothing is drawn
    twice or rejected.

    Args:
        known: catalog rows of every user, `[B, S]`, -1 pads; repeats are fine.
        count: draws per user.
        num_items: N.

    Returns:
        Catalog rows, int64 `[B, count]`; any item where a user has the whole catalog.
    """
    ordered = known.sort(dim=1).values
    is_new = (ordered >= 0) & (ordered != ordered.roll(1, dims=1))
    is_new[:, 0] = ordered[:, 0] >= 0
    # every item once, in order, then numbers that no draw reaches
    distinct = torch.where(is_new, ordered, num_items + known.shape[1]).sort(dim=1).values
    left = (num_items - is_new.sum(1, keepdim=True)).clamp_min(1)
    numbers = (torch.rand(len(known), count, dtype=torch.float64, device=known.device) * left).long()
    unknown_before = distinct - torch.arange(distinct.shape[1], device=known.device)  # ascending
    skipped = torch.searchsorted(unknown_before.contiguous(), numbers, right=True)
    return (numbers + skipped).clamp_max(num_items - 1)


def _item_vectors(item_vectors: np.ndarray | None, options: SasRecOptions, num_items: int) -> Tensor | None:
    if options.inputs == "ids":
        return None
    if item_vectors is None or len(item_vectors) != num_items:
        raise ValueError(
            f"sasrec.inputs={options.inputs!r} needs one item vector for each of {num_items!r} items, got "
            f"{None if item_vectors is None else len(item_vectors)!r}; give those of the vectors section"
        )
    return torch.from_numpy(np.ascontiguousarray(item_vectors, dtype=np.float32))
