"""Exact constrained beam search of fixed depth: a user's history in, items that exist out.

The search walks `SidTrie`: the candidates of a beam are the children of its node, never the whole vocabulary. Scores
are sums of natural-log probabilities over the full vocabulary, the same as `generate(..., length_penalty=0)` gives
under `SidLogitsProcessor`, and the beams are the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.recommender.beam_steps import decoding_steps
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary


@dataclass(frozen=True)
class BeamOutput:
    """Ranked items of every request, best first.

    Attributes:
        items: catalog rows, `[B, R]`, -1 where a request has fewer legal items than beams.
        scores: sums of natural-log probabilities, `[B, R]`, -inf where there is no item.
        codes: the items' codes, `[B, R, L]`, -1 where there is no item.
    """

    items: Tensor
    scores: Tensor
    codes: Tensor


@torch.inference_mode()
def beam_search(
    generator: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int = 20,
    mask: Tensor | None = None,
) -> BeamOutput:
    """Return the `num_beams` most probable items of the catalog for every prompt.

    Args:
        generator: a T5 or a decoder-only model in eval mode.
        input_ids: prompts `[B, S]`; a causal prompt is left-padded and ends where the answer starts.
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
        mask: allowed items, bool `[N]` or `[B, N]`, True = allowed.

    Raises:
        ValueError: for fewer than one beam, or a model that the search can't run exactly.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams!r}")
    attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    trie, mask = trie.to(input_ids.device), None if mask is None else mask.to(input_ids.device)
    steps = decoding_steps(generator, input_ids, attention_mask)
    allowed = None if mask is None else trie.allowed(mask)
    batch, device = len(input_ids), input_ids.device
    nodes = torch.zeros(batch, 1, dtype=torch.long, device=device)
    scores = torch.zeros(batch, 1, device=device)
    codes = torch.empty(batch, 1, 0, dtype=torch.long, device=device)
    logits = steps.start()
    for level, offset in enumerate(vocabulary.level_offsets.tolist()):
        step_codes, children, legal = _children(trie, level, nodes, allowed)
        candidates = _log_probs(logits, step_codes + offset).masked_fill(~legal, -torch.inf) + scores[..., None]
        width = candidates.shape[-1]
        scores, best = candidates.flatten(1).topk(min(num_beams, candidates[0].numel()), dim=1)
        parents = best // width
        chosen = step_codes.flatten(1).gather(1, best)
        nodes = children.flatten(1).gather(1, best)
        codes = torch.cat([codes.gather(1, parents[..., None].expand(-1, -1, level)), chosen[..., None]], dim=-1)
        if level + 1 < len(vocabulary.level_sizes):
            logits = steps.advance(chosen + offset, parents)
    return expand_leaves(trie, nodes, scores, codes, num_beams=num_beams, mask=mask)


def _children(trie: SidTrie, level: int, nodes: Tensor, allowed: list[Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, nodes and legality of every beam's children, each `[B, R, m]`."""
    codes, children, legal = (part.unflatten(0, nodes.shape) for part in trie.children(level, nodes.flatten()))
    if allowed is not None:
        table = allowed[level]
        if table.ndim == 1:
            legal = legal & table[children]
        else:
            legal = legal & table.gather(1, children.flatten(1)).view_as(children)
    return codes.long(), children.long(), legal


def _log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability over the full vocabulary of each candidate: logits `[B, R, V]`, tokens `[B, R, m]`."""
    logits = logits.float()
    return logits.gather(2, tokens) - logits.logsumexp(-1, keepdim=True)


def expand_leaves(
    trie: SidTrie, nodes: Tensor, scores: Tensor, codes: Tensor, *, num_beams: int, mask: Tensor | None
) -> BeamOutput:
    """Expand leaves `[B, R]` to items in beam order; items of one leaf share its score and stand in the trie's order.

    Beams with score -inf are dead: whatever their node, no item comes of them.
    """
    batch, beams = nodes.shape
    rows, present = trie.leaf_rows(nodes.flatten())  # [B·R, m]
    rows, present = rows.view(batch, beams, -1), present.view(batch, beams, -1) & scores.isfinite()[..., None]
    if mask is not None:
        per_request = mask.expand(batch, -1) if mask.ndim == 1 else mask
        present = present & per_request.gather(1, rows.flatten(1)).view_as(rows)
    members = rows.shape[-1]
    order = present.flatten(1).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :num_beams]
    found = present.flatten(1).gather(1, order)
    beam = order // members
    items = rows.flatten(1).gather(1, order).masked_fill(~found, -1)
    item_scores = scores.gather(1, beam).masked_fill(~found, -torch.inf)
    item_codes = codes.gather(1, beam[..., None].expand(-1, -1, codes.shape[-1])).masked_fill(~found[..., None], -1)
    return BeamOutput(
        *(_pad(part, num_beams, fill) for part, fill in ((items, -1), (item_scores, -torch.inf), (item_codes, -1)))
    )


def _pad(values: Tensor, width: int, fill: float) -> Tensor:
    """Fill `[B, r, …]` up to `[B, width, …]`."""
    missing = width - values.shape[1]
    if missing <= 0:
        return values
    return torch.cat([values, values.new_full((len(values), missing, *values.shape[2:]), fill)], dim=1)
