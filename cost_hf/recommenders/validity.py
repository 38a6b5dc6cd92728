"""The share of generated SIDs that name no item of the catalog, with the trie constraint and without it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.search.generate_search import DEAD_BEAM_SCORE, NEUTRAL
from cost_hf.search.logits_processor import SidLogitsProcessor

BATCH = 32


def invalid_shares(
    recommender: GenerativeRecommender, histories: Tensor, *, num_beams: int = 10, user_ids: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the share of the beams of `generate()` that name no item of the catalog.

    Args:
        recommender: the trained system.
        histories: catalog rows `[B, T]`, -1 pads on the right.
        num_beams: beams of both searches.
        user_ids: one per history, for generators trained with user tokens.

    Returns:
        `invalid` under the trie constraint and `invalid_unconstrained` without it.
    """
    catalog = recommender.catalog
    known = {tuple(codes) for codes in catalog.codes[~catalog.removed].tolist()}
    constraint = LogitsProcessorList([SidLogitsProcessor(recommender.trie, recommender.vocabulary)])
    users = [] if user_ids is None else list(user_ids)
    shares = {}
    for name, processors in (("invalid", constraint), ("invalid_unconstrained", LogitsProcessorList())):
        parts = [
            _beams(recommender, histories[start : start + BATCH], num_beams, processors, users[start : start + BATCH])
            for start in range(0, len(histories), BATCH)
        ]
        codes = torch.cat(parts)
        shares[name] = sum(tuple(row) not in known for row in codes.tolist()) / len(codes)
    return shares


@torch.inference_mode()
def _beams(
    recommender: GenerativeRecommender,
    histories: Tensor,
    num_beams: int,
    processors: LogitsProcessorList,
    users: list[str],
) -> Tensor:
    """Return the codes of the live beams, `[beams, L]`; a token of another level gives a code outside its level."""
    generator = recommender.generator
    vocabulary = recommender.vocabulary
    levels = len(vocabulary.level_sizes)
    output = generator.generate(
        **recommender.prompt_inputs(histories, user_ids=users or None),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=levels,
        **NEUTRAL,
        logits_processor=processors,
        return_dict_in_generate=True,
        output_scores=True,
    )
    live = output.sequences_scores > DEAD_BEAM_SCORE
    return output.sequences[live, -levels:].cpu() - vocabulary.level_offsets
