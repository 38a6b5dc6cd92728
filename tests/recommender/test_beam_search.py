import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertLMHeadModel

from cost_hf.recommender.beam_ranker import BeamRanker
from cost_hf.recommender.beam_search import beam_search
from cost_hf.recommender.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommender.toys import toy_catalog, toy_causal, toy_gpt2, toy_histories, toy_qwen2, toy_t5

MODELS = {"llama": toy_causal, "qwen2": toy_qwen2, "gpt2": toy_gpt2, "t5": toy_t5}


def parts(model_name, *, items=40, level_sizes=(4, 5, 3), seed=0, batch=3, **catalog_options):
    catalog = toy_catalog(items, level_sizes, seed, **catalog_options)
    vocabulary = SidVocabulary.for_catalog(catalog)
    generator = MODELS[model_name](vocabulary, seed)
    prompts = PromptBuilder.for_catalog(catalog, vocabulary, is_causal=model_name != "t5", max_history=5)
    histories = toy_histories(catalog, batch, seed=seed)
    return catalog, vocabulary, generator, prompts, histories, SidTrie.from_catalog(catalog)


def generate(generator, vocabulary, inputs, num_beams, **constraint):
    input_ids, attention_mask = inputs
    levels = len(vocabulary.level_sizes)
    output = generator.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=levels,
        eos_token_id=None,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
        **constraint,
    )
    return output.sequences[:, -levels:], output.sequences_scores.view(len(input_ids), num_beams)


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
    inputs = prompts.inputs(histories)
    option = (
        {"logits_processor": [SidLogitsProcessor(trie, vocabulary)]}
        if constraint == "processor"
        else {"prefix_allowed_tokens_fn": prefix_allowed_tokens_fn(trie, vocabulary)}
    )

    tokens, scores = generate(generator, vocabulary, inputs, 6, **option)
    found = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=6)

    assert torch.equal(vocabulary.encode(found.codes).flatten(0, 1), tokens)
    torch.testing.assert_close(found.scores, scores, rtol=1e-5, atol=1e-5)


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
    beams=st.integers(1, 70),
    level_sizes=st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple),
    is_causal=st.booleans(),
    collisions=st.sampled_from(["append", "none"]),
)
def test_any_search_gives_distinct_allowed_items_in_order(seed, items, beams, level_sizes, is_causal, collisions):
    catalog, vocabulary, generator, prompts, histories, trie = parts(
        "llama" if is_causal else "t5", items=items, level_sizes=level_sizes, seed=seed, collisions=collisions
    )
    mask = torch.rand(len(histories), items, generator=torch.Generator().manual_seed(seed)) < 0.6

    found = beam_search(
        generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=beams, mask=mask
    )

    for line, row_mask in zip(found.items, mask, strict=True):
        listed = line[line >= 0].tolist()
        assert len(set(listed)) == len(listed) <= min(beams, int(row_mask.sum()))
        assert row_mask[listed].all()
        assert beams < int(row_mask.sum()) or len(listed) == int(row_mask.sum())
    for row, codes in zip(found.items[found.items >= 0].tolist(), found.codes[found.items >= 0].tolist(), strict=True):
        assert catalog.codes[row].tolist() == codes


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


def test_padding_of_a_batch_changes_nothing():
    _, vocabulary, generator, prompts, _, trie = parts("llama")
    short, long = torch.tensor([[3, -1, -1, -1]]), torch.tensor([[1, 2, 3, 4]])

    alone = beam_search(generator, *prompts.inputs(short), trie=trie, vocabulary=vocabulary, num_beams=8)
    together = beam_search(
        generator, *prompts.inputs(torch.cat([short, long])), trie=trie, vocabulary=vocabulary, num_beams=8
    )

    assert torch.equal(alone.items[0], together.items[0])
    torch.testing.assert_close(alone.scores[0], together.scores[0])


@pytest.mark.parametrize("model_name", ["llama", "t5"])
def test_the_ranker_gives_the_same_items_through_generate(model_name, monkeypatch):
    _, _, generator, prompts, histories, trie = parts(model_name)
    ranker = BeamRanker(generator, prompts, trie, num_beams=7)

    searched = ranker.rank(histories, top_k=7)
    monkeypatch.setattr("cost_hf.recommender.beam_ranker.supports_beam_search", lambda model: False)
    generated = ranker.rank(histories, top_k=7)

    assert torch.equal(searched.items, generated.items)
    torch.testing.assert_close(searched.scores, generated.scores, rtol=1e-5, atol=1e-5)


def test_generate_under_a_mask_with_few_items_is_cleaned_of_dead_beams(monkeypatch):
    catalog, _, generator, prompts, histories, trie = parts("t5")
    monkeypatch.setattr("cost_hf.recommender.beam_ranker.supports_beam_search", lambda model: False)
    mask = torch.zeros(len(catalog), dtype=torch.bool)
    mask[[3, 11]] = True

    ranking = BeamRanker(generator, prompts, trie, num_beams=5).rank(histories, top_k=5, mask=mask)

    assert (ranking.items[:, :2].sort(1).values == torch.tensor([3, 11])).all()
    assert (ranking.items[:, 2:] == -1).all()


def test_an_architecture_without_an_engine_is_refused_with_the_way_out():
    _, vocabulary, _, prompts, histories, trie = parts("llama")
    bert = BertLMHeadModel(
        BertConfig(
            vocab_size=vocabulary.size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, is_decoder=True
        )
    )

    with pytest.raises(ValueError, match=r"BertLMHeadModel.*SidLogitsProcessor"):
        beam_search(bert, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)


def test_fewer_than_one_beam_is_an_error():
    _, vocabulary, generator, prompts, histories, trie = parts("llama")

    with pytest.raises(ValueError, match="num_beams must be at least 1, got 0"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=0)
