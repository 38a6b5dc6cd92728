"""What LIGER adds to its base classes, and that it adds nothing where it is told to."""

import inspect
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.dropout import add_residual_dropout
from cost_hf.methods.liger import configuration_liger as heavy
from cost_hf.methods.liger import options as light
from cost_hf.methods.liger.configuration_liger import LigerCausalConfig, LigerConfig
from cost_hf.methods.liger.modeling_liger import LigerForCausalLM, LigerForConditionalGeneration
from cost_hf.search.beam_search import beam_search
from cost_hf.search.cached_decoders import unsupported_reason
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.liger.liger_toys import (
    BODIES,
    HISTORY,
    OFF,
    UNCLICKED,
    WIDTH,
    batch_of,
    catalog_with_texts,
    examples_for,
    generator_options,
    spread,
    toy_liger,
)
from tests.recommenders.toys import toy_histories

pytestmark = pytest.mark.parametrize("body", BODIES)


@pytest.fixture
def catalog():
    return catalog_with_texts()


def plain_and_off(body, catalog, seed=3):
    plain = build_backbone(generator_options(body), catalog, seed=seed)
    return plain, toy_liger(body, catalog, seed=seed, **OFF)


def test_with_everything_off_weights_and_logits_are_those_of_the_generator(body, catalog):
    plain, off = plain_and_off(body, catalog)
    batch = batch_of(plain, plain.prompts(catalog)[0], examples_for(body), names_items=False)

    weights, others = plain.model.state_dict(), off.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    expected, found = plain.model.eval()(**batch), off.model(**batch)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)


def test_with_everything_off_beams_are_those_of_the_generator(body, catalog):
    plain, off = plain_and_off(body, catalog)
    trie, prompts = SidTrie.from_catalog(catalog), plain.prompts(catalog)[0]
    inputs = prompts.inputs(toy_histories(catalog, 4, HISTORY))

    expected, found = (
        beam_search(part.model.eval(), *inputs, trie=trie, vocabulary=plain.vocabulary, num_beams=6)
        for part in (plain, off)
    )

    assert torch.equal(found.items, expected.items) and torch.equal(found.scores, expected.scores)


def test_with_everything_off_a_training_step_is_that_of_the_generator(body, catalog):
    plain, off = plain_and_off(body, catalog)
    steps = []
    for backbone in (plain, off):
        model = backbone.model.train()
        handles = add_residual_dropout(model, 0.2) if body == "causal" else []
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        batch = batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body), names_items=False)
        torch.manual_seed(5)
        for _ in range(2):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
        for handle in handles:
            handle.remove()
        steps.append({name: weight.detach().clone() for name, weight in model.state_dict().items()})

    assert all(torch.equal(steps[0][name], steps[1][name]) for name in steps[0])


def test_what_is_added_changes_no_weight_of_the_generator(body, catalog):
    plain = build_backbone(generator_options(body), catalog, seed=3)
    own = toy_liger(body, catalog, seed=3)

    weights, others = plain.model.state_dict(), own.model.state_dict()
    assert weights.keys() < others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())


def test_it_decodes_as_fast_as_its_base_class(body, catalog):
    assert unsupported_reason(toy_liger(body, catalog).model) is None


def test_fresh_weights_depend_on_the_seed_alone(body, catalog):
    first, same, other = (toy_liger(body, catalog, seed=seed).model.state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["item_text.output.weight"], other["item_text.output.weight"])


def explicit_text(model, vectors):
    """The text network written out: residual layers of linear map, norm and ReLU."""
    hidden = vectors
    for layer in model.item_text.layers:
        normed = functional.layer_norm(
            hidden @ layer.linear.weight.T + layer.linear.bias,
            (len(layer.linear.bias),),
            layer.norm.weight,
            layer.norm.bias,
            1e-8,
        )
        hidden = normed.relu() + hidden @ layer.shortcut.weight.T
    return hidden @ model.item_text.output.weight.T + model.item_text.output.bias


def test_the_item_table_is_the_text_network_of_all_vectors(body, catalog):
    model = toy_liger(body, catalog).model
    vectors = torch.tensor(catalog.vectors)

    expected = explicit_text(model, vectors)

    torch.testing.assert_close(model.item_table(), expected)
    torch.testing.assert_close(model.item_table(vectors[:5]), expected[:5])


def test_prompts_read_texts_where_the_paper_adds_them(body, catalog):
    backbone = toy_liger(body, catalog)
    model, prompts = backbone.model, backbone.prompts(catalog)[0]
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(torch.tensor([[4, 9, 0], [7, -1, -1]]))
    table = explicit_text(model, torch.tensor(catalog.vectors))

    found = model.embed_prompt(input_ids, attention_mask, item_rows)

    tokens, levels = model.get_input_embeddings().weight, len(catalog.level_sizes)
    for line, rows in enumerate(([4, 9, 0], [7])):
        for place in range(input_ids.shape[1]):
            if not attention_mask[line, place]:
                continue
            row = int(item_rows[line, place])
            expected = tokens[input_ids[line, place]].clone()
            code = int((item_rows[line, :place] >= 0).sum()) % levels
            item = int((item_rows[line, :place] >= 0).sum()) // levels
            if row >= 0:
                assert row == rows[item]
            if body == "seq2seq":
                if row >= 0:
                    expected += table[row] + model.item_positions.weight[item] + model.code_positions.weight[code]
                norm = model.text_input_norm
                expected = functional.layer_norm(expected, (len(expected),), norm.weight, norm.bias, 1e-8)
            elif row >= 0 and code == levels - 1:  # an earlier token would give away those that follow
                expected += table[row]
            torch.testing.assert_close(found[line, place], expected)


def test_a_table_of_the_catalog_gives_the_same_prompts(body, catalog):
    backbone = toy_liger(body, catalog)
    model = backbone.model
    inputs = backbone.prompts(catalog)[0].inputs_with_items(toy_histories(catalog, 3, HISTORY))

    torch.testing.assert_close(model.embed_prompt(*inputs, model.item_table()), model.embed_prompt(*inputs))


def test_without_item_rows_no_text_is_left_out_unseen(body, catalog):
    backbone = toy_liger(body, catalog)
    input_ids, attention_mask = backbone.prompts(catalog)[0].inputs(torch.tensor([[1, 2]]))

    with pytest.raises(ValueError, match=r"needs item_rows .* beside input_ids"):
        backbone.model(input_ids=input_ids, attention_mask=attention_mask)
    with pytest.raises(ValueError, match=r"needs item_rows .* beside input_ids"):
        backbone.model.embed_prompt(input_ids, attention_mask)


def states_and_targets(body, model, batch):
    """States of users `[P, D]` and their next items `[P]`, found by looking at every token."""
    if body == "seq2seq":
        embeds = model.embed_prompt(batch["input_ids"], batch["attention_mask"], batch["item_rows"])
        states = model.encoder(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).last_hidden_state
        last = [max(place for place, row in enumerate(line) if row >= 0) for line in batch["item_rows"].tolist()]
        return states[torch.arange(len(last)), last], batch["item_labels"][:, 0]
    embeds = model.embed_prompt(batch["input_ids"], None, batch["item_rows"])
    output = model.model(
        inputs_embeds=embeds, attention_mask=batch["attention_mask"], position_ids=batch["position_ids"]
    )
    places, targets = [], []
    for line, rows in enumerate(batch["item_rows"].tolist()):
        labels = batch["item_labels"][line].tolist()
        for place in range(len(rows) - 1):
            ends_item = rows[place] >= 0 and (sum(row >= 0 for row in rows[: place + 1]) % model.config.num_levels == 0)
            if ends_item and labels[place + 1] >= 0:
                places.append((line, place))
                targets.append(labels[place + 1])
    lines, columns = map(list, zip(*places, strict=True))
    return output.last_hidden_state[lines, columns], torch.tensor(targets)


def test_the_loss_is_that_of_tokens_and_a_softmax_over_the_items_of_training(body, catalog):
    backbone = toy_liger(body, catalog, weight=0.7, sid_weight=1.3)
    model = backbone.model
    batch = batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body))

    output = model(**batch)

    users, targets = states_and_targets(body, model, batch)
    trained = [row for row in range(len(catalog)) if row not in UNCLICKED]
    table = explicit_text(model, torch.tensor(catalog.vectors))
    cosines = functional.cosine_similarity(users[:, None], table[trained][None], dim=-1)
    dense = functional.cross_entropy(cosines / 0.07, torch.tensor([trained.index(row) for row in targets.tolist()]))
    labels = batch["labels"] if body == "seq2seq" else functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    tokens = functional.cross_entropy(output.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(output.dense_loss, dense, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.sid_loss, tokens, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.loss, 0.7 * dense + 1.3 * tokens, rtol=1e-4, atol=1e-4)


def test_unclicked_items_get_no_gradient_from_the_dense_loss(body, catalog):
    backbone = toy_liger(body, catalog, sid_weight=0.0, candidates="catalog")
    model = backbone.model
    model.item_vectors.requires_grad_()
    batch = batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body))

    model(**batch).loss.backward()

    read = set(batch["item_rows"].flatten().tolist())
    touched = set(model.item_vectors.grad.abs().sum(1).nonzero().flatten().tolist())
    assert touched >= set(range(len(catalog))) - set(UNCLICKED)
    assert not (touched - read) & set(UNCLICKED)


def test_a_sample_of_all_items_is_the_full_softmax(body, catalog):
    full, every = (
        toy_liger(body, catalog, negatives=number, sid_weight=0.0, candidates="catalog") for number in (None, 999)
    )
    batch = batch_of(full, full.prompts(catalog)[0], examples_for(body))

    torch.testing.assert_close(every.model(**batch).loss, full.model(**batch).loss)


def test_samples_of_items_give_the_sum_of_the_softmax_on_average(body, catalog, monkeypatch):
    full, few = (
        toy_liger(body, catalog, negatives=number, sid_weight=0.0, candidates="catalog", temperature=1.0)
        for number in (None, 2)
    )
    example = ("u", np.array([1, 2]), 1) if body == "causal" else ("u", np.array([1]), 2)
    batch = batch_of(full, full.prompts(catalog)[0], [example])  # one label
    pairs = list(combinations(few.model.trained_rows.tolist(), 2))

    sums = []
    for pair in pairs:  # all samples that there are, with the label and without it
        monkeypatch.setattr(few.model, "_candidates", lambda pair=pair: torch.tensor(pair))
        sums.append(few.model(**batch).loss.detach().double().exp())

    expected = full.model(**batch).loss.detach().double().exp()
    torch.testing.assert_close(torch.stack(sums).mean(), expected, rtol=1e-4, atol=0.0)


def test_a_sample_is_drawn_without_repeats_from_the_items_of_training(body, catalog):
    model = toy_liger(body, catalog, negatives=6).model

    draws = [model._candidates().tolist() for _ in range(20)]

    assert all(len(set(drawn)) == 6 and not set(drawn) & set(UNCLICKED) for drawn in draws)
    assert len({tuple(sorted(drawn)) for drawn in draws}) > 1


def test_a_model_without_dense_head_has_the_loss_of_tokens_alone(body, catalog):
    backbone = toy_liger(body, catalog, weight=0.0)
    batch = batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body))

    output = backbone.model(**batch)

    assert output.dense_loss is None and torch.equal(output.loss, output.sid_loss)


def test_a_model_without_text_input_scores_by_text_alone(body, catalog):
    backbone = toy_liger(body, catalog, text_input=False)
    plain = build_backbone(generator_options(body), catalog, seed=0)
    inputs = backbone.prompts(catalog)[0].inputs(toy_histories(catalog, 3, HISTORY))
    batch = batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body))

    assert torch.equal(backbone.model.embed_prompt(*inputs), plain.model.get_input_embeddings()(inputs[0]))
    without = {name: part for name, part in batch.items() if not name.startswith("item_")}
    expected = plain.model.eval()(**without)
    output = backbone.model(**batch)
    assert torch.equal(output.sid_loss, expected.loss) and output.dense_loss is not None


def test_items_of_the_catalog_are_no_weights(body, catalog, tmp_path):
    backbone = spread(toy_liger(body, catalog))
    batch = batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body))
    backbone.model.save_pretrained(tmp_path)

    auto = AutoModelForCausalLM if body == "causal" else AutoModelForSeq2SeqLM
    loaded = auto.from_pretrained(tmp_path).eval()

    assert type(loaded) is type(backbone.model)
    assert "item_vectors" not in loaded.state_dict() and loaded.item_vectors is None
    with pytest.raises(ValueError, match="has no text vectors; call attach_catalog"):
        loaded(**batch)
    loaded.attach_catalog(
        backbone.model.item_vectors, torch.tensor([row not in UNCLICKED for row in range(len(catalog))])
    )
    assert torch.equal(loaded(**batch).loss, backbone.model(**batch).loss)


def test_vectors_of_another_width_or_without_any_click_are_refused(body, catalog):
    model = toy_liger(body, catalog).model

    with pytest.raises(ValueError, match=rf"expected text vectors \[N, {WIDTH}\].*got \(24, 3\)"):
        model.attach_catalog(torch.zeros(24, 3))
    with pytest.raises(ValueError, match="is_trained names no item"):
        model.attach_catalog(torch.zeros(24, WIDTH), torch.zeros(24, dtype=torch.bool))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dense_loss_weight": 1.0}, "text_dim must be the width"),
        ({"text_dim": 4}, "text_dim must be the width"),
        ({"sid_loss_weight": 0.0}, "must not both be 0"),
        ({"dense_loss_weight": -1.0, "text_dim": 4}, "dense_loss_weight must be 0 or above"),
        ({"use_text_input": True, "text_dim": 4, "logits_temperature": 0.0}, "logits_temperature must be above 0"),
        ({"use_text_input": True, "text_dim": 4, "text_dropout": 1.0}, "text_dropout is a share"),
        ({"use_text_input": True, "text_dim": 4, "text_hidden_sizes": [0]}, "text_hidden_sizes must be"),
        ({"num_levels": 0}, "num_levels must be 1 to"),
        ({"dense_negatives": 0}, "dense_negatives must be 1 to"),
    ],
)
def test_wrong_configurations_are_named(body, catalog, fields, message):
    with pytest.raises(Exception, match=message):
        (LigerCausalConfig if body == "causal" else LigerConfig)(**fields)


def test_the_light_options_have_the_bounds_of_the_configuration(body, catalog):
    for name in ("MAX_WIDTH", "MAX_LAYERS", "MAX_NEGATIVES"):
        assert getattr(light, name) == getattr(heavy, name)


def test_a_closure_imports_nothing_but_itself_and_its_libraries(body, catalog):
    kind = LigerForCausalLM if body == "causal" else LigerForConditionalGeneration
    source = inspect.getsource(inspect.getmodule(kind)) + inspect.getsource(heavy)

    assert "cost_hf" not in source
    assert AutoConfig.for_model(kind.config_class.model_type).model_type == kind.config_class.model_type


def test_accumulated_batches_weigh_the_dense_loss_by_their_labels(body, catalog):
    if body == "seq2seq":
        pytest.skip("the trainer divides the loss of an encoder-decoder model itself")
    backbone = toy_liger(body, catalog)
    batch = batch_of(backbone, backbone.prompts(catalog)[0], examples_for(body))
    labels = int((batch["labels"] >= 0).sum())

    whole, half = (backbone.model(**batch, num_items_in_batch=torch.tensor(times * labels)) for times in (1, 2))

    torch.testing.assert_close(whole.loss, backbone.model(**batch).loss)
    torch.testing.assert_close(half.loss, whole.loss / 2)
