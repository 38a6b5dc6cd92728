"""What training and evaluating a model of sequences will cost on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cost_hf.data.row_lists import RowLists
from cost_hf.generators.collation import SequenceDataset
from cost_hf.methods.base import DataFacts, Estimate
from cost_hf.methods.benchmarking import SEEN_SETTINGS, fastest, training_step, weights_mb
from cost_hf.methods.negatives import SharedNegatives
from cost_hf.methods.sasrec.training import HistoryCollator
from cost_hf.precision import trains_in_bf16

if TYPE_CHECKING:
    from cost_hf.methods.sasrec.method import SequenceMethod

TIMED_USERS = 32
NOTHING_TO_TIME = "the training part holds no user with two items"


def estimate(method: SequenceMethod[Any], facts: DataFacts) -> Estimate | str:
    """Return the costs from a timed training step and a timed ranking, or why there is nothing to time."""
    options = method.options
    num_items = facts.tables.num_items
    found = typical_batch(facts.split.train, max_history=options.model.max_history)
    if found is None:
        return NOTHING_TO_TIME
    batch, steps = found
    histories = batch["histories"]
    text_dim = None if options.model.inputs == "ids" else facts.item_dim
    if text_dim is not None:
        batch["item_vectors"] = torch.randn(num_items, text_dim)
    model = method.untrained(num_items=num_items, text_dim=text_dim, seed=0)
    if model.config.loss == "binary":
        batch["negatives"] = torch.randint(num_items, (*histories.shape, options.model.num_negatives))
    if model.config.loss == "sampled_softmax":
        negatives = SharedNegatives(np.ones(num_items), options.model.shared_negatives, device=histories.device)
        batch["negatives"], batch["log_expected"] = negatives.draw()
    step = training_step(model, batch | {"histories": histories.repeat(1 + method.views, 1)})
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=trains_in_bf16(options.training.precision)):
        epoch = fastest(step) * steps
    user = _ranking_seconds(method.recommended(model), histories, batch.get("item_vectors")) / len(histories)
    return Estimate(
        {"training": options.training.epochs * epoch, "evaluation": SEEN_SETTINGS * facts.cases * user},
        weights_mb(model),
        [f"all {options.training.epochs} epochs (training may stop early)"],
    )


def typical_batch(train: Sequence[np.ndarray], *, max_history: int) -> tuple[dict[str, Tensor], float] | None:
    """Return `histories` and `labels` of a few training users, and how many such batches are an epoch.

    Args:
        train: catalog rows of every training user.
        max_history: most recent items that are read.

    Returns:
        None where no user has two items.
    """
    lists = RowLists.of(train)
    sequences = lists.take(lists.lengths > 1)
    if not len(sequences):
        return None
    users = SequenceDataset(sequences, [""] * len(sequences), max_items=max_history + 1, num_unlabelled=1)
    chosen = _typical(users.lengths)
    batch = HistoryCollator()([users[int(number)] for number in chosen])
    return batch, float(users.lengths.sum() / users.lengths[chosen].sum())


def _typical(lengths: np.ndarray) -> np.ndarray:
    """Return a few examples of about the same length, as batches hold them; half of all clicks are in shorter ones."""
    order = np.argsort(lengths, kind="stable")
    middle = int(np.searchsorted(lengths[order].cumsum(), lengths.sum() / 2))
    first = max(0, min(middle - TIMED_USERS // 2, len(order) - TIMED_USERS))
    return order[first : first + TIMED_USERS]


def _ranking_seconds(model: Any, histories: Tensor, item_vectors: Tensor | None) -> float:
    """Return the CPU seconds of ranking the catalog for histories `[B, T]`."""
    model.eval()
    with torch.inference_mode():
        table = model.item_table(item_vectors)
        return fastest(lambda: model.scores(histories, table).sort(dim=1, descending=True))
