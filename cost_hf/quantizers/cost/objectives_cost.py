"""The four loss terms of the quantizer, as pure functions of tensors.

With normalised item vector x, reconstruction x_hat, residuals r_{m-1} and chosen codes e_m (arXiv 2404.14774):

* contrastive `-log exp(cos(x_i, x_hat_i) / tau) / sum_j exp(cos(x_i, x_hat_j) / tau)`, j over the batch: the anchor is
  the item vector, the candidates are reconstructions, one direction only;
* reconstruction `|x - x_hat|^2`; codebook `sum_m |sg(r_{m-1}) - e_m|^2`; commitment `sum_m |r_{m-1} - sg(e_m)|^2`.

Beyond the paper: items with the same text are not each other's negatives, because no code could separate them,
in distributed training the candidates of all processes count, so that the loss does not depend on their number, and
other items of the batch may be positives beside an item's own reconstruction.
"""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional


def contrastive_loss(
    items: Tensor,
    reconstructions: Tensor,
    *,
    temperature: float,
    duplicate_similarity: float = 1 - 1e-6,
    gathers_candidates: bool = False,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the mean in-batch contrastive loss of items `[B, E]` and their reconstructions `[B, E]`.

    Args:
        items: anchors x.
        reconstructions: candidates x_hat; row i is the positive of anchor i.
        temperature: tau.
        duplicate_similarity: candidates of items whose cosine with the anchor is larger are left out.
        gathers_candidates: take the candidates of all processes, with gradient. All processes must call at the same
            time with the same number of rows; averaged over processes, value and gradient are those of one process
            with the whole batch.
        positives: shares of the other candidates in the target of an anchor, `[B, C]`, C over all processes; the rest
            to 1, and the shares of candidates that are left out, are of its own reconstruction. None for no others.
    """
    anchors = functional.normalize(items.detach().float(), dim=-1)
    candidates = functional.normalize(reconstructions.float(), dim=-1)
    others = anchors
    first = 0
    if gathers_candidates:
        others, first = gather_rows(anchors)
        candidates, _ = gather_rows(candidates)
    own_rows = first + torch.arange(len(anchors), device=anchors.device)
    own = own_rows[:, None] == torch.arange(len(candidates), device=anchors.device)  # [B, B * processes]
    duplicates = (anchors @ others.T > duplicate_similarity) & ~own
    logits = (anchors @ candidates.T / temperature).masked_fill(duplicates, float("-inf"))
    if positives is None:
        return functional.cross_entropy(logits, own_rows)
    shares = positives.masked_fill(duplicates | own, 0)
    target = torch.where(own, 1 - shares.sum(1, keepdim=True), shares)
    log_shares = logits.log_softmax(1).masked_fill(duplicates, 0)  # their share is 0, their logarithm is not finite
    return -(target * log_shares).sum(1).mean()


def reconstruction_loss(items: Tensor, reconstructions: Tensor, *, reduction: str) -> Tensor:
    """Return the squared error of reconstructions `[B, E]`, mean over items; `reduction` is over dimensions."""
    return _squared_error(items, reconstructions, reduction).mean()


def codebook_loss(residuals: Tensor, vectors: Tensor, *, reduction: str) -> Tensor:
    """Return the term that moves code vectors to residuals (both `[B, L, D]`), summed over levels, mean over items."""
    return _squared_error(residuals.detach(), vectors, reduction).sum(1).mean()


def commitment_loss(residuals: Tensor, vectors: Tensor, *, reduction: str) -> Tensor:
    """Return the term that moves residuals to code vectors (both `[B, L, D]`), summed over levels, mean over items."""
    return _squared_error(residuals, vectors.detach(), reduction).sum(1).mean()


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes, with gradient, and where this one's begin; all must have equally many."""
    if _num_processes() == 1:
        return rows, 0
    return _GatherRows.apply(rows), distributed.get_rank() * len(rows)


def _squared_error(left: Tensor, right: Tensor, reduction: str) -> Tensor:
    error = (left.float() - right.float()).square()
    return error.sum(-1) if reduction == "sum" else error.mean(-1)


def _num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _GatherRows(torch.autograd.Function):
    """Concatenate the rows of all processes; the gradient of a row is the sum of its gradients in all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # all-reduce instead of reduce-scatter, which gloo lacks
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        first = distributed.get_rank() * ctx.num_rows
        return total[first : first + ctx.num_rows]
