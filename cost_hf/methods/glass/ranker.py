"""GLASS as a ranker: beam search whose decoder reads the items of the long history with the first code of a beam."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.generators.prompts import PromptBuilder, recent_rows
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.semantic_ids.trie import SidTrie


class GlassRanker(BeamRanker):
    """Ranks catalog items by the beams of a GLASS.

    Args:
        generator: the model, on its own device, in eval mode.
        prompts: most recent items as tokens, for this generator and catalog.
        trie: the legal SIDs.
        long_history: most recent items of a history that are read at all.
        item_tiers: `item_table` of the catalog, `[N, K]`; None for a model that reads no vectors.
        search: further arguments of `BeamRanker`.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        prompts: PromptBuilder,
        trie: SidTrie,
        *,
        long_history: int,
        item_tiers: Tensor | None,
        **search: Any,
    ):
        super().__init__(generator, prompts, trie, item_table=item_tiers, **search)
        self.long_history = long_history
        self.item_tokens = prompts.item_tokens.to(generator.device)

    def history_inputs(self, histories: Tensor) -> dict[str, Tensor]:
        """Return what the model reads of whole histories `[B, T]` (-1 pads on the right), as in its training.

        Where one pass learns all next items of a prompt, these are the items before the prompt, else those in it, too.
        """
        histories = histories.to(self.generator.device)
        if self.prompts.learns_all_positions:
            before = (histories >= 0).sum(1, keepdim=True) - self.prompts.max_history
            histories = histories.masked_fill(torch.arange(histories.shape[1], device=before.device) >= before, -1)
        rows = recent_rows(histories, self.long_history)
        return self.generator.history_inputs(rows, self.item_tokens, self.item_table)

    def _model_kwargs(self, histories: Tensor, item_rows: Tensor) -> Mapping[str, Any] | None:
        return self.history_inputs(histories)
