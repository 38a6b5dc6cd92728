"""The models of GLASS: with nothing to read they are their base class, and every part is its formula."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.collation import CausalCollator, PrefixDataset, Seq2SeqCollator
from cost_hf.generators.tasks import NextItemTask
from cost_hf.methods.glass import configuration_glass as heavy
from cost_hf.methods.glass import options as light
from cost_hf.methods.glass.configuration_glass import GlassCausalConfig, GlassConfig
from cost_hf.methods.glass.modeling_glass import (
    GlassForCausalLM,
    GlassForConditionalGeneration,
    grouped_by_code,
    tier_shares,
)
from tests.methods.glass.glass_toys import ALL_OFF, CAUSAL, LONG, long_histories, toy_catalog, toy_glass
from tests.methods.liger.liger_toys import generator_options

SEQUENCES = [np.arange(11), np.arange(30, 19, -1)]
USERS = ["u", "v"]


@pytest.fixture(scope="module")
def catalog():
    return toy_catalog()


def batch_of(backbone, catalog, *, numbers=(3, 9, 12), long_history=LONG):
    """A training batch of prefixes of `SEQUENCES`."""
    prompts = backbone.prompts(catalog)
    rows = PrefixDataset(SEQUENCES, USERS, max_history=prompts[0].max_history)
    task = NextItemTask(rows, prompts, long_history=long_history)
    return Seq2SeqCollator(backbone.vocabulary.pad_id)([task[number] for number in numbers])


def without_history(batch):
    return {name: part for name, part in batch.items() if name != "long_rows"}


def test_with_everything_off_it_is_t5_bit_for_bit(catalog):
    plain = build_backbone(generator_options("seq2seq"), catalog, seed=3)
    off = toy_glass(catalog, seed=3, **ALL_OFF)
    batch = batch_of(off, catalog, long_history=0)

    weights, others = plain.model.state_dict(), off.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert torch.equal(off.model(**batch).logits, plain.model.eval()(**batch).logits)


def test_what_is_added_changes_no_weight_of_the_generator(catalog):
    plain = build_backbone(generator_options("seq2seq"), catalog, seed=3).model.state_dict()
    own = toy_glass(catalog, seed=3).model.state_dict()

    assert all(torch.equal(weight, own[name]) for name, weight in plain.items())


@pytest.mark.parametrize("tier_token", [False, True])
def test_with_an_empty_history_it_is_t5_bit_for_bit(catalog, tier_token):
    plain = build_backbone(generator_options("seq2seq"), catalog, seed=3).model.eval()
    backbone = toy_glass(catalog, seed=3, tier_token=tier_token)
    batch = batch_of(backbone, catalog)
    full = backbone.model(**batch).logits
    batch["long_rows"] = torch.full_like(batch["long_rows"], -1)
    # the place of the tier token is no token of T5
    batch["attention_mask"] = batch["attention_mask"] * (batch["input_ids"] != backbone.vocabulary.begin_id)

    found = backbone.model(**batch).logits

    assert torch.equal(found, plain(**without_history(batch)).logits)
    assert not torch.equal(found, full)


def test_the_first_code_does_not_see_what_was_retrieved_for_it(catalog):
    backbone = toy_glass(catalog, tier_token=False)
    batch = batch_of(backbone, catalog)
    nothing = batch | {"long_rows": torch.full_like(batch["long_rows"], -1)}

    found, expected = backbone.model(**batch).logits, backbone.model(**nothing).logits

    assert torch.equal(found[:, 0], expected[:, 0])
    assert not torch.equal(found[:, 1], expected[:, 1])


def test_logits_depend_on_no_later_code_and_no_later_item(catalog):
    backbone = toy_glass(catalog)
    batch = batch_of(backbone, catalog, numbers=(3, 9))
    changed = batch["labels"].clone()
    last = changed.shape[1] - 1
    changed[:, last] = batch["labels"].flip(0)[:, last]

    found, expected = backbone.model(**batch | {"labels": changed}).logits, backbone.model(**batch).logits

    assert torch.equal(found, expected)  # the last label is read by nothing
    rows = PrefixDataset(SEQUENCES, USERS, max_history=3)
    for number in range(len(rows)):
        owner, end = rows.first_label(number)
        np.testing.assert_array_equal(rows.long_rows(number, LONG), SEQUENCES[owner][:end])
        np.testing.assert_array_equal(rows.long_rows(number, 2), SEQUENCES[owner][max(end - 2, 0) : end])


@pytest.mark.parametrize("pads", ["left", "right"])
def test_positions_count_from_the_end_of_a_prompt(catalog, pads):
    backbone = toy_glass(catalog, positions=True, **ALL_OFF)
    model = backbone.model
    assert model.config.max_positions >= backbone.prompts(catalog)[0].max_history * model.config.num_levels + 1
    tokens = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    tokens[1] = tokens[1].roll(2 if pads == "left" else 0)

    found = model.embed_prompt(tokens) - model.get_input_embeddings()(tokens)

    own = model.prompt_positions.weight
    torch.testing.assert_close(found[0], own[[3, 2, 1, 0]])
    torch.testing.assert_close(found[1, 2:] if pads == "left" else found[1, :2], own[[1, 0]])
    assert own.std().item() == pytest.approx(model.config.initializer_factor, rel=0.2)


def test_tier_features_are_counts_of_similarities(catalog):
    model = toy_glass(catalog, tier_edges=[-0.5, 0.0, 0.2]).model
    rows = long_histories(len(catalog))
    vectors = functional.normalize(torch.tensor(catalog.vectors), dim=-1)
    prototypes = functional.normalize(model.prototypes, dim=-1)

    features = model.history_inputs(rows)["tier_features"].view(len(rows), -1, 4)

    for line, own in enumerate(rows.tolist()):
        items = [row for row in own if row >= 0]
        cosines = (vectors[items] @ prototypes.T).numpy()
        for code in range(len(prototypes)):
            counts = np.bincount(np.searchsorted([-0.5, 0.0, 0.2], cosines[:, code]), minlength=4)
            np.testing.assert_allclose(features[line, code].numpy(), counts / len(items), atol=1e-6)
    assert not tier_shares(torch.full((1, 3), -1), model.item_tiers, 4).any()


def test_prototypes_are_means_of_their_items_and_of_all_for_an_empty_code(catalog):
    model = toy_glass(catalog).model
    vectors = torch.tensor(catalog.vectors)
    codes = torch.tensor(catalog.codes[:, 0].copy()).long()
    codes[codes == 2] = 1

    model.attach_prototypes(vectors, codes)

    torch.testing.assert_close(model.prototypes[1], vectors[codes == 1].mean(0))
    torch.testing.assert_close(model.prototypes[2], vectors.mean(0))


def counted(model, tokens):
    return torch.tensor(tokens).flatten().sub(model.config.first_code_id).bincount(minlength=model.config.num_codes)


def test_retrieved_are_the_latest_items_of_the_first_code(catalog):
    backbone = toy_glass(catalog, retrieved_items=3)
    model = backbone.model
    tokens = backbone.prompts(catalog)[0].item_tokens
    rows = long_histories(len(catalog), seed=1)
    codes = torch.arange(-1, model.config.level_sizes[0] + 1).expand(len(rows), -1)
    inputs = model.history_inputs(rows)

    counts = model.retrieved_counts(codes, inputs["bank_tokens"], inputs["bank_starts"])

    for line, own in enumerate(rows.tolist()):
        for column, code in enumerate(codes[line].tolist()):
            items = [row for row in own if row >= 0 and catalog.codes[row, 0] == code][-3:]
            expected = counted(model, tokens[items].tolist()) if items else torch.zeros(model.config.num_codes)
            assert torch.equal(counts[line, column].long(), expected.long())


def test_neighbours_fill_up_what_a_code_lacks(catalog):
    backbone = toy_glass(catalog, retrieved_items=3, neighbour_codes=2, min_retrieved=2)
    model = backbone.model
    tokens = backbone.prompts(catalog)[0].item_tokens
    rows = long_histories(len(catalog), seed=1)
    size = model.config.level_sizes[0]
    inputs = model.history_inputs(rows)
    prototypes = functional.normalize(model.prototypes, dim=-1)
    nearest = (prototypes @ prototypes.T).argsort(1, descending=True)[:, 1:3].tolist()

    codes = torch.arange(size).expand(len(rows), -1)
    counts = model.retrieved_counts(codes, inputs["bank_tokens"], inputs["bank_starts"])

    for line, own in enumerate(rows.tolist()):
        of_code = [[row for row in own[::-1] if row >= 0 and catalog.codes[row, 0] == code] for code in range(size)]
        for code in range(size):
            items = of_code[code][:3]
            if len(items) < 2:
                items = [*items, *(row for other in nearest[code] for row in of_code[other][:3])][:3]
            expected = counted(model, tokens[items].tolist()) if items else torch.zeros(model.config.num_codes)
            assert torch.equal(counts[line, code].long(), expected.long())


def test_groups_are_stable_and_hold_every_item_once():
    rows = torch.tensor([[0, 1, 2, 1, -1], [-1, -1, 2, 2, 0]])
    order, starts = grouped_by_code(rows, torch.tensor([1, 0, 1]), 2)

    assert rows.gather(1, order).tolist() == [[1, 1, 2, 0, -1], [0, 2, 2, -1, -1]]
    assert starts.tolist() == [[0, 2, 4], [0, 0, 3]]


def test_attention_by_counts_is_attention_to_every_retrieved_token(catalog):
    backbone = toy_glass(catalog, tier_token=False)
    model = backbone.model
    layer = model.decoder.block[1].layer[1]
    torch.manual_seed(0)
    normed, attended = torch.randn(2, 1, 3, model.config.d_model)
    tokens = torch.tensor([4, 9, 4, 12])  # one of them twice
    counts = counted(model, tokens.tolist()).float().expand(1, 3, -1)

    found = layer.mix(normed, attended, model.cross_context(counts))

    keys = model.code_projection(model.shared.weight[tokens])
    own = layer.retrieved_attention
    heads = (-1, own.heads, own.head_dim)
    scores = torch.einsum("rhd,thd->hrt", own.q(normed[0]).view(heads), own.k(keys).view(heads))
    read = torch.einsum("hrt,thd->rhd", scores.softmax(-1), own.v(keys).view(heads))
    retrieved = own.o(read.flatten(1))
    gates = layer.gate(torch.cat([attended[0], retrieved], -1)).sigmoid()
    torch.testing.assert_close(found[0], (1 - gates) * attended[0] + gates * retrieved, rtol=1e-4, atol=1e-5)


def test_every_part_has_a_gradient_and_token_embeddings_have_none_of_the_retrieval(catalog):
    backbone = toy_glass(catalog)
    model = backbone.model
    context = model.cross_context(torch.ones(1, 1, model.config.num_codes))
    context.codes.sum().backward()
    assert model.shared.weight.grad is None and model.code_projection.weight.grad is not None
    model.zero_grad()

    model(**batch_of(backbone, catalog)).loss.backward()

    assert all(bool(weight.grad.abs().sum() > 0) for name, weight in model.named_parameters())


def test_gates_start_at_their_bias(catalog):
    model = toy_glass(catalog, initial_gate=-3.0).model

    for block in model.decoder.block:
        assert bool((block.layer[1].gate.bias == -3).all())
        projection = block.layer[1].retrieved_attention.q.weight
        assert float(projection.detach().std()) == pytest.approx((64 * 16) ** -0.5, rel=0.1)


def test_prototypes_are_saved_and_items_are_not(catalog, tmp_path):
    backbone = toy_glass(catalog)
    batch = batch_of(backbone, catalog)
    backbone.model.save_pretrained(tmp_path)

    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()

    assert type(loaded) is GlassForConditionalGeneration
    assert torch.equal(loaded.prototypes, backbone.model.prototypes)
    with pytest.raises(ValueError, match="knows no items; pass item_tokens, or call attach_catalog"):
        loaded(**batch)
    loaded.attach_catalog(backbone.model.item_tokens, torch.tensor(catalog.vectors))
    assert torch.equal(loaded(**batch).loss, backbone.model(**batch).loss)


@pytest.mark.parametrize(("body", "auto"), [("seq2seq", AutoModelForSeq2SeqLM), ("causal", AutoModelForCausalLM)])
def test_half_precision_changes_no_tier(catalog, tmp_path, body, auto):
    model = toy_glass(catalog, body=body, **(CAUSAL if body == "causal" else {})).model
    model.save_pretrained(tmp_path)

    loaded = auto.from_pretrained(tmp_path, dtype=torch.bfloat16)
    loaded.attach_catalog(model.item_tokens, torch.tensor(catalog.vectors))

    assert loaded.tier_network.hidden.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.item_tiers, model.item_tiers)


@pytest.mark.parametrize("known", [1, 2, 3])
def test_codes_after_a_cache_have_the_logits_of_one_pass(catalog, known):
    backbone = toy_glass(catalog)
    model = backbone.model
    batch = batch_of(backbone, catalog)
    history = model.history_inputs(batch.pop("long_rows"))
    labels = batch.pop("labels")
    tokens = torch.cat([torch.full_like(labels[:, :1], model.config.decoder_start_token_id), labels[:, :-1]], 1)
    whole = model(**batch, **history, decoder_input_ids=tokens).logits

    first = model(**batch, **history, decoder_input_ids=tokens[:, :known], use_cache=True)
    rest = {
        "encoder_outputs": (first.encoder_last_hidden_state,),
        "attention_mask": batch["attention_mask"],
        "past_key_values": first.past_key_values,
        "decoder_input_ids": tokens[:, known:],
        **history,
    }

    torch.testing.assert_close(first.logits, whole[:, :known])
    with pytest.raises(ValueError, match=rf"after a cache of {known} tokens; pass first_ids"):
        model(**rest)
    torch.testing.assert_close(model(**rest, first_ids=tokens[:, 1]).logits, whole[:, known:])


def test_generate_without_embedded_prompts_is_refused_where_it_would_lose_the_tier_token(catalog):
    backbone = toy_glass(catalog)
    batch = batch_of(backbone, catalog)
    history = backbone.model.history_inputs(batch["long_rows"])

    with pytest.raises(ValueError, match="without their tier token, got tier_features; pass inputs_embeds"):
        backbone.model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=2, **history)


def test_missing_inputs_are_named(catalog):
    backbone = toy_glass(catalog)
    batch = batch_of(backbone, catalog)

    with pytest.raises(ValueError, match="needs tier_features beside input_ids"):
        backbone.model(**without_history(batch))
    with pytest.raises(ValueError, match=r"expected item vectors \[N, 6\], got \(40, 3\)"):
        backbone.model.attach_catalog(backbone.model.item_tokens, torch.zeros(40, 3))
    with pytest.raises(ValueError, match=r"expected item_tokens \[N, 4\], got \(40, 2\)"):
        backbone.model.attach_catalog(backbone.model.item_tokens[:, :2])
    with pytest.raises(ValueError, match="pass item_tiers, which item_table makes"):
        backbone.model.item_tiers = None
        backbone.model.history_inputs(batch["long_rows"])


def causal_batch(backbone, catalog, rows):
    prompts = backbone.prompts(catalog)[0]
    examples = [prompts.sequence("u", np.array([1, 2, 5, 2]), 2), prompts.sequence("v", np.array([7, 3]), 1)]
    examples = [example._replace(long_rows=own) for example, own in zip(examples, rows, strict=True)]
    return CausalCollator(backbone.vocabulary.pad_id, packs=False)(examples)


def test_the_causal_model_reads_the_tier_token_in_the_place_of_the_begin_token(catalog):
    plain = build_backbone(generator_options("causal"), catalog, seed=3).model.eval()
    backbone = toy_glass(catalog, body="causal", seed=3, **CAUSAL)
    batch = causal_batch(backbone, catalog, [np.array([1, 2]), np.array([7])])
    other = causal_batch(backbone, catalog, [np.array([9, 12, 4]), np.array([7])])

    found = backbone.model(**batch)
    with torch.no_grad():
        for layer in (backbone.model.tier_network.hidden, backbone.model.tier_network.output):
            layer.weight.zero_()
            layer.bias.zero_()
        backbone.model.tier_network.output.bias.copy_(plain.model.embed_tokens.weight[backbone.vocabulary.begin_id])
    same = backbone.model(**batch)

    assert found.loss.isfinite() and not torch.equal(found.logits, same.logits)
    torch.testing.assert_close(same.logits, plain(**without_history(batch)).logits)
    fresh = toy_glass(catalog, body="causal", seed=3, **CAUSAL).model
    first, second = fresh(**batch).logits, fresh(**other).logits
    assert not torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_the_causal_model_loads_by_its_auto_class(catalog, tmp_path):
    model = toy_glass(catalog, body="causal", **CAUSAL).model
    model.save_pretrained(tmp_path)

    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)) is GlassForCausalLM


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (GlassConfig, {"level_sizes": []}, "level_sizes must be 1 to"),
        (GlassConfig, {"first_code_id": -1}, "first_code_id must not be negative"),
        (GlassConfig, {"tier_edges": [0.1, 0.0]}, "rising cosines"),
        (GlassConfig, {"tier_edges": [math.nan]}, "rising cosines"),
        (GlassConfig, {"use_tier_token": True}, "content_dim must be the width"),
        (GlassConfig, {"content_dim": 4}, "content_dim must be the width"),
        (GlassConfig, {"retrieved_items": 0}, "retrieved_items must be 1 to"),
        (GlassConfig, {"neighbour_codes": 2, "content_dim": 4}, "neighbour_codes must be 0 to 0"),
        (GlassConfig, {"initial_gate": math.inf}, "initial_gate must be finite"),
        (GlassConfig, {"max_positions": -1}, "max_positions must be 0 to"),
        (GlassCausalConfig, {"use_retrieval": True}, "use_retrieval must be false for a causal model"),
    ],
)
def test_wrong_configurations_are_named(kind, fields, message):
    with pytest.raises(Exception, match=message):
        kind(**fields)


def test_the_light_options_have_the_bounds_of_the_configuration():
    for name in ("MAX_TIERS", "MAX_RETRIEVED"):
        assert getattr(light, name) == getattr(heavy, name)


@pytest.mark.parametrize("kind", [GlassForConditionalGeneration, GlassForCausalLM])
def test_a_closure_imports_nothing_but_itself_and_its_libraries(kind):
    source = inspect.getsource(inspect.getmodule(kind)) + inspect.getsource(heavy)

    assert "cost_hf" not in source
    assert AutoConfig.for_model(kind.config_class.model_type).model_type == kind.config_class.model_type
