"""Decoding steps of decoder-only models whose layers all attend to the whole past: one cache row per request."""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cost_hf.recommender.beam_steps import Ancestry, Prompt, float_mask


class CausalSteps:
    """The beams of a request are tokens of one row over one cache; see `DecodingSteps`.

    Args:
        model: in eval mode; its decoder gives the states that its head reads.
        prompt: left-padded, so the answer starts behind the last column.
    """

    encoder_states: Tensor | None = None

    def __init__(self, model: PreTrainedModel, prompt: Prompt):
        self.decoder, self.embed, self.prompt = model.get_decoder(), model.get_input_embeddings(), prompt
        self.batch = len(prompt.attention_mask)
        self.cache = DynamicCache(config=model.config)
        self.lengths = prompt.attention_mask.sum(1)
        self.ancestry, self.depth = Ancestry(), 0
        self.first: Tensor | None = None

    def start(self, added: Tensor | None = None) -> Tensor:
        """Run the prompts once; `added` has no token to be added to."""
        if self.first is None:
            mask = self.prompt.attention_mask
            self.first = self.decoder(
                input_ids=self.prompt.input_ids,
                inputs_embeds=self.prompt.inputs_embeds,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp_min(0),
                past_key_values=self.cache,
                use_cache=True,
                **self.prompt.model_kwargs,
            ).last_hidden_state[:, -1:]
        elif self.depth:
            self.cache.crop(self.prompt.attention_mask.shape[1] - self.cache.get_seq_length())
            self.ancestry, self.depth = Ancestry(), 0
        return self.first

    def advance(self, tokens: Tensor, parents: Tensor, added: Tensor | None = None) -> Tensor:
        """Feed one token per beam, all beams of a request as one row."""
        paths = self.ancestry.extend(parents)
        prompt = self.prompt.attention_mask.bool()[:, None].expand(-1, tokens.shape[1], -1)
        embeds = self.embed(tokens) if added is None else self.embed(tokens) + added
        output = self.decoder(
            inputs_embeds=embeds,
            attention_mask=float_mask(torch.cat([prompt, paths], -1), embeds.dtype)[:, None],
            position_ids=(self.lengths + self.depth)[:, None].expand_as(tokens),
            past_key_values=self.cache,
            use_cache=True,
            **self.prompt.model_kwargs,
        )
        self.depth += 1
        return output.last_hidden_state
