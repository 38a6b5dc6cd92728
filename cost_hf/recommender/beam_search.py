"""Exact constrained beam search of fixed depth: a user's history in, items that exist out.

The search walks `SidTrie`: the candidates of a beam are the children of its node, never the whole vocabulary. Scores
are sums of natural-log probabilities, the same as `generate(..., length_penalty=0)` gives under `SidLogitsProcessor`,
and the beams are the same except where neighbouring scores differ by rounding.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.recommender.beam_output import BeamOutput, expand_leaves
from cost_hf.recommender.beam_steps import DecodingSteps, Prompt
from cost_hf.recommender.engines import base_model, decoding_steps, obstacle
from cost_hf.recommender.generate_search import generate_search
from cost_hf.recommender.level_head import LevelHead, check_normalization
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.trie_mask import TrieMask, log_legal
from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)

LevelHook = Callable[[int, Tensor], Tensor | None]


@torch.inference_mode()
def beam_search(
    generator: PreTrainedModel,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int = 20,
    mask: Tensor | CatalogMask | None = None,
    normalization: str = "vocabulary",
    inputs_embeds: Tensor | None = None,
    encoder_outputs: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    level_hook: LevelHook | None = None,
    output_encoder_states: bool = False,
) -> BeamOutput:
    """Return the `num_beams` most probable items of the catalog for every prompt.

    T5, mT5, UMT5 and decoder-only models with full attention run on engines that compute what beams share once per
    request; any other model runs through its own `generate()`, which is slower, and a warning says so once.

    Args:
        generator: in eval mode; adapters in it count.
        input_ids: prompts `[B, S]`; a causal prompt is left-padded and ends where the answer starts.
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
        trie: the legal SIDs.
        vocabulary: their token ids.
        num_beams: beams, and so items returned; as many as the catalog has items at most make sense.
        mask: allowed items, bool `[N]` or `[B, N]`, True = allowed, or a `CatalogMask`.
        normalization: `vocabulary` for the scores of `generate()`; `level` for probabilities among a level's codes,
            which are cheaper where the vocabulary is large, and others.
        inputs_embeds: embedded prompts `[B, S, d]` instead of `input_ids`.
        encoder_outputs: of an encoder-decoder model, instead of prompts; its first entry is `[B, S, d]`.
        model_kwargs: further arguments of the encoder, or of every pass of a decoder-only model.
        level_hook: called before the decoder step of every level with the level and the codes chosen so far
            `[B, R, level]`; what it returns, `[B, R, d]` or None, is added to the embeddings that enter the decoder. A
            decoder-only model has no such step at level 0, where the prompt ends.
        output_encoder_states: return the encoder's last hidden states as well.

    Raises:
        ValueError: for fewer than one beam, no prompt, or an option that `generate()` has no equal for.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams!r}")
    check_normalization(normalization)
    prompt = make_prompt(input_ids, attention_mask, inputs_embeds, encoder_outputs, model_kwargs)
    trie = trie.to(prompt.attention_mask.device)
    catalog_mask = CatalogMask.of(mask, trie.num_items)
    trie_mask = None if catalog_mask is None else catalog_mask.on(trie)
    reason = obstacle(generator)
    if reason is not None:
        _say_once(type(generator).__name__, reason)
        if level_hook is not None or normalization != "vocabulary":
            raise ValueError(
                f"level_hook and normalization='level' need an engine, and there is none for this model: {reason}; "
                "leave them out, or use a T5 or a decoder-only model with full attention"
            )
        return generate_search(
            generator,
            prompt,
            trie=trie,
            vocabulary=vocabulary,
            num_beams=num_beams,
            mask=catalog_mask,
            output_encoder_states=output_encoder_states,
        )
    model = base_model(generator)
    steps = decoding_steps(model, prompt, beam_widths(trie, num_beams))
    head = LevelHead(model, vocabulary, normalization=normalization)
    nodes, scores, codes = descend(steps, head, trie, vocabulary, num_beams, trie_mask, level_hook)
    found = expand_leaves(trie, nodes, scores, codes, num_beams=num_beams, mask=trie_mask)
    return replace(found, encoder_states=steps.encoder_states) if output_encoder_states else found


def make_prompt(
    input_ids: Tensor | None,
    attention_mask: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    encoder_outputs: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> Prompt:
    """Return the prompt of a search; raise ValueError unless exactly one form of it is given."""
    states = None if encoder_outputs is None else encoder_outputs[0]
    given = [part for part in (input_ids, inputs_embeds, states) if part is not None]
    if len(given) != 1:
        raise ValueError(
            f"give exactly one of input_ids, inputs_embeds and encoder_outputs, got {len(given)} of them; "
            "encoder_outputs need attention_mask alone beside them"
        )
    if attention_mask is None:
        attention_mask = torch.ones(given[0].shape[:2], dtype=torch.long, device=given[0].device)
    return Prompt(attention_mask, input_ids, inputs_embeds, states, model_kwargs or {})


def beam_widths(trie: SidTrie, num_beams: int) -> list[int]:
    """Return the most beams that enter each level: one at the root, and never more than there are nodes."""
    widths = [1]
    for level in range(len(trie.level_sizes) - 1):
        widths.append(min(num_beams, widths[-1] * trie.max_children[level], trie.num_nodes[level]))
    return widths


def descend(
    steps: DecodingSteps,
    head: LevelHead,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int,
    mask: TrieMask | None,
    level_hook: LevelHook | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the leaves `[B, R]`, their scores `[B, R]` and codes `[B, R, L]`, best first."""
    batch, device = steps.batch, trie.device
    nodes = torch.zeros(batch, 1, dtype=torch.long, device=device)
    scores = torch.zeros(batch, 1, device=device)
    codes = torch.empty(batch, 1, 0, dtype=torch.long, device=device)
    hidden = steps.start(None if level_hook is None else level_hook(0, codes))
    offsets = vocabulary.level_offsets.tolist()
    for level in range(len(offsets)):
        step_codes, children, legal = (part.unflatten(0, nodes.shape) for part in trie.children(level, nodes.flatten()))
        if mask is not None:
            legal = legal & mask.keeps_nodes(level, children)
        log_probs = head.log_probs(hidden, level).gather(2, step_codes) + scores[..., None]
        candidates = log_probs.add_(log_legal(legal, log_probs.dtype)).flatten(1)
        width = step_codes.shape[-1]
        scores, best = candidates.topk(min(num_beams, candidates.shape[1], trie.num_nodes[level]), dim=1)
        parents = best // width
        chosen = step_codes.flatten(1).gather(1, best)
        nodes = children.flatten(1).gather(1, best)
        codes = torch.cat([codes.gather(1, parents[..., None].expand(-1, -1, level)), chosen[..., None]], dim=-1)
        if level + 1 < len(offsets):
            added = None if level_hook is None else level_hook(level + 1, codes)
            hidden = steps.advance(chosen + offsets[level], parents, added)
    return nodes, scores, codes


@lru_cache
def _say_once(name: str, reason: str) -> None:
    logger.warning("%s searches by generate(), which is several times slower: %s", name, reason)
