import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, BartConfig, T5Config, T5ForConditionalGeneration

from cost_hf.recommender.backbones import SEQ2SEQ_SIZES
from cost_hf.recommender.beam_ranker import BeamRanker
from cost_hf.recommender.beam_search import beam_search
from cost_hf.recommender.engines import CAUSAL_TYPES, obstacle
from cost_hf.recommender.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommender.toys import (
    toy_catalog,
    toy_causal,
    toy_decoder,
    toy_gpt2,
    toy_histories,
    toy_qwen2,
    toy_t5,
)

MODELS = {"llama": toy_causal, "qwen2": toy_qwen2, "gpt2": toy_gpt2, "t5": toy_t5}
T5_FORMS = {
    "gated": {"feed_forward_proj": "gated-gelu"},
    "own head": {"tie_word_embeddings": False},
    "own head, gated": {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    "mt5": {"family": "mt5"},
    "umt5": {"family": "umt5"},
    "umt5, own head": {"family": "umt5", "tie_word_embeddings": False},
}


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


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("constraint", ["processor", "prefix function"])
def test_beams_and_scores_equal_generate(model_name, constraint):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    option = (
        {"logits_processor": [SidLogitsProcessor(trie, vocabulary)]}
        if constraint == "processor"
        else {"prefix_allowed_tokens_fn": prefix_allowed_tokens_fn(trie, vocabulary)}
    )

    assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories), **option)


@pytest.mark.parametrize("form", T5_FORMS)
def test_every_form_of_t5_equals_generate(form):
    _, vocabulary, generator, prompts, histories, trie = parts(
        "t5", generator=lambda vocabulary: toy_t5(vocabulary, **T5_FORMS[form])
    )

    assert obstacle(generator) is None
    assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))


@pytest.mark.parametrize("model_type", sorted(set(CAUSAL_TYPES) - {"gpt2", "llama", "qwen2"}))
def test_every_decoder_with_an_engine_equals_generate(model_type):
    options = {"sliding_window": None} if model_type == "mistral" else {}
    _, vocabulary, generator, prompts, histories, trie = parts(
        "llama", generator=lambda vocabulary: toy_decoder(model_type, vocabulary, **options)
    )

    assert obstacle(generator) is None
    assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))


@pytest.mark.parametrize("model_name", ["llama", "t5"])
def test_adapters_that_are_loaded_count(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    inputs = prompts.inputs(histories)
    plain = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=6)
    targets = ["q", "v", "wo"] if model_name == "t5" else ["q_proj", "v_proj", "down_proj"]
    adapted = get_peft_model(generator, LoraConfig(r=2, target_modules=targets, init_lora_weights=False)).eval()

    found = beam_search(adapted, *inputs, trie=trie, vocabulary=vocabulary, num_beams=6)

    assert (found.scores - plain.scores).abs().max() > 1e-2
    assert_equals_generate(adapted, vocabulary, trie, inputs)


def test_letter_size_scores_are_within_a_hundred_thousandth():
    catalog = toy_catalog(2000, (64, 63, 62))
    vocabulary = SidVocabulary.for_catalog(catalog)
    torch.manual_seed(0)
    config = T5Config(vocab_size=vocabulary.size, decoder_start_token_id=0, pad_token_id=0, **SEQ2SEQ_SIZES["letter"])
    generator = T5ForConditionalGeneration(config).eval()
    prompts = PromptBuilder.for_catalog(catalog, vocabulary, is_causal=False, max_history=20)
    inputs = prompts.inputs(toy_histories(catalog, 3, longest=20))

    assert_equals_generate(generator, vocabulary, SidTrie.from_catalog(catalog), inputs, num_beams=20)


@pytest.mark.parametrize("model_name", MODELS)
def test_as_many_beams_as_items_equals_scoring_every_item(model_name):
    catalog, vocabulary, generator, prompts, histories, trie = parts(model_name)

    with torch.no_grad():
        expected = teacher_forced_scores(generator, prompts, histories, vocabulary, catalog)
    found = beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=len(catalog))

    assert (found.items.sort(1).values == torch.arange(len(catalog))).all()
    torch.testing.assert_close(found.scores, expected.gather(1, found.items), rtol=1e-4, atol=1e-4)
    assert (found.scores.diff(dim=1) <= 0).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    items=st.integers(2, 60),
    beams=st.integers(2, 12),
    batch=st.integers(1, 4),
    level_sizes=st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple),
    model_name=st.sampled_from(sorted(MODELS)),
    masked=st.booleans(),
)
def test_any_search_equals_generate(seed, items, beams, batch, level_sizes, model_name, masked):
    _, vocabulary, generator, prompts, histories, trie = parts(
        model_name, items=items, level_sizes=level_sizes, seed=seed, batch=batch, collisions="none"
    )
    mask = torch.rand(batch, items, generator=torch.Generator().manual_seed(seed)) < 0.7 if masked else None

    found = beam_search(
        generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=beams, mask=mask
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cost_hf.recommender.beam_search.obstacle", lambda model: "a test")
        expected = BeamRanker(generator, prompts, trie, num_beams=beams).rank(histories, top_k=beams, mask=mask)

    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-4)
    gaps = found.scores.diff(dim=1).abs()
    if not ((gaps > 0) & (gaps < 1e-3)).any():
        assert torch.equal(found.items, expected.items)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    items=st.integers(2, 60),
    beams=st.integers(1, 70),
    level_sizes=st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple),
    is_causal=st.booleans(),
    collisions=st.sampled_from(["append", "none"]),
    normalization=st.sampled_from(["vocabulary", "level"]),
)
def test_any_search_gives_distinct_allowed_items_in_order(
    seed, items, beams, level_sizes, is_causal, collisions, normalization
):
    catalog, vocabulary, generator, prompts, histories, trie = parts(
        "llama" if is_causal else "t5", items=items, level_sizes=level_sizes, seed=seed, collisions=collisions
    )
    mask = torch.rand(len(histories), items, generator=torch.Generator().manual_seed(seed)) < 0.6

    found = beam_search(
        generator,
        *prompts.inputs(histories),
        trie=trie,
        vocabulary=vocabulary,
        num_beams=beams,
        mask=mask,
        normalization=normalization,
    )

    for line, row_mask in zip(found.items, mask, strict=True):
        listed = line[line >= 0].tolist()
        assert len(set(listed)) == len(listed) <= min(beams, int(row_mask.sum()))
        assert row_mask[listed].all()
        assert beams < int(row_mask.sum()) or len(listed) == int(row_mask.sum())
    for row, codes in zip(found.items[found.items >= 0].tolist(), found.codes[found.items >= 0].tolist(), strict=True):
        assert catalog.codes[row].tolist() == codes


@pytest.mark.parametrize("model_name", ["llama", "t5"])
def test_level_scores_are_normalised_over_the_codes_of_the_level(model_name):
    catalog, vocabulary, generator, prompts, histories, trie = parts(model_name, batch=1)
    found = beam_search(
        generator,
        *prompts.inputs(histories),
        trie=trie,
        vocabulary=vocabulary,
        num_beams=len(catalog),
        normalization="level",
    )
    row = int(found.items[0, 3])
    tokens = prompts.item_tokens[row][None]
    input_ids, attention_mask = prompts.inputs(histories)

    with torch.no_grad():
        if model_name == "t5":
            logits = generator(input_ids=input_ids, attention_mask=attention_mask, labels=tokens).logits[0]
        else:
            logits = generator(input_ids=torch.cat([input_ids, tokens], 1)).logits[0, input_ids.shape[1] - 1 : -1]
    expected = sum(
        logits[level, int(start) : int(start) + size].log_softmax(-1)[catalog.codes[row, level]]
        for level, (start, size) in enumerate(zip(vocabulary.level_offsets, catalog.level_sizes, strict=True))
    )

    torch.testing.assert_close(found.scores[0, 3], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_name", ["llama", "t5"])
def test_embedded_prompts_give_the_same_answer(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6}
    expected = beam_search(generator, input_ids, attention_mask, **options)

    embedded = beam_search(
        generator,
        attention_mask=attention_mask,
        inputs_embeds=generator.get_input_embeddings()(input_ids),
        **options,
    )

    assert torch.equal(embedded.items, expected.items)
    torch.testing.assert_close(embedded.scores, expected.scores)


@pytest.mark.parametrize("has_engine", [True, False])
def test_encoder_outputs_take_the_place_of_prompts_and_come_back(has_engine, monkeypatch):
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6, "output_encoder_states": True}
    if not has_engine:
        monkeypatch.setattr("cost_hf.recommender.beam_search.obstacle", lambda model: "a test")

    first = beam_search(generator, input_ids, attention_mask, **options)
    again = beam_search(generator, None, attention_mask, encoder_outputs=(first.encoder_states,), **options)

    assert torch.equal(first.items, again.items)
    torch.testing.assert_close(first.encoder_states, generator.encoder(input_ids, attention_mask)[0])


def test_no_prompt_or_two_are_an_error():
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    input_ids, _ = prompts.inputs(histories)

    with pytest.raises(ValueError, match="exactly one of input_ids, inputs_embeds and encoder_outputs, got 0"):
        beam_search(generator, trie=trie, vocabulary=vocabulary)
    with pytest.raises(ValueError, match="got 2"):
        beam_search(generator, input_ids, encoder_outputs=(input_ids,), trie=trie, vocabulary=vocabulary)


def test_a_level_hook_adds_to_what_enters_the_decoder():
    catalog, vocabulary, generator, prompts, histories, trie = parts("t5", batch=1, items=12, collisions="none")
    input_ids, attention_mask = prompts.inputs(histories)
    added = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    seen = []

    def hook(level, codes):
        seen.append((level, tuple(codes.shape)))
        return None if level == 1 else added[level] * (1 + codes.sum(-1, keepdim=True))

    found = beam_search(
        generator, input_ids, attention_mask, trie=trie, vocabulary=vocabulary, num_beams=5, level_hook=hook
    )
    row = int(found.items[0, 0])
    tokens, codes = prompts.item_tokens[row], torch.tensor(catalog.codes[row])
    embeds = generator.get_input_embeddings()(torch.cat([torch.tensor([vocabulary.pad_id]), tokens[:-1]]))
    embeds = embeds + torch.stack([added[0], torch.zeros(16), added[2] * (1 + codes[:2].sum())])
    with torch.no_grad():
        logits = generator(
            input_ids=input_ids, attention_mask=attention_mask, decoder_inputs_embeds=embeds[None]
        ).logits
    expected = logits[0].log_softmax(-1).gather(1, tokens[:, None]).sum()

    assert seen == [(0, (1, 1, 0)), (1, (1, 4, 1)), (2, (1, 5, 2))]
    torch.testing.assert_close(found.scores[0, 0], expected, rtol=1e-4, atol=1e-4)


def test_model_arguments_reach_every_pass():
    _, vocabulary, generator, prompts, histories, trie = parts("llama")
    inputs = prompts.inputs(histories)
    passes = []
    generator.model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs.get("note")), with_kwargs=True
    )

    beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, model_kwargs={"note": 7})

    assert passes == [7, 7, 7, 7]  # the prompt and three codes; the last is not fed


def test_fewer_items_than_beams_returns_each_item_once():
    _, vocabulary, generator, prompts, histories, trie = parts("llama", items=5)

    found = beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=20)

    assert (found.items[:, :5].sort(1).values == torch.arange(5)).all()
    assert (found.items[:, 5:] == -1).all()
    assert (found.scores[:, 5:] == -torch.inf).all()


def test_items_of_one_leaf_are_all_reachable_and_stand_by_popularity():
    catalog = toy_catalog(12, (2, 2), collisions="none")
    vocabulary = SidVocabulary.for_catalog(catalog)
    popularity = torch.arange(12).numpy()
    trie = SidTrie.from_catalog(catalog, popularity=popularity)
    prompts = PromptBuilder.for_catalog(catalog, vocabulary, is_causal=True, max_history=5)

    found = beam_search(
        toy_causal(vocabulary), *prompts.inputs(torch.tensor([[0, 1]])), trie=trie, vocabulary=vocabulary, num_beams=12
    )

    assert sorted(found.items[0].tolist()) == list(range(12))
    for score in found.scores[0].unique():
        members = found.items[0][found.scores[0] == score]
        assert (members.diff() < 0).all()  # the higher row is the more popular one here


@pytest.mark.parametrize("model_name", MODELS)
def test_padding_of_a_batch_changes_nothing(model_name):
    _, vocabulary, generator, prompts, _, trie = parts(model_name)
    short, long = torch.tensor([[3, -1, -1, -1]]), torch.tensor([[1, 2, 3, 4]])

    alone = beam_search(generator, *prompts.inputs(short), trie=trie, vocabulary=vocabulary, num_beams=8)
    together = beam_search(
        generator, *prompts.inputs(torch.cat([short, long])), trie=trie, vocabulary=vocabulary, num_beams=8
    )

    assert torch.equal(alone.items[0], together.items[0])
    torch.testing.assert_close(alone.scores[0], together.scores[0])


def test_generate_under_a_mask_with_few_items_is_cleaned_of_dead_beams(monkeypatch):
    catalog, _, generator, prompts, histories, trie = parts("t5")
    monkeypatch.setattr("cost_hf.recommender.beam_search.obstacle", lambda model: "a test")
    mask = torch.zeros(len(catalog), dtype=torch.bool)
    mask[[3, 11]] = True

    ranking = BeamRanker(generator, prompts, trie, num_beams=5).rank(histories, top_k=5, mask=mask)

    assert (ranking.items[:, :2].sort(1).values == torch.tensor([3, 11])).all()
    assert (ranking.items[:, 2:] == -1).all()


def toy_bart(vocabulary):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(
        vocab_size=vocabulary.size, init_std=0.5, pad_token_id=0, decoder_start_token_id=0, **sizes, **heads
    )
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def test_a_model_without_an_engine_goes_through_generate_and_that_is_said_once(caplog):
    _, vocabulary, generator, prompts, histories, trie = parts("t5", generator=toy_bart)

    with caplog.at_level(logging.WARNING, logger="cost_hf"):
        for _ in range(2):
            assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))

    assert len([record for record in caplog.records if "searches by generate()" in record.message]) == 1
    with pytest.raises(ValueError, match=r"level_hook and normalization='level' need an engine.*is not T5"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, normalization="level")


def test_models_that_an_engine_would_get_wrong_have_an_obstacle():
    vocabulary = SidVocabulary.for_catalog(toy_catalog())

    class OwnForward(T5ForConditionalGeneration):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    t5 = toy_t5(vocabulary)
    prompted = get_peft_model(toy_causal(vocabulary), PromptTuningConfig(TaskType.CAUSAL_LM, num_virtual_tokens=2))

    assert "forward pass of transformers" in obstacle(OwnForward(t5.config))
    assert "float16" in obstacle(toy_t5(vocabulary).half())
    assert "whole past" in obstacle(toy_decoder("mistral", vocabulary, sliding_window=4))
    assert "prompt-learning" in obstacle(prompted)
    assert "opt" in obstacle(toy_opt(vocabulary))


def toy_opt(vocabulary):
    from transformers import OPTConfig

    sizes = {"hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return AutoModelForCausalLM.from_config(OPTConfig(vocab_size=vocabulary.size, word_embed_proj_dim=16, **sizes))


def test_wrong_options_are_named():
    _, vocabulary, generator, prompts, histories, trie = parts("llama")
    inputs = prompts.inputs(histories)

    with pytest.raises(ValueError, match="num_beams must be at least 1, got 0"):
        beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=0)
    with pytest.raises(ValueError, match="normalization must be one of vocabulary, level, got 'softmax'"):
        beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, normalization="softmax")
