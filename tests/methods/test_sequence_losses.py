"""Losses of every model that reads a history item by item, against those over a table of all items."""

import pytest
import torch

from cost_hf.methods.cadirec.configuration_cadirec import CaDiRecConfig
from cost_hf.methods.cadirec.modeling_cadirec import CaDiRecModel
from cost_hf.methods.hstu.configuration_hstu import HstuConfig
from cost_hf.methods.hstu.modeling_hstu import HstuModel
from cost_hf.methods.sasrec import layers_sasrec
from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.methods.sasrec.layers_sasrec import distinct_rows
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.objectives_sasrec import sampled_binary_loss, sampled_softmax_loss
from tests.methods.sasrec.sasrec_toys import TINY, WIDTH, item_vectors

ITEMS = 200
# two views without labels follow, as contrastive methods have them; items 120 and 60 stand in these alone
HISTORIES = torch.tensor([[3, 1, 140, 1, 5], [9, 2, 6, -1, -1], [120, -1, 4, -1, -1], [60, 9, -1, -1, -1]])
LABELS = torch.tensor([[1, 140, -100, 5, 199], [2, 6, 0, -100, -100]])
NEGATIVES = {
    "sampled_softmax": torch.tensor([0, 5, 9, 77, 198]),
    "binary": torch.randint(ITEMS, (2, 5, 3), generator=torch.Generator().manual_seed(0)),
}
LOG_EXPECTED = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0]).log()
MODELS = {
    "sasrec": (SasRecModel, SasRecConfig, {}),
    "hstu": (HstuModel, HstuConfig, {"intermediate_size": 12}),
    "cadirec": (CaDiRecModel, CaDiRecConfig, {"diffusion_weight": 0.0, "contrastive_weight": 0.0}),
}


def model_of(name, **fields):
    """Return a tiny model and the part of it that reads histories."""
    model_class, config_class, own = MODELS[name]
    torch.manual_seed(0)
    model = model_class(config_class(**TINY | own | {"num_items": ITEMS, "text_dim": WIDTH} | fields)).eval()
    return model, getattr(model, "sasrec", model)


def batch_of(loss):
    expected = LOG_EXPECTED if loss == "sampled_softmax" else None
    return {"labels": LABELS, "negatives": NEGATIVES[loss], "log_expected": expected}


def loss_over_all_items(model, vectors):
    """Return the loss of `batch_of`, each item looked up in the table of the whole catalog."""
    table = model.item_table(vectors)
    users = model.scaled(model.read(HISTORIES, table)[: len(LABELS)])[LABELS >= 0]
    items = model.targets(table)
    chosen = LABELS[LABELS >= 0]
    negatives = NEGATIVES[model.config.loss]
    if model.config.loss == "binary":
        return sampled_binary_loss(users, items[chosen], items[negatives[LABELS >= 0]])
    return sampled_softmax_loss(users, items[chosen], items[negatives], chosen, negatives, LOG_EXPECTED)


@pytest.mark.parametrize("loss", NEGATIVES)
@pytest.mark.parametrize("inputs", ["text", "both"])
@pytest.mark.parametrize("name", MODELS)
def test_a_sampled_loss_and_its_gradients_are_those_over_a_table_of_all_items(name, inputs, loss):
    model, reader = model_of(name, inputs=inputs, loss=loss)
    vectors = item_vectors(ITEMS)

    found = model(HISTORIES, item_vectors=vectors, **batch_of(loss)).loss

    expected = loss_over_all_items(reader, vectors)
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, list(reader.parameters()))
    for gradient, other in zip(gradients, torch.autograd.grad(expected, list(reader.parameters())), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("inputs", ["text", "both"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_a_sampled_loss_encodes_each_text_that_it_names_once(name, inputs):
    model, reader = model_of(name, inputs=inputs, loss="sampled_softmax")
    encoded = []
    reader.items.hidden.register_forward_hook(lambda module, given, output: encoded.append(given[0]))
    vectors = item_vectors(ITEMS)

    model(HISTORIES, item_vectors=vectors, **batch_of("sampled_softmax"))
    model(HISTORIES, item_vectors=vectors)

    read = set(HISTORIES[HISTORIES >= 0].tolist())
    named = read | set(LABELS[LABELS >= 0].tolist()) | set(NEGATIVES["sampled_softmax"].tolist())
    assert [len(rows) for rows in encoded] == [len(named), len(read)]
    assert torch.equal(encoded[0], vectors[sorted(named)])


def test_a_batch_that_names_more_rows_than_there_are_items_encodes_the_catalog_as_it_stands():
    model, reader = model_of("sasrec", inputs="text", loss="sampled_softmax")
    encoded = []
    reader.items.hidden.register_forward_hook(lambda module, given, output: encoded.append(len(given[0])))

    model(HISTORIES.repeat(ITEMS, 1), item_vectors=item_vectors(ITEMS), **batch_of("sampled_softmax"))

    assert encoded == [ITEMS]


@pytest.mark.parametrize("items", [1, 7, ITEMS])
@pytest.mark.parametrize("inputs", ["text", "both"])
def test_a_table_without_gradients_is_made_in_parts_and_equals_the_whole(monkeypatch, inputs, items):
    monkeypatch.setattr(layers_sasrec, "ROWS_AT_ONCE", 7)
    _, reader = model_of("sasrec", inputs=inputs, num_items=items)
    encoded = []
    reader.items.hidden.register_forward_hook(lambda module, given, output: encoded.append(len(given[0])))
    vectors = item_vectors(items)

    with torch.inference_mode():
        found = reader.item_table(vectors)

    assert sum(encoded) == items and max(encoded) <= 7
    torch.testing.assert_close(found, reader.item_table(vectors), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inputs", ["text", "both"])
def test_a_batch_that_names_no_item_is_read(inputs):
    model, _ = model_of("sasrec", inputs=inputs)

    states = model(torch.full((2, 3), -1), item_vectors=item_vectors(ITEMS)).hidden_states

    assert states.shape == (2, 3, TINY["hidden_size"])
    assert states.isfinite().all()


def test_places_name_the_given_rows_and_negative_ones_stay_negative():
    given = (torch.tensor([[7, -1], [3, 7]]), torch.tensor([-100, 9]), torch.empty(0, 2, dtype=torch.int64))

    rows, places = distinct_rows(*given)

    assert rows.tolist() == [3, 7, 9]
    for place, row in zip(places, given, strict=True):
        assert torch.equal(place >= 0, row >= 0)
        assert torch.equal(rows[place[place >= 0]], row[row >= 0])
