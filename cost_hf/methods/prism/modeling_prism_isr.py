"""PRISM's recommender (ISR): a generator of semantic IDs that reads vectors of items, as Transformers models.

arXiv 2601.16556. The paper's model is `PrismForConditionalGeneration` on T5. `PrismForCausalLM` is an addition of this
package. Vectors of items are data, not weights: `attach_catalog` gives a model those of its training, and a search
takes the `item_table` of any catalog. Code vectors belong to the codes and are saved with the weights. With everything
off both models are their base classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, T5ForConditionalGeneration
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast, Seq2SeqLMOutput

from .configuration_prism_isr import PrismIsrCausalConfig, PrismIsrConfig

IGNORED_LABEL = -100
NO_TAG = -1
ROWS_AT_ONCE = 8192  # of the catalog, in `item_table`
DENSITY_SCALE = 50.0  # codes; the excess of the temperature falls by exp(-1/2) with as many
EPSILON = 1e-5  # of layer normalization


@dataclass
class PrismSeq2SeqOutput(Seq2SeqLMOutput):
    """Output of `PrismForConditionalGeneration`.

    Attributes:
        sid_loss: cross-entropy of the next item's tokens, a scalar; None without labels.
        codebook_loss: one minus the cosine of predicted and true code vectors, a scalar; None without the head.
        tag_loss: cross-entropy of the next item's tags, a scalar; None without the head.
    """

    sid_loss: Tensor | None = None
    codebook_loss: Tensor | None = None
    tag_loss: Tensor | None = None


@dataclass
class PrismCausalOutput(CausalLMOutputWithPast):
    """Output of `PrismForCausalLM`; the losses are those of `PrismSeq2SeqOutput`."""

    sid_loss: Tensor | None = None
    codebook_loss: Tensor | None = None
    tag_loss: Tensor | None = None


class FusionLinear(nn.Linear):
    """A linear map that is initialised as torch does it, not as the layers of the base class are."""


class PositionEmbedding(nn.Embedding):
    """Embeddings of a place, of standard deviation 1; `position_scale` makes them small."""


class LayerStack(nn.Module):
    """Linear maps with ReLU between them.

    Args:
        sizes: widths from the input to the output.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLinear(inner, outer) for inner, outer in pairwise(sizes))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `[..., first size]` to `[..., last size]`."""
        hidden = self.layers[0](hidden)
        for layer in self.layers[1:]:
            hidden = layer(functional.relu(hidden))
        return hidden


class ItemProjection(nn.Module):
    """Projects the frozen vectors of an item, `[..., E + C]`, to what a token of it is fused with.

    Args:
        config: widths.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.content_dim = config.content_dim
        self.content = FusionLinear(config.content_dim, config.content_size)
        self.content_norm = nn.LayerNorm(config.content_size, eps=EPSILON)
        self.has_collaborative = config.collaborative_dim > 0
        if self.has_collaborative:
            self.collaborative = FusionLinear(config.collaborative_dim, config.collaborative_size)
            self.collaborative_norm = nn.LayerNorm(config.collaborative_size, eps=EPSILON)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.content.weight.device

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the projections, normalised and side by side, `[..., F]`."""
        vectors = vectors.to(self.content.weight.dtype)
        content = self.content_norm(self.content(vectors[..., : self.content_dim]))
        if not self.has_collaborative:
            return content
        collaborative = self.collaborative_norm(self.collaborative(vectors[..., self.content_dim :]))
        return torch.cat([content, collaborative], -1)


class ItemFusion(nn.Module):
    """Moves the embedding of a token towards what the vectors of its item say, by a gate.

    `id + sigmoid(gate) (fused - id)`, where a noisy router mixes the best experts of [content; id; collaborative; code
    vector]. The noise is there in training alone.

    Args:
        config: widths, experts and gate.
        width: d, of the model.
        scale: standard deviation of token embeddings that are not trained yet. What the experts say begins with the
            same one: normalised to 1, it would drown tokens of a model whose embeddings begin small.
    """

    def __init__(self, config: Any, width: int, *, scale: float) -> None:
        super().__init__()
        self.scale = scale
        inputs = config.content_size + width + config.code_dim
        inputs += config.collaborative_size if config.collaborative_dim else 0
        self.content_size = config.content_size
        self.initial_gate = float(config.initial_gate)
        self.active_experts = config.active_experts
        self.router = FusionLinear(inputs, config.num_experts)
        self.noise = FusionLinear(inputs, config.num_experts)
        self.experts = nn.ModuleList(LayerStack([inputs, *config.expert_sizes]) for _ in range(config.num_experts))
        self.output = FusionLinear(config.expert_sizes[-1], width)
        self.output_norm = nn.LayerNorm(width, eps=EPSILON)
        self.gate = nn.Parameter(torch.empty(()))

    def shares(self, features: Tensor) -> Tensor:
        """Return how much each expert counts, `[P, experts]`: a softmax over the best ones, 0 for the others."""
        logits = self.router(features)
        if self.training:
            logits = logits + torch.randn_like(logits) * functional.softplus(self.noise(features))
        best = logits.topk(self.active_experts, dim=-1)
        return torch.zeros_like(logits).scatter(-1, best.indices, best.values.softmax(-1))

    def forward(self, tokens: Tensor, items: Tensor, codes: Tensor) -> Tensor:
        """Return what is added to the embeddings of P tokens, `[P, d]`.

        Args:
            tokens: their embeddings, `[P, d]`.
            items: projected vectors of their items, `[P, F]`.
            codes: code vectors, `[P, D]`; D is 0 where there are none.
        """
        content = items[:, : self.content_size]
        collaborative = items[:, self.content_size :]
        features = torch.cat([content, tokens, collaborative, codes], 1)
        shares = self.shares(features)
        mixed = sum(shares[:, place, None] * expert(features) for place, expert in enumerate(self.experts))
        fused = self.output_norm(self.output(mixed))
        return self.gate.sigmoid() * (fused - tokens)


class CodebookHead(nn.Module):
    """Predicts the code vector of every level from the state that predicts its code and from the level before.

    Args:
        config: widths and levels.
        width: d, of the model.
    """

    def __init__(self, config: Any, width: int) -> None:
        super().__init__()
        self.code_dim = config.code_dim
        sizes = [width + config.code_dim, width, config.code_dim]
        self.levels = nn.ModuleList(LayerStack(sizes) for _ in range(config.code_levels))

    def forward(self, states: Tensor) -> Tensor:
        """Return predicted vectors of the codes that have any, `[P, C, D]`, for decoder states `[P, L, d]`."""
        before = states.new_zeros(len(states), self.code_dim)
        predicted = []
        for level, network in enumerate(self.levels):
            before = network(torch.cat([states[:, level], before], 1))
            predicted.append(before)
        return torch.stack(predicted, 1)


class TagHead(nn.Module):
    """Predicts the tag of every level of tags from the state that predicts the code of the same level.

    Args:
        config: tags.
        width: d, of the model.
    """

    def __init__(self, config: Any, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(FusionLinear(width, size) for size in config.tag_sizes)
        self.weights = [(size / config.tag_sizes[0]) ** 0.5 for size in config.tag_sizes]

    def forward(self, states: Tensor, tags: Tensor) -> Tensor:
        """Return the mean over levels of weighted cross-entropies, a scalar.

        Args:
            states: of the decoder, `[P, L, d]`.
            tags: of the next items, `[P, T]`, -1 where there is none.
        """
        losses = []
        for level, (network, weight) in enumerate(zip(self.levels, self.weights, strict=True)):
            known = tags[:, level] >= 0
            logits = network(states[:, level]).float()
            found = functional.cross_entropy(logits, tags[:, level], ignore_index=NO_TAG, reduction="sum")
            losses.append(weight * found / known.sum().clamp_min(1))
        return torch.stack(losses).mean()


class PrismMixin:
    """What both models add to their base class: fusion, heads, and temperatures of the loss."""

    config: Any
    code_vectors: Tensor

    def _add_parts(self, width: int, *, embedding_scale: float) -> None:
        """Create what the configuration asks for, after the weights of the base class.

        Args:
            width: d, of the model.
            embedding_scale: standard deviation of its token embeddings at the start.
        """
        config = self.config
        if config.code_dim:
            codes = torch.zeros(sum(config.level_sizes), config.code_dim)
            self.register_buffer("code_vectors", codes)  # type: ignore[attr-defined]
        if config.use_fusion:
            self.item_projection = ItemProjection(config)
            self.item_fusion = ItemFusion(config, width, scale=embedding_scale)
        if config.has_codebook_head:
            self.codebook_head = CodebookHead(config, width)
        if config.has_tag_head:
            self.tag_head = TagHead(config, width)
        for name in ("item_vectors", "item_temperatures", "item_tags"):  # data, which are not saved with the weights
            self.register_buffer(name, None, persistent=False)  # type: ignore[attr-defined]

    @torch.no_grad()
    def attach_code_vectors(self, levels: Sequence[Tensor]) -> None:
        """Copy the code vectors of a quantizer's levels; those of an appended level are 0.

        Args:
            levels: `[K, D]` each.
        """
        sizes = list(self.config.level_sizes[: self.config.code_levels])
        shapes = [tuple(level.shape) for level in levels]
        expected = [(size, self.config.code_dim) for size in sizes]
        if shapes != expected:
            raise ValueError(
                f"expected code vectors of shapes {expected} for the first levels, got {shapes}; give those of the "
                "quantizer that the codes come from"
            )
        self.code_vectors.zero_()
        self.code_vectors[: sum(sizes)] = torch.cat([level.to(self.code_vectors) for level in levels])

    def attach_catalog(
        self,
        item_vectors: Tensor | None = None,
        *,
        branches: Tensor | None = None,
        item_tags: Tensor | None = None,
    ) -> None:
        """Attach what a training reads of the items; what the configuration does not use is not looked at.

        Args:
            item_vectors: text vectors and, after them, collaborative vectors of the catalog, `[N, E + C]`.
            branches: for every level of every item, how many codes may follow the codes before, `[N, L]`.
            item_tags: tag of every item on every level of tags, int64 `[N, T]`, -1 where there is none. Without them
                a model trains on without its tag head.
        """
        config = self.config
        device = self.get_input_embeddings().weight.device  # type: ignore[attr-defined]
        if config.use_fusion:
            shape = None if item_vectors is None else tuple(item_vectors.shape)
            if item_vectors is None or item_vectors.ndim != 2 or item_vectors.shape[1] != config.text_dim:
                raise ValueError(
                    f"expected item vectors [N, {config.text_dim}], {config.content_dim} numbers of the text and "
                    f"{config.collaborative_dim} of the clicks, got {shape}; give those that the model is configured "
                    "for"
                )
            self.item_vectors = item_vectors.to(device, torch.float32)
        if config.density_temperatures is not None:
            if branches is None or branches.ndim != 2 or branches.shape[1] != config.num_levels:
                shape = None if branches is None else tuple(branches.shape)
                raise ValueError(f"expected branches [N, {config.num_levels}], got {shape}; count those of the trie")
            self.item_temperatures = density_temperatures(branches.to(device), *config.density_temperatures)
        if config.has_tag_head:
            if item_tags is not None and item_tags.shape[1:] != (len(config.tag_sizes),):
                raise ValueError(
                    f"expected item tags [N, {len(config.tag_sizes)}], got {tuple(item_tags.shape)}; give those that "
                    "the model is configured for"
                )
            self.item_tags = None if item_tags is None else item_tags.to(device)

    @torch.no_grad()
    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return the projected vectors of a catalog, `[N, F]`; compute them once for many requests.

        Args:
            item_vectors: of a catalog, `[N, E + C]`; those of `attach_catalog` by default.
        """
        vectors = self.item_vectors if item_vectors is None else item_vectors
        if vectors is None:
            raise ValueError("the model has no item vectors; pass item_vectors, or call attach_catalog")
        device = self.item_projection.device
        return torch.cat([self.item_projection(part.to(device)) for part in vectors.split(ROWS_AT_ONCE)])

    def embed_prompt(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_table: Tensor | None = None,
    ) -> Tensor:
        """Return embedded prompts, `[B, S, d]`: tokens and what is added to those of items.

        Generated tokens have nothing added, so decoding is that of the base class.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`; not needed.
            item_rows: catalog row of every token, `[B, S]`, -1 where there is none; needed where anything is added.
            item_table: of the catalog, `[N, F]`; by default made from the vectors of `attach_catalog`.
        """
        tokens = self.get_input_embeddings()(input_ids)  # type: ignore[attr-defined]
        if not self.config.use_text_input:
            return tokens
        if item_rows is None:
            raise ValueError(
                "a model that adds vectors or positions of items to tokens needs item_rows [B, S] beside input_ids, "
                "got none; PromptBuilder.inputs_with_items gives both"
            )
        if self.config.use_fusion:
            tokens = tokens + self._fused(tokens, input_ids, item_rows, item_table)
        if self.config.use_positions:
            tokens = tokens + self._positions(item_rows)
        return tokens

    def _fused(self, tokens: Tensor, input_ids: Tensor, item_rows: Tensor, item_table: Tensor | None) -> Tensor:
        """Return what the fusion adds to embedded tokens, `[B, S, d]`, 0 where it adds nothing."""
        places = self._fused_places(item_rows)
        rows = item_rows[places]
        if item_table is None:
            if self.item_vectors is None:
                raise ValueError("the model has no item vectors; call attach_catalog first")
            known = rows.unique()  # every item is projected once
            item_table = self.item_projection(self.item_vectors[known])
            rows = torch.searchsorted(known, rows)
        # not table[rows]: with several threads its backward adds the gradients of an item in any order
        items = functional.embedding(rows, item_table)
        codes = self._code_features(input_ids, item_rows)[places].to(items.dtype)
        added = torch.zeros_like(tokens)
        added[places] = self.item_fusion(tokens[places], items, codes).to(tokens.dtype)
        return added

    def _fused_places(self, item_rows: Tensor) -> Tensor:
        """Return which tokens are fused with vectors of their items, bool `[B, S]`."""
        return item_rows >= 0

    def _code_features(self, input_ids: Tensor, item_rows: Tensor) -> Tensor:
        """Return the code vector of every token, `[B, S, D]`, 0 for tokens of no item; D is 0 without code vectors."""
        is_item = item_rows >= 0
        if not self.config.code_dim:
            return is_item.new_zeros(*is_item.shape, 0, dtype=torch.float32)
        numbers = (input_ids - self.config.first_code_id).masked_fill(~is_item, 0)
        return functional.embedding(numbers, self.code_vectors).masked_fill(~is_item[..., None], 0.0)

    def _positions(self, item_rows: Tensor) -> Tensor:
        """Return what is added for the places of tokens, `[B, S, d]`."""
        raise NotImplementedError

    def _head_losses(self, states: Tensor, tokens: Tensor, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the losses of both heads, None for those that there are not.

        Args:
            states: that predict the codes of the next items, `[P, L, d]`.
            tokens: of these items, `[P, L]`.
            rows: of these items, `[P]`.
        """
        codebook_loss = None
        tag_loss = None
        if self.config.has_codebook_head:
            numbers = tokens[:, : self.config.code_levels] - self.config.first_code_id
            targets = functional.embedding(numbers, self.code_vectors)
            cosines = functional.cosine_similarity(self.codebook_head(states).float(), targets.float(), dim=-1)
            codebook_loss = (1 - cosines).mean() if len(cosines) else states.sum() * 0.0
        if self.config.has_tag_head and self.item_tags is not None:
            tag_loss = self.tag_head(states, self.item_tags[rows])
        return codebook_loss, tag_loss

    def _temperatures(self, item_labels: Tensor, levels: Tensor) -> Tensor:
        """Return what the logits of every label are divided by, `[B, S]`, 1 where there is no label.

        Args:
            item_labels: catalog row of every label, `[B, S]`, -100 where there is none.
            levels: level of every label, `[B, S]`.
        """
        if self.item_temperatures is None:
            raise ValueError("density_temperatures need the branches of the catalog; call attach_catalog first")
        found = self.item_temperatures[item_labels.clamp_min(0), levels]
        return found.masked_fill(item_labels < 0, 1.0)

    def _weighted(self, sid_loss: Tensor, codebook_loss: Tensor | None, tag_loss: Tensor | None) -> Tensor:
        loss = sid_loss
        if codebook_loss is not None:
            loss = loss + self.config.codebook_loss_weight * codebook_loss
        if tag_loss is not None:
            loss = loss + self.config.tag_loss_weight * tag_loss
        return loss

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, FusionLinear):
            init.kaiming_uniform_(module.weight, a=5**0.5)  # as torch does it
            init.zeros_(module.bias)
            return
        if isinstance(module, PositionEmbedding):
            init.normal_(module.weight)
            return
        super()._init_weights(module)  # type: ignore[misc]
        if isinstance(module, ItemFusion):
            init.constant_(module.gate, module.initial_gate)
            init.constant_(module.output_norm.weight, module.scale)


def density_temperatures(branches: Tensor, lowest: float, highest: float) -> Tensor:
    """Return the temperature of the loss of every code, fp32 `[N, L]`; 1 on the first level.

    `lowest + (highest - lowest) exp(-K / (2 · 50))` for K codes that may follow the codes before.

    Args:
        branches: K, `[N, L]`.
        lowest: temperature where any number of codes may follow.
        highest: temperature where none may.
    """
    found = lowest + (highest - lowest) * (-0.5 * branches.float() / DENSITY_SCALE).exp()
    found[:, 0] = 1.0
    return found


class PrismForConditionalGeneration(PrismMixin, T5ForConditionalGeneration):
    """T5 that generates semantic IDs from histories fused with vectors of their items (arXiv 2601.16556).

    Every token of an item is fused with its text vector, its collaborative vector and the vector of the code.
    Embeddings of the item's place, of the level and of the place from the end are added. Heads on the decoder states
    predict the code vectors and the tags of the next item, in training alone.

    Args:
        config: sizes and objective.
    """

    config_class = PrismIsrConfig
    config: PrismIsrConfig
    decodes_like_base = True

    def __init__(self, config: PrismIsrConfig) -> None:
        super().__init__(config)
        self._add_parts(config.d_model, embedding_scale=config.initializer_factor)
        if config.use_positions:
            self.item_positions = PositionEmbedding(config.max_items, config.d_model)
            self.level_positions = PositionEmbedding(config.num_levels, config.d_model)
            self.recencies = PositionEmbedding(config.max_items, config.d_model)
        self.post_init()

    def _positions(self, item_rows: Tensor) -> Tensor:
        is_item = item_rows >= 0
        order = (is_item.cumsum(1) - 1).clamp_min(0)  # of the tokens of items, from the oldest
        items = order // self.config.num_levels
        levels = order % self.config.num_levels
        later = (is_item.sum(1, keepdim=True) // self.config.num_levels - 1 - items).clamp_min(0)
        added = self.item_positions(items) + self.level_positions(levels) + self.recencies(later)
        return self.config.position_scale * added.masked_fill(~is_item[..., None], 0.0)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_labels: Tensor | None = None,
        encoder_outputs: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Read histories and predict the next items.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
            labels: tokens of the next item, `[B, L]`.
            item_rows: catalog row of every token, `[B, S]`, -1 where there is none.
            item_labels: catalog row of the next item beside every label, `[B, L]`, -100 where there is none; the loss
                has the temperatures and the heads with it alone.
            encoder_outputs: of prompts that are encoded already.
            inputs_embeds: prompts that are embedded already, `[B, S, d]` (`embed_prompt`).
            kwargs: of the base class.
        """
        is_prompt = inputs_embeds is None and encoder_outputs is None
        if input_ids is not None and is_prompt and self.config.use_text_input:
            inputs_embeds = self.embed_prompt(input_ids, attention_mask, item_rows)
            input_ids = None
        learns_more = labels is not None and item_labels is not None and self.config.changes_loss
        if learns_more:
            kwargs["output_hidden_states"] = True  # the last ones are what the heads read
        output = super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        if not learns_more or labels is None or item_labels is None:
            return output
        sid_loss = output.loss
        if self.config.density_temperatures is not None:
            levels = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
            logits = output.logits.float() / self._temperatures(item_labels, levels)[..., None]
            sid_loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL)
        is_label = item_labels[:, 0] >= 0
        states = output.decoder_hidden_states[-1][is_label]
        codebook_loss, tag_loss = self._head_losses(states, labels[is_label], item_labels[is_label, 0])
        loss = self._weighted(sid_loss, codebook_loss, tag_loss)
        fields = {**output, "loss": loss}
        return PrismSeq2SeqOutput(**fields, sid_loss=sid_loss, codebook_loss=codebook_loss, tag_loss=tag_loss)


class PrismForCausalLM(PrismMixin, LlamaForCausalLM):
    """Llama that generates semantic IDs from items fused with their vectors; not in the paper.

    All next items of a user are learned in one pass. The last token of an item alone is fused, with the sum of the
    item's code vectors: at an earlier one its vectors would give away the tokens that follow. No positions are added,
    since the model has rotary ones.

    Args:
        config: sizes and objective.
    """

    config_class = PrismIsrCausalConfig
    config: PrismIsrCausalConfig
    decodes_like_base = True

    def __init__(self, config: PrismIsrCausalConfig) -> None:
        super().__init__(config)
        self._add_parts(config.hidden_size, embedding_scale=config.initializer_range)
        self.post_init()

    def _fused_places(self, item_rows: Tensor) -> Tensor:
        """Return which tokens are the last of an item, bool `[R, S]`; rows of a batch hold whole items only."""
        is_item = item_rows >= 0
        return is_item & (is_item.cumsum(1) % self.config.num_levels == 0)

    def _code_features(self, input_ids: Tensor, item_rows: Tensor) -> Tensor:
        """Return the sum of the code vectors of each token and the L - 1 before it, `[R, S, D]`."""
        own = super()._code_features(input_ids, item_rows)
        total = own
        for shift in range(1, self.config.num_levels):
            total = total + functional.pad(own, (0, 0, shift, 0))[:, : own.shape[1]]
        return total

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Read users' items and predict the next one at each of them.

        Args:
            input_ids: `[R, S]`.
            attention_mask: of the base class; `[R, 1, S, S]` where a row holds several users.
            position_ids: `[R, S]`.
            past_key_values: of earlier tokens; generated tokens follow them and are not fused.
            inputs_embeds: prompts that are embedded already, `[R, S, d]` (`embed_prompt`).
            labels: tokens to learn, `[R, S]`, -100 elsewhere; each is predicted one position earlier, as in the base
                class.
            item_rows: catalog row of every token, `[R, S]`, -1 where there is none.
            item_labels: catalog row of every label, `[R, S]`, -100 elsewhere; the loss has the temperatures and the
                heads with it alone.
            kwargs: of the base class.
        """
        is_answer = item_rows is None and past_key_values is not None and past_key_values.get_seq_length() > 0
        is_prompt = inputs_embeds is None and not is_answer
        if input_ids is not None and is_prompt and self.config.use_text_input:
            inputs_embeds = self.embed_prompt(input_ids, attention_mask, item_rows)
            input_ids = None
        if labels is None or item_labels is None or not self.config.changes_loss:
            return super().forward(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                labels=labels,
                **kwargs,
            )
        output = self.model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        states = output.last_hidden_state
        logits = self.lm_head(states)
        is_item = item_labels >= 0
        order = (is_item.cumsum(1) - 1).clamp_min(0)
        levels = order % self.config.num_levels
        divided = logits
        if self.config.density_temperatures is not None:
            temperatures = self._temperatures(item_labels, levels)
            # a label is predicted one position earlier
            divided = logits.float() / functional.pad(temperatures[:, 1:], (0, 1), value=1.0)[..., None]
        sid_loss = self.loss_function(logits=divided, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        lines, firsts = (is_item & (levels == 0)).nonzero(as_tuple=True)
        places = firsts[:, None] + torch.arange(self.config.num_levels, device=labels.device)  # of labels, [P, L]
        lines = lines[:, None].expand_as(places)
        rows = item_labels[lines[:, 0], firsts]
        codebook_loss, tag_loss = self._head_losses(states[lines, places - 1], labels[lines, places], rows)
        total = kwargs.get("num_items_in_batch")
        if total is not None:  # labels of all batches of a step; their losses are added up
            share = (labels != IGNORED_LABEL).sum() / total
            codebook_loss = None if codebook_loss is None else codebook_loss * share
            tag_loss = None if tag_loss is None else tag_loss * share
        return PrismCausalOutput(
            loss=self._weighted(sid_loss, codebook_loss, tag_loss),
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            sid_loss=sid_loss,
            codebook_loss=codebook_loss,
            tag_loss=tag_loss,
        )
