"""Exact constrained beam search of fixed depth: prompts in, catalog items out.

The search walks `SidTrie`: the candidates of a beam are the children of its node, never the whole vocabulary. Scores
are sums of natural-log probabilities. Scores and beams are those of `generate(..., length_penalty=0)` under
`SidLogitsProcessor`, except where neighbouring scores differ by rounding.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cost_hf.search.beam_output import BeamOutput, expand_leaves
from cost_hf.search.beam_steps import DecodingSteps, LevelHead, Prompt
from cost_hf.search.cached_decoders import base_model, decoding_steps, unsupported_reason
from cost_hf.search.certificate import Beams, best_left, certify, relative_rounding
from cost_hf.search.exact_search import BUDGET, first_width, widened
from cost_hf.search.generate_search import generate_search
from cost_hf.search.logits_processor import check_sizes
from cost_hf.search.normalizations import check_normalization
from cost_hf.search.protocol import AddsLevelInputs, EmbedsPrompts, LevelInputs, MixesCrossAttention, ReranksBeams
from cost_hf.semantic_ids.catalog_mask import CatalogMask, TrieMask, log_legal
from cost_hf.semantic_ids.options import ranked_number, whole_number
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)

# arguments of the model that the search sets
OWN_ARGUMENTS = {
    "input_ids",
    "inputs_embeds",
    "attention_mask",
    "position_ids",
    "past_key_values",
    "use_cache",
    "labels",
}


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
    level_inputs: LevelInputs | None = None,
    output_prompt_states: bool = False,
    exact: bool = False,
    budget: int = BUDGET,
) -> BeamOutput:
    """Return the `num_beams` most probable items of the catalog for every prompt.

    A beam search may prune a prefix that leads to one of them. `certificate` counts the positions of each list that
    are proved to be right all the same, and with `exact` the search widens until all of them are.

    T5, mT5, UMT5, the decoder-only models of `cached_decoders.CAUSAL_TYPES` with full attention, and subclasses that
    decode like them (`cost_hf.search.protocol`) run on cached decoders, which compute what beams share once per
    request. Any other model runs through its own `generate()`, which is slower and searches with at least two beams; a
    warning says so once.

    Args:
        generator: in eval mode; adapters in it count. What it defines of `cost_hf.search.protocol` is used.
        input_ids: prompts `[B, S]`, padded on the left (cached decoders also take padding on the right).
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
        trie: the legal SIDs.
        vocabulary: their token ids.
        num_beams: beams, and so items returned; useful up to the number of items in the catalog, and refused above
            10,000 where the catalog is smaller.
        mask: allowed items, bool `[N]` or `[B, N]`, True = allowed, or a `CatalogMask`; one row is for all requests.
            A mask of item ids must be of the catalog of `trie`, in this or an earlier state.
        normalization: `vocabulary` for the scores of `generate()`; `level` for probabilities among a level's codes,
            which are cheaper where the vocabulary is large, and give other scores.
        inputs_embeds: embedded prompts `[B, S, d]` instead of `input_ids`.
        encoder_outputs: of an encoder-decoder model, instead of prompts; its first entry is `[B, S, d]`.
        model_kwargs: further arguments of the model's `embed_prompt` and `beam_inputs` where it has them, else of the
            encoder, or of every pass of a decoder-only model.
        level_inputs: a function in place of the model's method of that name, see `protocol.AddsLevelInputs`.
        output_prompt_states: return the last hidden states of the prompts as well: of the encoder, or of the
            decoder-only model at all positions of the prompt (`protocol.last_states` takes the last ones).
        exact: return to pruned prefixes, best first, until none could lead to a better item than the last one of the
            list, or the budget is spent; `certificate` shows how far it came.
        budget: prefixes of a request that `exact` may feed to the decoder after those of a beam search.

    Raises:
        ValueError: for fewer than one beam or too many, no prompt, a mask of another catalog, an option that
            `generate()` has no equivalent for, or `exact` with a model whose beams prove nothing.

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
        >>> found = beam_search(generator, prompt, trie=trie, vocabulary=vocabulary, num_beams=3)
        >>> found
        BeamOutput(1 requests, 3 items each, on cpu)
        >>> sorted(catalog.item_ids[row] for row in found.items[0].tolist())
        ['chair', 'desk', 'lamp']
        >>> found.certificate.is_exact(3)  # no item of the catalog is missing
        tensor([True])
    """
    check_normalization(normalization)
    prompt = make_prompt(input_ids, attention_mask, inputs_embeds, encoder_outputs, model_kwargs)
    check_parts(generator, prompt, trie, vocabulary)
    num_beams = ranked_number(num_beams, "num_beams", trie.num_items)
    trie = trie.to(prompt.attention_mask.device)
    catalog_mask = CatalogMask.of(mask, trie.num_items, trie.item_ids)
    level_inputs = level_inputs or own_level_inputs(generator, prompt.model_kwargs)
    reason = unsupported_reason(generator)
    if exact:
        _check_provable(generator, reason)
        whole_number(budget, "budget")
    if reason is not None:
        _warn_once(type(base_model(generator)).__name__, reason)
        if level_inputs is not None or normalization != "vocabulary":
            raise ValueError(
                f"level_inputs and normalization='level' need cached decoding, which this model does not have: {reason}"
            )
    found = _search(
        generator,
        prompt,
        trie,
        vocabulary,
        num_beams,
        catalog_mask,
        normalization,
        level_inputs,
        is_cached=reason is None,
        wants_states=output_prompt_states,
        budget=budget if exact else None,
    )
    states = found.prompt_states.clone() if output_prompt_states and found.prompt_states is not None else None
    certificate = None if found.certificate is None else found.certificate.clone()
    # copies made outside of inference mode may be changed, and used in a loss
    return BeamOutput(found.items.clone(), found.scores.clone(), found.codes.clone(), states, certificate)


def make_prompt(
    input_ids: Tensor | None,
    attention_mask: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    encoder_outputs: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> Prompt:
    """Return the prompts of a search; raise ValueError unless exactly one form is given, in matching shapes."""
    states = None if encoder_outputs is None else encoder_outputs[0]
    given = [part for part in (input_ids, inputs_embeds, states) if part is not None]
    if len(given) != 1:
        raise ValueError(
            f"give exactly one of input_ids, inputs_embeds and encoder_outputs, got {len(given)} of them; "
            "encoder_outputs go with attention_mask only"
        )
    if not isinstance(given[0], Tensor):
        raise ValueError(f"prompts must be torch tensors, got {type(given[0]).__name__}; convert them by torch.tensor")
    dimensions = 2 if input_ids is not None else 3
    shape = tuple(given[0].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(
            "expected input_ids [B, S], inputs_embeds [B, S, d] or encoder_outputs whose first entry is [B, S, d], "
            f"none of them 0, got shape {shape}"
        )
    if attention_mask is None:
        attention_mask = torch.ones(shape[:2], dtype=torch.long, device=given[0].device)
    if attention_mask.shape != shape[:2]:
        raise ValueError(f"attention_mask must be {shape[:2]} like the prompts, got {tuple(attention_mask.shape)}")
    kwargs = model_kwargs or {}
    own = sorted(OWN_ARGUMENTS & kwargs.keys())
    if own or (kwargs and states is not None):
        raise ValueError(
            f"model_kwargs must not hold {', '.join(own) or 'anything beside encoder_outputs'}, which the search sets; "
            "leave it out"
        )
    return Prompt(attention_mask, input_ids, inputs_embeds, states, kwargs)


def check_parts(generator: Any, prompt: Prompt, trie: SidTrie, vocabulary: SidVocabulary) -> None:
    """Raise ValueError where the parts of a search do not fit, or the generator is in training mode."""
    for name, part, kind in (("trie", trie, SidTrie), ("vocabulary", vocabulary, SidVocabulary)):
        if not isinstance(part, kind):
            raise ValueError(f"{name} must be a {kind.__name__}, got {type(part).__name__}; pass recommender.{name}")
    if not isinstance(generator, nn.Module) or not hasattr(generator, "config"):
        raise ValueError(
            f"the generator must be a transformers model, got {type(generator).__name__}; pass the generator of a "
            "GenerativeRecommender (recommender.generator)"
        )
    check_sizes(trie, vocabulary)
    if generator.training:
        raise ValueError("the generator is in training mode, where dropout changes every search; call .eval()")
    config: Any = generator.config
    if prompt.encoder_states is not None and not config.is_encoder_decoder:
        raise ValueError(
            f"encoder_outputs need an encoder-decoder model, got {type(generator).__name__}; pass input_ids or "
            "inputs_embeds"
        )


def _check_provable(generator: PreTrainedModel, unsupported: str | None) -> None:
    """Raise ValueError for a model whose beams prove nothing; `unsupported` is its `unsupported_reason`."""
    model = base_model(generator)
    if isinstance(model, ReranksBeams):
        raise ValueError(
            f"exact=True proves lists whose scores are sums of log-probabilities along the paths of items; "
            f"{type(model).__name__}.rerank_beams gives other scores to what the beams found; search without exact"
        )
    if unsupported is not None:
        raise ValueError(f"exact=True needs cached decoding, which this model does not have: {unsupported}")


def beam_widths(trie: SidTrie, num_beams: int) -> list[int]:
    """Return the largest number of beams that enter each level: one at the root, never more than there are nodes."""
    widths = [1]
    for level in range(len(trie.level_sizes) - 1):
        widths.append(min(num_beams, widths[-1] * trie.max_children[level], trie.num_nodes[level]))
    return widths


def embedded_prompt(generator: PreTrainedModel, prompt: Prompt) -> Prompt:
    """Return the prompt as the model's own `embed_prompt` embeds it; the same one where there is nothing to embed."""
    model = base_model(generator)
    if prompt.input_ids is None or not isinstance(model, EmbedsPrompts):
        return prompt
    embeds = model.embed_prompt(prompt.input_ids, prompt.attention_mask, **prompt.model_kwargs)
    if embeds.shape[:2] != prompt.attention_mask.shape:
        raise ValueError(
            f"{type(model).__name__}.embed_prompt must return [B, S, d] for prompts {tuple(prompt.input_ids.shape)}, "
            f"got {tuple(embeds.shape)}"
        )
    return Prompt(prompt.attention_mask, inputs_embeds=embeds)


def own_level_inputs(generator: PreTrainedModel, model_kwargs: Mapping[str, Any] | None = None) -> LevelInputs | None:
    """Return the method `level_inputs` of a model, or `beam_inputs` of these requests; None where it has neither."""
    model = base_model(generator)
    if isinstance(model, MixesCrossAttention):
        return partial(model.beam_inputs, **(model_kwargs or {}))
    return model.level_inputs if isinstance(model, AddsLevelInputs) else None


def reranked(generator: PreTrainedModel, found: BeamOutput, prompt: Prompt, mask: CatalogMask | None) -> BeamOutput:
    """Return the beams as the model's own `rerank_beams` orders them; the same ones where it has none.

    A certificate is about the scores of the search, so reranked beams have none.
    """
    model = base_model(generator)
    if not isinstance(model, ReranksBeams):
        return found
    output = model.rerank_beams(found, attention_mask=prompt.attention_mask, mask=mask)
    if not isinstance(output, BeamOutput) or len(output.items) != len(found.items):
        raise ValueError(
            f"{type(model).__name__}.rerank_beams must return a BeamOutput of {len(found.items)} requests, got "
            f"{output!r}"
        )
    return replace(output, prompt_states=found.prompt_states, certificate=None)


@torch.inference_mode()
def _search(
    generator: PreTrainedModel,
    prompt: Prompt,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int,
    mask: CatalogMask | None,
    normalization: str,
    level_inputs: LevelInputs | None,
    *,
    is_cached: bool,
    wants_states: bool,
    budget: int | None,
) -> BeamOutput:
    """Search by the cached decoder of the model, or by `generate()`; exactly where there is a budget."""
    prompt = embedded_prompt(generator, prompt)
    if not is_cached:
        found = generate_search(
            generator,
            prompt,
            trie=trie,
            vocabulary=vocabulary,
            num_beams=num_beams,
            mask=mask,
            wants_states=wants_states or isinstance(base_model(generator), ReranksBeams),
        )
        return reranked(generator, found, prompt, mask)
    model = base_model(generator)
    trie_mask = None if mask is None else mask.on(trie)
    head = LevelHead(model, vocabulary, normalization=normalization)
    if budget is None:
        steps = decoding_steps(model, prompt, beam_widths(trie, num_beams))
        beams: Beams = descend(steps, head, trie, vocabulary, num_beams, trie_mask, level_inputs)
    else:
        steps = decoding_steps(model, prompt, beam_widths(trie, first_width(num_beams)))
        beams = widened(steps, head, trie, vocabulary, num_beams, trie_mask, level_inputs, budget=budget)
    check_scores(beams, model)
    found = listed_items(trie, beams, num_beams=num_beams, mask=trie_mask)
    return reranked(generator, replace(found, prompt_states=steps.prompt_states), prompt, mask)


def listed_items(trie: SidTrie, beams: Beams, *, num_beams: int, mask: TrieMask | None) -> BeamOutput:
    """Return the items of the beams, with the certificate of the lists."""
    found = expand_leaves(trie, beams.nodes, beams.scores, beams.codes, num_beams=num_beams, mask=mask)
    return replace(found, certificate=certify(trie, beams, found.scores, mask))


@dataclass(frozen=True, eq=False)
class ContinuedBeams(Beams):
    """Leaves with the beams that they continue.

    Attributes:
        parents: beam of the level before, `[B, R]`.
    """

    parents: Tensor


def descend(
    steps: DecodingSteps,
    head: LevelHead,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int,
    mask: TrieMask | None,
    level_inputs: LevelInputs | None,
) -> ContinuedBeams:
    """Return the leaves that a beam search finds, best first."""
    batch = steps.batch
    device = trie.device
    nodes = torch.zeros(batch, 1, dtype=torch.long, device=device)
    parents = nodes
    scores = torch.zeros(batch, 1, device=device)
    codes = torch.empty(batch, 1, 0, dtype=torch.long, device=device)
    pruned = []
    num_expanded = 0
    hidden = steps.start(None if level_inputs is None else level_inputs(0, codes))
    offsets = vocabulary.level_offsets.tolist()
    for level in range(len(offsets)):
        step_codes, children, legal = (part.unflatten(0, nodes.shape) for part in trie.children(level, nodes.flatten()))
        if mask is not None:
            legal = legal & mask.keeps_nodes(level, children)
        log_probs = head.log_probs(hidden, level).gather(2, step_codes) + scores[..., None]
        candidates = log_probs.add_(log_legal(legal, log_probs.dtype)).flatten(1)
        width = step_codes.shape[-1]
        scores, best = candidates.topk(min(num_beams, candidates.shape[1], trie.num_nodes[level]), dim=1)
        pruned.append(best_left(candidates, best))
        parents = best // width
        chosen = step_codes.flatten(1).gather(1, best)
        nodes = children.flatten(1).gather(1, best)
        codes = torch.cat([codes.gather(1, parents[..., None].expand(-1, -1, level)), chosen[..., None]], dim=-1)
        if level + 1 < len(offsets):
            added = None if level_inputs is None else level_inputs(level + 1, codes)
            hidden = steps.advance(chosen + offsets[level], parents, added)
            num_expanded += nodes.shape[1]
    return ContinuedBeams(
        nodes,
        scores,
        codes,
        torch.stack(pruned).amax(0),
        torch.full((batch,), num_expanded, device=device),
        relative_rounding(hidden.dtype),
        parents,
    )


def check_scores(beams: Beams, model: PreTrainedModel) -> None:
    """Raise ValueError where a search found scores that are no numbers."""
    if bool((beams.scores.sum(1) + beams.pruned).isnan().any()):
        raise ValueError(f"{type(model).__name__} returns log-probabilities that are NaN; its weights are broken")


@lru_cache
def _warn_once(name: str, reason: str) -> None:
    logger.warning("%s searches by generate(), which is several times slower: %s", name, reason)
