"""Sampled negatives for losses over clicks."""

import numpy as np
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


class SharedNegatives:
    """Draws items that all positions of a step share as negatives: half of the draws by clicks, half uniformly.

    Draws by clicks alone would hardly ever see rare items, whose scores then grow without bounds; uniform ones rarely
    see those that rank high.

    Args:
        clicks: of every item in the training part, `[N]`, not all 0.
        count: draws of a step.
        device: of the draws.
    """

    def __init__(self, clicks: np.ndarray, count: int, *, device: torch.device):
        shares = 0.5 * clicks / clicks.sum() + 0.5 / len(clicks)
        self.count = count
        self._log_expected = torch.from_numpy(np.log(count * shares)).to(device, torch.float32)
        self._upper = torch.from_numpy(shares.cumsum()).to(device)  # float64: a float has too few digits for N terms

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return distinct catalog rows `[K]`, ascending, and the logarithm of the draws expected of each, fp32 `[K]`.

        An item that is drawn n times counts n times: its expectation is divided by n.
        """
        points = torch.rand(self.count, dtype=torch.float64, device=self._upper.device)
        drawn = torch.searchsorted(self._upper, points, right=True).clamp_max(len(self._upper) - 1)
        rows, times = torch.unique(drawn, return_counts=True)
        return rows, self._log_expected[rows] - times.log()
