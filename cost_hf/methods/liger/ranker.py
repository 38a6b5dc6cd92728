"""LIGER as a ranker: the items of the beams and all items without a training click, ranked by their text vectors.

Beams hardly ever reach an item whose semantic ID was not trained; the dense head scores it like any other (arXiv
2411.18814).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from cost_hf.generators.prompts import PromptBuilder
from cost_hf.recommenders.rankers import Ranking, popularity_order, score_tiles
from cost_hf.recommenders.text_generative import ItemTable
from cost_hf.search.beam_output import BeamOutput, expand_leaves
from cost_hf.search.beam_search import beam_search
from cost_hf.search.generate_search import DEAD_BEAM_SCORE, NEUTRAL
from cost_hf.semantic_ids.catalog_mask import CatalogMask, check_batch
from cost_hf.semantic_ids.item_list import ItemRows
from cost_hf.semantic_ids.options import ranked_number
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary


@dataclass(frozen=True)
class LigerSearch:
    """How candidates are found.

    Attributes:
        num_beams: beams of the search, which become candidates (K).
        is_constrained: whether the trie constrains the beams to items of the catalog; published figures come from
            unconstrained beams.
        ranks_catalog: take the whole catalog as candidates instead, by cosine alone (dense retrieval).
        dense_top_k: items nearest by cosine that become candidates as well.
        normalization: of the beams' scores, as for `beam_search`.
    """

    num_beams: int = 20
    is_constrained: bool = True
    ranks_catalog: bool = False
    dense_top_k: int = 0
    normalization: str = "vocabulary"


@dataclass(frozen=True, eq=False)
class DenseIndex:
    """Item embeddings and flags of a catalog of N rows, for the dense head.

    Attributes:
        table: item embeddings; None for a model that reads no texts.
        present: rows that may be recommended, bool `[N]`.
        unclicked: rows among them without a click in training, bool `[N]`.
        tie_rank: place of every row among equal scores: training clicks, then item id; int64 `[N]`.
    """

    table: ItemTable | None
    present: Tensor
    unclicked: Tensor
    tie_rank: Tensor

    @classmethod
    def of(
        cls, catalog: ItemRows, popularity: np.ndarray, table: ItemTable | None, device: torch.device
    ) -> "DenseIndex":
        """Return the index of a catalog with its training clicks `[N]`, on a device."""
        present = torch.from_numpy(~catalog.removed)
        unclicked = present & torch.from_numpy(np.asarray(popularity) == 0)
        tie_rank = torch.from_numpy(popularity_order(popularity, catalog.item_ids)).argsort()
        return cls(table, present.to(device), unclicked.to(device), tie_rank.to(device))

    @cached_property
    def unclicked_rows(self) -> Tensor:
        """Rows without a click in training that may be recommended, int64 `[C]`."""
        return self.unclicked.nonzero()[:, 0]


class LigerRanker:
    """Ranks candidates by the cosine of user and item over the temperature; a `Ranker`.

    A model without a dense head returns its beams, with their log-probabilities.

    Args:
        generator: a LIGER, in eval mode, used on its own device.
        prompts: layout of histories for this generator and catalog.
        trie: the legal SIDs.
        index: of the same catalog.
        search: how candidates are found.

    Attributes:
        num_invalid_beams: unconstrained beams so far that were no item of the catalog and were dropped.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        prompts: PromptBuilder,
        trie: SidTrie,
        index: DenseIndex,
        search: LigerSearch,
    ):
        self.generator = generator
        self.prompts = prompts
        self.search = search
        self.trie = trie.to(generator.device)
        self.index = index
        self.num_invalid_beams = 0

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best items among the candidates of every history `[B, T]` (-1 pads on the right).

        Lists are shorter than `top_k` where there are fewer candidates.
        """
        top_k = ranked_number(top_k, "top_k", self.trie.num_items)
        catalog_mask = CatalogMask.of(mask, self.trie.num_items, self.trie.item_ids)
        with torch.inference_mode():
            items, scores = self._ranked(histories, top_k, catalog_mask, user_ids)
        return Ranking(items.cpu().clone(), scores.cpu().clone())

    def _ranked(
        self, histories: Tensor, top_k: int, mask: CatalogMask | None, user_ids: Sequence[str] | None
    ) -> tuple[Tensor, Tensor]:
        device = self.generator.device
        inputs = self.prompts.inputs_with_items(histories, user_ids=user_ids)
        input_ids, attention_mask, item_rows = (part.to(device) for part in inputs)
        table = None if self.index.table is None else self.index.table.rows
        read = {"item_rows": item_rows, "item_table": table}
        beams: Tensor | None = None
        if self.search.ranks_catalog:
            embeds = self.generator.embed_prompt(input_ids, attention_mask, **read)
            states = _prompt_states(self.generator, embeds, attention_mask)
        else:
            found = self._beams(input_ids, attention_mask, read, mask)
            if not self.generator.config.has_dense_head:
                return found.items[:, :top_k], found.scores[:, :top_k]
            states = found.prompt_states  # type: ignore[assignment]
            beams = found.items
        users = self.generator.users(states, item_rows, attention_mask)
        users = functional.normalize(users.float(), dim=-1) / self.generator.config.logits_temperature  # [B, D]
        if mask is not None and mask.batch is not None:
            check_batch(len(users), mask.batch)
        parts = []
        for tile in score_tiles(len(users), self.trie.num_items):
            allowed = self.index.present.expand(len(tile), -1)  # [b, N]
            if mask is not None:
                allowed = allowed & mask.take(tile).dense(len(tile)).to(device)
            parts.append(self._best(users[tile], None if beams is None else beams[tile], allowed, top_k))
        return torch.cat([items for items, _ in parts]), torch.cat([scores for _, scores in parts])

    def _beams(
        self, input_ids: Tensor, attention_mask: Tensor, read: dict[str, Any], mask: CatalogMask | None
    ) -> BeamOutput:
        if self.search.is_constrained:
            return beam_search(
                self.generator,
                input_ids,
                attention_mask,
                trie=self.trie,
                vocabulary=self.prompts.vocabulary,
                num_beams=self.search.num_beams,
                mask=mask,
                normalization=self.search.normalization,
                model_kwargs=read,
                output_prompt_states=True,
            )
        embeds = self.generator.embed_prompt(input_ids, attention_mask, **read)
        found, invalid = free_beam_search(
            self.generator,
            embeds,
            attention_mask,
            trie=self.trie,
            vocabulary=self.prompts.vocabulary,
            num_beams=self.search.num_beams,
            mask=mask,
        )
        self.num_invalid_beams += invalid
        return found

    def _best(self, users: Tensor, beams: Tensor | None, allowed: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        """Return the best candidates and their scores, `[B, min(top_k, W)]`, for W candidates a request.

        Args:
            users: unit vectors over the temperature, `[B, D]`.
            beams: items of the beams, best first, `[B, R]`, -1 where there is none; None takes the whole catalog.
            allowed: items that a request may get, bool `[B, N]`.
        """
        table = self.index.table
        if table is None:
            raise ValueError("the dense head scores items by their texts, and the index has no item embeddings")
        if beams is None:
            every = torch.arange(len(table.targets), device=users.device).expand(len(users), -1)
            return self._ordered(every, _hidden(users @ table.targets.T, allowed), top_k)
        rows = beams
        if self.search.dense_top_k:
            cosines = _hidden(users @ table.targets.T, allowed)
            nearest = cosines.topk(min(self.search.dense_top_k, cosines.shape[1]), dim=1)
            rows = torch.cat([rows, nearest.indices.masked_fill(nearest.values == -torch.inf, -1)], 1)
        # each item once; unclicked items are candidates anyway
        rows = _without_repeats(rows.masked_fill(self.index.unclicked[rows.clamp_min(0)], -1))
        is_allowed = allowed.gather(1, rows.clamp_min(0)) & (rows >= 0)
        scores = _hidden((table.targets[rows.clamp_min(0)] @ users[:, :, None])[..., 0], is_allowed)
        unclicked = self.index.unclicked_rows
        others = _hidden(users @ table.targets[unclicked].T, allowed[:, unclicked])  # [B, C]
        rows = torch.cat([rows, unclicked.expand(len(users), -1)], 1)
        return self._ordered(rows, torch.cat([scores, others], 1), top_k)

    def _ordered(self, rows: Tensor, scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        """Return rows and scores `[B, W]` cut to the best, equal ones in the order of `tie_rank`."""
        order = self.index.tie_rank[rows.clamp_min(0)].argsort(dim=1)
        rows = rows.gather(1, order)
        scores = scores.gather(1, order)
        best = scores.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        rows = rows.gather(1, best)
        scores = scores.gather(1, best)
        return rows.masked_fill(scores == -torch.inf, -1), scores


def free_beam_search(
    generator: PreTrainedModel,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    *,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int,
    mask: CatalogMask | None = None,
) -> tuple[BeamOutput, int]:
    """Search without a constraint, by `generate()`, and keep the beams that are items, in beam order.

    Args:
        generator, trie, vocabulary, num_beams, mask: as for `beam_search`; the mask is applied to what was found.
        inputs_embeds: embedded prompts, `[B, S, d]`.
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`.

    Returns:
        What `beam_search` returns, `prompt_states` included, and how many of the beams were no item of the catalog.
    """
    levels = len(vocabulary.level_sizes)
    batch = len(inputs_embeds)
    width = max(num_beams, 2)  # one beam is greedy decoding to `generate`, which then returns no scores
    states = _prompt_states(generator, inputs_embeds, attention_mask)
    inputs = {"inputs_embeds": inputs_embeds}
    if generator.config.is_encoder_decoder:
        inputs = {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}
    output = generator.generate(
        **inputs,
        attention_mask=attention_mask,
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=levels,
        **NEUTRAL,
        return_dict_in_generate=True,
        output_scores=True,
    )
    codes = output.sequences[:, -levels:] - vocabulary.level_offsets.to(inputs_embeds.device)
    sizes = torch.tensor(vocabulary.level_sizes, device=codes.device)
    is_code = ((codes >= 0) & (codes < sizes)).all(1)
    codes = codes.masked_fill(~is_code[:, None], 0).view(batch, width, levels)[:, :num_beams]
    nodes = trie.prefix(codes)
    is_item = is_code.view(batch, width)[:, :num_beams] & (nodes >= 0)
    scores = output.sequences_scores.view(batch, width)[:, :num_beams]
    is_item &= scores > DEAD_BEAM_SCORE
    found = expand_leaves(
        trie,
        nodes.masked_fill(~is_item, -1),
        scores.masked_fill(~is_item, -torch.inf),
        codes,
        num_beams=num_beams,
        mask=None if mask is None else mask.on(trie),
    )
    return BeamOutput(found.items, found.scores, found.codes, states), int((~is_item).sum())


def _prompt_states(generator: PreTrainedModel, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the last hidden states of prompts, `[B, S, d]`: of the encoder, or of the decoder where there is none."""
    if generator.config.is_encoder_decoder:
        return generator.get_encoder()(inputs_embeds=inputs_embeds, attention_mask=attention_mask).last_hidden_state
    return (
        generator.get_decoder()(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=(attention_mask.cumsum(1) - 1).clamp_min(0),
        )
    ).last_hidden_state


def _hidden(scores: Tensor, allowed: Tensor) -> Tensor:
    return scores.masked_fill(~allowed, -torch.inf)


def _without_repeats(rows: Tensor) -> Tensor:
    """Return catalog rows `[B, R]` in which only the first of equal ones is left; -1 elsewhere."""
    values, order = rows.sort(dim=1, stable=True)
    is_repeat = functional.pad(values[:, 1:] == values[:, :-1], (1, 0))
    return rows.masked_fill(torch.zeros_like(is_repeat).scatter(1, order, is_repeat), -1)
