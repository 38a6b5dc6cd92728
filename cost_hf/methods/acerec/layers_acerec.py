"""Building blocks of ACERec: digits to latents and back, and who sees whom in a sequence of items.

The digits of an item are rows of one token table, `[V, D]` with V codes over all levels, so an item is m token ids.
Whatever is linear in a token is computed once for every row of that table and then looked up, not once for every item.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from .configuration_acerec import AceRecConfig


class AttentiveTokenMerger(nn.Module):
    """Merges the m digits of an item to k latents, and to one summary.

    arXiv 2602.13573, attentive token merger: the summary s = f_s(e_1 … e_m) gives the queries Q = f_q(s), `[k, D]`;
    keys and values are the digits with a learned embedding of their subspace, E + P; latents are f_out(MHA(Q, E + P,
    E + P)). With `merger: mean` the attention is the mean of each of k equal runs of digits, and all else is equal.
    """

    def __init__(self, config: AceRecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.level_sizes = config.level_sizes
        self.num_latents = config.num_latents
        self.num_heads = config.num_heads
        self.has_attention = config.merger == "attention"
        self.subspaces = nn.Embedding(config.num_levels, width)
        self.summary_norm = nn.LayerNorm(width, eps=1e-6)
        self.summary_input = nn.Linear(width, width)
        self.summary_output = nn.Linear(width, width)
        if self.has_attention:
            self.queries = nn.Linear(width, config.num_latents * width)
            self.keys = nn.Linear(width, width, bias=False)  # one would change no attention weight
            self.values = nn.Linear(width, width)
            self.attention_output = nn.Linear(width, width)
        self.latent_input = nn.Linear(width, width)
        self.latent_output = nn.Linear(width, width)
        self.latent_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, table: Tensor, item_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latents, `[U, k, D]`, and the summaries, `[U, D]`, of items.

        Args:
            table: tokens of all levels, `[V, D]`.
            item_tokens: token ids of the items' digits, `[U, m]`.
        """
        summaries = self.summarise(table, item_tokens)
        levels = zip(table.split(self.level_sizes), self.subspaces.weight, strict=True)
        marked = torch.cat([tokens + subspace for tokens, subspace in levels])
        if self.has_attention:
            merged = self.attention_output(self.attend(marked, item_tokens, summaries))
        else:
            runs = functional.embedding(item_tokens, marked).unflatten(1, (self.num_latents, -1))
            merged = runs.mean(2)
        latents = self.latent_norm(merged + self.latent_output(functional.gelu(self.latent_input(merged))))
        return latents, summaries

    def summarise(self, table: Tensor, item_tokens: Tensor) -> Tensor:
        """Return f_s, a network over the mean of an item's tokens, `[U, D]`; arguments as for `forward`."""
        mean = functional.embedding_bag(item_tokens, table, mode="mean")
        return self.summary_output(functional.gelu(self.summary_input(self.summary_norm(mean))))

    def attend(self, marked: Tensor, item_tokens: Tensor, summaries: Tensor) -> Tensor:
        """Return what the queries of items read of their digits, all heads side by side, `[U, k, D]`.

        Args:
            marked: tokens with the embedding of their subspace, `[V, D]`.
            item_tokens: token ids `[U, m]`.
            summaries: of the items, `[U, D]`.
        """
        queries = self._heads(self.queries(summaries).unflatten(-1, (self.num_latents, -1)))
        keys = self._heads(functional.embedding(item_tokens, self.keys(marked)))
        values = self._heads(functional.embedding(item_tokens, self.values(marked)))
        return functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)

    def _heads(self, states: Tensor) -> Tensor:
        """Return `[U, heads, n, D / heads]` of states `[U, n, D]`."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def initialize_merger(merger: AttentiveTokenMerger, *, std: float) -> None:
    """Draw the weights of a merger anew, for models whose own rules know none of its layers.

    Args:
        merger: changed in place.
        std: standard deviation of tokens, for the embeddings that are added to them.
    """
    for part in merger.modules():
        if isinstance(part, nn.Linear):
            init.xavier_normal_(part.weight)
            if part.bias is not None:
                init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            init.ones_(part.weight)
            init.zeros_(part.bias)
    init.normal_(merger.subspaces.weight, std=std)
    if merger.has_attention:
        # queries of one item would all be alike without it, had their map small weights
        init.normal_(merger.queries.bias, std=std)


class TokenDecoder(nn.Module):
    """Rebuilds the m tokens of an item from its k latents, for the reconstruction loss of training.

    An embedding of every subspace attends to the latents; a network follows.
    """

    def __init__(self, config: AceRecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.subspaces = nn.Embedding(config.num_levels, width)
        self.keys = nn.Linear(width, width, bias=False)  # one would change no attention weight
        self.values = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, latents: Tensor) -> Tensor:
        """Return tokens `[U, m, D]` of latents `[U, k, D]`."""
        queries = self.subspaces.weight.expand(len(latents), -1, -1)
        keys = self.keys(latents)
        read = functional.scaled_dot_product_attention(queries.to(keys.dtype), keys, self.values(latents))
        return self.output(functional.gelu(self.hidden(self.norm(read + queries))))


def block_mask(num_blocks: int, config: AceRecConfig, *, device: torch.device | None = None) -> Tensor:
    """Return the attention mask of a sequence of items, float `[S, S]`: 0 where a row sees a column, else -inf.

    A block is the k latents of an item and, after them, its intent token. Everything sees all earlier blocks. Latents
    of a block see each other, and not its intent token, which sees them and itself. It is added to attention scores: a
    bool mask would be added, too, by attention that expects a float one, and then hide nothing.

    Args:
        num_blocks: T, items of the longest history.
        config: of the model.
        device: of the mask.
    """
    size = config.block_size
    places = torch.arange(num_blocks * size, device=device)
    block = places // size
    sees = block[:, None] >= block
    if config.use_intent_token:
        is_intent = places % size == config.num_latents
        sees &= ~is_intent | (block[:, None] > block) | is_intent[:, None]
    return torch.zeros(sees.shape, device=device).masked_fill(~sees, -torch.inf)
