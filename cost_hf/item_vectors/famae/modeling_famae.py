"""`FamaeModel`: field-aware masked auto-encoding of items in click sequences, as a Transformers model.

Section 3.1 of ReSID, arXiv 2602.02338. An item is a set of categorical fields, its id among them. The last item of a
sequence is the target; some of its fields are masked and predicted from the rest by a bidirectional encoder. What the
encoder is trained for is its embeddings: the vector of an item is the concatenation of those of its fields.

`forward` is pure: which fields are masked and which values are the negatives are arguments. Value 0 of a field is the
missing one; it is an input, and never a target or a negative.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_famae import FamaeConfig

MISSING = 0  # value of a field that an item lacks
PAD = -1  # in all fields of a position without an item


@dataclass
class FamaeOutput(ModelOutput):
    """Output of `FamaeModel`.

    Attributes:
        loss: sum over the masked fields of a target, mean over the targets, a scalar; None without `masked`.
        field_losses: parts of the loss by field, `[J]`.
        hidden_states: what the model knows at the target, fp32 `[B, d]`.
    """

    loss: Tensor | None = None
    field_losses: Tensor | None = None
    hidden_states: Tensor | None = None


class FamaeModel(PreTrainedModel):
    """Masked auto-encoder over the categorical fields of items, whose embeddings are item vectors.

    Args:
        config: sizes.
    """

    config: FamaeConfig
    base_model_prefix = "famae"
    main_input_name = "fields"
    _no_split_modules = ("FamaeLayer",)

    def __init__(self, config: FamaeConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.ModuleList(FieldEmbedding(size, config.hidden_size) for size in config.vocab_sizes)
        self.mask_tokens = nn.Embedding(config.num_fields, config.hidden_size)
        self.positions = nn.Embedding(config.max_length, config.hidden_size)
        self.input_norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.layers = nn.ModuleList(FamaeLayer(config) for _ in range(config.num_layers))
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FieldEmbedding) and not getattr(module.weight, "_is_hf_initialized", False):
            # trained where an item of the training part lacks the field, and zeros otherwise
            init.zeros_(module.weight[MISSING])
        if isinstance(module, nn.Linear):
            init.xavier_normal_(module.weight)
            init.zeros_(module.bias)

    def forward(
        self,
        fields: Tensor,
        masked: Tensor | None = None,
        negatives: Sequence[Tensor | None] | None = None,
        label_weights: Tensor | None = None,
    ) -> FamaeOutput:
        """Read sequences and predict masked fields of their last items.

        Args:
            fields: values of the items of sequences, oldest first, int64 `[B, T, J]`; the target is the last one, and
                positions before the first item hold -1 in all fields. T is at most `max_length`.
            masked: fields of the target that are hidden and predicted, bool `[B, J]`; a missing value is hidden, too,
                and not predicted. None hides nothing and gives no loss.
            negatives: values that a field's targets are compared with, int64 `[S]` a field, or None for all values;
                None compares all fields with all values.
            label_weights: factor of the loss of every target, `[B]`; 1 by default.
        """
        hidden = self._read(fields, masked)
        if masked is None:
            return FamaeOutput(hidden_states=hidden)
        sampled = [None] * self.config.num_fields if negatives is None else list(negatives)
        parts = [
            self._field_loss(field, hidden, fields[:, -1, field], masked[:, field], sampled[field], label_weights)
            for field in range(self.config.num_fields)
        ]
        losses = torch.stack(parts)
        return FamaeOutput(loss=losses.sum(), field_losses=losses, hidden_states=hidden)

    def item_vectors(self, values: Tensor) -> Tensor:
        """Return the vectors of items, `[N, J * d]`: the embeddings of their fields, one after the other.

        Args:
            values: of their fields, int64 `[N, J]`.
        """
        parts = [functional.embedding(values[:, field], table) for field, table in enumerate(self.tables)]
        return torch.cat(parts, dim=-1)

    @property
    def tables(self) -> list[nn.Parameter]:
        """Embeddings of the fields, `[V, d]` each; row 0 is that of a missing value."""
        return [embedding.get_parameter("weight") for embedding in self.embeddings]

    def scores(self, hidden: Tensor, field: int) -> Tensor:
        """Return the logits of all values of a field, fp32 `[B, V - 1]`: sqrt(d)·cos(h, e_v) for v = 1 … V - 1.

        Args:
            hidden: of `forward`, `[B, d]`.
            field: its number, 0 for the item id.
        """
        return self._queries(hidden) @ self._keys(field, None).T

    def _read(self, fields: Tensor, masked: Tensor | None) -> Tensor:
        """Return hidden states at the targets, fp32 `[B, d]`."""
        length = fields.shape[1]
        if length > self.config.max_length or fields.shape[2] != self.config.num_fields:
            raise ValueError(
                f"expected fields [B, T, {self.config.num_fields}] with T at most max_length="
                f"{self.config.max_length}, got {tuple(fields.shape)}; cut sequences at their old end"
            )
        # positions count back from the target, which stands at the last one whatever the length
        hidden = self._tokens(fields, masked) + self.positions.weight[self.config.max_length - length :]
        hidden = functional.dropout(self.input_norm(hidden), self.config.dropout, self.training)
        is_item = fields[:, :, 0] != PAD  # [B, T]
        for layer in self.layers:
            hidden = layer(hidden, is_item)
        return self.output_norm(hidden[:, -1]).float()

    def _tokens(self, fields: Tensor, masked: Tensor | None) -> Tensor:
        """Return the sum of the field embeddings of every item, `[B, T, d]`, masked fields replaced at the target."""
        total = torch.zeros((), device=fields.device)
        for field, table in enumerate(self.tables):
            tokens = functional.embedding(fields[:, :, field].clamp_min(0), table)
            if masked is not None:
                mask_token = self.mask_tokens.weight[field]
                target = torch.where(masked[:, field, None], mask_token, tokens[:, -1])
                tokens = torch.cat([tokens[:, :-1], target[:, None]], dim=1)
            total = total + tokens
        return total

    def _field_loss(
        self,
        field: int,
        hidden: Tensor,
        targets: Tensor,
        is_masked: Tensor,
        negatives: Tensor | None,
        weights: Tensor | None,
    ) -> Tensor:
        """Return the cross-entropy of one field, summed over the targets where it is masked and divided by B."""
        is_target = is_masked & (targets != MISSING)
        values = targets.clamp_min(1)  # those that are no targets have a loss of factor 0
        queries = self._queries(hidden)
        if negatives is None:
            logits = queries @ self._keys(field, None).T  # [B, V - 1]
            losses = functional.cross_entropy(logits, values - 1, reduction="none")
        else:
            # a gather by `embedding`, whose backward adds in a fixed order
            own = functional.embedding(values, self.tables[field])
            positive = (queries * functional.normalize(own.float(), dim=-1)).sum(-1, keepdim=True)
            others = queries @ self._keys(field, negatives).T  # [B, S]
            others = others.masked_fill(negatives[None, :] == values[:, None], -math.inf)
            losses = torch.logsumexp(torch.cat([positive, others], dim=-1), dim=-1) - positive[:, 0]
        factors = is_target.float() if weights is None else is_target * weights
        return (losses * factors).sum() / len(targets)

    def _queries(self, hidden: Tensor) -> Tensor:
        return math.sqrt(self.config.hidden_size) * functional.normalize(hidden, dim=-1)

    def _keys(self, field: int, values: Tensor | None) -> Tensor:
        """Return unit embeddings of values of a field, fp32 `[S, d]`; of all but the missing one for None."""
        table = self.tables[field]
        chosen = table[1:] if values is None else functional.embedding(values, table)
        return functional.normalize(chosen.float(), dim=-1)


class FieldEmbedding(nn.Embedding):
    """Embeddings of the values of a field, `[V, d]`; row 0 is that of a missing value."""


class FamaeLayer(nn.Module):
    """Bidirectional self-attention and a feed-forward network, each normalised before and added to its input."""

    def __init__(self, config: FamaeConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention_input = nn.Linear(width, 3 * width)  # queries, keys, values
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward_input = nn.Linear(width, config.intermediate_size)
        self.feed_forward_output = nn.Linear(config.intermediate_size, width)

    def forward(self, hidden: Tensor, is_item: Tensor) -> Tensor:
        """Map `[B, T, d]` to `[B, T, d]`; positions without an item, False in `[B, T]`, are not read."""
        hidden = hidden + self._dropped(self._attend(self.attention_norm(hidden), is_item))
        inner = functional.relu(self.feed_forward_input(self.feed_forward_norm(hidden)))
        return hidden + self._dropped(self.feed_forward_output(inner))

    def _attend(self, hidden: Tensor, is_item: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        heads = self.attention_input(hidden).view(batch, length, 3, self.num_heads, width // self.num_heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)  # [B, heads, T, d / heads] each
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=is_item[:, None, None, :])
        return self.attention_output(mixed.transpose(1, 2).reshape(batch, length, width))

    def _dropped(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, self.dropout, self.training)
