"""A T5 that reads merged items: what its encoder sees, that searches find it a T5, and a whole run."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModelForSeq2SeqLM

import cost_hf
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.token_merger.configuration_merged_t5 import MergedT5Config
from cost_hf.methods.token_merger.modeling_merged_t5 import MergedT5ForConditionalGeneration
from cost_hf.methods.token_merger.recommender import TokenMergerRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.search.cached_decoders import unsupported_reason
from tests.near_ties import assert_same_list
from tests.runs import tiny_fields

SIZES = (4, 5, 4, 3)
FIRST, END = 3, 1
TINY = {
    "vocab_size": 24,
    "d_model": 16,
    "d_ff": 16,
    "d_kv": 4,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": END,
    "level_sizes": SIZES,
    "first_code_id": FIRST,
    "num_latents": 2,
}


def tiny_model(**changes) -> MergedT5ForConditionalGeneration:
    torch.manual_seed(0)
    return MergedT5ForConditionalGeneration(MergedT5Config(**TINY | changes)).eval()


def prompts(items: int = 3, pads: int = 0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One prompt: pads on the left, items, the end token."""
    draws = np.random.default_rng(seed)
    offsets = FIRST + np.cumsum([0, *SIZES[:-1]])
    tokens = (np.stack([draws.integers(size, size=items) for size in SIZES], axis=1) + offsets).ravel()
    empty = [0] * (pads * len(SIZES))
    ids = torch.tensor([[*empty, *tokens.tolist(), END]])
    mask = torch.tensor([[*empty, *[1] * (len(tokens) + 1)]])
    return ids, mask


@pytest.mark.parametrize("merger", ["attention", "mean"])
@torch.no_grad()
def test_states_stand_where_the_tokens_stood_and_every_latent_is_repeated(merger):
    ids, mask = prompts()

    states = tiny_model(merger=merger).encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    assert states.shape == (1, ids.shape[1], 16)
    runs = states[0, :-1].view(3, 2, 2, 16)  # items, latents, copies
    assert torch.equal(runs[:, :, 0], runs[:, :, 1])
    assert not torch.allclose(runs[:, 0, 0], runs[:, 1, 0])


@torch.no_grad()
def test_the_layers_read_latents_in_place_of_tokens():
    model = tiny_model()
    seen = []
    model.encoder.block[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))

    model.encoder(input_ids=prompts()[0])

    assert seen == [(1, 3 * 2 + 1, 16)]


@torch.no_grad()
def test_pads_change_no_state():
    model = tiny_model()
    ids, mask = prompts()
    padded, padded_mask = prompts(pads=2)

    plain = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    found = model.encoder(input_ids=padded, attention_mask=padded_mask).last_hidden_state
    torch.testing.assert_close(found[:, 2 * len(SIZES) :], plain)


def test_every_weight_learns_and_searches_take_it_for_a_t5():
    model = tiny_model().train()
    ids, mask = prompts()
    labels = ids[:, : len(SIZES)]

    model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()

    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
    assert unsupported_reason(model.eval()) is None
    assert model.encoder.embed_tokens.weight is model.shared.weight


@pytest.mark.parametrize("length", [12, 14])
def test_prompts_that_are_no_whole_items_are_refused(length):
    with pytest.raises(ValueError, match=rf"whole items with 4 tokens each and one .* got {length} tokens"):
        tiny_model().encoder(input_ids=torch.full((1, length), FIRST))


def test_a_saved_model_is_the_same(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)

    again, info = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)

    assert type(again) is MergedT5ForConditionalGeneration and not any(info.values())
    other = again.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_latents": 3}, "num_latents must divide the 4 tokens of an item, got 3"),
        ({"merger": "max"}, "merger must be one of attention, mean"),
        ({"merger_heads": 3}, "d_model=16 must be a multiple of merger_heads, got 3"),
        ({"level_sizes": ()}, "level_sizes must hold one positive number per level"),
    ],
)
def test_configurations_that_define_no_model_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        MergedT5Config(**TINY | fields)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"generator.kind": "causal", "generator.size": "small"}, "in front of a T5 from scratch without user tokens"),
        ({"generator.num_user_tokens": 10}, "in front of a T5 from scratch without user tokens"),
        ({"merger.num_latents": 3}, "must divide the 8 tokens of an item, the appended one included, got 3"),
        ({"catalog.collisions": "append"}, "must divide the 9 tokens of an item"),
        ({"merger.kind": "max"}, "merger.kind must be one of attention, mean"),
    ],
)
def test_options_that_no_run_can_have_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("token_merger_industrial", overrides).validate()


@pytest.mark.trains
def test_a_run_trains_and_serves(tmp_path):
    fields = tiny_fields(method="token_merger", codes__kind="opq", catalog__collisions="none", generator__size="tiny")
    fields |= {"generator.kind": "seq2seq", "codes.level_sizes": [8] * 4, "merger.num_latents": 2, "training.epochs": 1}

    run = cost_hf.train(recipe="cost_quickstart", overrides=fields, seed=0, output_dir=tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)
    history = list(loaded.catalog.item_ids[:3])
    assert type(loaded) is TokenMergerRecommender
    assert_same_list(loaded.recommend(history, top_k=5), run.recommender.recommend(history, top_k=5))
