"""Constrained search by `generate()`, for models that have no cached decoding."""

import torch
from transformers import LogitsProcessorList, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from cost_hf.search.beam_output import BeamOutput, expand_leaves
from cost_hf.search.beam_steps import Prompt
from cost_hf.search.logits_processor import SidLogitsProcessor
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

# settings of a model's generation_config that change scores or lengths
NEUTRAL = {
    "eos_token_id": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "bad_words_ids": None,
    "sequence_bias": None,
    "stop_strings": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "watermarking_config": None,
    "max_time": None,
    "min_new_tokens": None,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "length_penalty": 0.0,
    "do_sample": False,
}
DEAD_BEAM_SCORE = -1e8  # `generate` fills missing beams with repeats of legal ones, scored about -1e9


@torch.inference_mode()
def generate_search(
    generator: PreTrainedModel,
    prompt: Prompt,
    *,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int,
    mask: CatalogMask | None,
    wants_states: bool = False,
) -> BeamOutput:
    """Return what `beam_search` returns; a search of one beam runs with two.

    Args:
        generator, prompt, trie, vocabulary, num_beams, mask: as for `beam_search`.
        wants_states: return the prompts' last hidden states, for which a decoder-only model runs once more.
    """
    levels = len(vocabulary.level_sizes)
    batch = len(prompt.attention_mask)
    width = max(num_beams, 2)  # `generate` decodes greedily with one beam, and returns no scores
    states = prompt.encoder_states
    inputs = {"input_ids": prompt.input_ids, "inputs_embeds": prompt.inputs_embeds}
    if generator.config.is_encoder_decoder and states is None:
        encoder = generator.get_encoder()
        states = encoder(attention_mask=prompt.attention_mask, **inputs, **prompt.model_kwargs).last_hidden_state
    if not generator.config.is_encoder_decoder and wants_states:
        decoder = generator.get_decoder()
        states = decoder(attention_mask=prompt.attention_mask, **inputs, **prompt.model_kwargs).last_hidden_state
    elif states is not None:
        inputs = {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}
    output = generator.generate(
        **{name: part for name, part in inputs.items() if part is not None},
        **prompt.model_kwargs,
        attention_mask=prompt.attention_mask,
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=levels,
        **NEUTRAL,
        logits_processor=LogitsProcessorList([SidLogitsProcessor(trie, vocabulary, mask=mask)]),
        return_dict_in_generate=True,
        output_scores=True,
    )
    tokens = output.sequences[:, -levels:]
    scores = output.sequences_scores
    dead = (scores < DEAD_BEAM_SCORE) | (tokens < 0).any(1)  # -1 marks beams that never finished
    first_codes = vocabulary.level_offsets.to(tokens.device)
    codes = vocabulary.decode(torch.where(dead[:, None], first_codes, tokens))
    found = expand_leaves(
        trie,
        trie.prefix(codes).view(batch, width),
        scores.masked_fill(dead, -torch.inf).view(batch, width),
        codes.view(batch, width, levels),
        num_beams=num_beams,
        mask=None if mask is None else mask.on(trie),
    )
    return BeamOutput(found.items, found.scores, found.codes, states)
