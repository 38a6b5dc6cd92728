import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    OPTConfig,
)

from cost_hf.generators.prompts import PromptBuilder
from cost_hf.search import exact_search
from cost_hf.search.beam_search import beam_search
from cost_hf.search.logits_processor import SidLogitsProcessor
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.near_ties import assert_same_rows
from tests.recommenders.toys import (
    toy_catalog,
    toy_causal,
    toy_gpt2,
    toy_histories,
    toy_qwen2,
    toy_t5,
)

MODELS = {"llama": toy_causal, "qwen2": toy_qwen2, "gpt2": toy_gpt2, "t5": toy_t5}


def parts(model_name, *, items=40, level_sizes=(4, 5, 3), seed=0, batch=3, generator=None, **catalog_options):
    catalog = toy_catalog(items, level_sizes, seed, **catalog_options)
    vocabulary = SidVocabulary.for_catalog(catalog)
    generator = MODELS[model_name](vocabulary, seed) if generator is None else generator(vocabulary)
    prompts = PromptBuilder.for_catalog(
        catalog, vocabulary, is_causal=not generator.config.is_encoder_decoder, max_history=5
    )
    histories = toy_histories(catalog, batch, seed=seed)
    return catalog, vocabulary, generator, prompts, histories, SidTrie.from_catalog(catalog)


def generate(generator, vocabulary, inputs, num_beams, **options):
    input_ids, attention_mask = inputs
    levels = len(vocabulary.level_sizes)
    output = generator.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=levels,
        eos_token_id=None,
        forced_eos_token_id=None,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    return output.sequences[:, -levels:], output.sequences_scores.view(len(input_ids), num_beams)


def assert_equals_generate(generator, vocabulary, trie, inputs, num_beams=6, tolerance=1e-5, **constraint):
    constraint = constraint or {"logits_processor": [SidLogitsProcessor(trie, vocabulary)]}
    tokens, scores = generate(generator, vocabulary, inputs, num_beams, **constraint)
    found = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=num_beams)
    torch.testing.assert_close(found.scores, scores, rtol=tolerance, atol=tolerance)
    gaps = found.scores.diff(dim=1).abs() / found.scores[:, 1:].abs().clamp_min(1)
    if (gaps > 2 * tolerance).all():  # nearer neighbours may change places
        assert torch.equal(vocabulary.encode(found.codes).flatten(0, 1), tokens)


def assert_exact_equals_whole(generator, vocabulary, trie, inputs, num_beams=6, **options):
    """An exact search that widens prefix by prefix lists the first of all items."""
    options = {"trie": trie, "vocabulary": vocabulary} | options
    whole = beam_search(generator, *inputs, num_beams=trie.num_items, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "MIN_WIDTH", 1)
        patch.setattr(exact_search, "MAX_WIDTH", 3)
        found = beam_search(generator, *inputs, num_beams=num_beams, exact=True, **options)
    assert_same_rows((found.items, found.scores), (whole.items[:, :num_beams], whole.scores[:, :num_beams]))


def teacher_forced_scores(generator, prompts, histories, vocabulary, catalog):
    """Log-probability of every item for every history, one at a time: `[B, N]`."""
    scores = torch.empty(len(histories), len(catalog))
    for line, history in enumerate(histories):
        input_ids, attention_mask = prompts.inputs(history[history >= 0][None])
        for row in range(len(catalog)):
            tokens = prompts.item_tokens[row][None]
            if generator.config.is_encoder_decoder:
                logits = generator(input_ids=input_ids, attention_mask=attention_mask, labels=tokens).logits
            else:
                logits = generator(input_ids=torch.cat([input_ids, tokens], 1)).logits[:, input_ids.shape[1] - 1 : -1]
            scores[line, row] = logits.float().log_softmax(-1).gather(2, tokens[..., None]).sum()
    return scores


LORA_TARGETS = {
    "t5": ["q", "v", "wo"],
    "gpt2": ["c_attn", "c_proj"],
    "llama": ["q_proj", "v_proj", "down_proj"],
    "qwen2": ["k_proj", "o_proj"],
}


def with_lora(generator, model_name, **options):
    targets = options.pop("target_modules", LORA_TARGETS[model_name])
    return get_peft_model(generator, LoraConfig(r=2, target_modules=targets, init_lora_weights=False, **options)).eval()


def toy_bart(vocabulary):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(
        vocab_size=vocabulary.size, init_std=0.5, pad_token_id=0, decoder_start_token_id=0, **sizes, **heads
    )
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def toy_opt(vocabulary):
    sizes = {"hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return AutoModelForCausalLM.from_config(OPTConfig(vocab_size=vocabulary.size, word_embed_proj_dim=16, **sizes))
