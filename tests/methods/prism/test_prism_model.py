"""The models of PRISM's recommender: gates shut they are their base class, and each part has its gradient."""

import inspect
import math

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.generators.backbones import build_backbone
from cost_hf.methods.prism import configuration_prism_isr as heavy
from cost_hf.methods.prism import options as light
from cost_hf.methods.prism.configuration_prism_isr import PrismIsrCausalConfig, PrismIsrConfig
from cost_hf.methods.prism.modeling_prism_isr import (
    PrismForCausalLM,
    PrismForConditionalGeneration,
    density_temperatures,
)
from cost_hf.methods.prism.training import branch_counts
from cost_hf.search.beam_search import beam_search, make_prompt
from cost_hf.search.cached_decoders import unsupported_reason
from cost_hf.search.generate_search import generate_search
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.liger.liger_toys import HISTORY, batch_of, examples_for, generator_options, spread
from tests.methods.prism.prism_toys import (
    BODIES,
    CLICKS,
    OFF,
    TEXT,
    WITH_CLICKS,
    catalog_with_vectors,
    toy_levels,
    toy_prism,
    toy_tags,
)
from tests.recommenders.toys import toy_histories

pytestmark = pytest.mark.parametrize("body", BODIES)


@pytest.fixture(scope="module")
def catalog():
    return catalog_with_vectors()


def whole(body, catalog, **isr):
    """A model with all parts."""
    return toy_prism(body, catalog, tags=toy_tags(), **WITH_CLICKS | isr)


def named_batch(backbone, catalog, body):
    return batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body))


def test_with_the_gate_shut_and_nothing_else_it_is_the_generator(body, catalog):
    plain = build_backbone(generator_options(body), catalog, seed=3)
    shut = toy_prism(body, catalog, seed=3, **OFF | {"fusion": True} | WITH_CLICKS)
    with torch.no_grad():
        shut.model.item_fusion.gate.fill_(-math.inf)
    batch = named_batch(shut, catalog, body)
    without = {name: part for name, part in batch.items() if not name.startswith("item_")}

    expected, found = plain.model.eval()(**without), shut.model(**batch)

    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)


def test_with_everything_off_it_is_the_generator(body, catalog):
    plain = build_backbone(generator_options(body), catalog, seed=3)
    off = toy_prism(body, catalog, seed=3, **OFF)
    batch = batch_of(off, off.prompts(catalog)[0], examples_for(body), names_items=False)

    weights, others = plain.model.state_dict(), off.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert torch.equal(off.model(**batch).loss, plain.model.eval()(**batch).loss)


def test_what_is_added_changes_no_weight_of_the_generator(body, catalog):
    plain = build_backbone(generator_options(body), catalog, seed=3).model.state_dict()
    own = whole(body, catalog, seed=3).model.state_dict()

    assert all(torch.equal(weight, own[name]) for name, weight in plain.items())


def test_the_fusion_is_its_formula(body, catalog):
    backbone = toy_prism(body, catalog, active_experts=2, positions=False, **WITH_CLICKS)
    model, prompts = backbone.model, backbone.prompts(catalog)[0]
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(torch.tensor([[4, 9, 0], [7, -1, -1]]))

    found = model.embed_prompt(input_ids, attention_mask, item_rows)

    fusion, projection = model.item_fusion, model.item_projection
    levels = toy_levels(catalog)
    width = found.shape[-1]
    for line in range(len(input_ids)):
        for place in range(input_ids.shape[1]):
            token = model.get_input_embeddings().weight[input_ids[line, place]]
            row = int(item_rows[line, place])
            level = int((item_rows[line, :place] >= 0).sum()) % len(catalog.level_sizes)
            expected = token
            if row >= 0 and (body == "seq2seq" or level == len(catalog.level_sizes) - 1):
                vectors = torch.tensor(catalog.vectors[row])
                text = projection.content(vectors[:TEXT])
                clicks = projection.collaborative(vectors[TEXT:])
                codes = [part[code] for part, code in zip(levels, catalog.codes[row], strict=False)]
                code = torch.stack(codes).sum(0) if body == "causal" else [*codes, torch.zeros_like(codes[0])][level]
                normed = [functional.layer_norm(part, part.shape) for part in (text, clicks)]
                features = torch.cat([normed[0], token, normed[1], code])
                logits = fusion.router(features)
                best = logits.topk(2)
                outputs = [fusion.experts[int(number)](features) for number in best.indices]
                mixed = sum(share * output for share, output in zip(best.values.softmax(0), outputs, strict=True))
                # what is added begins as large as the token embeddings are
                names = {"causal": "initializer_range", "seq2seq": "initializer_factor"}
                start = getattr(model.config, names[body])
                fused = start * functional.layer_norm(fusion.output(mixed), (width,))
                expected = token + torch.sigmoid(torch.tensor(-2.0)) * (fused - token)
            torch.testing.assert_close(found[line, place], expected)


def test_a_table_of_the_catalog_gives_the_same_prompts(body, catalog):
    model = whole(body, catalog).model
    inputs = whole(body, catalog).prompts(catalog)[0].inputs_with_items(toy_histories(catalog, 3, HISTORY))

    torch.testing.assert_close(model.embed_prompt(*inputs, model.item_table()), model.embed_prompt(*inputs))


def test_every_part_has_a_gradient_and_vectors_have_none(body, catalog):
    backbone = whole(body, catalog)
    model = backbone.model.train()

    model(**named_batch(backbone, catalog, body)).loss.backward()

    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not missing
    for part in (model.item_fusion, model.item_projection, model.codebook_head, model.tag_head):
        assert not [name for name, weight in part.named_parameters() if not weight.grad.abs().sum() > 0]
    assert not model.code_vectors.requires_grad and not model.item_vectors.requires_grad


def test_the_router_is_noisy_in_training_alone(body, catalog):
    backbone = whole(body, catalog, generator={"dropout": 0.0})
    model = backbone.model
    features = torch.randn(50, model.item_fusion.router.in_features)

    calm = [model.item_fusion.shares(features) for _ in range(2)]
    model.train()
    noisy = [model.item_fusion.shares(features) for _ in range(2)]

    assert torch.equal(*calm) and not torch.equal(*noisy)
    for shares in calm + noisy:
        assert ((shares > 0).sum(1) == 2).all()
        torch.testing.assert_close(shares.sum(1), torch.ones(50))


def test_the_heads_play_no_part_without_labels(body, catalog):
    backbone = whole(body, catalog)
    model, prompts = backbone.model, backbone.prompts(catalog)[0]

    def refuse(*_):
        raise AssertionError("a head was called")

    for head in (model.codebook_head, model.tag_head):
        head.register_forward_hook(refuse)
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(toy_histories(catalog, 3, HISTORY))
    trie = SidTrie.from_catalog(catalog)
    read = {"item_rows": item_rows}
    beam_search(model, input_ids, attention_mask, trie=trie, vocabulary=prompts.vocabulary, model_kwargs=read)
    with pytest.raises(AssertionError):
        model(**named_batch(backbone, catalog, body))


def test_beams_are_those_of_generate(body, catalog):
    backbone = spread(whole(body, catalog))
    model, prompts = backbone.model, backbone.prompts(catalog)[0]
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(toy_histories(catalog, 3, HISTORY))
    trie = SidTrie.from_catalog(catalog)
    shared = {"trie": trie, "vocabulary": prompts.vocabulary, "num_beams": 4}

    found = beam_search(model, input_ids, attention_mask, model_kwargs={"item_rows": item_rows}, **shared)
    embeds = model.embed_prompt(input_ids, attention_mask, item_rows)
    expected = generate_search(model, make_prompt(None, attention_mask, embeds, None, None), mask=None, **shared)

    assert unsupported_reason(model) is None
    assert torch.equal(found.items, expected.items)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-4)


def test_temperatures_are_the_formula_at_the_branches_of_the_trie(body, catalog):
    model = whole(body, catalog, density_temperatures=[0.7, 0.8]).model

    codes = catalog.codes.tolist()
    for row, own in enumerate(codes):
        assert model.item_temperatures[row, 0] == 1
        for level in range(1, len(own)):
            children = {other[level] for other in codes if other[:level] == own[:level]}
            expected = 0.7 + 0.1 * math.exp(-0.5 * len(children) / 50)
            assert float(model.item_temperatures[row, level]) == pytest.approx(expected, abs=1e-6)
    found = density_temperatures(torch.tensor([[9.0, 0.0, 1e9]]), 0.5, 0.9)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.9, 0.5]]))


def test_removed_items_are_no_branches(body, catalog):
    rows = [3, 4]
    shrunk = catalog.without_items([catalog.item_ids[row] for row in rows])
    codes = torch.tensor(shrunk.codes)

    counts = branch_counts(SidTrie.from_catalog(shrunk), codes)

    kept = [own for row, own in enumerate(codes.tolist()) if row not in rows]
    assert counts[0].tolist() == [
        len({other[level] for other in kept if other[:level] == codes[0, :level].tolist()})
        for level in range(codes.shape[1])
    ]


def labelled(body, model, batch):
    """The states that predict every labelled item, its tokens and its row, found by looking at every label."""
    embeds = model.embed_prompt(batch["input_ids"], batch["attention_mask"], batch["item_rows"])
    levels = model.config.num_levels
    if body == "seq2seq":
        decoder_inputs = functional.pad(batch["labels"][:, :-1], (1, 0), value=model.config.pad_token_id)
        encoded = model.encoder(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).last_hidden_state
        decoded = model.decoder(
            input_ids=decoder_inputs, encoder_hidden_states=encoded, encoder_attention_mask=batch["attention_mask"]
        )
        return decoded.last_hidden_state, batch["labels"], batch["item_labels"][:, 0]
    states = model.model(
        inputs_embeds=embeds, attention_mask=batch["attention_mask"], position_ids=batch["position_ids"]
    ).last_hidden_state
    found = []
    for line, rows in enumerate(batch["item_labels"].tolist()):
        places = [place for place, row in enumerate(rows) if row >= 0]
        for start in range(0, len(places), levels):
            own = places[start : start + levels]
            found.append((states[line, [place - 1 for place in own]], batch["labels"][line, own], rows[own[0]]))
    return (
        torch.stack([part for part, _, _ in found]),
        torch.stack([part for _, part, _ in found]),
        torch.tensor([row for _, _, row in found]),
    )


def test_the_loss_is_that_of_tokens_code_vectors_and_tags(body, catalog):
    weights = {"codebook_weight": 0.4, "tag_weight": 0.3, "tag_column": "c"}
    backbone = whole(body, catalog, **weights)
    model, tags = backbone.model, toy_tags()
    batch = named_batch(backbone, catalog, body)

    output = model(**batch)

    states, tokens, rows = labelled(body, model, batch)
    logits = output.logits if body == "seq2seq" else model.lm_head(states)
    temperatures = model.item_temperatures[rows]
    expected = functional.cross_entropy((logits / temperatures[..., None]).flatten(0, 1), tokens.flatten())
    torch.testing.assert_close(output.sid_loss, expected)
    cosines = []
    before = torch.zeros(len(states), model.config.code_dim)
    for level, vectors in enumerate(toy_levels(catalog)):
        before = model.codebook_head.levels[level](torch.cat([states[:, level], before], 1))
        true = vectors[torch.tensor(catalog.codes)[rows, level]]
        cosines.append(functional.cosine_similarity(before, true, dim=-1))
    torch.testing.assert_close(output.codebook_loss, 1 - torch.stack(cosines).mean(), rtol=1e-4, atol=1e-5)
    terms = []
    for level, size in enumerate(tags.sizes):
        own = torch.from_numpy(tags.tags)[rows, level]
        known = own >= 0
        scores = model.tag_head.levels[level](states[:, level])[known]
        term = functional.cross_entropy(scores, own[known]) if known.any() else torch.tensor(0.0)
        terms.append(math.sqrt(size / tags.sizes[0]) * term)
    torch.testing.assert_close(output.tag_loss, torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)
    total = output.sid_loss + 0.4 * output.codebook_loss + 0.3 * output.tag_loss
    torch.testing.assert_close(output.loss, total)


def test_without_code_vectors_their_parts_are_left_out(body, catalog):
    backbone = toy_prism(body, catalog, levels=[], **WITH_CLICKS)
    model = backbone.model

    assert model.config.code_dim == 0 and not model.config.has_codebook_head
    assert model(**named_batch(backbone, catalog, body)).loss.isfinite()


def test_code_vectors_are_saved_and_items_are_not(body, catalog, tmp_path):
    backbone = spread(whole(body, catalog))
    batch = named_batch(backbone, catalog, body)
    backbone.model.save_pretrained(tmp_path)

    auto = AutoModelForCausalLM if body == "causal" else AutoModelForSeq2SeqLM
    loaded = auto.from_pretrained(tmp_path).eval()

    assert type(loaded) is type(backbone.model)
    torch.testing.assert_close(loaded.code_vectors, backbone.model.code_vectors, rtol=0, atol=0)
    assert loaded.item_vectors is None and loaded.item_tags is None and loaded.item_temperatures is None
    with pytest.raises(ValueError, match="has no item vectors; call attach_catalog"):
        loaded(**batch)
    counts = branch_counts(SidTrie.from_catalog(catalog), torch.tensor(catalog.codes))
    tags = torch.from_numpy(toy_tags().tags)
    loaded.attach_catalog(backbone.model.item_vectors, branches=counts, item_tags=tags)
    assert torch.equal(loaded(**batch).loss, backbone.model(**batch).loss)
    loaded.attach_catalog(backbone.model.item_vectors, branches=counts)  # trained on without tags
    assert loaded(**batch).tag_loss is None


def test_missing_inputs_are_named(body, catalog):
    backbone = whole(body, catalog)
    input_ids, attention_mask = backbone.prompts(catalog)[0].inputs(torch.tensor([[1, 2]]))

    with pytest.raises(ValueError, match=r"needs item_rows .* beside input_ids"):
        backbone.model(input_ids=input_ids, attention_mask=attention_mask)
    with pytest.raises(ValueError, match=rf"expected item vectors \[N, {TEXT + CLICKS}\].*got \(24, 3\)"):
        backbone.model.attach_catalog(torch.zeros(24, 3))
    with pytest.raises(ValueError, match=r"expected branches \[N, 4\], got None"):
        backbone.model.attach_catalog(torch.zeros(24, TEXT + CLICKS))
    with pytest.raises(ValueError, match="expected code vectors of shapes"):
        backbone.model.attach_code_vectors([torch.zeros(2, 2)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level_sizes": []}, "level_sizes must be 1 to"),
        ({"use_fusion": True}, "content_dim must be the width"),
        ({"content_dim": 4}, "content_dim must be the width"),
        ({"code_dim": 4}, "code_levels must be 1 to 3 where code_dim is above 0"),
        ({"code_dim": 4, "code_levels": 2}, "code_dim must be 0"),
        ({"use_fusion": True, "content_dim": 4, "active_experts": 4}, "active_experts must be 1 to num_experts"),
        ({"codebook_loss_weight": 1.0}, "needs code vectors"),
        ({"tag_loss_weight": 1.0}, "tag_sizes must name the tags"),
        ({"tag_sizes": [1]}, "tag_sizes must name the tags"),
        ({"density_temperatures": [0.9, 0.8]}, "density_temperatures must be the lowest and the highest"),
    ],
)
def test_wrong_configurations_are_named(body, catalog, fields, message):
    with pytest.raises(Exception, match=message):
        (PrismIsrCausalConfig if body == "causal" else PrismIsrConfig)(**fields)


def test_the_light_options_have_the_bounds_of_the_configuration(body, catalog):
    for name in ("MAX_WIDTH", "MAX_LAYERS", "MAX_EXPERTS"):
        assert getattr(light, name) == getattr(heavy, name)


def test_a_closure_imports_nothing_but_itself_and_its_libraries(body, catalog):
    kind = PrismForCausalLM if body == "causal" else PrismForConditionalGeneration
    source = inspect.getsource(inspect.getmodule(kind)) + inspect.getsource(heavy)

    assert "cost_hf" not in source
    assert AutoConfig.for_model(kind.config_class.model_type).model_type == kind.config_class.model_type


def test_items_that_are_known_by_vectors_differ_from_their_tokens(body, catalog):
    backbone = toy_prism(body, catalog, positions=False)
    plain = backbone.model.get_input_embeddings()
    inputs = backbone.prompts(catalog)[0].inputs_with_items(torch.tensor([[4, 9, 0]]))

    moved = (backbone.model.embed_prompt(*inputs) != plain(inputs[0])).any(-1)

    expected = inputs[2] >= 0
    if body == "causal":  # the last token of each item
        expected = expected & (expected.cumsum(1) % len(catalog.level_sizes) == 0)
    assert torch.equal(moved, expected)
