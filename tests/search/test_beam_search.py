import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    T5Config,
    T5ForConditionalGeneration,
)

from cost_hf.generators.backbones import SEQ2SEQ_SIZES
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.search.beam_search import beam_search
from cost_hf.search.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.toys import (
    toy_catalog,
    toy_causal,
    toy_histories,
)
from tests.search.searches import MODELS, assert_equals_generate, parts, teacher_forced_scores, with_lora


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
    adapted=st.booleans(),
)
def test_any_search_equals_generate(seed, items, beams, batch, level_sizes, model_name, masked, adapted):
    _, vocabulary, generator, prompts, histories, trie = parts(
        model_name, items=items, level_sizes=level_sizes, seed=seed, batch=batch, collisions="none"
    )
    mask = torch.rand(batch, items, generator=torch.Generator().manual_seed(seed)) < 0.7 if masked else None
    generator = with_lora(generator, model_name) if adapted else generator

    found = beam_search(
        generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=beams, mask=mask
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cost_hf.search.beam_search.unsupported_reason", lambda model: "a test")
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


@pytest.mark.parametrize("head", ["plain", "adapted", "hooked"])
@pytest.mark.parametrize("model_name", ["llama", "t5"])
def test_level_scores_are_normalised_over_the_codes_of_the_level(model_name, head):
    catalog, vocabulary, generator, prompts, histories, trie = parts(model_name, batch=1)
    if head == "adapted":
        generator = with_lora(generator, model_name, target_modules=["lm_head"])
    elif head == "hooked":
        generator.lm_head.register_forward_hook(lambda module, args, logits: logits * 0.5)
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
