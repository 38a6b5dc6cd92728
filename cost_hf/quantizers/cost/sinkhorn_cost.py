"""Balanced assignment of a batch to the codes of one level, by Sinkhorn iterations.

LC-Rec and LETTER (arXiv 2405.07314) assign the last level so in training: entropic transport in which every item has
the same mass and every code gets the same, then the code with the largest share. As published, distances are scaled to
[-1, 1] over the whole batch, and 50 row and column normalisations run in float64, because `exp(1 / 0.003)` is beyond
fp32. Here the plan stays factored, `diag(u) P diag(v)`: the same numbers by matrix-vector products.
"""

import torch
from torch import Tensor

from .objectives_cost import gather_rows

ITERATIONS = 50


@torch.no_grad()
def balanced_codes(distances: Tensor, *, epsilon: float, gathers_rows: bool = False) -> Tensor:
    """Return the code of each row of distances `[B, K]` under balance, int64 `[B]`; no gradient.

    With fewer rows than codes the balance sends rows to codes that separate them, however far: give larger batches.

    Args:
        distances: to every code.
        epsilon: entropy weight, at least 0.003; smaller is sharper.
        gathers_rows: balance the rows of all processes of a distributed run, which must call at the same time with the
            same number of rows; each gets the codes of its own.
    """
    first = 0
    rows = distances
    if gathers_rows:
        rows, first = gather_rows(distances)
    rows = rows.to(torch.float64)
    half_range = (rows.max() - rows.min()).clamp_min(torch.finfo(torch.float64).tiny) / 2
    logits = (rows.amin(1, keepdim=True) - rows) / (half_range * epsilon)  # a constant per row changes no share
    kernel = logits.exp()
    column = kernel.new_ones(kernel.shape[1])
    for _ in range(ITERATIONS):
        row = 1 / (kernel @ column)
        column = 1 / (kernel.T @ row)
    codes = (logits + column.log()).argmax(1)
    return codes[first : first + len(distances)]
