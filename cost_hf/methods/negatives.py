"""Sampled negatives for losses over clicks."""

import torch
from torch import Tensor


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
