"""Batches name the item of every token, and a neighbour in a packed row changes nothing."""

import numpy as np
import pytest
import torch

from cost_hf.generators.distillation import SOFT_LABELS, ListTable, TeacherLists, soft_label_loss
from cost_hf.generators.generator_training import training_examples
from cost_hf.generators.options import TrainingOptions
from tests.methods.liger.liger_toys import BODIES, batch_of, catalog_with_texts, examples_for, spread, toy_liger


@pytest.fixture(scope="module")
def catalog():
    return catalog_with_texts()


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("body", BODIES)
def test_every_token_of_an_item_has_its_row_and_no_other_has_one(body, packs, catalog):
    backbone = toy_liger(body, catalog)
    prompts = backbone.prompts(catalog)[0]

    batch = batch_of(backbone, prompts, examples_for(body), packs=packs)

    for ids, rows in (("input_ids", "item_rows"), ("labels", "item_labels")):
        tokens, items = batch[ids], batch[rows]
        assert tokens.shape == items.shape
        first = prompts.vocabulary.first_id
        is_code = (tokens >= first) & (tokens < prompts.vocabulary.begin_id)
        assert torch.equal(items >= 0, is_code)
        assert set(items[~is_code].tolist()) <= {-1 if ids == "input_ids" else -100}
        for line in range(len(tokens)):
            own = items[line][is_code[line]]
            expected = prompts.item_tokens[own]
            levels = torch.arange(len(own)) % prompts.item_tokens.shape[1]
            assert torch.equal(tokens[line][is_code[line]], expected[torch.arange(len(own)), levels])


@pytest.mark.parametrize("body", BODIES)
def test_without_names_batches_are_what_they_were(body, catalog):
    backbone = toy_liger(body, catalog)
    prompts = backbone.prompts(catalog)[0]

    named = batch_of(backbone, prompts, examples_for(body))
    plain = batch_of(backbone, prompts, examples_for(body), names_items=False)

    assert set(named) - set(plain) == {"item_rows", "item_labels"}
    assert all(torch.equal(plain[name], named[name]) for name in plain)


@pytest.mark.parametrize("body", BODIES)
def test_prompts_have_the_rows_of_their_tokens_in_training(body, catalog):
    backbone = toy_liger(body, catalog, generator={"num_user_tokens": 7})
    prompts = backbone.prompts(catalog)[0]
    histories = torch.tensor([[4, 9, 0, 3, 8, 1, 2], [7, -1, -1, -1, -1, -1, -1]])

    input_ids, attention_mask, item_rows = prompts.inputs_with_items(histories, user_ids=["u", "v"])

    assert torch.equal(input_ids, prompts.inputs(histories, user_ids=["u", "v"])[0])
    assert (item_rows[attention_mask == 0] == -1).all()
    levels = prompts.item_tokens.shape[1]
    for line, rows in enumerate(([0, 3, 8, 1, 2], [7])):  # the most recent ones
        assert item_rows[line][item_rows[line] >= 0].tolist() == np.repeat(rows, levels).tolist()
        tokens = input_ids[line][item_rows[line] >= 0]
        assert torch.equal(tokens, prompts.item_tokens[rows].flatten())


def test_packed_users_have_the_loss_and_the_gradients_of_padded_ones(catalog):
    backbone = toy_liger("causal", catalog)
    prompts = backbone.prompts(catalog)[0]
    results = []
    for packs in (True, False):
        backbone.model.zero_grad()
        output = backbone.model(**batch_of(backbone, prompts, examples_for("causal"), packs=packs))
        output.loss.backward()
        gradients = {name: weight.grad.clone() for name, weight in backbone.model.named_parameters()}
        results.append((output.sid_loss.detach(), output.dense_loss.detach(), gradients))

    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=2e-4)


def test_the_text_of_an_item_does_not_reach_the_tokens_that_it_would_give_away(catalog):
    backbone = toy_liger("causal", catalog)
    model, prompts = backbone.model, backbone.prompts(catalog)[0]
    batch = batch_of(backbone, prompts, [("u", np.array([1, 2, 5]), 0)])
    before = model(**batch).logits

    model.item_vectors[5] += 1.0  # the last item
    after = model(**batch).logits

    last = int((batch["item_rows"][0] == 5).nonzero()[-1])
    assert torch.equal(before[0, :last], after[0, :last])
    assert not torch.equal(before[0, last], after[0, last])


def test_paths_of_a_teacher_read_the_texts_of_their_history_and_are_no_items(catalog):
    backbone = spread(toy_liger("causal", catalog))
    prompts = backbone.prompts(catalog)
    sequences = [np.array([1, 2, 5, 2]), np.array([7]), np.array([4, 9, 0])]
    positions = ListTable.empty([len(rows) for rows in sequences], width=2, most=9)
    positions.items[:, 0] = np.concatenate([[*rows[1:], 0] for rows in sequences])  # the true items alone
    positions.scores[:, 0] = 1.0
    nothing = ListTable.empty([1] * len(catalog), width=2, most=1)

    dataset, collate = training_examples(
        backbone,
        prompts,
        sequences,
        ["u", "v", "w"],
        training=TrainingOptions(teacher="t", teacher_ends=0.0),
        teacher=TeacherLists(positions, nothing),
        names_items=True,
    )
    batch = collate([dataset[number] for number in range(len(dataset))])
    soft = {name: batch.pop(name) for name in SOFT_LABELS}
    levels = prompts[0].item_tokens.shape[1]

    assert (batch["item_rows"] >= 0).sum() == sum(map(len, sequences)) * levels
    assert (batch["item_labels"] >= 0).sum() == sum(map(len, sequences)) * levels
    output = backbone.model(**batch)
    assert abs(soft_label_loss(output.logits, soft).item()) < 1e-3  # paths predict what the true tokens predict
    states = output.logits[soft["soft_rows"], soft["soft_columns"]]
    assert states.std(dim=0).min() > 0.1
