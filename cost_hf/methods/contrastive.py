"""Two views of every sequence in a batch: random positions, what of a view is compared, and the contrastive loss."""

import torch
from torch import Tensor
from torch.nn import functional

POOLINGS = ("flatten", "last", "mean")
SIMILARITIES = ("dot", "cosine")


def contrastive_loss(first: Tensor, second: Tensor, *, similarity: str = "dot", temperature: float = 1.0) -> Tensor:
    """Return the loss of SimCLR (arXiv 2002.05709, eq. 1): a view finds the other view of its sequence.

    The 2B - 2 views of other sequences are negatives.

    Args:
        first: one view of every sequence, `[B, D]`.
        second: another view of each, `[B, D]`.
        similarity: `dot` or `cosine`.
        temperature: divides similarities.

    Returns:
        The mean over all 2B views, a scalar.
    """
    views = torch.cat([first, second]).float()
    if similarity == "cosine":
        views = functional.normalize(views, dim=-1)
    is_itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    logits = (views @ views.T / temperature).masked_fill(is_itself, -torch.inf)  # [2B, 2B]
    others = torch.arange(len(views), device=views.device).roll(len(first))
    return functional.cross_entropy(logits, others)


def pooled(hidden: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """Return one vector for every sequence.

    Args:
        hidden: states behind every item, `[B, T, D]`; pads stand on the right.
        lengths: of the sequences, `[B]`, at least 1.
        pooling: `last` state, `mean` of the states, or all states side by side (`flatten`, zeros at pads).

    Returns:
        `[B, T · D]` for `flatten`, `[B, D]` otherwise.
    """
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    is_item = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    kept = hidden * is_item[..., None]
    return kept.flatten(1) if pooling == "flatten" else kept.sum(1) / lengths[:, None]


def random_positions(lengths: Tensor, count: Tensor, *, width: int) -> Tensor:
    """Return a mask `[B, width]` of `count` random positions of every sequence.

    Args:
        lengths: of the sequences, `[B]`.
        count: whole numbers `[B]`, at most the lengths.
        width: T of the batch.
    """
    keys = torch.rand(len(lengths), width, device=lengths.device)
    is_pad = torch.arange(width, device=lengths.device) >= lengths[:, None]
    ranks = keys.masked_fill(is_pad, 2.0).argsort(1).argsort(1)
    return ranks < count[:, None]


def share_of(lengths: Tensor, rate: float, *, least: int = 0) -> Tensor:
    """Return a share of lengths `[B]`, rounded down, int64 `[B]`."""
    return (lengths.double() * rate).floor().long().clamp_min(least)
