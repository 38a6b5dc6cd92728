"""Histories of catalog rows to token ids: the one place that knows how a generator's input is laid out.

An item is exactly L tokens, so every layout is index arithmetic on one `[N, L]` table. A causal row is
`[user] <|sid_begin|> item item …` and the answer follows it; a seq2seq source is `[user] item item … </s>` and the
answer is the decoder's output. Labels are the L tokens of an item without an end token: the depth is fixed (DESIGN:
decision 7).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

IGNORED_LABEL = -100


@dataclass(frozen=True)
class PromptBuilder:
    """Lays out histories as model inputs.

    Args:
        vocabulary: token ids of codes, markers and hashed user tokens.
        item_tokens: token ids of every catalog row, `[N, L]`.
        is_causal: causal layout when true, seq2seq layout otherwise.
        max_history: most recent items kept.
    """

    vocabulary: SidVocabulary
    item_tokens: Tensor
    is_causal: bool
    max_history: int

    @classmethod
    def for_catalog(
        cls, catalog: Catalog, vocabulary: SidVocabulary, *, is_causal: bool, max_history: int
    ) -> "PromptBuilder":
        """Build the token table of `catalog`; raise ValueError where `max_history` is below one item."""
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1 item, got {max_history!r}; set generator.max_history")
        codes = torch.tensor(np.asarray(catalog.codes))
        return cls(vocabulary, vocabulary.encode(codes), is_causal, max_history)

    def inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return left-padded `input_ids` and `attention_mask`, both `[B, S]`.

        Args:
            histories: catalog rows, oldest first, `[B, T]`, padded with -1 on the right.
            user_ids: raw user ids, used when the vocabulary has hashed user tokens.
        """
        rows = self._recent(histories.cpu())
        tokens = self.item_tokens[rows.clamp_min(0)].masked_fill((rows < 0)[..., None], self.vocabulary.pad_id)
        batch, present = len(rows), (rows >= 0).repeat_interleave(self.item_tokens.shape[1], dim=1)
        pieces, masks = [tokens.flatten(1)], [present]
        edge = self.vocabulary.begin_id if self.is_causal else self.vocabulary.eos_id
        pieces.insert(0 if self.is_causal else 1, torch.full((batch, 1), edge))
        masks.insert(0 if self.is_causal else 1, torch.ones(batch, 1, dtype=torch.bool))
        if self.vocabulary.num_user_tokens and user_ids is not None:
            pieces.insert(0, torch.tensor([[self.vocabulary.user_token_id(user)] for user in user_ids]))
            masks.insert(0, torch.ones(batch, 1, dtype=torch.bool))
        return _pack_left(torch.cat(pieces, 1), torch.cat(masks, 1), self.vocabulary.pad_id)

    def labels(self, targets: Tensor) -> Tensor:
        """Return the L tokens of each target row, `[B, L]`."""
        return self.item_tokens[targets]

    def _recent(self, histories: Tensor) -> Tensor:
        """Keep the most recent `max_history` rows, aligned to the right, padded with -1 on the left: `[B, W]`."""
        lengths = (histories >= 0).sum(1)
        width = min(self.max_history, int(lengths.max())) if len(lengths) else 0
        index = lengths[:, None] - width + torch.arange(width)
        return torch.where(index >= 0, histories.gather(1, index.clamp_min(0)), -1)


def _pack_left(tokens: Tensor, present: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """Move the present tokens of every row to its right end, in order, and cut columns that hold padding only."""
    order = present.to(torch.int8).argsort(dim=1, stable=True)  # absent tokens first
    tokens, present = tokens.gather(1, order), present.gather(1, order)
    first = tokens.shape[1] - int(present.sum(1).max()) if len(tokens) else 0
    tokens, present = tokens[:, first:], present[:, first:]
    return tokens.masked_fill(~present, pad_id), present.long()
