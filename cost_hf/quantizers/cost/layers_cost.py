"""Input scaling and the encoder/decoder stack of the quantizer.

A stack of no layers is the identity and a stack of one is linear, so the same model holds residual k-means with and
without a PCA in front. Statistics are persistent buffers: they belong to the weights.
"""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast: codes and losses must not change with mixed precision."""
    if not torch.amp.is_autocast_available(device.type):  # such as the meta device
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class InputNorm(nn.Module):
    """Scale item vectors `[B, E]` in fp32: not at all, to unit length, or per dimension.

    Args:
        kind: `none`, `l2` (unit length) or `standardize` (per dimension).
        item_dim: width E.

    Buffers:
        mean, std: statistics per dimension `[E]`, with `standardize` only.
    """

    def __init__(self, kind: str, item_dim: int) -> None:
        super().__init__()
        self.kind = kind
        if self.kind == "standardize":
            self.mean = nn.Buffer(torch.zeros(item_dim))
            self.std = nn.Buffer(torch.ones(item_dim))

    def forward(self, items: Tensor) -> Tensor:
        """Return the normalised vectors x, fp32 `[B, E]`."""
        items = items.float()
        if self.kind == "l2":
            return functional.normalize(items, dim=-1)
        return (items - self.mean) / self.std if self.kind == "standardize" else items


def constant_weight(*shape: int) -> nn.Parameter:
    """Return a weight without values yet, which no gradient step changes."""
    return nn.Parameter(torch.empty(shape), requires_grad=False)


class Mlp(nn.Module):
    """Linear layers of the given widths with ReLU between them; one width means no layer."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(widths))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map `[B, first width]` to `[B, last width]`, in the precision of the layers."""
        for index, layer in enumerate(self.layers):
            vectors = layer(functional.relu(vectors) if index else vectors.to(next(self.parameters()).dtype))
        return vectors
