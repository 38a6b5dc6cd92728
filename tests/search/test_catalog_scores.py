import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.search import catalog_scores
from cost_hf.search.beam_search import beam_search
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.semantic_ids.trie import SidTrie
from tests.search.searches import MODELS, parts, teacher_forced_scores, toy_bart


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("chunk", [256, 3])
def test_every_item_has_its_own_probability(model_name, chunk, monkeypatch):
    catalog, vocabulary, generator, prompts, histories, trie = parts(model_name)
    monkeypatch.setattr(catalog_scores, "CHUNK", chunk)
    with torch.no_grad():
        expected = teacher_forced_scores(generator, prompts, histories, vocabulary, catalog)

    scores = score_catalog(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)

    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    items=st.integers(1, 60),
    level_sizes=st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple),
    is_causal=st.booleans(),
    normalization=st.sampled_from(["vocabulary", "level"]),
)
def test_a_search_with_all_beams_finds_the_same_scores(seed, items, level_sizes, is_causal, normalization):
    catalog, vocabulary, generator, prompts, histories, trie = parts(
        "llama" if is_causal else "t5", items=items, level_sizes=level_sizes, seed=seed, collisions="none"
    )
    options = {"trie": trie, "vocabulary": vocabulary, "normalization": normalization}

    scores = score_catalog(generator, *prompts.inputs(histories), **options)
    found = beam_search(generator, *prompts.inputs(histories), num_beams=len(catalog), **options)

    torch.testing.assert_close(scores.gather(1, found.items), found.scores, rtol=1e-4, atol=1e-4)


def test_removed_items_have_no_score():
    catalog, vocabulary, generator, prompts, histories, _ = parts("llama")
    smaller = catalog.without_items(["item003"])

    scores = score_catalog(
        generator, *prompts.inputs(histories), trie=SidTrie.from_catalog(smaller), vocabulary=vocabulary
    )

    assert (scores[:, 3] == -torch.inf).all()
    assert scores[:, [row for row in range(len(catalog)) if row != 3]].isfinite().all()


def test_a_model_without_cached_decoding_is_refused():
    _, vocabulary, generator, prompts, histories, trie = parts("t5", generator=toy_bart)

    with pytest.raises(ValueError, match=r"score_catalog needs cached decoding.*Bart"):
        score_catalog(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)
