"""GLASS: generators of semantic IDs that read long histories, as Transformers models.

arXiv 2602.05663. The paper's model is `GlassForConditionalGeneration` on T5. Before the first code it reads a token
that summarises the long history (SID-tier); after it, every decoder layer also attends to the items of the long history
that begin with that code (semantic hard search). `GlassForCausalLM` has the token alone and is an addition of this
package. With everything off both models are their base classes.

Items are data, not weights: a training attaches tables of its catalog (`attach_catalog`), a request brings what
`history_inputs` makes of its history and the tables of any catalog. The weights hold the prototypes.

What is retrieved has no positions and no encoder, so the keys and values of an item are those of its code tokens, the
same for all requests. Attention to the retrieved tokens is therefore a softmax over all code tokens, with the logarithm
of the number of times that each was retrieved added to its score. Nothing is copied per beam.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, T5ForConditionalGeneration
from transformers import initialization as init
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.models.t5.modeling_t5 import T5LayerCrossAttention, T5Stack

from .configuration_glass import GlassCausalConfig, GlassConfig

ROWS_AT_ONCE = 8192  # of the catalog, in `item_table`


class Retrieved(NamedTuple):
    """What the cross-attention layers read of the long history.

    Attributes:
        counts: how often every code token was retrieved for a position, `[B, R, C]`.
        codes: embeddings of the code tokens, `[C, d]`.
    """

    counts: Tensor
    codes: Tensor


class HistoryLinear(nn.Linear):
    """A linear map with an initialisation of its own, not that of the layers of the base class.

    Args:
        inputs, outputs: widths.
        std: standard deviation of the weights; by default they are initialised as torch does it.
        bias: of every output at the start; None for a map without.
    """

    def __init__(self, inputs: int, outputs: int, *, std: float | None = None, bias: float | None = 0.0) -> None:
        super().__init__(inputs, outputs, bias=bias is not None)
        self.initial_std = std
        self.initial_bias = bias


class PromptPositions(nn.Embedding):
    """Embeddings of places, counted from the end of a prompt, of the standard deviation of embeddings of T5."""


class TierNetwork(nn.Module):
    """Maps shares of a long history by tier, `[B, K T]`, to a token of the encoder, `[B, d]`.

    Args:
        inputs: K T.
        width: d, of the model.
        dropout: of the hidden layer, in training.
    """

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = HistoryLinear(inputs, width)
        self.output = HistoryLinear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return the tokens."""
        hidden = functional.relu(self.hidden(features.to(self.hidden.weight.dtype)))
        return self.output(self.dropout(hidden))


class RetrievedAttention(nn.Module):
    """Attention of T5, without scaling or positions, to the code tokens of retrieved items.

    Args:
        config: sizes of the T5.
    """

    def __init__(self, config: GlassConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.head_dim = config.d_kv
        inner = config.num_heads * config.d_kv
        factor = config.initializer_factor  # the standard deviations are those of T5
        width = config.d_model
        self.q = HistoryLinear(width, inner, std=factor * (width * config.d_kv) ** -0.5, bias=None)
        self.k = HistoryLinear(width, inner, std=factor * width**-0.5, bias=None)
        self.v = HistoryLinear(width, inner, std=factor * width**-0.5, bias=None)
        self.o = HistoryLinear(inner, width, std=factor * inner**-0.5, bias=None)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, hidden: Tensor, retrieved: Retrieved) -> Tensor:
        """Return what `[B, R, d]` attends to; any numbers where nothing was retrieved."""
        queries = self._by_head(self.q(hidden).flatten(0, 1))  # [H, B·R, D]
        keys = self._by_head(self.k(retrieved.codes))  # [H, C, D]
        values = self._by_head(self.v(retrieved.codes))
        counts = retrieved.counts.flatten(0, 1)  # [B·R, C]
        lowest = torch.finfo(queries.dtype).min
        weights = counts.clamp_min(1).log().to(queries.dtype).masked_fill(counts == 0, lowest)
        scores = queries @ keys.transpose(1, 2) + weights
        shares = self.dropout(scores.softmax(-1, dtype=torch.float32).to(queries.dtype))
        attended = (shares @ values).transpose(0, 1).flatten(1)
        return self.o(attended).view(hidden.shape)

    def _by_head(self, projected: Tensor) -> Tensor:
        """Turn `[n, H D]` into `[H, n, D]`."""
        return projected.unflatten(-1, (self.heads, self.head_dim)).transpose(0, 1)


class GlassCrossAttention(T5LayerCrossAttention):
    """Cross-attention of T5, gated with attention to retrieved items.

    `(1 - g) z_short + g z_retrieved` with `g = sigmoid(W [z_short; z_retrieved])`, a number for every dimension; g is 0
    where nothing was retrieved, as at the first position, which must not see the items of the first code.

    Args:
        config: of the decoder.
        layer_idx: place in the decoder.
    """

    decodes_like_base = True

    def __init__(self, config: GlassConfig, layer_idx: int | None = None) -> None:
        super().__init__(config, layer_idx=layer_idx)
        self.retrieved_attention = RetrievedAttention(config)
        self.gate = HistoryLinear(2 * config.d_model, config.d_model, bias=float(config.initial_gate))

    def mix(self, normed: Tensor, attended: Tensor, context: Retrieved | None) -> Tensor:
        """Return the gated mixture of the attention to the prompt and to the retrieved items, `[B, R, d]`.

        Args:
            normed: normalised states, which attend, `[B, R, d]`.
            attended: what they attend to in the prompt, `[B, R, d]`.
            context: what was retrieved; None for nothing.
        """
        if context is None:
            return attended
        found = self.retrieved_attention(normed, context)
        has_any = (context.counts.sum(-1, keepdim=True) > 0).to(attended.dtype)
        gates = self.gate(torch.cat([attended, found], -1)).sigmoid() * has_any
        return (1 - gates) * attended + gates * found

    def forward(
        self,
        hidden_states: Tensor,
        key_value_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        past_key_values: Any = None,
        retrieved: Retrieved | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Do what the base class does, with `mix` before the residual connection.

        Args:
            hidden_states, key_value_states, attention_mask, position_bias, past_key_values, kwargs: of the base class.
            retrieved: what was retrieved for every position; None for nothing.
        """
        normed = self.layer_norm(hidden_states)
        attended, position_bias, weights = self.EncDecAttention(
            normed,
            mask=attention_mask,
            key_value_states=key_value_states,
            position_bias=position_bias,
            past_key_values=past_key_values,
            **kwargs,
        )
        attended = self.mix(normed, attended, retrieved)
        return hidden_states + self.dropout(attended), position_bias, weights


class GlassDecoder(T5Stack):
    """The decoder of T5 with `GlassCrossAttention`.

    Args:
        config: of the decoder.
    """

    decodes_like_base = True

    def __init__(self, config: GlassConfig) -> None:
        super().__init__(config)
        for place, block in enumerate(self.block):
            block.layer[1] = GlassCrossAttention(config, layer_idx=place)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, HistoryLinear):
            init_history_linear(module)


def init_history_linear(layer: HistoryLinear) -> None:
    """Draw the weights of a layer and set its bias."""
    if layer.initial_std is None:
        init.kaiming_uniform_(layer.weight, a=5**0.5)  # as torch does it
    else:
        init.normal_(layer.weight, std=layer.initial_std)
    if layer.initial_bias is not None:
        init.constant_(layer.bias, layer.initial_bias)


class LongHistoryMixin:
    """What both models add to their base class: prototypes, the tier token, and what they read of a history."""

    config: Any
    prototypes: Tensor
    # tiers are decided by small differences: they must not change with the precision of the model
    _keep_in_fp32_modules_strict = ("prototypes",)

    def _add_parts(self, width: int, *, dropout: float) -> None:
        """Create what the configuration asks for, after the weights of the base class.

        Args:
            width: d, of the model.
            dropout: of the tier network.
        """
        config = self.config
        if config.reads_text:
            empty = torch.zeros(config.level_sizes[0], config.content_dim)
            self.register_buffer("prototypes", empty)  # type: ignore[attr-defined]
        if config.use_tier_token:
            self.tier_network = TierNetwork(config.level_sizes[0] * config.num_tiers, width, dropout)
        for name in ("item_tokens", "item_tiers"):  # data, which are not saved with the weights
            self.register_buffer(name, None, persistent=False)  # type: ignore[attr-defined]

    @torch.no_grad()
    def attach_prototypes(self, item_vectors: Tensor, first_codes: Tensor) -> None:
        """Set the prototype of every first-level code to the mean vector of its items, and of all for one without any.

        Args:
            item_vectors: of the catalog, `[N, E]`.
            first_codes: of its items, int64 `[N]`.
        """
        vectors = self._checked(item_vectors).to(self.prototypes)
        codes = first_codes.to(vectors.device)
        sums = torch.zeros_like(self.prototypes).index_add_(0, codes, vectors)
        sizes = codes.bincount(minlength=len(sums))[:, None]
        self.prototypes.copy_(torch.where(sizes > 0, sums / sizes.clamp_min(1), vectors.mean(0)))

    @torch.no_grad()
    def attach_catalog(self, item_tokens: Tensor, item_vectors: Tensor | None = None) -> None:
        """Attach what a training reads of the items.

        Args:
            item_tokens: code tokens of the catalog, int64 `[N, L]`.
            item_vectors: `[N, E]`, where the model reads any.
        """
        device = self.get_input_embeddings().weight.device  # type: ignore[attr-defined]
        if item_tokens.ndim != 2 or item_tokens.shape[1] != self.config.num_levels:
            raise ValueError(
                f"expected item_tokens [N, {self.config.num_levels}], got {tuple(item_tokens.shape)}; give those of "
                "the vocabulary that the model is configured for"
            )
        self.item_tokens = item_tokens.to(device)
        self.item_tiers = self.item_table(item_vectors) if self.config.reads_text else None

    @torch.no_grad()
    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return the tier of the similarity of every item with every prototype, uint8 `[N, K]`.

        Args:
            item_vectors: of a catalog, `[N, E]`; the table of `attach_catalog` by default.
        """
        if item_vectors is None and self.item_tiers is not None:
            return self.item_tiers
        prototypes = functional.normalize(self.prototypes.float(), dim=-1)
        edges = torch.tensor(list(self.config.tier_edges), device=prototypes.device)
        tiers = []
        for part in self._checked(item_vectors).split(ROWS_AT_ONCE):
            vectors = functional.normalize(part.to(prototypes), dim=-1)
            tiers.append(torch.bucketize(vectors @ prototypes.T, edges).to(torch.uint8))
        return torch.cat(tiers)

    def _checked(self, item_vectors: Tensor | None) -> Tensor:
        """Return item vectors; raise ValueError for another width than the model reads."""
        shape = None if item_vectors is None else tuple(item_vectors.shape)
        if item_vectors is None or item_vectors.ndim != 2 or item_vectors.shape[1] != self.config.content_dim:
            raise ValueError(
                f"expected item vectors [N, {self.config.content_dim}], got {shape}; give those that the model is "
                "configured for"
            )
        return item_vectors

    @torch.no_grad()
    def history_inputs(
        self, long_rows: Tensor, item_tokens: Tensor | None = None, item_tiers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return what a model reads of long histories: `tier_features`, and `bank_tokens` with `bank_starts`.

        Args:
            long_rows: catalog rows, oldest first, int64 `[B, H]`, -1 where there is none.
            item_tokens: code tokens of the catalog, `[N, L]`; those of `attach_catalog` by default.
            item_tiers: `item_table` of the catalog, `[N, K]`; likewise.
        """
        item_tokens = self.item_tokens if item_tokens is None else item_tokens
        item_tiers = self.item_tiers if item_tiers is None else item_tiers
        if item_tokens is None:
            raise ValueError("the model knows no items; pass item_tokens, or call attach_catalog first")
        inputs: dict[str, Tensor] = {}
        if self.config.use_tier_token:
            if item_tiers is None:
                raise ValueError("the tier token reads similarities of items; pass item_tiers, which item_table makes")
            inputs["tier_features"] = tier_shares(long_rows, item_tiers, self.config.num_tiers)
        if self.config.use_retrieval:
            first_codes = item_tokens[:, 0] - self.config.first_code_id
            order, inputs["bank_starts"] = grouped_by_code(long_rows, first_codes, self.config.level_sizes[0])
            rows = long_rows.gather(1, order).clamp_min(0)
            inputs["bank_tokens"] = item_tokens[rows]
        return inputs

    def embed_prompt(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        tier_features: Tensor | None = None,
        **history: Any,
    ) -> Tensor:
        """Return embedded prompts, `[B, S, d]`: the tier token stands where `<|sid_begin|>` is.

        Args:
            input_ids: `[B, S]`.
            attention_mask: not needed.
            tier_features: `[B, K T]` of `history_inputs`; needed where the model has that token.
            history: what else `history_inputs` returns, which the decoder reads.
        """
        tokens = self._embed(input_ids)
        if not self.config.use_tier_token:
            return tokens
        if tier_features is None:
            raise ValueError(
                "a model with a tier token needs tier_features beside input_ids, got none; history_inputs makes them "
                "of long histories"
            )
        tier = self.tier_network(tier_features).to(tokens.dtype)[:, None]
        return torch.where((input_ids == self.config.tier_token_id)[..., None], tier, tokens)

    def _embed(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings of the tokens of prompts, `[B, S, d]`."""
        return self.get_input_embeddings()(input_ids)  # type: ignore[attr-defined]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[misc]
        if isinstance(module, HistoryLinear):
            init_history_linear(module)


def tier_shares(long_rows: Tensor, item_tiers: Tensor, num_tiers: int) -> Tensor:
    """Return the share of every history whose similarity with a prototype is in a tier, fp32 `[B, K T]`; 0 if empty.

    Args:
        long_rows: catalog rows, int64 `[B, H]`, -1 where there is none.
        item_tiers: tier of every item by prototype, uint8 `[N, K]`.
        num_tiers: T.
    """
    is_item = long_rows >= 0
    present, places = torch.unique(long_rows[is_item], return_inverse=True)
    clicks = torch.zeros(len(long_rows), len(present), device=long_rows.device)
    clicks.index_put_((is_item.nonzero()[:, 0], places), torch.ones(1, device=clicks.device), accumulate=True)
    tiers = torch.arange(num_tiers, device=item_tiers.device)
    is_in_tier = (item_tiers[present][..., None] == tiers).flatten(1)  # [items that are present, K T]
    return clicks @ is_in_tier.float() / is_item.sum(1).clamp_min(1)[:, None]


def grouped_by_code(long_rows: Tensor, first_codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """Return the places of a history in groups of one first code, latest first, and where the groups begin.

    Args:
        long_rows: catalog rows, oldest first, int64 `[B, H]`, -1 where there is none.
        first_codes: of every item, `[N]`.
        num_codes: K.

    Returns:
        Places int64 `[B, H]`, those without an item last, and bounds int64 `[B, K + 1]`: group k is from place k of
        them to place k + 1.
    """
    codes = first_codes[long_rows.clamp_min(0)].masked_fill(long_rows < 0, num_codes)
    latest = codes.flip(1).argsort(dim=1, stable=True)
    order = long_rows.shape[1] - 1 - latest
    bounds = torch.arange(num_codes + 1, device=codes.device).expand(len(codes), -1).contiguous()
    return order, torch.searchsorted(codes.gather(1, order), bounds)


class GlassForConditionalGeneration(LongHistoryMixin, T5ForConditionalGeneration):
    """T5 that generates semantic IDs from recent items and long histories (arXiv 2602.05663).

    Args:
        config: sizes, and what is read of long histories.
    """

    config_class = GlassConfig
    config: GlassConfig
    decodes_like_base = True

    def __init__(self, config: GlassConfig) -> None:
        super().__init__(config)
        self._add_parts(config.d_model, dropout=config.dropout_rate)
        if config.use_retrieval:
            self.code_projection = HistoryLinear(config.d_model, config.d_model)
            decoder: Any = self.get_decoder()
            self.decoder = GlassDecoder(decoder.config)
        if config.max_positions:
            self.prompt_positions = PromptPositions(config.max_positions, config.d_model)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PromptPositions):
            init.normal_(module.weight, std=self.config.initializer_factor)

    def _embed(self, input_ids: Tensor) -> Tensor:
        tokens = super()._embed(input_ids)
        if not self.config.max_positions:
            return tokens
        is_token = (input_ids != self.config.pad_token_id).long()
        after = is_token.flip(1).cumsum(1).flip(1) - is_token
        return tokens + self.prompt_positions(after.clamp_max(self.config.max_positions - 1))

    def retrieved_counts(self, first_codes: Tensor, bank_tokens: Tensor, bank_starts: Tensor) -> Tensor:
        """Return how often every code token was retrieved for first codes, fp32 `[B, R, C]`.

        Retrieved are the latest `retrieved_items` of a code. Where it has fewer than `min_retrieved`, those of the
        codes with the nearest prototypes follow, as far as there is room.

        Args:
            first_codes: int64 `[B, R]`; for one outside of 0 to K - 1 nothing is retrieved.
            bank_tokens: code tokens of the long history by first code, latest first, int64 `[B, H, L]`.
            bank_starts: where the items of every code begin in it, int64 `[B, K + 1]`.
        """
        config = self.config
        is_code = (first_codes >= 0) & (first_codes < config.level_sizes[0])
        groups = first_codes.masked_fill(~is_code, 0)[..., None]  # [B, R, G]
        if config.neighbour_codes:
            groups = torch.cat([groups, self._neighbours()[groups[..., 0]]], -1)
        flat = groups.flatten(1)
        starts = bank_starts.gather(1, flat).view_as(groups)
        sizes = bank_starts.gather(1, flat + 1).view_as(groups) - starts
        if config.neighbour_codes:
            has_enough = sizes[..., :1] >= config.min_retrieved
            sizes = torch.cat([sizes[..., :1], sizes[..., 1:].masked_fill(has_enough, 0)], -1)
        ends = sizes.cumsum(-1).clamp_max(config.retrieved_items)
        kept = (ends - functional.pad(ends[..., :-1], (1, 0))).masked_fill(~is_code[..., None], 0)
        steps = torch.arange(min(config.retrieved_items, bank_tokens.shape[1]), device=flat.device)
        is_kept = steps < kept[..., None]  # [B, R, G, M]
        places = (starts[..., None] + steps).clamp_max(max(bank_tokens.shape[1] - 1, 0)).flatten(1)
        tokens = bank_tokens.gather(1, places[..., None].expand(-1, -1, config.num_levels))
        numbers = (tokens - config.first_code_id).view(*first_codes.shape, -1)
        counts = torch.zeros(*first_codes.shape, config.num_codes, device=flat.device)
        return counts.scatter_add_(2, numbers, is_kept.flatten(2).float().repeat_interleave(config.num_levels, 2))

    def _neighbours(self) -> Tensor:
        """Return the codes with the nearest prototypes, nearest first, int64 `[K, neighbour_codes]`."""
        prototypes = functional.normalize(self.prototypes.float(), dim=-1)
        cosines = (prototypes @ prototypes.T).fill_diagonal_(-torch.inf)
        return cosines.argsort(dim=1, descending=True, stable=True)[:, : self.config.neighbour_codes]

    def beam_inputs(
        self,
        level: int,
        codes: Tensor,
        bank_tokens: Tensor | None = None,
        bank_starts: Tensor | None = None,
        **history: Any,
    ) -> Tensor | None:
        """Return how often code tokens were retrieved for the first code of every beam, `[B, R, C]`; None for nothing.

        Args:
            level: 0 to L - 1.
            codes: of every beam so far, `[B, R, level]`.
            bank_tokens, bank_starts: of `history_inputs`; nothing is retrieved without them.
            history: what the prompt holds of long histories.
        """
        if level == 0 or bank_tokens is None or bank_starts is None or not self.config.use_retrieval:
            return None
        return self.retrieved_counts(codes[..., 0], bank_tokens, bank_starts)

    def cross_context(self, inputs: Tensor) -> Retrieved:
        """Return what the cross-attention layers read, from `beam_inputs`.

        The embeddings of the tokens are not trained by way of it, as in the released code.
        """
        first = self.config.first_code_id
        codes = self.shared.weight[first : first + self.config.num_codes].detach()
        return Retrieved(inputs, self.code_projection(codes))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        long_rows: Tensor | None = None,
        tier_features: Tensor | None = None,
        bank_tokens: Tensor | None = None,
        bank_starts: Tensor | None = None,
        first_ids: Tensor | None = None,
        past_key_values: Any = None,
        encoder_outputs: Any = None,
        inputs_embeds: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Read histories and predict the next items.

        Items are retrieved by the first code that the decoder is given: the true one in training, that of the beam in
        `generate()`.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
            decoder_input_ids: by default the labels, one place to the right.
            labels: tokens of the next item, `[B, L]`.
            long_rows: long histories as rows of the attached catalog, `[B, H]`, -1 where there is none; in place of the
                next three.
            tier_features, bank_tokens, bank_starts: of `history_inputs`; without the last two nothing is retrieved.
            first_ids: first token of the answer, `[B]`; needed with the last two where `decoder_input_ids` are later
                ones alone.
            past_key_values: of earlier decoder tokens.
            encoder_outputs: of prompts that are encoded already.
            inputs_embeds: prompts that are embedded already, `[B, S, d]` (`embed_prompt`).
            decoder_attention_mask, use_cache: of the base class, for the decoder.
            kwargs: of the base class, for encoder and decoder.

        Raises:
            ValueError: where what the model reads of long histories is missing, or `first_ids` are.
        """
        if long_rows is not None:
            found = self.history_inputs(long_rows)
            tier_features = found.get("tier_features")
            bank_tokens = found.get("bank_tokens")
            bank_starts = found.get("bank_starts")
        if encoder_outputs is None:
            if inputs_embeds is None and input_ids is not None:
                inputs_embeds = self.embed_prompt(input_ids, tier_features=tier_features)
            encoder_outputs = self.encoder(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)
        if labels is not None and decoder_input_ids is None:
            decoder_input_ids = self._shift_right(labels)
        if bank_tokens is not None and bank_starts is not None and decoder_input_ids is not None:
            past = 0 if past_key_values is None else past_key_values.get_seq_length()
            kwargs["retrieved"] = self._retrieved(decoder_input_ids, first_ids, bank_tokens, bank_starts, past=past)
        return super().forward(
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            labels=labels,
            past_key_values=past_key_values,
            encoder_outputs=encoder_outputs,
            use_cache=use_cache,
            **kwargs,
        )

    def _retrieved(
        self, decoder_ids: Tensor, first_ids: Tensor | None, bank_tokens: Tensor, bank_starts: Tensor, *, past: int
    ) -> Retrieved | None:
        """Return what is retrieved for every decoder position; nothing for the first, which predicts the first code.

        Args:
            decoder_ids: `[B, T]`.
            first_ids, bank_tokens, bank_starts: of `forward`.
            past: decoder tokens before these.
        """
        if not self.config.use_retrieval or (past + decoder_ids.shape[1] < 2):
            return None
        if past and first_ids is None:
            raise ValueError(
                f"items are retrieved by the first code of an answer, which is not among decoder_input_ids after a "
                f"cache of {past} tokens; pass first_ids, `[{len(decoder_ids)}]`"
            )
        first = decoder_ids[:, 1] if first_ids is None else first_ids
        counts = self.retrieved_counts(first[:, None] - self.config.first_code_id, bank_tokens, bank_starts)
        places = past + torch.arange(decoder_ids.shape[1], device=decoder_ids.device)
        return self.cross_context(counts * (places > 0)[None, :, None])

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """Add the first code of every beam, by which items are retrieved.

        Raises:
            ValueError: for `tier_features`: `generate()` encodes the prompts without `forward`.
        """
        if kwargs.get("tier_features") is not None:
            raise ValueError(
                "generate() encodes prompts without their tier token, got tier_features; pass inputs_embeds of "
                "embed_prompt in place of input_ids and tier_features"
            )
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        if input_ids.shape[1] > 1:
            inputs["first_ids"] = input_ids[:, 1]
        return inputs


class GlassForCausalLM(LongHistoryMixin, LlamaForCausalLM):
    """Llama with the tier token alone, without retrieval: an addition of this package, not the paper's model.

    All next items of a window are learned in one pass, so the token summarises what came before the first of them.

    Args:
        config: sizes, and what is read of long histories.
    """

    config_class = GlassCausalConfig
    config: GlassCausalConfig
    decodes_like_base = True

    def __init__(self, config: GlassCausalConfig) -> None:
        super().__init__(config)
        self._add_parts(config.hidden_size, dropout=config.attention_dropout)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        long_rows: Tensor | None = None,
        tier_features: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read users' items and predict the next one at each of them.

        Args:
            input_ids: `[B, S]`.
            attention_mask: of the base class.
            past_key_values: of earlier tokens; the tier token is one of them.
            inputs_embeds: prompts that are embedded already, `[B, S, d]` (`embed_prompt`).
            long_rows: long histories as rows of the attached catalog, `[B, H]`, -1 where there is none; in place of
                `tier_features`.
            tier_features: `[B, K T]` of `history_inputs`.
            kwargs: of the base class.
        """
        if long_rows is not None:
            tier_features = self.history_inputs(long_rows).get("tier_features")
        is_answer = past_key_values is not None and past_key_values.get_seq_length() > 0
        if input_ids is not None and inputs_embeds is None and self.config.use_tier_token and not is_answer:
            inputs_embeds = self.embed_prompt(input_ids, tier_features=tier_features)
            input_ids = None
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
