"""Prompts of a batch that begin alike: the shared tokens run once, and nothing else changes."""

import pytest
import torch

from cost_hf.generators.prompts import PromptBuilder, PromptLayout
from cost_hf.search import causal_steps
from cost_hf.search.beam_search import beam_search
from cost_hf.search.beam_steps import Prompt
from cost_hf.search.causal_steps import MIN_SHARED, CausalSteps, shared_tokens
from tests.search.searches import assert_equals_generate, assert_exact_equals_whole, parts

CAUSAL = ["llama", "qwen2", "gpt2"]
WORDS = tuple(range(3, 3 + MIN_SHARED + 2))  # any tokens serve as the words of a prompt


def instructed(model_name, **options):
    """Return parts of a search whose prompts begin with words."""
    catalog, vocabulary, generator, _, histories, trie = parts(model_name, **options)
    layout = PromptLayout((*WORDS, vocabulary.begin_id))
    prompts = PromptBuilder.for_catalog(catalog, vocabulary, is_causal=True, max_history=5, layout=layout)
    return vocabulary, generator, prompts, histories, trie


def padded_right(input_ids, attention_mask):
    order = attention_mask.argsort(dim=1, descending=True, stable=True)
    return input_ids.gather(1, order), attention_mask.gather(1, order)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_answers_are_those_of_generate(name):
    vocabulary, generator, prompts, histories, trie = instructed(name)
    inputs = prompts.inputs(histories)
    assert 0 in inputs[1]  # rows of several lengths
    assert shared_tokens(Prompt(inputs[1], inputs[0])) > MIN_SHARED

    assert_equals_generate(generator, vocabulary, trie, inputs)
    assert_exact_equals_whole(generator, vocabulary, trie, inputs)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", CAUSAL)
@torch.no_grad()
def test_states_stay_where_their_tokens_are(name, side):
    vocabulary, generator, prompts, histories, trie = instructed(name)
    input_ids, attention_mask = prompts.inputs(histories)
    if side == "right":
        input_ids, attention_mask = padded_right(input_ids, attention_mask)
    options = {"trie": trie, "vocabulary": vocabulary, "output_prompt_states": True}

    found = beam_search(generator, input_ids, attention_mask, **options)

    for line, is_token in enumerate(attention_mask.bool()):
        expected = generator.base_model(input_ids=input_ids[line][is_token][None]).last_hidden_state[0]
        torch.testing.assert_close(found.prompt_states[line][is_token], expected, rtol=1e-4, atol=1e-4)
        alone = beam_search(generator, input_ids[line][is_token][None], **options)
        torch.testing.assert_close(found.scores[line], alone.scores[0], rtol=1e-4, atol=1e-4)


def test_shared_tokens_enter_the_decoder_once():
    _, generator, prompts, histories, _ = instructed("llama", batch=4)
    input_ids, attention_mask = prompts.inputs(histories)
    steps = CausalSteps(generator, Prompt(attention_mask, input_ids))
    shared = shared_tokens(steps.prompt)
    decoder, fed = steps.decoder, []

    def counting(**inputs):
        fed.append(tuple(inputs["input_ids"].shape))
        return decoder(**inputs)

    steps.decoder = counting
    steps.start()
    steps.start()  # what a search over the same prompts does; they are not run again

    assert fed == [(1, shared), (4, input_ids.shape[1] - shared)]


def test_how_many_tokens_are_shared():
    def shared(rows, mask=None, **options):
        ids = torch.tensor(rows)
        return shared_tokens(Prompt(torch.ones_like(ids) if mask is None else torch.tensor(mask), ids, **options))

    assert shared([[1, 2, 3, 4], [1, 2, 5, 4]]) == 2
    assert shared([[1, 2, 3, 4], [1, 2, 3, 4]]) == 3  # each prompt keeps its last token
    assert shared([[0, 1, 2, 3], [1, 2, 9, 4]], [[0, 1, 1, 1], [1, 1, 1, 1]]) == 2
    assert shared([[1, 2, 0, 0], [1, 2, 3, 4]], [[1, 1, 0, 0], [1, 1, 1, 1]]) == 1
    assert shared([[0, 0], [1, 2]], [[0, 0], [1, 1]]) == 0
    assert shared([[1, 2, 3]]) == 0
    assert shared([[1, 2, 3], [1, 2, 3]], model_kwargs={"token_type_ids": None}) == 0


def test_few_shared_tokens_run_with_the_rest(monkeypatch):
    vocabulary, generator, prompts, histories, trie = instructed("llama")
    inputs = prompts.inputs(histories)
    first = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary)
    monkeypatch.setattr(causal_steps, "MIN_SHARED", 1000)

    whole = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary)

    torch.testing.assert_close(first.scores, whole.scores, rtol=1e-5, atol=1e-5)
