"""A search that ends at SIDs has the beams of `beam_search` and the states of a plain forward pass."""

import pytest
import torch

from cost_hf.search.beam_search import beam_search
from cost_hf.search.leaf_search import leaf_search
from tests.near_ties import assert_same_rows
from tests.search.searches import MODELS, parts, toy_opt

SHARED = {"items": 60, "level_sizes": (3, 4, 2), "collisions": "none"}  # 60 items on at most 24 SIDs


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("level_sizes", [(3, 4, 2), (5,)])
def test_sids_and_scores_are_those_of_beam_search(model_name, level_sizes):
    catalog, vocabulary, generator, prompts, histories, trie = parts(
        model_name, **SHARED | {"level_sizes": level_sizes}
    )
    inputs = prompts.inputs(histories)

    found = leaf_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=7)
    beams = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=7)
    expected = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=len(catalog))

    for line in range(len(histories)):
        assert found.rows[line][found.present[line]][:7].tolist() == beams.items[line].tolist()
        for beam in range(found.scores.shape[1]):
            rows = found.rows[line, beam][found.present[line, beam]]
            assert rows.tolist() == trie.items_under(found.codes[line, beam].tolist()).tolist()
            is_member = (expected.items[line][:, None] == rows).any(1)
            assert torch.allclose(expected.scores[line][is_member], found.scores[line, beam], atol=1e-4)


@pytest.mark.parametrize("model_name", MODELS)
def test_states_are_those_of_a_pass_over_the_whole_sequence(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name, **SHARED)

    found = leaf_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=4)

    for line, history in enumerate(histories):
        input_ids, attention_mask = prompts.inputs(history[history >= 0][None])
        for beam in range(4):
            tokens = vocabulary.encode(found.codes[line, beam][None])
            with torch.no_grad():
                if generator.config.is_encoder_decoder:
                    start = torch.full((1, 1), generator.generation_config.decoder_start_token_id)
                    output = generator(
                        input_ids=input_ids,
                        attention_mask=attention_mask,
                        decoder_input_ids=torch.cat([start, tokens], 1),
                        output_hidden_states=True,
                    )
                    states = output.decoder_hidden_states[-1]
                else:
                    output = generator.get_decoder()(input_ids=torch.cat([input_ids, tokens], 1))
                    states = output.last_hidden_state
            torch.testing.assert_close(found.states[line, beam], states[0, -1], rtol=1e-4, atol=1e-4)


def test_masks_leave_only_allowed_items_and_their_sids():
    catalog, vocabulary, generator, prompts, histories, trie = parts("llama", **SHARED)
    allowed = torch.rand(len(histories), len(catalog), generator=torch.Generator().manual_seed(0)) < 0.2
    allowed[0] = False

    found = leaf_search(
        generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=60, mask=allowed
    )

    assert not found.present[0].any() and (found.scores[0] == -torch.inf).all()
    for line in range(1, len(histories)):
        rows = found.rows[line][found.present[line]]
        assert sorted(rows.tolist()) == allowed[line].nonzero()[:, 0].tolist()
        assert torch.equal(found.scores[line].isfinite(), found.present[line].any(1))


def test_a_batch_is_searched_like_one_history_at_a_time():
    _, vocabulary, generator, prompts, histories, trie = parts("llama", **SHARED)
    search = {"trie": trie, "vocabulary": vocabulary, "num_beams": 5, "normalization": "level"}

    batch = leaf_search(generator, *prompts.inputs(histories), **search)

    for line, history in enumerate(histories):
        alone = leaf_search(generator, *prompts.inputs(history[history >= 0][None]), **search)
        firsts = (alone.rows[..., 0], alone.scores)
        assert_same_rows((batch.rows[line : line + 1, :, 0], batch.scores[line : line + 1]), firsts)


def test_models_without_cached_decoding_or_with_inputs_of_a_level_are_refused():
    _, vocabulary, generator, prompts, histories, trie = parts("llama", **SHARED)
    inputs = prompts.inputs(histories)
    search = {"trie": trie, "vocabulary": vocabulary, "num_beams": 5}

    with pytest.raises(ValueError, match="leaf_search needs cached decoding, which OPTForCausalLM does not have"):
        leaf_search(toy_opt(vocabulary).eval(), *inputs, **search)
    generator.level_inputs = lambda level, codes: None
    with pytest.raises(ValueError, match="level_inputs are not defined after the last code"):
        leaf_search(generator, *inputs, **search)
