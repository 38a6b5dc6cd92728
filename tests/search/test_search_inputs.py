import numpy as np
import pytest
import torch

from cost_hf.search.beam_search import beam_search
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.near_ties import assert_same_rows
from tests.search.searches import (
    MODELS,
    parts,
)


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

    assert_same_rows((embedded.items, embedded.scores), (expected.items, expected.scores))


@pytest.mark.parametrize("is_cached", [True, False])
def test_encoder_outputs_take_the_place_of_prompts_and_come_back(is_cached, monkeypatch):
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6, "output_prompt_states": True}
    if not is_cached:
        monkeypatch.setattr("cost_hf.search.beam_search.unsupported_reason", lambda model: "a test")

    first = beam_search(generator, input_ids, attention_mask, **options)
    again = beam_search(generator, None, attention_mask, encoder_outputs=(first.prompt_states,), **options)

    assert_same_rows((first.items, first.scores), (again.items, again.scores))
    torch.testing.assert_close(first.prompt_states, generator.encoder(input_ids, attention_mask)[0])


def test_no_prompt_or_two_are_an_error():
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    input_ids, _ = prompts.inputs(histories)

    with pytest.raises(ValueError, match="exactly one of input_ids, inputs_embeds and encoder_outputs, got 0"):
        beam_search(generator, trie=trie, vocabulary=vocabulary)
    with pytest.raises(ValueError, match="got 2"):
        beam_search(generator, input_ids, encoder_outputs=(input_ids,), trie=trie, vocabulary=vocabulary)


def test_a_level_inputs_adds_to_what_enters_the_decoder():
    catalog, vocabulary, generator, prompts, histories, trie = parts("t5", batch=1, items=12, collisions="none")
    input_ids, attention_mask = prompts.inputs(histories)
    added = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    seen = []

    def hook(level, codes):
        seen.append((level, tuple(codes.shape)))
        return None if level == 1 else added[level] * (1 + codes.sum(-1, keepdim=True))

    found = beam_search(
        generator, input_ids, attention_mask, trie=trie, vocabulary=vocabulary, num_beams=5, level_inputs=hook
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


def test_a_level_inputs_of_a_decoder_only_model_begins_behind_the_prompt():
    _, vocabulary, generator, prompts, histories, trie = parts("llama", batch=1, items=12, collisions="none")
    input_ids, attention_mask = prompts.inputs(histories)
    added = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))

    found = beam_search(
        generator,
        input_ids,
        attention_mask,
        trie=trie,
        vocabulary=vocabulary,
        num_beams=5,
        level_inputs=lambda level, codes: added[level - 1].expand(*codes.shape[:2], -1) if level else None,
    )
    row = int(found.items[0, 0])
    tokens = prompts.item_tokens[row]
    embeds = generator.get_input_embeddings()(torch.cat([input_ids[0], tokens[:-1]]))
    embeds[-2:] += added
    with torch.no_grad():
        logits = generator(inputs_embeds=embeds[None]).logits[0, input_ids.shape[1] - 1 :]
    expected = logits.log_softmax(-1).gather(1, tokens[:, None]).sum()

    torch.testing.assert_close(found.scores[0, 0], expected, rtol=1e-4, atol=1e-4)


def test_model_arguments_reach_the_encoder():
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    passes = []
    generator.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs.pop("note")), with_kwargs=True
    )

    beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, model_kwargs={"note": 7})

    assert passes == [7]


def test_model_arguments_reach_every_pass():
    _, vocabulary, generator, prompts, histories, trie = parts("llama")
    inputs = prompts.inputs(histories)
    passes = []
    generator.model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs.get("note")), with_kwargs=True
    )

    beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, model_kwargs={"note": 7})

    assert passes == [7, 7, 7, 7]  # the prompt and three codes; the last is not fed


@pytest.mark.parametrize("model_name", MODELS)
def test_padding_of_a_batch_changes_nothing(model_name):
    _, vocabulary, generator, prompts, _, trie = parts(model_name)
    short, long = torch.tensor([[3, -1, -1, -1]]), torch.tensor([[1, 2, 3, 4]])

    alone = beam_search(generator, *prompts.inputs(short), trie=trie, vocabulary=vocabulary, num_beams=8)
    together = beam_search(
        generator, *prompts.inputs(torch.cat([short, long])), trie=trie, vocabulary=vocabulary, num_beams=8
    )

    assert_same_rows((alone.items, alone.scores), (together.items[:1], together.scores[:1]))


@pytest.mark.parametrize("model_name", MODELS)
def test_padding_on_the_right_changes_nothing(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6}
    order = attention_mask.argsort(dim=1, descending=True, stable=True)
    assert not attention_mask.all()

    left = beam_search(generator, input_ids, attention_mask, **options)
    right = beam_search(generator, input_ids.gather(1, order), attention_mask.gather(1, order), **options)

    assert_same_rows((left.items, left.scores), (right.items, right.scores))


def test_results_may_be_changed_and_taken_into_a_loss():
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    found = beam_search(
        generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, output_prompt_states=True
    )

    found.scores.add_(1.0)
    weight = torch.ones(16, requires_grad=True)
    (found.prompt_states @ weight).sum().backward()

    assert weight.grad is not None


def test_numpy_counts_are_counts():
    _, vocabulary, generator, prompts, histories, trie = parts("llama")

    found = beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=np.int64(3))

    assert found.items.shape == (3, 3)


def test_wrong_options_are_named():
    _, vocabulary, generator, prompts, histories, trie = parts("llama")
    inputs = prompts.inputs(histories)

    for wrong, message in (
        (0, "num_beams must be at least 1, got 0"),
        (10**9, "num_beams must be at most 10000, got 1000000000"),
        ("50", r"num_beams must be a whole number of at least 1, got '50' \(str\)"),
        (True, r"got True \(bool\)"),
        (3.0, r"got 3.0 \(float\)"),
        (float("nan"), r"got nan \(float\)"),
        (None, r"got None \(NoneType\)"),
    ):
        with pytest.raises(ValueError, match=message):
            beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=wrong)
    with pytest.raises(ValueError, match="normalization must be one of vocabulary, level, got 'softmax'"):
        beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, normalization="softmax")


def test_parts_that_do_not_fit_are_refused():
    catalog, vocabulary, generator, prompts, histories, trie = parts("llama")
    inputs = prompts.inputs(histories)
    wider = SidTrie(catalog.codes, (9, 9, 9, 256))
    larger = SidVocabulary(catalog.level_sizes, first_id=20)

    for search in (beam_search, score_catalog):
        with pytest.raises(ValueError, match=r"the trie has level_sizes=\(9, 9, 9, 256\)"):
            search(generator, *inputs, trie=wider, vocabulary=vocabulary)
        with pytest.raises(ValueError, match="the model gives logits for 273 tokens, the codes need 288"):
            search(generator, *inputs, trie=trie, vocabulary=larger)
        with pytest.raises(ValueError, match=r"in training mode.*call \.eval\(\)"):
            search(generator.train(), *inputs, trie=trie, vocabulary=vocabulary)
        generator.eval()
    with pytest.raises(ValueError, match="encoder_outputs need an encoder-decoder model, got LlamaForCausalLM"):
        beam_search(generator, encoder_outputs=(torch.zeros(1, 2, 16),), trie=trie, vocabulary=vocabulary)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": torch.zeros(0, 4, dtype=torch.long)}, r"none of them 0, got shape \(0, 4\)"),
        ({"input_ids": torch.zeros(4, dtype=torch.long)}, r"expected input_ids \[B, S\].*got shape \(4,\)"),
        ({"attention_mask": torch.ones(1, 3)}, r"attention_mask must be \(3, \d+\) like the prompts, got \(1, 3\)"),
        ({"model_kwargs": {"position_ids": 1, "use_cache": True}}, "must not hold position_ids, use_cache"),
    ],
)
def test_prompts_of_wrong_form_are_named(change, message):
    _, vocabulary, generator, prompts, histories, trie = parts("t5")
    input_ids, attention_mask = prompts.inputs(histories)
    arguments = {"input_ids": input_ids, "attention_mask": None if "input_ids" in change else attention_mask} | change

    with pytest.raises(ValueError, match=message):
        beam_search(generator, trie=trie, vocabulary=vocabulary, **arguments)


def test_weights_that_are_no_numbers_are_an_error():
    _, vocabulary, generator, prompts, histories, trie = parts("llama")
    torch.nn.init.constant_(generator.model.norm.weight, torch.nan)

    with pytest.raises(ValueError, match="NaN; its weights are broken"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)
