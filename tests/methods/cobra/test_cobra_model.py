"""What COBRA adds to the causal generator, its losses against plain loops, and that it adds nothing where it is off."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.dropout import add_residual_dropout
from cost_hf.methods.cobra import configuration_cobra as heavy
from cost_hf.methods.cobra import options as light
from cost_hf.methods.cobra.configuration_cobra import CobraConfig
from cost_hf.methods.cobra.modeling_cobra import CobraForCausalLM
from cost_hf.methods.cobra.training import CobraBackbone, build_cobra
from cost_hf.search.beam_search import beam_search
from cost_hf.search.cached_decoders import unsupported_reason
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.cobra.cobra_toys import (
    EXAMPLES,
    HISTORY,
    OFF,
    TEXTS,
    WIDTH,
    batch_of,
    catalog_with_texts,
    clicks_of,
    dense_options,
    generator_options,
    spread,
    toy_cobra,
)
from tests.recommenders.toys import toy_batch, toy_histories

LEVELS = 3


@pytest.fixture(scope="module", params=TEXTS)
def texts(request):
    return request.param


@pytest.fixture(scope="module")
def catalog(texts):
    return catalog_with_texts(texts)


@pytest.fixture
def backbone(catalog, texts):
    return spread(toy_cobra(catalog, texts))


def plain_and_off(catalog, seed=3):
    plain = build_backbone(generator_options(), catalog, seed=seed)
    plain.model.eval()
    return plain, toy_cobra(catalog, seed=seed, **OFF)


def test_with_dense_vectors_off_weights_logits_and_loss_are_those_of_the_generator(catalog):
    plain, off = plain_and_off(catalog)
    batch = toy_batch(plain.prompts(catalog)[0], EXAMPLES)

    weights, others = plain.model.state_dict(), off.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    expected, found = plain.model(**batch), off.model(**batch)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)
    batch["num_items_in_batch"] = torch.tensor(100)
    assert torch.equal(off.model(**batch).loss, plain.model(**batch).loss)


def test_with_dense_vectors_off_prompts_and_beams_are_those_of_the_generator(catalog):
    plain, off = plain_and_off(catalog)
    trie = SidTrie.from_catalog(catalog)
    histories = toy_histories(catalog, 4, HISTORY)
    inputs = plain.prompts(catalog)[0].inputs(histories)
    assert all(map(torch.equal, inputs, off.prompts(catalog)[0].inputs(histories)))

    expected, found = (
        beam_search(part.model, *inputs, trie=trie, vocabulary=plain.vocabulary, num_beams=6) for part in (plain, off)
    )

    assert torch.equal(found.items, expected.items) and torch.equal(found.scores, expected.scores)


def test_with_dense_vectors_off_a_training_step_is_that_of_the_generator(catalog):
    plain, off = plain_and_off(catalog)
    steps = []
    for backbone in (plain, off):
        model = backbone.model.train()
        handles = add_residual_dropout(model, 0.2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        batch = toy_batch(backbone.prompts(catalog)[0], EXAMPLES)
        torch.manual_seed(5)
        for _ in range(2):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
        for handle in handles:
            handle.remove()
        steps.append({name: weight.detach().clone() for name, weight in model.state_dict().items()})

    assert all(torch.equal(steps[0][name], steps[1][name]) for name in steps[0])


def test_the_dense_loss_alone_changes_no_logits(catalog, texts):
    """Without dense inputs the sparse side is the generator, whatever is learned beside it."""
    plain = build_backbone(generator_options(), catalog, seed=3)
    own = toy_cobra(catalog, texts, seed=3, inputs=False)
    batch = batch_of(own, own.prompts(catalog)[0])
    stock = {name: part for name, part in batch.items() if not name.startswith("item_")}

    found, expected = own.model(**batch), plain.model.eval()(**stock)

    assert not isinstance(own, CobraBackbone)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.sid_loss, expected.loss)
    assert found.dense_loss > 0 and found.loss > found.sid_loss


def test_what_is_added_changes_no_weight_of_the_generator(catalog, texts):
    plain = build_backbone(generator_options(), catalog, seed=3)
    own = toy_cobra(catalog, texts, seed=3)

    weights, others = plain.model.state_dict(), own.model.state_dict()
    assert weights.keys() < others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())


def test_fresh_weights_depend_on_the_seed_alone(catalog, texts):
    first, same, other = (toy_cobra(catalog, texts, seed=seed).model.state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["item_text.output.weight"], other["item_text.output.weight"])


def test_it_decodes_as_fast_as_its_base_class(backbone):
    assert unsupported_reason(backbone.model) is None


@pytest.mark.parametrize("packs", [True, False])
def test_a_token_follows_the_codes_of_every_item(backbone, catalog, packs):
    prompts = backbone.prompts(catalog)[0]
    batch = batch_of(backbone, prompts, packs=packs)
    model = backbone.model

    is_dense = model._is_dense(batch["item_rows"])

    assert torch.equal(is_dense, batch["input_ids"] == backbone.vocabulary.end_id)
    assert int(is_dense.sum()) == sum(len(rows) for _, rows, _ in EXAMPLES)
    ends = model._ends_codes(batch["item_rows"])
    assert torch.equal(functional.pad(ends[:, :-1], (1, 0)), is_dense)
    last = catalog.codes[batch["item_rows"][ends], -1] + int(backbone.vocabulary.level_offsets[-1])
    assert batch["input_ids"][ends].tolist() == last.tolist()


def plain_embedding(model, catalog, prompts, history):
    """The embedded prompt of a history, item by item."""
    tokens, vocabulary = model.get_input_embeddings().weight, prompts.vocabulary
    table = model.item_text(torch.tensor(catalog.vectors))
    rows = [tokens[vocabulary.begin_id]]
    for place, item in enumerate(history):
        rows += list(tokens[vocabulary.encode(torch.tensor(catalog.codes[item]))])
        rows.append(table[item] + model.dense_type.weight[0] + model.item_positions.weight[place])
    return torch.stack(rows)


def test_prompts_hold_codes_and_dense_vectors_in_turn(backbone, catalog):
    prompts, model = backbone.prompts(catalog)[0], backbone.model
    histories = torch.tensor([[4, 9, 0], [7, -1, -1]])

    input_ids, attention_mask, item_rows = prompts.inputs_with_items(histories)
    found = model.embed_prompt(input_ids, attention_mask, item_rows)

    for line, history in enumerate(([4, 9, 0], [7])):
        expected = plain_embedding(model, catalog, prompts, history)
        torch.testing.assert_close(found[line, attention_mask[line] > 0], expected)


def test_users_with_a_token_of_their_own_have_the_same_item_positions(catalog, texts):
    backbone = toy_cobra(catalog, texts, generator={"num_user_tokens": 7})
    prompts, model = backbone.prompts(catalog)[0], backbone.model
    histories = torch.tensor([[4, 9]])

    inputs = [prompts.inputs_with_items(histories, user_ids=users) for users in (None, ["u"])]
    plain, named = (model.embed_prompt(*part) for part in inputs)

    torch.testing.assert_close(named[:, 2:], plain[:, 1:])


def test_a_table_of_the_catalog_gives_the_same_prompts(backbone, catalog):
    model = backbone.model
    inputs = backbone.prompts(catalog)[0].inputs_with_items(toy_histories(catalog, 3, HISTORY))

    torch.testing.assert_close(model.embed_prompt(*inputs, model.item_table()), model.embed_prompt(*inputs))


def test_the_forward_pass_reads_what_the_prompt_holds(backbone, catalog):
    model, prompts = backbone.model, backbone.prompts(catalog)[0]
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(torch.tensor([[4, 9, 0], [7, -1, -1]]))

    found = model(input_ids=input_ids, attention_mask=attention_mask, item_rows=item_rows).logits
    embeds = plain_embedding(model, catalog, prompts, [7])
    expected = model(inputs_embeds=embeds[None]).logits

    torch.testing.assert_close(found[1, attention_mask[1] > 0], expected[0], rtol=1e-4, atol=1e-4)


def test_without_item_rows_no_text_is_left_out_unseen(backbone, catalog):
    input_ids, attention_mask = backbone.prompts(catalog)[0].inputs(torch.tensor([[1, 2]]))

    for call in (backbone.model, backbone.model.embed_prompt):
        with pytest.raises(ValueError, match=r"needs item_rows .* beside input_ids"):
            call(input_ids=input_ids, attention_mask=attention_mask)


def plain_losses(backbone, catalog, **masks):
    """Sums over levels and items of the losses, one user, item and negative at a time."""
    model, prompts, vocabulary = backbone.model, backbone.prompts(catalog)[0], backbone.vocabulary
    config, table = model.config, model.item_text(torch.tensor(catalog.vectors))
    sparse, queries = [], []
    for number, (_, rows, first) in enumerate(EXAMPLES):
        embeds = plain_embedding(model, catalog, prompts, rows.tolist())
        states = model.model(inputs_embeds=embeds[None]).last_hidden_state[0]
        for place in range(first, len(rows)):
            start = place * (LEVELS + 1)  # the state that predicts the first code
            tokens = vocabulary.encode(torch.tensor(catalog.codes[rows[place]]))
            logits = model.lm_head(states[start : start + LEVELS])
            sparse.append(functional.cross_entropy(logits, tokens, reduction="sum"))
            queries.append((states[start + LEVELS], int(rows[place]), number))
    dense = []
    for index, (state, target, user) in enumerate(queries):
        others = [
            item
            for other, (_, item, owner) in enumerate(queries)
            if other != index
            and not (masks.get("mask_duplicates", True) and item == target)
            and not (masks.get("mask_same_user", True) and owner == user)
        ]
        if config.leaf_negatives:
            leaf = [row for row in range(len(catalog)) if (catalog.codes[row] == catalog.codes[target]).all()]
            others = [row for row in others if row not in leaf]
            others += [row for row in leaf if row != target and clicks_of(catalog)[row]]
        cosines = functional.cosine_similarity(state, table[[target, *others]], dim=-1) / config.dense_temperature
        dense.append(cosines.logsumexp(0) - cosines[0])
    return torch.stack(sparse), torch.stack(dense)


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"mask_duplicates": False},
        {"mask_same_user": False},
        {"mask_duplicates": False, "mask_same_user": False},
        {"leaf_negatives": True},
    ],
)
def test_losses_are_those_of_a_plain_loop(catalog, texts, masks, packs):
    backbone = spread(toy_cobra(catalog, texts, weight=0.7, **masks))
    if "leaf_negatives" in masks:  # the item without a click shares its leaf with a target
        leaf = (catalog.codes == catalog.codes[clicks_of(catalog) == 0]).all(1)
        assert set(leaf.nonzero()[0].tolist()) & {item for _, rows, first in EXAMPLES for item in rows[first:].tolist()}
    batch = batch_of(backbone, backbone.prompts(catalog)[0], packs=packs)

    output = backbone.model(**batch)

    sparse, dense = plain_losses(backbone, catalog, **masks)
    torch.testing.assert_close(output.sid_loss, sparse.mean() / LEVELS, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.dense_loss, dense.mean(), rtol=1e-4, atol=1e-4)
    total = (sparse.mean() + 0.7 * dense.mean()) / LEVELS
    torch.testing.assert_close(output.loss, total, rtol=1e-4, atol=1e-4)


def test_accumulated_batches_weigh_both_losses_by_their_items(backbone, catalog):
    batch = batch_of(backbone, backbone.prompts(catalog)[0])
    labels = int((batch["labels"] >= 0).sum())  # those of dense vectors are counted by the trainer, too

    alone = backbone.model(**batch)
    whole, half = (backbone.model(**batch, num_items_in_batch=torch.tensor(times * labels)) for times in (1, 2))

    for name in ("loss", "sid_loss", "dense_loss"):
        torch.testing.assert_close(whole[name], alone[name])
        torch.testing.assert_close(half[name], whole[name] / 2)


def test_a_batch_without_a_negative_has_no_dense_loss(backbone, catalog):
    batch = batch_of(backbone, backbone.prompts(catalog)[0], [("u", np.array([1, 2, 5]), 0)])

    output = backbone.model(**batch)

    assert output.dense_loss == 0 and torch.equal(output.loss, output.sid_loss)


def test_targets_may_get_no_gradient(catalog, texts):
    gradients = []
    for detach in (False, True):
        backbone = toy_cobra(catalog, texts, inputs=False, detach_targets=detach)
        backbone.model(**batch_of(backbone, backbone.prompts(catalog)[0])).loss.backward()
        gradients.append(backbone.model.item_text.output.weight.grad)

    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None or not gradients[1].any()


def test_a_dense_vector_does_not_reach_the_codes_that_it_would_give_away(backbone, catalog):
    model, prompts = backbone.model, backbone.prompts(catalog)[0]
    batch = batch_of(backbone, prompts, [("u", np.array([1, 2, 5]), 0)])
    before = model(**batch).logits

    model.item_vectors[5] = model.item_vectors[1] + 1.0  # the last item
    after = model(**batch).logits

    last = int((batch["item_rows"][0] == 5).nonzero()[-1])
    assert torch.equal(before[0, :last], after[0, :last])
    assert not torch.equal(before[0, last], after[0, last])


def test_packed_users_have_the_gradients_of_padded_ones(backbone, catalog):
    results = []
    for packs in (True, False):
        backbone.model.zero_grad()
        backbone.model(**batch_of(backbone, backbone.prompts(catalog)[0], packs=packs)).loss.backward()
        results.append({name: weight.grad.clone() for name, weight in backbone.model.named_parameters()})

    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=2e-4)


def test_every_item_of_a_batch_is_encoded_once(backbone, catalog, monkeypatch):
    batch = batch_of(backbone, backbone.prompts(catalog)[0])
    read, encode = [], backbone.model.item_text.forward
    monkeypatch.setattr(backbone.model.item_text, "forward", lambda part: read.append(len(part)) or encode(part))

    backbone.model(**batch)

    assert read == [len({item for _, rows, _ in EXAMPLES for item in rows.tolist()})]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_light_encoder_reads_its_words_and_no_padding(pooling):
    catalog = catalog_with_texts("light")
    encoder = toy_cobra(catalog, "light", pooling=pooling).model.item_text
    words = torch.zeros(3, WIDTH)
    words[0, :2] = torch.tensor([5, 9])
    words[1, :3] = torch.tensor([5, 9, 7])

    together = encoder(words)
    with torch.no_grad():
        encoder.words.weight[0] += 1.0  # of padding

    torch.testing.assert_close(encoder(words), together)
    torch.testing.assert_close(encoder(words[:1]), together[:1])
    assert together.isfinite().all()  # a text without a word among them
    assert (together[0] - together[1]).abs().max() > 1e-3
    assert (together[0] - encoder(words.flip(1))[0]).abs().max() > 1e-4  # the order of words counts


def test_texts_are_no_weights(backbone, catalog, tmp_path):
    batch = batch_of(backbone, backbone.prompts(catalog)[0])
    backbone.model.save_pretrained(tmp_path)

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    assert type(loaded) is CobraForCausalLM
    assert "item_vectors" not in loaded.state_dict() and loaded.item_vectors is None
    with pytest.raises(ValueError, match="has no texts of items; call attach_catalog"):
        loaded(**batch)
    loaded.attach_catalog(torch.tensor(catalog.vectors))
    assert torch.equal(loaded(**batch).loss, backbone.model(**batch).loss)


def test_leaves_need_codes(catalog, texts):
    backbone = toy_cobra(catalog, texts, leaf_negatives=True)
    batch = batch_of(backbone, backbone.prompts(catalog)[0])
    model = CobraForCausalLM(backbone.model.config)
    model.attach_catalog(torch.tensor(catalog.vectors))

    with pytest.raises(ValueError, match="the model has no codes; pass them to attach_catalog"):
        model(**batch)


def test_texts_of_another_width_are_refused(backbone):
    with pytest.raises(ValueError, match=rf"expected texts \[N, {WIDTH}\].*got \(24, 3\)"):
        backbone.model.attach_catalog(torch.zeros(24, 3))


def test_other_generators_and_catalogs_without_texts_are_refused(catalog):
    with pytest.raises(ValueError, match="is a causal generator from scratch"):
        build_cobra(generator_options(kind="seq2seq"), dense_options(), catalog, popularity=[1] * 24, seed=0)
    bare = type(catalog).from_codes(
        list(catalog.item_ids), catalog.codes, level_sizes=catalog.level_sizes, collisions="none"
    )
    with pytest.raises(ValueError, match="the catalog holds none; give it some"):
        build_cobra(generator_options(), dense_options(), bare, popularity=[1] * 24, seed=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dense_loss_weight": 1.0}, "text_dim must be the width"),
        ({"text_dim": 4}, "text_dim must be the width"),
        ({"dense_loss_weight": -1.0, "text_dim": 4}, "dense_loss_weight must be 0 or above"),
        ({"use_text_input": True, "text_dim": 4, "dense_temperature": 0.0}, "dense_temperature must be above 0"),
        ({"use_text_input": True, "text_dim": 4, "text_dropout": 1.0}, "text_dropout is a share"),
        ({"use_text_input": True, "text_dim": 4, "text_hidden_sizes": [0]}, "text_hidden_sizes must be"),
        ({"use_text_input": True, "text_dim": 4, "text_encoder": "t5"}, "text_encoder must be one of"),
        ({"use_text_input": True, "text_dim": 4, "text_pooling": "max"}, "text_pooling must be one of"),
        ({"use_text_input": True, "text_dim": 4, "text_vocab_size": 2}, "text_vocab_size must be 3 to"),
        ({"use_text_input": True, "text_dim": 4, "text_layers": 0}, "text_layers must be 1 to"),
        ({"num_levels": 0}, "num_levels must be 1 to"),
        ({"max_items": 0}, "max_items must be 1 to"),
    ],
)
def test_wrong_configurations_are_named(fields, message):
    with pytest.raises(Exception, match=message):
        CobraConfig(**fields)


def test_the_light_options_have_the_bounds_of_the_configuration():
    for name in ("MAX_WIDTH", "MAX_LAYERS", "MAX_WORDS", "TEXT_ENCODERS", "POOLINGS"):
        assert getattr(light, name) == getattr(heavy, name)
