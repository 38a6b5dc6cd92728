"""How often a generator leaves the catalog: with the constraint never, and without it as often as it has not
learned."""

import torch
from torch import Tensor

from cost_hf.recommender.beam_search import beam_search
from cost_hf.recommender.recommender import Recommender


@torch.inference_mode()
def invalid_shares(recommender: Recommender, histories: Tensor, *, num_beams: int = 10) -> dict[str, float]:
    """Return the share of beams that name no item of the catalog.

    Args:
        recommender: the trained system.
        histories: catalog rows `[B, T]`, -1 pads on the right.
        num_beams: beams of both searches.

    Returns:
        `invalid` under the trie and `invalid_unconstrained` with `generate()` left to itself.
    """
    generator, vocabulary = recommender.generator, recommender.vocabulary
    input_ids, attention_mask = (part.to(generator.device) for part in recommender.prompts.inputs(histories))
    known = {tuple(codes) for codes in recommender.catalog.codes[~recommender.catalog.removed].tolist()}
    levels = len(vocabulary.level_sizes)
    free = generator.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=levels,
        min_new_tokens=levels,
        eos_token_id=None,
        do_sample=False,
    )[:, -levels:]
    codes = free.cpu() - vocabulary.level_offsets
    bound = beam_search(
        generator,
        input_ids,
        attention_mask,
        trie=recommender.trie.to(generator.device),
        vocabulary=vocabulary,
        num_beams=num_beams,
    )
    listed = bound.codes[bound.items >= 0].cpu()
    return {"invalid": _unknown_share(listed, known), "invalid_unconstrained": _unknown_share(codes, known)}


def _unknown_share(codes: Tensor, known: set[tuple[int, ...]]) -> float:
    rows = codes.flatten(0, -2).tolist()
    return sum(tuple(row) not in known for row in rows) / max(len(rows), 1)
