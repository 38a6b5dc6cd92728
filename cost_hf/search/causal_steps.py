"""Decoding steps of decoder-only models with full attention in all layers: one cache row per request."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cost_hf.search.beam_steps import Ancestry, Prompt, float_mask
from cost_hf.search.protocol import last_states

MIN_SHARED = 8  # leading tokens from which on a second pass costs less than what it saves


def shared_tokens(prompt: Prompt) -> int:
    """Return how many leading tokens all prompts of a batch have in common, such as the words of an instruction.

    Returns:
        At most one less than the shortest prompt has; 0 for one prompt, embedded prompts, and prompts with arguments of
        the model, which may be of single rows.
    """
    if prompt.input_ids is None or prompt.model_kwargs or len(prompt.input_ids) == 1:
        return 0
    mask = prompt.attention_mask
    tokens = prompt.input_ids.gather(1, mask.argsort(dim=1, descending=True, stable=True))
    shortest = int(mask.sum(1).min())
    is_common = (tokens == tokens[:1]).all(0)[: max(shortest - 1, 0)]
    return int(is_common.long().cumprod(0).sum())


class CausalSteps:
    """The beams of a request are tokens of one row over one cache; see `DecodingSteps`.

    Leading tokens that all prompts share run once for the batch; their keys and values are then copied to every row.

    Args:
        model: in eval mode; its decoder gives the states that its head reads.
        prompt: padded on either side; the answer continues the last token of each row.
    """

    def __init__(self, model: PreTrainedModel, prompt: Prompt):
        self.model = model
        self.decoder = model.get_decoder()
        self.prompt = prompt
        self.cache = DynamicCache(config=model.config)
        self.lengths = prompt.attention_mask.sum(1)
        self.ancestry = Ancestry()
        self.depth = 0
        self.first: Tensor | None = None
        self.prompt_states: Tensor | None = None

    @property
    def batch(self) -> int:
        """B, number of requests."""
        return len(self.lengths)

    def prompt_tensors(self) -> list[Tensor]:
        """Return mask, hidden states of the last tokens, and keys and values of every layer."""
        first = self.start()
        cached = [part for layer in self.cache.layers for part in (layer.keys, layer.values)]
        return [self.prompt.attention_mask, first, *cached]

    def resumed(self, tensors: Sequence[Tensor]) -> "CausalSteps":
        """Return steps that continue from `prompt_tensors`."""
        attention_mask, first, *cached = tensors
        steps = CausalSteps(self.model, Prompt(attention_mask, model_kwargs=self.prompt.model_kwargs))
        steps.first = first
        for layer in range(len(cached) // 2):
            steps.cache.update(cached[2 * layer], cached[2 * layer + 1], layer)
        return steps

    def start(self, added: Tensor | None = None) -> Tensor:
        """Run the prompts once; `added` is ignored, since no token enters the decoder here."""
        if self.first is None:
            self.first = self._run_prompts()[:, None]
        elif (fed := self.cache.get_seq_length() - self.prompt.attention_mask.shape[1]) > 0:
            self.cache.crop(-fed)
            self.ancestry = Ancestry()
            self.depth = 0
        return self.first

    def _run_prompts(self) -> Tensor:
        """Fill the cache and return the states of the last tokens, `[B, d]`."""
        input_ids = self.prompt.input_ids
        mask = self.prompt.attention_mask
        shared = shared_tokens(self.prompt)
        if input_ids is None or shared < MIN_SHARED:
            self.prompt_states = self._decoded(input_ids, mask, first=0)
            return last_states(self.prompt_states, mask)
        order = mask.argsort(dim=1, descending=True, stable=True)  # tokens first, padding last
        tokens = input_ids.gather(1, order)
        mask = mask.gather(1, order)
        common = self._decoded(tokens[:1, :shared], mask[:1, :shared], first=0)
        self.cache.batch_repeat_interleave(self.batch)
        own = self._decoded(tokens[:, shared:], mask, first=shared)
        states = torch.cat([common.expand(self.batch, -1, -1), own], 1)
        self.prompt = Prompt(mask)
        self.prompt_states = states.gather(1, order.argsort(1)[..., None].expand_as(states))
        return last_states(states, mask)

    def _decoded(self, input_ids: Tensor | None, mask: Tensor, *, first: int) -> Tensor:
        """Return the states of the prompts' tokens from column `first` on; the cache holds those before it."""
        return self.decoder(
            input_ids=input_ids,
            inputs_embeds=self.prompt.inputs_embeds,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0)[:, first:],
            past_key_values=self.cache,
            use_cache=True,
            **self.prompt.model_kwargs,
        ).last_hidden_state

    def advance(self, tokens: Tensor, parents: Tensor, added: Tensor | None = None) -> Tensor:
        """Feed one token per beam, all beams of a request as one row."""
        visible = self.ancestry.extend(parents)
        self.depth += 1
        return self.feed(tokens, torch.full_like(tokens, self.depth - 1), visible, added)

    def feed(self, tokens: Tensor, depths: Tensor, visible: Tensor, added: Tensor | None = None) -> Tensor:
        """Feed tokens of any depths, all tokens of a request as one row."""
        prompt = self.prompt.attention_mask.bool()[:, None].expand(-1, tokens.shape[1], -1)
        embeds = self.model.get_input_embeddings()(tokens)
        embeds = embeds if added is None else embeds + added
        return self.decoder(
            inputs_embeds=embeds,
            attention_mask=float_mask(torch.cat([prompt, visible], -1), embeds.dtype)[:, None],
            position_ids=self.lengths[:, None] + depths,
            past_key_values=self.cache,
            use_cache=True,
            **self.prompt.model_kwargs,
        ).last_hidden_state
