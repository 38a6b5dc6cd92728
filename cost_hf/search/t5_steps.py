"""Decoding steps of the T5 family: encoder and cross-attention keys once per request, beams as queries of one row."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.search.beam_steps import Ancestry, Prompt, float_mask
from cost_hf.search.protocol import MixesCrossAttention


class T5Steps:
    """T5, mT5 and UMT5, gated or plain feed-forward; see `DecodingSteps`.

    Plain products instead of the fused attention kernels: for a few dozen queries and keys those are slower on CPUs.

    Args:
        model: in eval mode.
        prompt: padded on either side.
        widths: the most beams that `advance` will feed at each depth, the start token included.
    """

    def __init__(self, model: PreTrainedModel, prompt: Prompt, widths: Sequence[int]):
        self.model = model
        self.decoder = model.get_decoder()
        self.prompt = prompt
        self.widths = widths
        states = prompt.encoder_states
        if states is None:
            states = model.get_encoder()(
                input_ids=prompt.input_ids,
                inputs_embeds=prompt.inputs_embeds,
                attention_mask=prompt.attention_mask,
                **prompt.model_kwargs,
            ).last_hidden_state
        self.states = states
        self.layers: list[_Layer] = []
        self.ancestry = Ancestry()
        self.fed: list[int] = []
        self.key_depths: Tensor | None = None

    @property
    def batch(self) -> int:
        """B, number of requests."""
        return len(self.states)

    @property
    def prompt_states(self) -> Tensor | None:
        """Last hidden states of the encoder, `[B, S, d]`."""
        return self.states

    def prompt_tensors(self) -> list[Tensor]:
        """Return encoder states and mask."""
        return [self.states, self.prompt.attention_mask]

    def resumed(self, tensors: Sequence[Tensor]) -> "T5Steps":
        """Return steps that continue from `prompt_tensors`."""
        states, attention_mask = tensors
        return T5Steps(self.model, Prompt(attention_mask, encoder_states=states), self.widths)

    def start(self, added: Tensor | None = None) -> Tensor:
        """Feed the decoder start token."""
        self.ancestry = Ancestry()
        self.fed = []
        self.key_depths = None
        if not self.layers:
            self.layers = self._layers()
        tokens = torch.full((self.batch, 1), start_token(self.model), device=self.states.device)
        return self.advance(tokens, torch.zeros_like(tokens), added)

    def advance(self, tokens: Tensor, parents: Tensor, added: Tensor | None = None) -> Tensor:
        """Feed one token per beam; its relative position depends on its depth, not on its index in the row."""
        hidden, context = self._entering(tokens, added)
        paths = float_mask(self.ancestry.extend(parents), hidden.dtype)[:, None]
        depth = len(self.fed)
        before = sum(self.fed)
        self.fed.append(tokens.shape[1])
        mask: Tensor | None = None
        for layer in self.layers:
            if layer.relative_bias is not None:
                bias = layer.relative_bias[:, depth, :, None]  # [H, L, 1], by depth of the key
                row = torch.cat([bias[:, key].expand(-1, width) for key, width in enumerate(self.fed)], dim=1)
                mask = (row[:, None] + paths).flatten(0, 1)  # [B·H, R, tokens so far]
            hidden = layer(hidden, mask, before, context)
        return self.decoder.final_layer_norm(hidden)

    def feed(self, tokens: Tensor, depths: Tensor, visible: Tensor, added: Tensor | None = None) -> Tensor:
        """Feed tokens of any depths; all of them attend to the start token."""
        hidden, context = self._entering(tokens, added)
        queries = depths + 1
        start = torch.zeros_like(queries[:, :1])
        keys = torch.cat([start if self.key_depths is None else self.key_depths, queries], dim=1)
        self.key_depths = keys
        paths = float_mask(torch.cat([torch.ones_like(visible[..., :1]), visible], -1), hidden.dtype)
        before = sum(self.fed)
        self.fed.append(tokens.shape[1])
        mask: Tensor | None = None
        for layer in self.layers:
            if layer.relative_bias is not None:
                bias = layer.relative_bias[:, queries[:, :, None], keys[:, None]].transpose(0, 1)  # [B, H, R, all fed]
                mask = (bias + paths[:, None]).flatten(0, 1)
            hidden = layer(hidden, mask, before, context)
        return self.decoder.final_layer_norm(hidden)

    def _entering(self, tokens: Tensor, added: Tensor | None) -> tuple[Tensor, Any]:
        """Return the embeddings that enter the decoder, `[B, R, d]`, and what cross-attention layers read besides."""
        hidden = self.decoder.embed_tokens(tokens)
        if added is None:
            return hidden, None
        if isinstance(self.model, MixesCrossAttention):
            return hidden, self.model.cross_context(added)
        return hidden + added, None

    def _layers(self) -> "list[_Layer]":
        visible = self.prompt.attention_mask.bool()[:, None, None]
        source = float_mask(visible, self.states.dtype) if self.prompt.is_padded else None
        biases = _relative_biases(self.decoder, len(self.widths))
        return [
            _Layer(block, bias, self.states, source, sum(self.widths))
            for block, bias in zip(self.decoder.block, biases, strict=True)
        ]


def start_token(model: PreTrainedModel) -> int:
    """Return the decoder's start token, as `generate()` finds it; raise ValueError where there is none."""
    own = model.generation_config
    for token in (own.decoder_start_token_id, getattr(model.config, "decoder_start_token_id", None), own.bos_token_id):
        if token is not None:
            return token
    raise ValueError(
        f"{type(model).__name__} names no decoder_start_token_id, neither in generation_config nor in config; set it "
        "to the first decoder token in training (T5: the pad token)"
    )


class _Layer:
    """One decoder block for beams that share the encoded prompt of their request."""

    def __init__(self, block: Any, relative_bias: Tensor | None, states: Tensor, source: Tensor | None, room: int):
        self.self_norm = block.layer[0].layer_norm
        self.self_attention = block.layer[0].SelfAttention
        self.cross_norm = block.layer[1].layer_norm
        self.cross_attention = block.layer[1].EncDecAttention
        self.mix: Any = getattr(block.layer[1], "mix", None)
        self.feed_forward = block.layer[-1]
        self.relative_bias = relative_bias
        self.heads = self.self_attention.n_heads
        self.width = self.self_attention.key_value_proj_dim
        self.cross_keys = self._by_head(self.cross_attention.k(states)).transpose(1, 2)
        self.cross_values = self._by_head(self.cross_attention.v(states))
        self.cross_mask = None if source is None else source.expand(-1, self.heads, -1, -1).flatten(0, 1)
        shape = (len(states) * self.heads, room, self.width)
        self.keys = states.new_empty(shape)
        self.values = states.new_empty(shape)

    def __call__(self, hidden: Tensor, mask: Tensor | None, before: int, context: Any = None) -> Tensor:
        normed = self.self_norm(hidden)
        after = before + hidden.shape[1]
        self._reserve(after)
        self.keys[:, before:after] = self._by_head(self.self_attention.k(normed))
        self.values[:, before:after] = self._by_head(self.self_attention.v(normed))
        queries = self._by_head(self.self_attention.q(normed))
        attended = _attend(queries, self.keys[:, :after].transpose(1, 2), self.values[:, :after], mask)
        hidden = hidden + self.self_attention.o(self._merge(attended, hidden))
        normed = self.cross_norm(hidden)
        queries = self._by_head(self.cross_attention.q(normed))
        attended = _attend(queries, self.cross_keys, self.cross_values, self.cross_mask)
        attended = self.cross_attention.o(self._merge(attended, hidden))
        if context is not None:
            attended = self.mix(normed, attended, context)
        return self.feed_forward(hidden + attended)

    def _reserve(self, room: int) -> None:
        """Make room for keys and values, in steps that keep the number of copies small."""
        missing = room - self.keys.shape[1]
        if missing > 0:
            more = self.keys.new_empty(len(self.keys), max(missing, self.keys.shape[1]), self.width)
            self.keys = torch.cat([self.keys, more], dim=1)
            self.values = torch.cat([self.values, more], dim=1)

    def _by_head(self, projected: Tensor) -> Tensor:
        """Turn `[B, R, H·D]` into `[B·H, R, D]`."""
        batch, rows, _ = projected.shape
        return projected.view(batch, rows, self.heads, self.width).transpose(1, 2).reshape(-1, rows, self.width)

    def _merge(self, attended: Tensor, like: Tensor) -> Tensor:
        """Turn `[B·H, R, D]` into `[B, R, H·D]`."""
        batch, rows, _ = like.shape
        return attended.view(batch, self.heads, rows, self.width).transpose(1, 2).reshape(batch, rows, -1)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of T5, without scaling: queries `[n, R, D]`, keys `[n, D, S]`, values `[n, S, D]`."""
    scores = queries @ keys if mask is None else torch.baddbmm(mask, queries, keys)
    return scores.softmax(-1, dtype=torch.float32).to(values.dtype) @ values


def _relative_biases(decoder: Any, depths: int) -> list[Tensor | None]:
    """Bias by depth of query and key `[H, depths, depths]` of each block; None where it shares the previous one's."""
    attentions = [block.layer[0].SelfAttention for block in decoder.block]
    return [part.compute_bias(depths, depths)[0] if part.has_relative_attention_bias else None for part in attentions]
