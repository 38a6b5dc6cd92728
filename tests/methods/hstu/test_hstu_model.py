import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.nn import functional

from cost_hf.methods.hstu.configuration_hstu import HstuConfig
from cost_hf.methods.hstu.layers_hstu import HstuLayer
from cost_hf.methods.hstu.modeling_hstu import HstuModel
from tests.methods.sasrec.sasrec_toys import ITEMS, TINY, WIDTH, item_vectors

HISTORIES = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, -1, -1], [8, -1, -1, -1, -1]])
LABELS = torch.tensor([[1, 4, 1, 5, 7], [2, 6, 0, -100, -100], [-100] * 5])


def tiny_model(**changes):
    options = TINY | {"intermediate_size": 12} | changes
    if options.get("inputs", "ids") != "ids":
        options["text_dim"] = WIDTH
    torch.manual_seed(0)
    return HstuModel(HstuConfig(**options)).eval()


@pytest.mark.parametrize("inputs", ["ids", "text", "both"])
def test_later_items_and_pads_change_no_earlier_state(inputs):
    model, vectors = tiny_model(inputs=inputs), None if inputs == "ids" else item_vectors()
    whole = model(HISTORIES, item_vectors=vectors).hidden_states

    for row, length in enumerate((5, 3, 1)):
        for end in range(1, length + 1):
            alone = model(HISTORIES[row : row + 1, :end], item_vectors=vectors).hidden_states
            torch.testing.assert_close(alone[0], whole[row, :end])


def test_a_layer_is_the_formula_of_the_paper():
    config = HstuConfig(**TINY | {"intermediate_size": 12, "num_heads": 2})
    torch.manual_seed(0)
    layer = HstuLayer(config).eval()
    hidden = torch.randn(1, 4, 8)

    found = layer(hidden)

    gates, values, queries, keys = functional.silu(layer.projection(layer.input_norm(hidden)))[0].split(
        [12, 12, 8, 8], dim=-1
    )
    mixed = torch.zeros(4, 12)
    for head in range(2):
        for item in range(4):
            for earlier in range(item + 1):
                own = slice(4 * head, 4 * head + 4)
                bias = layer.distance_bias.weight[item - earlier, head]
                weight = functional.silu(queries[item, own] @ keys[earlier, own] + bias) / config.max_history
                mixed[item, 6 * head : 6 * head + 6] += weight * values[earlier, 6 * head : 6 * head + 6]
    expected = hidden[0] + layer.output(layer.mixed_norm(mixed) * gates)
    torch.testing.assert_close(found[0], expected)


def test_every_weight_learns():
    model = tiny_model(inputs="both").train()

    model(HISTORIES, labels=LABELS, item_vectors=item_vectors()).loss.backward()

    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_a_saved_model_scores_the_same(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)

    again = HstuModel.from_pretrained(tmp_path)

    assert torch.equal(again.scores(HISTORIES, again.item_table()), model.scores(HISTORIES, model.item_table()))


def test_a_larger_catalog_keeps_the_scores_of_its_first_items():
    model = tiny_model()

    larger = model.with_items(ITEMS + 5).eval()

    before = model.scores(HISTORIES, model.item_table())
    torch.testing.assert_close(larger.scores(HISTORIES, larger.item_table())[:, :ITEMS], before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"intermediate_size": 7}, "intermediate_size must be a multiple of num_heads=2, got 7"),
        ({"intermediate_size": 0}, "intermediate_size must be from 1 to 1048576, got 0"),
        ({"hidden_size": 7}, "hidden_size must be a multiple of num_heads=2, got 7"),
        ({"num_items": 10**9, "hidden_size": 512}, "make more than 10000000000 weights"),
        ({"dropout": 1.0}, "dropout is a share"),
    ],
)
def test_configurations_that_define_no_model_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        HstuConfig(**fields)
