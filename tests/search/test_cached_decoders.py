import pytest
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import (
    LlamaForCausalLM,
    T5ForConditionalGeneration,
)
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.t5.modeling_t5 import T5LayerCrossAttention

from cost_hf.search.beam_search import beam_search
from cost_hf.search.cached_decoders import CAUSAL_TYPES, unsupported_reason
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.toys import (
    toy_catalog,
    toy_causal,
    toy_decoder,
    toy_t5,
)
from tests.search.searches import MODELS, assert_equals_generate, assert_exact_equals_whole, parts, toy_opt, with_lora

T5_FORMS = {
    "gated": {"feed_forward_proj": "gated-gelu"},
    "own head": {"tie_word_embeddings": False},
    "own head, gated": {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    "mt5": {"family": "mt5"},
    "umt5": {"family": "umt5"},
    "umt5, own head": {"family": "umt5", "tie_word_embeddings": False},
}


@pytest.mark.parametrize("form", T5_FORMS)
def test_every_form_of_t5_equals_generate(form):
    _, vocabulary, generator, prompts, histories, trie = parts(
        "t5", generator=lambda vocabulary: toy_t5(vocabulary, **T5_FORMS[form])
    )

    assert unsupported_reason(generator) is None
    assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))
    assert_exact_equals_whole(generator, vocabulary, trie, prompts.inputs(histories))


@pytest.mark.parametrize("model_type", sorted(set(CAUSAL_TYPES) - {"gpt2", "llama", "qwen2"}))
def test_every_known_decoder_equals_generate(model_type):
    options = {"sliding_window": None} if model_type == "mistral" else {}
    _, vocabulary, generator, prompts, histories, trie = parts(
        "llama", generator=lambda vocabulary: toy_decoder(model_type, vocabulary, **options)
    )

    assert unsupported_reason(generator) is None
    assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))
    assert_exact_equals_whole(generator, vocabulary, trie, prompts.inputs(histories))


@pytest.mark.parametrize("model_name", MODELS)
def test_adapters_that_are_loaded_count(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    inputs = prompts.inputs(histories)
    plain = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=6)

    adapted = with_lora(generator, model_name)
    found = beam_search(adapted, *inputs, trie=trie, vocabulary=vocabulary, num_beams=6)
    assert (found.scores - plain.scores).abs().max() > 1e-2
    assert_equals_generate(adapted, vocabulary, trie, inputs)


def test_the_start_token_is_that_of_generate():
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    generator.generation_config.decoder_start_token_id = 1

    assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))

    generator.generation_config.decoder_start_token_id = generator.config.decoder_start_token_id = None
    generator.generation_config.bos_token_id = None
    with pytest.raises(ValueError, match="names no decoder_start_token_id"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)


class OwnT5(T5ForConditionalGeneration):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


class OwnLlama(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


class OwnCrossAttention(T5LayerCrossAttention):
    pass


class OwnAttention(LlamaAttention):
    pass


def test_models_that_cached_decoding_would_get_wrong_have_an_unsupported_reason():
    vocabulary = SidVocabulary.for_catalog(toy_catalog())
    t5, llama = toy_t5(vocabulary), toy_causal(vocabulary)
    prompted = get_peft_model(toy_causal(vocabulary), PromptTuningConfig(TaskType.CAUSAL_LM, num_virtual_tokens=2))
    invoked = with_lora(toy_causal(vocabulary), "llama", task_type="CAUSAL_LM", alora_invocation_tokens=[5])
    longrope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4}
    longrope["original_max_position_embeddings"] = 16

    assert "OwnT5 overrides forward of T5ForConditionalGeneration" in unsupported_reason(OwnT5(t5.config))
    assert "OwnLlama overrides forward of LlamaForCausalLM" in unsupported_reason(OwnLlama(llama.config))
    assert "float16" in unsupported_reason(toy_t5(vocabulary).half())
    assert "whole past" in unsupported_reason(toy_decoder("mistral", vocabulary, sliding_window=4))
    assert "longrope" in unsupported_reason(
        toy_decoder("phi3", vocabulary, rope_parameters=longrope, original_max_position_embeddings=16)
    )
    assert "change the prompt" in unsupported_reason(prompted) and "change the prompt" in unsupported_reason(invoked)
    assert "OPTForCausalLM is no model of t5" in unsupported_reason(toy_opt(vocabulary))
    llama.config._attn_implementation = "flash_attention_2"
    assert "takes no float mask" in unsupported_reason(llama)


def test_parts_of_another_make_and_hooks_have_an_unsupported_reason():
    vocabulary = SidVocabulary.for_catalog(toy_catalog())
    replaced, hooked, inside = toy_t5(vocabulary), toy_causal(vocabulary), toy_t5(vocabulary)
    attention = toy_causal(vocabulary)
    attention.model.layers[0].self_attn = OwnAttention(attention.config, layer_idx=0)
    replaced.decoder.block[0].layer[1] = OwnCrossAttention(replaced.decoder.config, layer_idx=0)
    hooked.register_forward_hook(lambda module, args, output: output)
    inside.decoder.block[1].layer[0].SelfAttention.register_forward_hook(lambda module, args, output: output)

    assert "OwnCrossAttention in the decoder" in unsupported_reason(replaced)
    assert "OwnAttention in the decoder" in unsupported_reason(attention)
    assert "hooks on its forward pass" in unsupported_reason(hooked)
    assert "T5Attention in the decoder" in unsupported_reason(inside)
