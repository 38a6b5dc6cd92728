"""A generator as a ranker: histories in, the beams' items out."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel

from cost_hf.recommender.beam_search import beam_search, expand_leaves
from cost_hf.recommender.beam_steps import supports_beam_search
from cost_hf.recommender.logits_processor import SidLogitsProcessor
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.recommender.rankers import Ranking
from cost_hf.semantic_ids.trie import SidTrie

DEAD_BEAM_SCORE = -1e8  # `generate` fills missing beams with repeats of legal ones at about -1e9


class BeamRanker:
    """Ranks catalog items by constrained beam search; a `Ranker`.

    Args:
        generator: the model; it is used as it is, on its own device, in eval mode.
        prompts: layout of histories for this generator and catalog.
        trie: the legal SIDs.
        num_beams: beams, and so the longest list.
    """

    def __init__(self, generator: PreTrainedModel, prompts: PromptBuilder, trie: SidTrie, *, num_beams: int):
        self.generator, self.prompts, self.num_beams = generator, prompts, num_beams
        self.trie = trie.to(generator.device)

    @torch.inference_mode()
    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best `min(top_k, num_beams)` items of every history `[B, T]` (-1 pads on the right)."""
        device = self.generator.device
        input_ids, attention_mask = (part.to(device) for part in self.prompts.inputs(histories, user_ids=user_ids))
        mask = None if mask is None else mask.to(device)
        search = self._search if supports_beam_search(self.generator) else self._generate
        ranking = search(input_ids, attention_mask, mask)
        return Ranking(ranking.items[:, :top_k].cpu(), ranking.scores[:, :top_k].cpu())

    def _search(self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor | None) -> Ranking:
        output = beam_search(
            self.generator,
            input_ids,
            attention_mask,
            trie=self.trie,
            vocabulary=self.prompts.vocabulary,
            num_beams=self.num_beams,
            mask=mask,
        )
        return Ranking(output.items, output.scores)

    def _generate(self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor | None) -> Ranking:
        """Rank by `generate()` for architectures that the engine does not run."""
        vocabulary = self.prompts.vocabulary
        levels = len(vocabulary.level_sizes)
        output = self.generator.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            num_beams=self.num_beams,
            num_return_sequences=self.num_beams,
            max_new_tokens=levels,
            eos_token_id=None,
            forced_bos_token_id=None,  # BART-like models would break the first and the last level
            forced_eos_token_id=None,
            length_penalty=0.0,
            do_sample=False,
            logits_processor=LogitsProcessorList([SidLogitsProcessor(self.trie, vocabulary, mask=mask)]),
            return_dict_in_generate=True,
            output_scores=True,
        )
        shape = (len(input_ids), self.num_beams)
        tokens, scores = output.sequences[:, -levels:], output.sequences_scores
        dead = (scores < DEAD_BEAM_SCORE) | (tokens < 0).any(1)  # it marks beams that never finished with -1
        first_codes = vocabulary.level_offsets.to(tokens.device)
        codes = vocabulary.decode(torch.where(dead[:, None], first_codes, tokens))
        nodes = self.trie.prefix(codes).view(shape)
        scores = scores.masked_fill(dead, -torch.inf).view(shape)
        expanded = expand_leaves(
            self.trie, nodes, scores, codes.view(*shape, levels), num_beams=self.num_beams, mask=mask
        )
        return Ranking(expanded.items, expanded.scores)
