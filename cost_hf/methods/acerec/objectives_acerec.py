"""The losses of ACERec beside the cross-entropy of digits; pure functions of tensors."""

import torch
from torch import Tensor
from torch.nn import functional


def alignment_losses(
    states: Tensor, summaries: Tensor, targets: Tensor, *, counts: Tensor, bias: Tensor, temperature: float
) -> Tensor:
    """Return the item-alignment loss of every state, `[P]`: its next item among the next items of the batch.

    The score of an item is its cosine with the state over the temperature, minus its popularity bias. Every position
    of the batch contributes its item as a negative, but those whose item is the state's own (arXiv 2602.13573 does not
    say what it does with them): an item that stands at n positions counts n times among the negatives.

    Args:
        states: `[P, D]`, in whose precision cosines are.
        summaries: of the U different next items of the batch, `[U, D]`.
        targets: place of every state's next item among them, `[P]`.
        counts: positions of each of these items, `[U]`.
        bias: popularity bias of each, `[U]`.
        temperature: divides the cosines.
    """
    users = functional.normalize(states, dim=-1)
    items = functional.normalize(summaries.to(states.dtype), dim=-1)
    occurrences = counts.log().expand(len(users), -1).scatter(1, targets[:, None], 0.0)
    scores = (users @ items.T).float() / temperature - bias + occurrences
    return functional.cross_entropy(scores, targets, reduction="none")


def popularity_bias(clicks: Tensor, weight: float) -> Tensor:
    """Return the popularity biases b = weight · log f / max log f of items with f training clicks, `[N]`.

    Args:
        clicks: of every item, `[N]`; below 2 there is no bias.
        weight: of the most popular item.
    """
    logs = clicks.clamp_min(1).float().log()
    return weight * logs / logs.max().clamp_min(torch.finfo(logs.dtype).tiny)


def reconstruction_loss(rebuilt: Tensor, tokens: Tensor) -> Tensor:
    """Return one minus the mean cosine of rebuilt and true tokens, both `[U, m, D]`, a scalar."""
    return 1 - functional.cosine_similarity(rebuilt, tokens, dim=-1).mean()
