import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.quantizers.cost.residual_cost import squared_distances
from tests.quantizers.cost.toys import tiny_model


def assert_nearest_one_by_one(model, latents, rows):
    """Ten-line reference: one item, one level at a time; another code is right where rounding makes it as near."""
    for residual, codes in zip(latents, rows.tolist(), strict=True):
        for level, code in enumerate(codes):
            vectors = model.level_vectors(level)
            distances = torch.stack([(residual - vector).square().sum() for vector in vectors])
            assert distances[code] <= distances.min() + 1e-5 * (1 + residual.square().sum())
            residual = residual - vectors[code]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_codes_are_those_of_the_search_one_by_one(seed, num_items):
    model = tiny_model(seed=seed)
    latents = torch.randn(num_items, 6)

    with torch.no_grad():
        quantized = model.quantizer(latents)

    assert_nearest_one_by_one(model, latents, quantized.codes)


def test_residuals_and_vectors_add_up_to_the_latents():
    model, latents = tiny_model(), torch.randn(9, 6)

    codes, residuals, vectors = model.quantizer(latents)

    torch.testing.assert_close(residuals[:, 0], latents)
    torch.testing.assert_close(residuals[:, 1:], residuals[:, :-1] - vectors[:, :-1])
    torch.testing.assert_close(model.quantizer.lookup(codes), vectors.sum(1))


def test_an_empty_prefix_looks_up_zero():
    assert torch.equal(tiny_model().quantizer.lookup(torch.empty(3, 0, dtype=torch.int64)), torch.zeros(3, 6))


@pytest.mark.parametrize(("update", "levels_with_gradient"), [("detached", [0, 1, 2]), ("straight_through", [0])])
def test_which_residuals_carry_a_gradient_depends_on_the_update_rule(update, levels_with_gradient):
    model = tiny_model(residual_update=update)
    latents = torch.randn(9, 6, requires_grad=True)

    residuals = model.quantizer(latents).residuals
    found = []
    for level in range(3):
        latents.grad = None
        residuals[:, level].sum().backward(retain_graph=True)
        if latents.grad.abs().sum() > 0:
            found.append(level)

    assert found == levels_with_gradient


def test_both_update_rules_give_the_same_codes():
    latents = torch.randn(50, 6)

    first, second = (tiny_model(residual_update=rule).quantizer(latents) for rule in ("detached", "straight_through"))

    assert torch.equal(first.codes, second.codes)


def test_residuals_carry_no_gradient_to_the_code_vectors_before_them():
    model = tiny_model()

    model.quantizer(torch.randn(9, 6, requires_grad=True)).residuals.square().sum().backward()

    assert all(codebook.grad is None for codebook in model.quantizer.codebooks)


def test_shared_codebooks_are_one_tensor():
    model = tiny_model(level_sizes=(5, 5, 5), share_codebooks=True)

    assert len(model.quantizer.codebooks) == 1
    assert model.level_vectors(0) is model.level_vectors(2)


def test_replacing_codes_changes_only_the_named_rows():
    model = tiny_model()
    before = model.level_vectors(1).detach().clone()

    model.quantizer.replace_codes(1, torch.tensor([2, 4]), torch.ones(2, 6))

    after = model.level_vectors(1)
    assert torch.equal(after[[2, 4]], torch.ones(2, 6))
    assert torch.equal(after[[0, 1, 3, 5, 6]], before[[0, 1, 3, 5, 6]])


def test_squared_distances_are_never_negative():
    rows = torch.randn(50, 6) * 1e3

    assert squared_distances(rows, rows).min() >= 0
