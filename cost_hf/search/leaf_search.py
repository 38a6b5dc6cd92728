"""Beam search that ends at SIDs, with the decoder's state after each, for models that choose among the items of a SID.

Where several items share a SID, their order is that of the trie in `beam_search`. A model with a head of its own for
them reads the state after the last code, which `beam_search` never computes: it is one more cached step of all beams.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.search.beam_search import (
    beam_widths,
    check_parts,
    check_scores,
    descend,
    embedded_prompt,
    make_prompt,
    own_level_inputs,
)
from cost_hf.search.beam_steps import LevelHead
from cost_hf.search.cached_decoders import base_model, decoding_steps, unsupported_reason
from cost_hf.search.normalizations import check_normalization
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.options import ranked_number
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary


@dataclass(frozen=True, eq=False)
class LeafBeams:
    """Complete SIDs of every request, best first; those with score -inf are none.

    Attributes:
        rows: catalog rows of the items with each SID, in the order of the trie, int64 `[B, R, m]`.
        present: which of them are items that the request may get, bool `[B, R, m]`; none of a SID with score -inf.
        scores: sums of natural-log probabilities of the SIDs, `[B, R]`.
        codes: the SIDs, `[B, R, L]`.
        states: the decoder's last hidden states after the last code, `[B, R, d]`.
    """

    rows: Tensor
    present: Tensor
    scores: Tensor
    codes: Tensor
    states: Tensor


@torch.inference_mode()
def leaf_search(
    generator: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int,
    mask: Tensor | CatalogMask | None = None,
    normalization: str = "vocabulary",
    model_kwargs: Mapping[str, Any] | None = None,
) -> LeafBeams:
    """Return the `num_beams` most probable SIDs for every prompt; arguments are those of `beam_search`.

    Raises:
        ValueError: for a model without cached decoding, or with `level_inputs` of its own, and as `beam_search`.
    """
    check_normalization(normalization)
    prompt = make_prompt(input_ids, attention_mask, model_kwargs=model_kwargs)
    check_parts(generator, prompt, trie, vocabulary)
    num_beams = ranked_number(num_beams, "num_beams", trie.num_items)
    reason = unsupported_reason(generator)
    if reason is None and own_level_inputs(generator) is not None:
        reason = "its level_inputs are not defined after the last code"
    if reason is not None:
        raise ValueError(f"leaf_search needs cached decoding, which {type(generator).__name__} does not have: {reason}")
    trie = trie.to(prompt.attention_mask.device)
    catalog_mask = CatalogMask.of(mask, trie.num_items, trie.item_ids)
    trie_mask = None if catalog_mask is None else catalog_mask.on(trie)
    model = base_model(generator)
    widths = [*beam_widths(trie, num_beams), min(num_beams, trie.num_nodes[-1])]
    steps = decoding_steps(model, embedded_prompt(model, prompt), widths)
    head = LevelHead(model, vocabulary, normalization=normalization)
    beams = descend(steps, head, trie, vocabulary, num_beams, trie_mask, level_inputs=None)
    check_scores(beams, model)
    states = steps.advance(beams.codes[..., -1] + int(vocabulary.level_offsets[-1]), beams.parents)
    rows, present = (part.unflatten(0, beams.nodes.shape) for part in trie.leaf_rows(beams.nodes.flatten()))
    present = present & beams.scores.isfinite()[..., None]
    if trie_mask is not None:
        present = present & trie_mask.keeps_items(rows)
    return LeafBeams(rows, present, beams.scores, beams.codes, states)
