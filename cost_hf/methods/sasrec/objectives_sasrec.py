"""The losses of SASRec, over the labelled positions of a batch.

The full softmax makes logits `[P, N]`, by far the largest tensor of a step. `catalog_cross_entropy` walks over them in
chunks that stay in the cache, turns each into its gradient on the spot and forgets it: one forward product, two for
gradients, no second pass, and memory for one chunk only. The work still grows with the catalog; that of
`sampled_softmax_loss`, which walks over its logits `[P, K]` in the same way, does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

POSITIONS_PER_CHUNK = 64


def catalog_cross_entropy(users: Tensor, items: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of `-log softmax(users @ items.T)[labels]`, each times its weight.

    Under autocast the logits have its precision; sums over chunks and the gradients stay in that of the operands.

    Args:
        users: `[P, D]`.
        items: `[N, D]`.
        labels: rows of `items`, `[P]`.
        weights: of the labels, `[P]`; 1 by default.
    """
    with _own_precision(users) as dtype:
        return _CatalogCrossEntropy.apply(users, items, labels, weights, dtype)


@contextmanager
def _own_precision(users: Tensor) -> Iterator[torch.dtype]:
    """Turn autocast off for users, and give the type that products would have under it."""
    device = users.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else users.dtype
    with torch.autocast(device, enabled=False):
        yield dtype


def sampled_binary_loss(users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over positions of `-log s(u·p) - mean_k log s(-u·n_k)`, s being the logistic function.

    Args:
        users: `[P, D]`.
        positives: items that followed, `[P, D]`.
        negatives: sampled items, `[P, K, D]`.
        weights: factor of the loss of every position, `[P]`; 1 by default.
    """
    attraction = functional.softplus(-(users * positives).sum(-1))
    repulsion = functional.softplus((users[:, None] * negatives).sum(-1)).mean(-1)
    losses = attraction + repulsion
    return (losses if weights is None else losses * weights).mean()


def sampled_softmax_loss(
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    labels: Tensor,
    rows: Tensor,
    log_expected: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over positions of `log(exp(u·p) + sum_j exp(u·n_j) / E_j) - u·p`, E_j being expected draws.

    The sum estimates that over all other items without bias, because each term is divided by how often its item is
    expected among the negatives (Bengio and Senécal 2008; "logQ correction"). A negative that is the label is left out.
    Precisions are as for `catalog_cross_entropy`.

    Args:
        users: `[P, D]`.
        positives: items that followed, `[P, D]`.
        negatives: sampled items that all positions share, `[K, D]`.
        labels: catalog rows of the positives, `[P]`.
        rows: catalog rows of the negatives, `[K]`.
        log_expected: natural logarithm of E, `[K]`.
        weights: factor of the loss of every position, `[P]`; 1 by default.
    """
    with _own_precision(users) as dtype:
        return _SampledCrossEntropy.apply(users, positives, negatives, labels, rows, log_expected, weights, dtype)


class _CatalogCrossEntropy(Function):
    """Computes the gradients of both operands together with the loss; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, labels: Tensor, weights: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        table = items.to(dtype)  # [N, D]
        user_gradient = torch.empty_like(users)
        item_gradient = torch.zeros_like(items)
        total = users.new_zeros(())
        for start in range(0, len(users), POSITIONS_PER_CHUNK):
            part = slice(start, start + POSITIONS_PER_CHUNK)
            chunk = users[part].to(dtype)
            chosen = labels[part]
            rows = torch.arange(len(chunk), device=users.device)
            probabilities = (chunk @ table.T).softmax(1)  # [C, N]
            least = torch.finfo(probabilities.dtype).tiny  # an underflow must not make the loss infinite
            logs = probabilities[rows, chosen].clamp_min(least).to(total.dtype).log()
            probabilities[rows, chosen] -= 1  # now the gradient of the logits
            if weights is not None:
                logs = logs * weights[part].to(logs.dtype)
                probabilities *= weights[part, None].to(dtype)
            total -= logs.sum()
            user_gradient[part] = probabilities @ table
            item_gradient += probabilities.T @ chunk
        ctx.save_for_backward(user_gradient, item_gradient)
        return total / len(users)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        user_gradient, item_gradient = ctx.saved_tensors
        scale = gradient / len(user_gradient)
        return user_gradient * scale, item_gradient * scale, None, None, None


class _SampledCrossEntropy(Function):
    """Computes the gradients of all three operands together with the loss; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        positives: Tensor,
        negatives: Tensor,
        labels: Tensor,
        rows: Tensor,
        log_expected: Tensor,
        weights: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        table = negatives.to(dtype)  # [K, D]
        log_expected = log_expected.to(users.dtype)
        user_gradient = torch.empty_like(users)
        positive_gradient = torch.empty_like(positives)
        negative_gradient = torch.zeros_like(negatives)
        total = users.new_zeros(())
        for start in range(0, len(users), POSITIONS_PER_CHUNK):
            part = slice(start, start + POSITIONS_PER_CHUNK)
            chunk = users[part]
            own = (chunk * positives[part]).sum(1)
            others = (chunk.to(dtype) @ table.T).to(users.dtype) - log_expected  # [C, K]
            others.masked_fill_(labels[part, None] == rows, -torch.inf)
            norm = torch.logaddexp(own, others.logsumexp(1))
            losses = norm - own
            attraction = torch.expm1(own - norm)  # the gradient of the positive's logit
            repulsion = (others - norm[:, None]).exp()  # those of the others
            if weights is not None:
                factor = weights[part].to(users.dtype)
                losses = losses * factor
                attraction = attraction * factor
                repulsion = repulsion * factor[:, None]
            total += losses.sum()
            repulsion = repulsion.to(dtype)
            user_gradient[part] = repulsion @ table
            user_gradient[part] += attraction[:, None] * positives[part]
            positive_gradient[part] = attraction[:, None] * chunk
            negative_gradient += repulsion.T @ chunk.to(dtype)
        ctx.save_for_backward(user_gradient, positive_gradient, negative_gradient)
        return total / len(users)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users, positives, negatives = ctx.saved_tensors
        scale = gradient / len(users)
        return users * scale, positives * scale, negatives * scale, None, None, None, None, None
