import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.nn import functional

from cost_hf.methods.sasrec import modeling_sasrec
from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.methods.sasrec.modeling_sasrec import SHORT, SasRecModel
from tests.methods.sasrec.sasrec_toys import ITEMS, item_vectors, tiny_model

HISTORIES = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, -1, -1], [8, -1, -1, -1, -1]])
LABELS = torch.tensor([[1, 4, 1, 5, 7], [2, 6, 0, -100, -100], [-100] * 5])


def vectors_for(inputs):
    return None if inputs == "ids" else item_vectors()


@pytest.mark.parametrize("inputs", ["ids", "text", "both"])
def test_later_items_and_pads_change_no_earlier_state(inputs):
    model, vectors = tiny_model(inputs=inputs), vectors_for(inputs)
    whole = model(HISTORIES, item_vectors=vectors).hidden_states

    for row, length in enumerate((5, 3, 1)):
        for end in range(1, length + 1):
            alone = model(HISTORIES[row : row + 1, :end], item_vectors=vectors).hidden_states
            torch.testing.assert_close(alone[0], whole[row, :end])


def test_the_order_of_a_history_matters():
    model = tiny_model()
    table = model.item_table()

    forwards, backwards = model.scores(torch.tensor([[1, 2, 3], [2, 1, 3]]), table)

    assert not torch.allclose(forwards, backwards)


@pytest.mark.parametrize(("similarity", "temperature"), [("cosine", 0.07), ("dot", 0.07)])
def test_cross_entropy_is_the_softmax_over_the_whole_catalog(similarity, temperature):
    model = tiny_model(similarity=similarity, temperature=temperature)

    output = model(HISTORIES, labels=LABELS)

    users, items = output.hidden_states, model.item_table()
    if similarity == "cosine":
        users, items = functional.normalize(users, dim=-1) / temperature, functional.normalize(items, dim=-1)
    expected = functional.cross_entropy((users @ items.T).flatten(0, 1), LABELS.flatten(), ignore_index=-100)
    torch.testing.assert_close(output.loss, expected)


def test_the_binary_loss_looks_at_the_label_and_the_sampled_items_only():
    model = tiny_model(loss="binary", similarity="dot")
    negatives = torch.randint(ITEMS, (3, 5, 4), generator=torch.Generator().manual_seed(0))

    output = model(HISTORIES, labels=LABELS, negatives=negatives)

    scores = output.hidden_states @ model.item_table().T  # [B, T, N]
    chosen = functional.logsigmoid(scores.gather(2, LABELS.clamp_min(0)[..., None])[..., 0])
    others = functional.logsigmoid(-scores.gather(2, negatives)).mean(2)
    torch.testing.assert_close(output.loss, -(chosen + others)[LABELS >= 0].mean())


def test_the_sampled_softmax_looks_at_the_label_and_the_shared_items():
    model = tiny_model(loss="sampled_softmax")
    rows = torch.tensor([1, 4, 9])
    log_expected = torch.tensor([0.5, 2.0, 1.0]).log()

    output = model(HISTORIES, labels=LABELS, negatives=rows, log_expected=log_expected)

    users = model.scaled(output.hidden_states)[LABELS >= 0]
    chosen = LABELS[LABELS >= 0]
    logits = users @ model.targets(model.item_table()).T
    others = (logits[:, rows] - log_expected).masked_fill(chosen[:, None] == rows, -torch.inf)
    own = logits.gather(1, chosen[:, None])
    torch.testing.assert_close(output.loss, -torch.cat([own, others], 1).log_softmax(1)[:, 0].mean())


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "needs negatives"), ({"negatives": torch.tensor([1])}, r"needs log_expected \[K\] beside negatives")],
)
def test_the_sampled_softmax_without_its_samples_is_an_error(given, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(loss="sampled_softmax")(HISTORIES, labels=LABELS, **given)


def test_the_binary_loss_without_negatives_is_an_error():
    with pytest.raises(ValueError, match="needs negatives"):
        tiny_model(loss="binary")(HISTORIES, labels=LABELS)


def test_forward_changes_nothing_and_gives_no_loss_without_labels():
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    output = model(HISTORIES)

    assert output.loss is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_dropout_acts_in_training_only():
    model = tiny_model(dropout=0.5)

    first, second = model(HISTORIES).hidden_states, model(HISTORIES).hidden_states
    model.train()
    dropped = model(HISTORIES).hidden_states

    assert torch.equal(first, second)
    assert not torch.allclose(first, dropped)


@pytest.mark.parametrize("inputs", ["ids", "text", "both"])
def test_every_weight_learns(inputs):
    model = tiny_model(inputs=inputs).train()

    model(HISTORIES, labels=LABELS, item_vectors=vectors_for(inputs)).loss.backward()

    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_a_text_model_scores_a_catalog_that_it_was_not_trained_on():
    model = tiny_model(inputs="text")
    grown = item_vectors(ITEMS + 5)

    before = model.scores(HISTORIES, model.item_table(grown[:ITEMS]))
    after = model.scores(HISTORIES, model.item_table(grown))

    torch.testing.assert_close(after[:, :ITEMS], before)
    assert after.shape == (3, ITEMS + 5)


def test_text_models_hold_no_weight_per_item():
    sizes = [tiny_model(inputs="text", num_items=items).num_parameters() for items in (10, 1000)]

    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("inputs", "vectors", "message"),
    [
        ("ids", item_vectors(), "takes no item_vectors"),
        ("text", None, r"expected item_vectors \[N, 12\], one per catalog row, got None"),
        ("text", item_vectors(width=5), r"got \(30, 5\)"),
        ("both", item_vectors(items=4), r"expected item_vectors \[30, 12\].*got \(4, 12\)"),
    ],
)
def test_item_vectors_of_another_kind_are_refused(inputs, vectors, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(inputs=inputs).item_table(vectors)


def test_forward_refuses_histories_that_are_too_long():
    with pytest.raises(ValueError, match="at most max_history=6 items, got 7"):
        tiny_model()(torch.zeros(1, 7, dtype=torch.int64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": "images"}, "inputs must be one of ids, text, both, got 'images'"),
        ({"similarity": "l2"}, "similarity must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"hidden_size": 10, "num_heads": 3}, "multiple of num_heads=3, got 10"),
        ({"num_items": 0}, "num_items must be at least 1, got 0"),
        ({"max_history": 0}, "max_history must be at least 1, got 0"),
        ({"max_history": 10**9}, "max_history must be at most 100000"),
        ({"num_layers": 100_000}, "num_layers must be at most 256, got 100000"),
        ({"num_items": 10**9, "hidden_size": 512}, "make more than 10000000000 weights"),
        ({"temperature": float("nan")}, "temperature must be above 0, got nan"),
        ({"inputs": "text"}, "text_dim must be the width"),
        ({"text_dim": 8}, "got 8 with inputs='ids'"),
        ({"dropout": 1.0}, "dropout is a share"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_configurations_that_define_no_model_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        SasRecConfig(**fields)


def test_the_same_seed_gives_the_same_fresh_weights():
    first, second = tiny_model(seed=3).state_dict(), tiny_model(seed=3).state_dict()

    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_model_builds_on_the_meta_device():
    with torch.device("meta"):
        model = SasRecModel(SasRecConfig(inputs="both", text_dim=4))

    assert {value.device.type for value in model.state_dict().values()} == {"meta"}


@pytest.mark.parametrize(("linear_init", "deviation"), [("xavier", (2 / (64 + 256)) ** 0.5), ("normal", 0.02)])
def test_fresh_linear_layers_have_the_deviation_of_the_configuration(linear_init, deviation):
    model = SasRecModel(SasRecConfig(num_items=10, linear_init=linear_init))

    assert model.layers[0].feed_forward_input.weight.std().item() == pytest.approx(deviation, rel=0.1)
    assert not any(layer.feed_forward_output.bias.any() for layer in model.layers)


def test_positions_counted_from_the_newest_item_are_those_of_histories_padded_on_the_left():
    model = tiny_model(max_history=5, positions="newest")
    from_oldest = tiny_model(max_history=5)
    from_oldest.load_state_dict(model.state_dict())

    states = model(HISTORIES).hidden_states

    for row, length in enumerate((5, 3, 1)):
        with torch.no_grad():
            from_oldest.positions.weight.copy_(model.positions.weight.roll(length - 5, dims=0))
        expected = from_oldest(HISTORIES[row : row + 1, :length]).hidden_states[0]
        torch.testing.assert_close(states[row, :length], expected)
    assert model(HISTORIES[:, :0]).hidden_states.shape == (3, 0, 8)


@pytest.mark.parametrize("positions", ["oldest", "newest"])
def test_short_and_long_histories_of_a_batch_are_read_as_alone(positions):
    model = tiny_model(max_history=40, positions=positions)
    rows = torch.randint(ITEMS, (6, 40), generator=torch.Generator().manual_seed(0))
    ends = torch.tensor([1, 3, SHORT, SHORT + 1, 25, 40])
    histories = rows.masked_fill(torch.arange(40) >= ends[:, None], -1)
    histories[4, 20:24] = -1  # hidden items do not make a long history short
    histories[3, :SHORT] = -1

    states = model(histories).hidden_states

    for row, end in enumerate(ends):
        alone = model(histories[row : row + 1, :end]).hidden_states[0]
        torch.testing.assert_close(states[row, :end], alone, atol=1e-5, rtol=1e-5)
    for only in (histories[:3], histories[3:]):  # batches of short or long histories alone
        assert model(only).hidden_states.shape == (*only.shape, model.config.hidden_size)


def test_gradients_of_short_and_long_histories_are_those_of_reading_all_alike(monkeypatch):
    model = tiny_model(max_history=40)
    rows = torch.randint(ITEMS, (6, 40), generator=torch.Generator().manual_seed(1))
    histories = rows.masked_fill(torch.arange(40) >= torch.tensor([2, 5, 9, 17, 30, 40])[:, None], -1)
    labels = histories.masked_fill(histories < 0, -100)

    def gradients():
        model.zero_grad()
        model(histories, labels=labels).loss.backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    apart = gradients()
    monkeypatch.setattr(modeling_sasrec, "SHORT", 40)
    together = gradients()

    for name, gradient in apart.items():
        torch.testing.assert_close(gradient, together[name], atol=1e-5, rtol=1e-4)
