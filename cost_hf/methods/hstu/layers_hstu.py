"""The layer of HSTU: attention without a softmax, gated item by item."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_hstu import HstuConfig


class HstuLayer(nn.Module):
    """Pointwise aggregated attention and gate of HSTU (arXiv 2402.17152, eq. 1-3), added to its input.

    The weight of an earlier item is SiLU(q·k + bias) over the number of positions: weights do not sum to one, so how
    many earlier items fit is not lost. The bias depends on the distance of both items and on the head.
    """

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.max_history = config.max_history
        self.widths = [config.intermediate_size, config.intermediate_size, config.hidden_size, config.hidden_size]
        self.input_norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.projection = nn.Linear(config.hidden_size, sum(self.widths))  # gates, values, queries, keys
        self.distance_bias = nn.Embedding(config.max_history, config.num_heads)
        self.mixed_norm = nn.LayerNorm(config.intermediate_size, eps=1e-6)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `[B, T, D]` to `[B, T, D]`; pads stand on the right, where no item looks."""
        projected = functional.silu(self.projection(self.input_norm(hidden)))
        gates, values, queries, keys = projected.split(self.widths, dim=-1)
        weights = functional.silu(self._heads(queries) @ self._heads(keys).mT + self._bias(hidden.shape[1]))
        mixed = (weights.tril() / self.max_history) @ self._heads(values)
        gated = self.mixed_norm(mixed.transpose(1, 2).flatten(2)) * gates
        return hidden + self.output(functional.dropout(gated, self.dropout, self.training))

    def _heads(self, states: Tensor) -> Tensor:
        """Return `[B, heads, T, W / heads]`."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _bias(self, length: int) -> Tensor:
        """Return the bias of every pair of positions, `[heads, T, T]`; pairs with a later item have any value."""
        positions = torch.arange(length, device=self.distance_bias.weight.device)
        distances = (positions[:, None] - positions).clamp_min(0)
        return self.distance_bias(distances).permute(2, 0, 1)
