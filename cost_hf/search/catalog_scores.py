"""Exact log-probability of every item of the catalog: what a beam search could miss, and the check that it does not."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.search.beam_search import check_parts, embedded_prompt, make_prompt, own_level_inputs
from cost_hf.search.beam_steps import DecodingSteps, LevelHead
from cost_hf.search.cached_decoders import base_model, decoding_steps, unsupported_reason
from cost_hf.search.protocol import LevelInputs
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

CHUNK = 256  # prefixes of one walk; the beams of a row attend to each other under a mask, at quadratic cost


@torch.no_grad()
def score_catalog(
    generator: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    normalization: str = "vocabulary",
    model_kwargs: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the log-probability of every catalog row for every prompt, `[B, N]`; -inf for removed rows.

    One pass for each distinct prefix, batched over the nodes of the trie: the cost grows with the catalog, while that
    of a beam search does not. A model's `embed_prompt` and `level_inputs` are used, its `rerank_beams` is not.

    Args:
        generator: in eval mode.
        input_ids: prompts `[B, S]`, as for `beam_search`.
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
        trie: the legal SIDs.
        vocabulary: their token ids.
        normalization: as for `beam_search`.
        model_kwargs: as for `beam_search`.

    Raises:
        ValueError: for a model without cached decoding, or parts that do not fit.

    Example (weights are random: which item comes first means nothing):

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from cost_hf import Catalog, SidTrie, SidVocabulary, beam_search
        >>> codes = [[0, 1], [1, 0], [1, 1]]
        >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], codes, level_sizes=(2, 2), collisions="none")
        >>> vocabulary, trie = SidVocabulary.for_catalog(catalog), SidTrie.from_catalog(catalog)
        >>> config = LlamaConfig(vocab_size=vocabulary.size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        >>> generator = LlamaForCausalLM(config).eval()
        >>> history = vocabulary.encode(torch.tensor([[0, 1]]))  # the lamp, as tokens
        >>> prompt = torch.cat([torch.tensor([[vocabulary.begin_id]]), history], dim=1)
        >>> scores = score_catalog(generator, prompt, trie=trie, vocabulary=vocabulary)
        >>> scores.shape
        torch.Size([1, 3])
        >>> found = beam_search(generator, prompt, trie=trie, vocabulary=vocabulary, num_beams=3)
        >>> torch.allclose(scores.gather(1, found.items), found.scores, atol=1e-4)
        True
    """
    prompt = make_prompt(input_ids, attention_mask, model_kwargs=model_kwargs)
    check_parts(generator, prompt, trie, vocabulary)
    reason = unsupported_reason(generator)
    if reason is not None:
        raise ValueError(f"score_catalog needs cached decoding, which this model does not have: {reason}")
    trie = trie.to(input_ids.device)
    model = base_model(generator)
    levels = len(vocabulary.level_sizes)
    parents = trie.num_nodes[levels - 2] if levels > 1 else 1
    widths = [min(CHUNK, width) for width in (1, *trie.num_nodes[: levels - 1])]
    steps = decoding_steps(model, embedded_prompt(model, prompt), widths)
    head = LevelHead(model, vocabulary, normalization=normalization)
    # the additional column is that of removed rows, which have no leaf
    scores = torch.full((len(input_ids), trie.num_nodes[-1] + 1), -torch.inf, device=input_ids.device)
    level_inputs = own_level_inputs(model, prompt.model_kwargs)
    for first in range(0, parents, CHUNK):
        prefixes = torch.arange(first, min(first + CHUNK, parents), device=input_ids.device)
        leaves, values = _walk(steps, head, trie, vocabulary, prefixes, level_inputs)
        scores[:, leaves] = values
    return scores[:, trie.leaves.long()]


def _walk(
    steps: DecodingSteps,
    head: LevelHead,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    prefixes: Tensor,
    level_inputs: LevelInputs | None,
) -> tuple[Tensor, Tensor]:
    """Return the leaves below some prefixes of L - 1 codes, `[n]`, and their log-probabilities `[B, n]`."""
    batch = steps.batch
    chosen = torch.empty(1, 0, dtype=torch.long, device=prefixes.device)  # codes of the nodes of a depth, `[R, depth]`
    hidden = steps.start(None if level_inputs is None else level_inputs(0, chosen.expand(batch, -1, -1)))
    scores = torch.zeros(len(hidden), 1, device=prefixes.device)
    above = torch.zeros_like(prefixes)  # the beam of the previous step that each prefix continues
    paths = _paths(trie, prefixes)
    for level, path in enumerate(paths):
        nodes, beams = path.unique_consecutive(return_inverse=True)
        parents = above[beams.diff(prepend=beams.new_full((1,), -1)).nonzero()[:, 0]]
        codes = trie.codes[level][nodes].long()
        scores = scores[:, parents] + head.log_probs(hidden, level)[:, parents, codes]
        tokens = codes + vocabulary.level_offsets[level].to(codes.device)
        chosen = torch.cat([chosen[parents], codes[:, None]], dim=1)
        added = None if level_inputs is None else level_inputs(level + 1, chosen.expand(batch, -1, -1))
        hidden = steps.advance(tokens.expand(batch, -1), parents.expand(batch, -1), added)
        above = beams
    last = len(paths)
    codes, leaves, legal = trie.children(last, prefixes)
    values = scores[..., None] + head.log_probs(hidden, last).gather(2, codes.expand(batch, -1, -1))
    return leaves[legal], values[:, legal]


def _paths(trie: SidTrie, prefixes: Tensor) -> list[Tensor]:
    """Return nodes `[n]` of depth L - 1 and their ancestors, depths 1 … L - 1, one `[n]` a depth."""
    paths = [prefixes] if len(trie.level_sizes) > 1 else []
    for level in range(len(trie.level_sizes) - 2, 0, -1):
        paths.append(trie.ranges[level].parents(paths[-1]))
    return paths[::-1]
