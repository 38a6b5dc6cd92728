import pytest
import torch
from torch.nn.functional import normalize

from cost_hf.quantizers.cost import CostConfig, CostModel
from tests.quantizers.cost.toys import TINY, item_vectors, tiny_model


def test_the_loss_is_the_weighted_sum_of_the_terms():
    model = tiny_model(contrastive_weight=0.3, reconstruction_weight=2, codebook_weight=0.5, commitment_weight=0.7)

    output = model(item_vectors())

    expected = (
        0.3 * output.contrastive_loss
        + 2 * output.reconstruction_loss
        + 0.5 * output.codebook_loss
        + 0.7 * output.commitment_loss
    )
    torch.testing.assert_close(output.loss, expected)


def test_a_term_of_weight_0_is_absent():
    output = tiny_model(contrastive_weight=0.0)(item_vectors())

    assert output.contrastive_loss is None
    assert "reconstruction_loss" not in output.keys()  # noqa: SIM118 - ModelOutput lists what is set


def test_without_losses_the_output_holds_codes_reconstruction_and_latents():
    output = tiny_model()(item_vectors(), return_loss=False)

    assert list(output.keys()) == ["codes", "reconstruction", "latents"]
    assert output.codes.shape == (40, 3) and output.codes.dtype == torch.int64
    assert output.reconstruction.shape == (40, 16)
    assert output.latents.shape == (40, 6)


def test_the_encoder_gets_the_decoders_gradient_straight_through():
    model = tiny_model(codebook_weight=0.0, commitment_weight=0.0)
    items = item_vectors()
    latents = model.embed(items).detach().requires_grad_()
    quantized = model.quantizer(latents).quantized.detach().requires_grad_()

    model.decoder(latents + (quantized - latents).detach()).square().sum().backward()
    model.decoder(quantized).square().sum().backward()

    torch.testing.assert_close(latents.grad, quantized.grad)


def test_every_weight_gets_a_gradient_from_the_default_loss():
    model = tiny_model()

    model(item_vectors()).loss.backward()

    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_codebooks_move_by_the_codebook_term_only():
    model = tiny_model(codebook_weight=0.0, reconstruction_weight=1.0)

    model(item_vectors()).loss.backward()

    assert all(codebook.grad is None for codebook in model.quantizer.codebooks)


def test_forward_changes_no_weight_buffer_or_random_state():
    model = tiny_model(input_norm="standardize").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()

    model(item_vectors()).loss.backward()

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_and_evaluation_mode_give_the_same_output():
    model, items = tiny_model(), item_vectors()

    assert torch.equal(model.train()(items).loss, model.eval()(items).loss)


def test_encode_agrees_with_forward_and_decode_with_its_reconstruction():
    model, items = tiny_model(), item_vectors()

    output = model(items)

    assert torch.equal(model.encode(items), output.codes)
    torch.testing.assert_close(model.decode(output.codes), output.reconstruction)
    assert not model.decode(output.codes).requires_grad


def test_encode_takes_no_items_and_more_than_a_batch(monkeypatch):
    model, items = tiny_model(), item_vectors()
    whole = model.encode(items)

    monkeypatch.setattr("cost_hf.quantizers.cost.modeling_base_cost.ITEMS_PER_BATCH", 7)

    assert torch.equal(model.encode(items), whole)
    assert model.encode(items[:0]).shape == (0, 3)
    assert model.decode(whole[:0]).shape == (0, 16)


def test_a_prefix_decodes_to_the_sum_of_its_code_vectors():
    model = tiny_model(hidden_sizes=None, latent_dim=16)
    codes = torch.tensor([[3, 1], [0, 6]])

    expected = model.level_vectors(0)[codes[:, 0]] + model.level_vectors(1)[codes[:, 1]]

    torch.testing.assert_close(model.decode(codes), expected.detach())


def test_the_nearest_code_by_level_distances_is_the_assigned_one():
    model, items = tiny_model(), item_vectors()
    codes = model.encode(items)

    for level, size in enumerate(model.level_sizes):
        distances = model.level_distances(items, codes[:, :level])
        assert distances.shape == (40, size)
        assert torch.equal(distances.argmin(1), codes[:, level])


def test_level_distances_follow_any_prefix():
    model, items = tiny_model(), item_vectors(5)
    prefix = torch.tensor([[4], [3], [2], [1], [0]])

    distances = model.level_distances(items, prefix)

    residuals = model.embed(items) - model.level_vectors(0)[prefix[:, 0]]
    torch.testing.assert_close(distances, torch.cdist(residuals, model.level_vectors(1)).square().detach())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode(torch.zeros(3, 15)), r"must be \[items, 16\], got shape \(3, 15\)"),
        (lambda m: m(torch.zeros(16)), r"must be \[items, 16\], got shape \(16,\)"),
        (lambda m: m.decode(torch.zeros(3, 4, dtype=torch.int64)), r"1 … 3 levels\], got shape \(3, 4\)"),
        (lambda m: m.level_distances(torch.zeros(3, 16), torch.zeros(3, 3, dtype=torch.int64)), r"0 … 2 levels"),
        (
            lambda m: m.level_distances(torch.zeros(3, 16), torch.zeros(2, 1, dtype=torch.int64)),
            r"\[3 items, .* \(2, 1\)",
        ),
        (lambda m: m.decode(torch.tensor([[0, 7, 0]])), r"level 1 has codes 0 … 6, got 7; leave out an appended level"),
        (lambda m: m.level_distances(torch.zeros(1, 16), torch.tensor([[-1]])), r"level 0 has codes 0 … 4, got -1"),
        (lambda m: m.level_vectors(3), r"level must be in 0 … 2, got 3"),
    ],
)
def test_a_wrong_shape_is_an_error_that_names_both(call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny_model())


def test_mixed_precision_leaves_quantization_and_losses_in_fp32():
    model, items = tiny_model(reconstruction_weight=1.0), item_vectors()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(items)

        distances = model.level_distances(items, output.codes[:, :1])

    assert output.loss.dtype == distances.dtype == torch.float32
    assert torch.equal(output.codes, model.quantizer(output.latents).codes)
    assert not torch.equal(output.latents, model.embed(items))  # the encoder did run in half precision


def test_shapes_can_be_computed_on_the_meta_device():
    with torch.device("meta"):
        output = CostModel(CostConfig(**TINY))(torch.empty(9, 16))

    assert output.codes.shape == (9, 3) and output.loss.shape == ()


def test_l2_scales_item_vectors_and_their_length_does_not_matter():
    model, items = tiny_model(input_norm="l2"), item_vectors()

    torch.testing.assert_close(model.embed(items * 7), model.embed(items))


def test_standardize_keeps_statistics_of_the_table_and_spares_constant_dimensions():
    model, items = tiny_model(input_norm="standardize"), item_vectors() * 3 + 1
    items[:, 5] = 2.0

    model.fit_statistics(items)
    scaled = model.input_norm(items)

    torch.testing.assert_close(scaled.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0)[:5], torch.ones(5))
    assert torch.equal(scaled[:, 5], torch.zeros(40))


def test_a_reconstruction_lives_in_the_space_of_the_normalised_vectors():
    model = tiny_model(input_norm="l2", contrastive_weight=0.0, reconstruction_weight=1.0, codebook_weight=0.0)
    model.config.commitment_weight = 0.0
    items = item_vectors() * 5

    output = model(items)

    expected = (normalize(items, dim=-1) - output.reconstruction).square().sum(-1).mean()
    torch.testing.assert_close(output.loss, expected)


def test_no_hidden_sizes_quantize_the_vectors_themselves():
    model = tiny_model(hidden_sizes=None, latent_dim=16)

    assert torch.equal(model.embed(item_vectors()), item_vectors())
    assert sum(weight.numel() for weight in model.parameters()) == (5 + 7 + 4) * 16


def test_the_docstring_begins_as_promised():
    assert CostModel.__doc__.splitlines()[0] == (
        "Residual quantizer for semantic IDs (RQ-VAE family); contrastive CoST loss by default."
    )
