import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.nn import functional
from transformers import AutoModel

from cost_hf.item_vectors.famae.configuration_famae import FamaeConfig
from cost_hf.item_vectors.famae.training import draw_masks
from tests.item_vectors.famae.famae_toys import SIZES, tiny_fields, tiny_model


def masks(*fields, batch=6):
    masked = torch.zeros(batch, len(SIZES), dtype=torch.bool)
    masked[:, list(fields)] = True
    return masked


def test_masked_fields_of_the_target_are_not_read():
    model = tiny_model()
    fields = tiny_fields()
    others = fields.clone()
    others[:, -1, 1] = fields[:, -1, 1] % (SIZES[1] - 1) + 1

    same = [model(own, masks(1)).hidden_states for own in (fields, others)]
    different = [model(own, masks(0)).hidden_states for own in (fields, others)]

    torch.testing.assert_close(*same)
    assert not torch.allclose(*different)


def test_only_the_target_is_masked():
    model = tiny_model()
    fields = tiny_fields()
    history = fields.clone()
    history[:, 0, 0] = fields[:, 0, 0] % (SIZES[0] - 1) + 1
    history[1] = fields[1]  # its first position holds no item

    before, after = (model(own, masks(0, 1, 2)).hidden_states for own in (fields, history))

    assert not torch.allclose(before[0], after[0])


def test_mask_tokens_belong_to_their_fields():
    model = tiny_model()
    fields = tiny_fields()
    brand = model(fields, masks(1)).hidden_states

    with torch.no_grad():
        model.mask_tokens.weight[2] += 1

    torch.testing.assert_close(model(fields, masks(1)).hidden_states, brand)
    assert not torch.allclose(model(fields, masks(1, 2)).hidden_states, model(fields, masks(2)).hidden_states)


def test_padding_changes_nothing():
    model = tiny_model()
    fields = tiny_fields()

    padded = model(fields, masks(0)).hidden_states
    alone = model(fields[1:2, 2:], masks(0, batch=1)).hidden_states

    torch.testing.assert_close(padded[1:2], alone)


def test_the_loss_is_the_softmax_of_scaled_cosines_of_each_masked_field():
    model = tiny_model()
    fields = tiny_fields()
    masked = masks(0, 2)

    output = model(fields, masked)

    hidden = functional.normalize(output.hidden_states, dim=-1)
    expected = 0.0
    for field in (0, 2):
        values = functional.normalize(model.tables[field][1:], dim=-1)
        logits = math.sqrt(model.config.hidden_size) * hidden @ values.T
        torch.testing.assert_close(model.scores(output.hidden_states, field), logits)
        expected = expected + functional.cross_entropy(logits, fields[:, -1, field] - 1)
    torch.testing.assert_close(output.loss, expected)
    assert output.field_losses[1] == 0


def test_all_values_as_negatives_are_the_full_softmax():
    model = tiny_model()
    fields = tiny_fields()
    everything = [torch.arange(1, size) for size in SIZES]

    sampled = model(fields, masks(0, 1, 2), negatives=everything).loss

    torch.testing.assert_close(sampled, model(fields, masks(0, 1, 2)).loss)


def test_negatives_that_are_the_target_count_once():
    model = tiny_model()
    fields = tiny_fields(batch=1)
    own = [fields[:1, -1, field] for field in range(len(SIZES))]

    loss = model(fields, masks(0, 1, 2, batch=1), negatives=own).loss

    torch.testing.assert_close(loss, torch.zeros(()))


def test_missing_values_are_never_targets_and_their_row_starts_at_zero():
    model = tiny_model()
    fields = tiny_fields()
    fields[:, -1, 1] = 0

    output = model(fields, masks(1))

    assert output.loss == 0
    assert all((table[0] == 0).all() for table in model.tables)


def test_weights_scale_the_loss_of_their_targets():
    model = tiny_model()
    fields = tiny_fields()
    weights = torch.tensor([2.0, 0, 0, 0, 0, 0])

    loss = model(fields, masks(0), label_weights=weights).loss

    torch.testing.assert_close(loss, model(fields[:1], masks(0, batch=1)).loss * 2 / 6)


def test_masks_hide_between_one_and_all_known_fields():
    targets = torch.ones(3000, 3, dtype=torch.int64)
    targets[:1000, 1] = 0
    targets[0] = 0

    masked = draw_masks(targets)

    assert not masked[0].any() and not masked[:1000, 1].any()
    assert set(masked[1:1000].sum(1).tolist()) == {1, 2}
    counts = torch.bincount(masked[1000:].sum(1), minlength=4)
    assert counts[0] == 0 and (counts[1:] > 500).all()  # uniform: 667 each
    assert (masked[1000:].float().mean(0) - 2 / 3).abs().max() < 0.1


def test_item_vectors_are_the_embeddings_of_the_fields_in_order():
    model = tiny_model()
    values = torch.tensor([[1, 2, 3], [4, 0, 1]])

    vectors = model.item_vectors(values)

    assert vectors.shape == (2, 24)
    torch.testing.assert_close(vectors[0, 8:16], model.tables[1][2])
    assert (vectors[1, 8:16] == 0).all()


def test_a_saved_model_is_loaded_by_auto_model(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.tables[1][0] += 1  # a trained row of missing values
    model.save_pretrained(tmp_path)

    loaded = AutoModel.from_pretrained(tmp_path)

    torch.testing.assert_close(loaded(tiny_fields(), masks(0)).loss, model(tiny_fields(), masks(0)).loss)
    torch.testing.assert_close(loaded.tables[1], model.tables[1])


def test_wrong_shapes_are_refused_with_the_expected_one():
    with pytest.raises(ValueError, match=r"\[B, T, 3\] with T at most max_length=5"):
        tiny_model()(tiny_fields(6))


@pytest.mark.parametrize(
    "values",
    [{"vocab_sizes": []}, {"vocab_sizes": [1]}, {"hidden_size": 9}, {"dropout": 1.0}, {"max_length": 0}],
    ids=str,
)
def test_configurations_that_no_model_can_have_are_refused(values):
    settings = {"vocab_sizes": [5], "hidden_size": 8, "num_heads": 2}
    with pytest.raises(StrictDataclassClassValidationError):
        FamaeConfig(**{**settings, **values})
