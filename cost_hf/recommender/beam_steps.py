"""One decoding step for all beams of all requests, with everything that beams share computed once per request.

`generate()` copies the prompt's keys and values for every beam. Here the beams of a request are tokens of one row: a
float mask lets each see the prompt and its own ancestors, so nothing is copied or reordered. Each class calls the
model's own modules, so adapters and quantised layers count.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel


class DecodingSteps(Protocol):
    """Logits of the next token for the beams of a batch of requests."""

    def start(self) -> Tensor:
        """Return the logits after the prompt, `[B, 1, V]`."""

    def advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Append `tokens` `[B, R]` to the beams `parents` `[B, R]` of the previous step; return logits `[B, R, V]`."""


class _Ancestry:
    """Which of the beam tokens fed so far lie on the path of each beam: bool `[B, R, tokens so far]`."""

    def __init__(self) -> None:
        self.paths: Tensor | None = None

    def extend(self, parents: Tensor) -> Tensor:
        """Take the step in which beam r continues beam `parents[:, r]`; return the paths, own token included."""
        batch, beams = parents.shape
        own = torch.eye(beams, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        if self.paths is None:
            self.paths = own
        else:
            index = parents[..., None].expand(-1, -1, self.paths.shape[-1])
            self.paths = torch.cat([self.paths.gather(1, index), own], dim=-1)
        return self.paths


def _float_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `[B, 1, R, S]` with 0 where `visible` `[B, R, S]` and the lowest number elsewhere."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


class CausalSteps:
    """Decoder-only models with full attention in every layer: one cache row per request."""

    def __init__(self, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor):
        self.model, self.input_ids, self.attention_mask = model, input_ids, attention_mask
        self.cache = DynamicCache(config=model.config)
        self.lengths = attention_mask.sum(1)
        self.ancestry, self.depth = _Ancestry(), 0

    def start(self) -> Tensor:
        """Run the left-padded prompts once."""
        positions = (self.attention_mask.cumsum(1) - 1).clamp_min(0)
        return self.model(
            input_ids=self.input_ids,
            attention_mask=self.attention_mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits

    def advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Feed one token per beam, all beams of a request as one row."""
        paths = self.ancestry.extend(parents)
        prompt = self.attention_mask.bool()[:, None].expand(-1, tokens.shape[1], -1)
        output = self.model(
            input_ids=tokens,
            attention_mask=_float_mask(torch.cat([prompt, paths], -1), self.model.dtype),
            position_ids=(self.lengths + self.depth)[:, None].expand_as(tokens),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.depth += 1
        return output.logits


class T5Steps:
    """The T5 family: encoder and cross-attention keys once per request, beams as query rows of the decoder."""

    def __init__(self, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor):
        self.model, self.decoder = model, model.get_decoder()
        encoder = model.get_encoder()
        self.states = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        self.source_mask = _float_mask(attention_mask.bool()[:, None], self.states.dtype)
        self.cache = EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache(config=model.config))
        self.ancestry, self.widths = _Ancestry(), list[int]()

    def start(self) -> Tensor:
        """Feed the decoder start token."""
        start = self.model.config.decoder_start_token_id
        tokens = torch.full((len(self.states), 1), start, dtype=torch.long, device=self.states.device)
        return self.advance(tokens, torch.zeros_like(tokens))

    def advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Feed one token per beam; depth alone, not the place in the row, decides the relative position."""
        mask = _float_mask(self.ancestry.extend(parents), self.states.dtype)
        self.widths.append(tokens.shape[1])
        position_bias = self._relative_bias() + mask
        hidden = self.decoder.embed_tokens(tokens)
        for block in self.decoder.block:
            hidden = block(
                hidden,
                attention_mask=torch.zeros_like(position_bias[:1, :1, :1]),  # the mask is in the bias already
                position_bias=position_bias,
                encoder_hidden_states=self.states,
                encoder_attention_mask=self.source_mask,
                past_key_values=self.cache,
            )[0]
        hidden = self.decoder.final_layer_norm(hidden)
        if _scales_outputs(self.model.config):
            hidden = hidden * self.model.config.d_model**-0.5
        return self.model.lm_head(hidden)

    def _relative_bias(self) -> Tensor:
        """Bias of the newest depth against every token fed so far, `[1, H, 1, S]`."""
        depth = len(self.widths)
        bias = self.decoder.block[0].layer[0].SelfAttention.compute_bias(depth, depth)[:, :, -1:]
        repeats = torch.tensor(self.widths, device=bias.device)
        return bias.repeat_interleave(repeats, dim=-1)


def _scales_outputs(config: Any) -> bool:
    # releases before 5.20 scale the output of every tied model and have no flag of their own
    return bool(getattr(config, "scale_decoder_outputs", config.tie_word_embeddings))


def decoding_steps(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> DecodingSteps:
    """Return the step engine for `model`; raise ValueError for an architecture it can't run exactly."""
    if not supports_beam_search(model):
        raise ValueError(
            f"beam_search runs T5 models and decoder-only models with full attention, got {type(model).__name__}; "
            "use generate() with logits_processor=[SidLogitsProcessor(trie, vocabulary)] instead"
        )
    engine = T5Steps if model.config.is_encoder_decoder else CausalSteps
    return engine(model, input_ids, attention_mask)


def supports_beam_search(model: PreTrainedModel) -> bool:
    """Tell whether `beam_search` is exact for this model."""
    config = model.config
    if config.is_encoder_decoder:
        return config.model_type == "t5" and hasattr(model, "lm_head")
    layer_types = getattr(config, "layer_types", None) or ["full_attention"]
    return config.model_type in ("llama", "qwen2", "qwen3", "gpt2") and set(layer_types) == {"full_attention"}
