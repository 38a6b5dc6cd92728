"""`MergedT5ForConditionalGeneration`: T5 whose encoder reads k latents of an item in place of its L tokens.

The merger is that of ACERec (arXiv 2602.13573); the decoder writes whole semantic IDs, as that of any T5. The encoder
returns every latent L / k times, so that its states stand where the tokens stood: masks stay as they are, and so does
every search. Attention to equal keys is attention to one of them.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Stack

from cost_hf.methods.acerec.configuration_acerec import AceRecConfig
from cost_hf.methods.acerec.layers_acerec import AttentiveTokenMerger, initialize_merger

from .configuration_merged_t5 import MergedT5Config


class MergingEncoder(T5Stack):
    """T5's encoder over merged items; prompts are whole items, padded on the left, and one token after them.

    Args:
        config: sizes.
    """

    config: MergedT5Config

    def __init__(self, config: MergedT5Config) -> None:
        super().__init__(config)
        sizes = AceRecConfig(
            level_sizes=tuple(config.level_sizes),
            num_latents=config.num_latents,
            merger=config.merger,
            hidden_size=config.d_model,
            num_heads=config.merger_heads,
        )
        self.merger = AttentiveTokenMerger(sizes)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AttentiveTokenMerger):
            initialize_merger(module, std=self.config.initializer_factor)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return T5's encoder output, with states in the places of the tokens, `[B, S, d]`.

        Args:
            input_ids: tokens of items and one more, `[B, T · L + 1]`.
            attention_mask: `[B, T · L + 1]`; all tokens are read by default.
            inputs_embeds: refused, because tokens are merged.
            kwargs: of T5's encoder.
        """
        if input_ids is None or (input_ids.shape[1] - 1) % self.config.num_levels:
            found = "inputs_embeds" if input_ids is None else f"{input_ids.shape[1]} tokens"
            raise ValueError(
                f"expected input_ids of whole items with {self.config.num_levels} tokens each and one token after "
                f"them, got {found}; build prompts by the recommender (prompt_inputs)"
            )
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        is_item = mask[:, : -1 : self.config.num_levels].repeat_interleave(self.config.num_latents, dim=1)
        output = super().forward(
            inputs_embeds=torch.cat([self._latents(input_ids[:, :-1]), self.embed_tokens(input_ids[:, -1:])], dim=1),
            attention_mask=torch.cat([is_item, mask[:, -1:]], dim=1),
            **kwargs,
        )
        states = output.last_hidden_state
        items = states[:, :-1].repeat_interleave(self.config.num_levels // self.config.num_latents, dim=1)
        output.last_hidden_state = torch.cat([items, states[:, -1:]], dim=1)
        return output

    def _latents(self, tokens: Tensor) -> Tensor:
        """Return latents `[B, T · k, d]` of the tokens of items `[B, T · L]`; those of pads hold no meaning."""
        first = self.config.first_code_id
        table = self.embed_tokens.weight[first : first + sum(self.config.level_sizes)]
        items = (tokens - first).clamp_min(0).unflatten(1, (-1, self.config.num_levels))
        latents, _ = self.merger(table, items.flatten(0, 1))
        return latents.view(len(tokens), -1, latents.shape[-1])


class MergedT5ForConditionalGeneration(T5ForConditionalGeneration):
    """T5 that generates semantic IDs from histories of items merged to latents.

    Args:
        config: sizes.
    """

    config_class = MergedT5Config
    config: MergedT5Config

    def __init__(self, config: MergedT5Config) -> None:
        super().__init__(config)
        own = copy.deepcopy(config)
        own.is_decoder = False
        own.use_cache = False
        self.encoder = MergingEncoder(own)
        self.post_init()
