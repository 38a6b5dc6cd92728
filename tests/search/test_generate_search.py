import logging

import pytest
import torch

from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.search import beam_search as search_module
from cost_hf.search.beam_search import beam_search
from tests.near_ties import assert_same_rows
from tests.search.searches import (
    assert_equals_generate,
    parts,
    toy_bart,
)

NOT_OURS = {
    "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": [4, 5],
    "min_new_tokens": 9,
    "renormalize_logits": True,
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_models_own_generation_settings_do_not_reach_the_fallback(name):
    _, vocabulary, generator, prompts, histories, trie = parts("t5", generator=toy_bart)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6}
    expected = beam_search(generator, *prompts.inputs(histories), **options)

    setattr(generator.generation_config, name, NOT_OURS[name])
    found = beam_search(generator, *prompts.inputs(histories), **options)

    assert_same_rows((found.items, found.scores), (expected.items, expected.scores))


def test_the_fallback_takes_one_beam_and_embedded_prompts():
    _, vocabulary, generator, prompts, histories, trie = parts("t5", generator=toy_bart)
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary}
    expected = beam_search(generator, input_ids, attention_mask, num_beams=2, **options)

    one = beam_search(generator, input_ids, attention_mask, num_beams=1, **options)
    embedded = beam_search(
        generator,
        None,
        attention_mask,
        inputs_embeds=generator.get_input_embeddings()(input_ids),
        num_beams=2,
        **options,
    )

    assert_same_rows((one.items, one.scores), (expected.items[:, :1], expected.scores[:, :1]))
    assert_same_rows((embedded.items, embedded.scores), (expected.items, expected.scores))


def test_generate_under_a_mask_with_few_items_is_cleaned_of_dead_beams(monkeypatch):
    catalog, _, generator, prompts, histories, trie = parts("t5")
    monkeypatch.setattr("cost_hf.search.beam_search.unsupported_reason", lambda model: "a test")
    mask = torch.zeros(len(catalog), dtype=torch.bool)
    mask[[3, 11]] = True

    ranking = BeamRanker(generator, prompts, trie, num_beams=5).rank(histories, top_k=5, mask=mask)

    assert (ranking.items[:, :2].sort(1).values == torch.tensor([3, 11])).all()
    assert (ranking.items[:, 2:] == -1).all()


def test_a_model_without_cached_decoding_goes_through_generate_with_one_warning(caplog):
    _, vocabulary, generator, prompts, histories, trie = parts("t5", generator=toy_bart)

    search_module._warn_once.cache_clear()

    with caplog.at_level(logging.WARNING, logger="cost_hf"):
        for _ in range(2):
            assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))

    assert len([record for record in caplog.records if "searches by generate()" in record.message]) == 1
    with pytest.raises(
        ValueError,
        match=r"normalization='level' need cached decoding.*BartForConditional\w+ is no model of t5",
    ):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, normalization="level")
