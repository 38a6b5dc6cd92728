"""Building blocks of SASRec: what an item is, and the layer that reads a history of them."""

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_sasrec import SequenceConfig

ROWS_AT_ONCE = 8192  # texts of the catalog that are encoded at a time without gradients


class LayerConfig(Protocol):
    """What a configuration says of a `SasRecLayer`."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    dropout: float | int
    attention_dropout: float | int

    @property
    def norm_first(self) -> bool:
        """Whether the input of a sub-layer is normalised, not what it is added to."""
        ...


class ItemEncoder(nn.Module):
    """Gives every catalog item one vector, for histories and for scores alike.

    A frozen text vector passes a linear map and, beside it, a network of one hidden layer.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.has_ids = config.has_ids
        self.text_dim = config.text_dim
        if self.has_ids:
            self.ids = nn.Embedding(config.num_items, config.hidden_size)
        if self.text_dim is not None:
            self.linear = nn.Linear(self.text_dim, config.hidden_size)
            self.hidden = nn.Linear(self.text_dim, config.text_hidden_size)
            self.output = nn.Linear(config.text_hidden_size, config.hidden_size)

    def forward(self, item_vectors: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """Return the item table `[N, D]` from item vectors `[N, E]` (None with ids alone).

        Args:
            item_vectors: of the catalog.
            rows: catalog rows `[U]` whose table `[U, D]` is wanted; None for all.
        """
        if self.text_dim is None:
            if item_vectors is not None:
                raise ValueError(
                    f"a model with inputs='ids' takes no item_vectors, got shape {tuple(item_vectors.shape)!r}; leave "
                    "them out, or train one with inputs='text'"
                )
            return self._ids(rows)
        checked = self._checked(item_vectors)
        vectors = (checked if rows is None else checked[rows]).to(self.linear.weight.dtype)
        text = self.linear(vectors) + self.output(functional.gelu(self.hidden(vectors)))
        return text + self._ids(rows) if self.has_ids else text

    def in_parts(self, item_vectors: Tensor | None) -> Tensor:
        """Return the item table `[N, D]`, for which the network reads a bounded number of texts at a time."""
        if self.text_dim is None:
            return self(item_vectors)
        vectors = self._checked(item_vectors)
        rows = torch.arange(len(vectors), device=vectors.device)
        count = max(1, math.ceil(len(rows) / ROWS_AT_ONCE))
        # of one size: a last part of one row would be multiplied in another order than rows among others
        return torch.cat([self(vectors, part) for part in rows.tensor_split(count)])

    def _ids(self, rows: Tensor | None) -> Tensor:
        return self.ids.weight if rows is None else functional.embedding(rows, self.ids.weight)

    def _checked(self, item_vectors: Tensor | None) -> Tensor:
        rows = len(self.ids.weight) if self.has_ids else "N"
        shape = None if item_vectors is None else tuple(item_vectors.shape)
        fits = shape is not None and shape[1:] == (self.text_dim,) and (not self.has_ids or shape[0] == rows)
        if item_vectors is None or not fits:
            raise ValueError(
                f"expected item_vectors [{rows}, {self.text_dim}], one per catalog row, got {shape!r}; give those of "
                "the encoder that the model was trained with"
            )
        return item_vectors


class SasRecLayer(nn.Module):
    """Self-attention and a feed-forward network, each added to its input; normalised before or behind them.

    Args:
        config: with the fields of `SasRecConfig` that are read here.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.attention_dropout = config.attention_dropout
        self.norm_first = config.norm_first
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention_input = nn.Linear(width, 3 * width)  # queries, keys, values
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward_input = nn.Linear(width, config.intermediate_size)
        self.feed_forward_output = nn.Linear(config.intermediate_size, width)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map `[B, T, D]` to `[B, T, D]`.

        Args:
            hidden: `[B, T, D]`.
            mask: added to the attention scores, float `[T, T]`, -inf where a position must not look. Causal by default:
                pads stand on the right, where no item looks.
        """
        if self.norm_first:
            hidden = hidden + self._dropped(self._attend(self.attention_norm(hidden), mask))
            return hidden + self._dropped(self._feed_forward(self.feed_forward_norm(hidden)))
        hidden = self.attention_norm(hidden + self._dropped(self._attend(hidden, mask)))
        return self.feed_forward_norm(hidden + self._dropped(self._feed_forward(hidden)))

    def _attend(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        batch, length, width = hidden.shape
        heads = self.attention_input(hidden).view(batch, length, 3, self.num_heads, width // self.num_heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)  # [B, heads, T, D / heads] each
        dropped = self.attention_dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=None if mask is None else mask.to(queries.dtype),
            dropout_p=dropped,
            is_causal=mask is None,
        )
        return self.attention_output(mixed.transpose(1, 2).reshape(batch, length, width))

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        return self.feed_forward_output(functional.gelu(self.feed_forward_input(hidden)))

    def _dropped(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, self.dropout, self.training)


def last_positions(histories: Tensor, hidden: Tensor) -> Tensor:
    """Return what stands at the last item of every history, `[B, D]`; zeros for an empty one.

    Args:
        histories: catalog rows `[B, T]`, -1 pads on the right.
        hidden: `[B, T, D]`.
    """
    lengths = (histories >= 0).sum(1)
    if hidden.shape[1] == 0:
        return hidden.new_zeros(len(hidden), hidden.shape[2])
    last = hidden[torch.arange(len(hidden), device=hidden.device), (lengths - 1).clamp_min(0)]
    return last * (lengths > 0)[:, None]


def recent_items(histories: Tensor, most: int) -> Tensor:
    """Return the latest items of every history, `[B, W]`, W being at most `most`.

    Args:
        histories: catalog rows `[B, T]`, oldest first, -1 pads on the right.
        most: items that are kept.
    """
    lengths = (histories >= 0).sum(1, keepdim=True)
    width = min(most, histories.shape[1])
    index = (lengths - width).clamp_min(0) + torch.arange(width, device=histories.device)
    return histories.gather(1, index)


def distinct_rows(*given: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the different catalog rows among some, and where each of the given ones stands there.

    Args:
        given: catalog rows of any shape; negative ones are none.

    Returns:
        Rows, ascending, `[U]`, at least one; and places in the shapes of `given`, negative for negative rows.
    """
    found, places = torch.cat([rows.flatten() for rows in given]).unique(return_inverse=True)
    rows = found[found >= 0]
    parts = (places - (len(found) - len(rows))).split([own.numel() for own in given])
    read = rows if len(rows) else found.new_zeros(1)  # a row that no place names
    return read, [part.view(own.shape) for part, own in zip(parts, given, strict=True)]
