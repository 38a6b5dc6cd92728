"""The beam search of GLASS: every beam reads the items with its own first code."""

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList

from cost_hf.generators.generator_training import training_examples
from cost_hf.generators.options import TrainingOptions
from cost_hf.search.beam_search import beam_search
from cost_hf.search.cached_decoders import unsupported_reason
from cost_hf.search.captured_search import CapturedSearch
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.search.generate_search import NEUTRAL
from cost_hf.search.leaf_search import leaf_search
from cost_hf.search.logits_processor import SidLogitsProcessor
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.glass.glass_toys import CAUSAL, LONG, long_histories, ranker_of, toy_catalog, toy_glass
from tests.methods.liger.liger_toys import spread

ITEMS = 40


@pytest.fixture(scope="module")
def catalog():
    return toy_catalog(ITEMS)


@pytest.fixture(scope="module")
def backbone(catalog):
    return spread(toy_glass(catalog, neighbour_codes=1, min_retrieved=2, positions=True))


def teacher_forced(backbone, catalog, histories, line):
    """Log-probability of every item for one history, by one forward pass each: `[N]`."""
    prompts = backbone.prompts(catalog)[0]
    ranker = ranker_of(backbone, catalog)
    own = histories[line : line + 1].expand(len(catalog), -1)
    input_ids, attention_mask = prompts.inputs(own)
    labels = prompts.labels(torch.arange(len(catalog)))
    with torch.no_grad():
        logits = backbone.model(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels, **ranker.history_inputs(own)
        ).logits
    return logits.log_softmax(-1).gather(2, labels[..., None]).sum((1, 2))


def test_scores_of_beams_are_those_of_the_forward_pass_with_their_own_first_code(backbone, catalog):
    histories = long_histories(ITEMS)

    ranking = ranker_of(backbone, catalog, num_beams=ITEMS).rank(histories, top_k=ITEMS)

    assert unsupported_reason(backbone.model) is None
    for line in range(len(histories)):
        expected = teacher_forced(backbone, catalog, histories, line)
        torch.testing.assert_close(ranking.scores[line], expected[ranking.items[line]], rtol=1e-4, atol=1e-4)
        assert len(set(ranking.items[line].tolist())) == ITEMS


def test_exact_search_and_scores_of_the_catalog_read_the_same(backbone, catalog):
    histories = long_histories(ITEMS)
    ranker = ranker_of(backbone, catalog, num_beams=3)
    found = ranker.exact().rank(histories, top_k=4)
    input_ids, attention_mask = ranker.prompts.inputs(histories)

    scores = score_catalog(
        backbone.model,
        input_ids,
        attention_mask,
        trie=ranker.trie,
        vocabulary=backbone.vocabulary,
        model_kwargs=ranker.history_inputs(histories),
    )

    assert found.certificate is not None and bool(found.certificate.is_exact(4).all())
    best = scores.topk(4)
    torch.testing.assert_close(found.scores, best.values, rtol=1e-4, atol=1e-4)
    assert not ranker.is_exact and type(ranker.exact()) is type(ranker)


@pytest.mark.parametrize("use_cache", [True, False])
def test_generate_gives_the_beams_of_the_search_with_and_without_cache(backbone, catalog, use_cache):
    histories = long_histories(ITEMS)
    ranker = ranker_of(backbone, catalog, num_beams=5)
    input_ids, attention_mask = ranker.prompts.inputs(histories)
    inputs = ranker.history_inputs(histories)
    model = backbone.model
    with torch.no_grad():
        embeds = model.embed_prompt(input_ids, **inputs)
    inputs.pop("tier_features")

    output = model.generate(
        inputs_embeds=embeds,
        attention_mask=attention_mask,
        num_beams=5,
        num_return_sequences=5,
        max_new_tokens=len(catalog.level_sizes),
        use_cache=use_cache,
        logits_processor=LogitsProcessorList([SidLogitsProcessor(ranker.trie, backbone.vocabulary)]),
        output_scores=True,
        return_dict_in_generate=True,
        **NEUTRAL,
        **inputs,
    )

    expected = ranker.rank(histories, top_k=5)
    torch.testing.assert_close(output.sequences_scores.view(-1, 5), expected.scores, rtol=1e-4, atol=1e-4)


def test_without_anything_retrieved_the_search_is_that_of_the_generator(catalog):
    backbone = spread(toy_glass(catalog, tier_token=False))
    prompts = backbone.prompts(catalog)[0]
    trie = SidTrie.from_catalog(catalog)
    histories = long_histories(ITEMS)
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": backbone.vocabulary, "num_beams": 5}
    empty = backbone.model.history_inputs(torch.full((len(histories), 2), -1))
    own = ranker_of(backbone, catalog).history_inputs(histories)

    plain = beam_search(backbone.model, input_ids, attention_mask, **options)
    found = beam_search(backbone.model, input_ids, attention_mask, model_kwargs=empty, **options)
    other = beam_search(backbone.model, input_ids, attention_mask, model_kwargs=own, **options)

    assert torch.equal(found.items, plain.items) and torch.equal(found.scores, plain.scores)
    assert not torch.equal(other.scores, plain.scores)


def test_items_beyond_the_prompt_are_read_and_those_beyond_the_long_history_are_not(backbone, catalog):
    histories = long_histories(ITEMS, batch=2)[1:]
    length = int((histories >= 0).sum())
    older = histories.clone()
    older[0, 0] = (older[0, 0] + 1) % ITEMS
    prompts = backbone.prompts(catalog)[0]
    assert all(torch.equal(one, two) for one, two in zip(prompts.inputs(histories), prompts.inputs(older), strict=True))

    whole, cut = (ranker_of(backbone, catalog, long_history=size) for size in (LONG, length - 1))

    assert not torch.equal(whole.rank(histories, top_k=5).scores, whole.rank(older, top_k=5).scores)
    assert torch.equal(cut.rank(histories, top_k=5).scores, cut.rank(older, top_k=5).scores)


def test_searches_that_can_not_read_beams_refuse_the_model(backbone, catalog):
    prompts = backbone.prompts(catalog)[0]
    inputs = prompts.inputs(long_histories(ITEMS))
    options = {"trie": SidTrie.from_catalog(catalog), "vocabulary": backbone.vocabulary, "num_beams": 5}

    with pytest.raises(ValueError, match="may depend on more than a recorded graph can see"):
        CapturedSearch(backbone.model, **options)
    with pytest.raises(ValueError, match="not defined after the last code"):
        leaf_search(backbone.model, *inputs, **options)


@pytest.mark.parametrize("body", ["seq2seq", "causal"])
def test_the_search_reads_of_a_long_history_what_training_on_it_read(catalog, body):
    backbone = toy_glass(catalog, body=body, **(CAUSAL if body == "causal" else {}))
    prompts = backbone.prompts(catalog)
    longest = prompts[0].max_history
    for length in (1, longest, longest + 1, longest + 4):
        history = np.arange(length) * 3 % ITEMS
        dataset, collator = training_examples(
            backbone, prompts, [np.append(history, 7)], ["u"], training=TrainingOptions(), long_history=LONG
        )
        batch = collator([next(example for example in dataset if example.item_rows[-1] == 7)])

        trained = backbone.model.history_inputs(batch["long_rows"])
        searched = ranker_of(backbone, catalog).history_inputs(torch.from_numpy(history)[None])

        assert trained.keys() == searched.keys()
        for name, part in trained.items():
            assert torch.equal(part, searched[name]), (name, length)
