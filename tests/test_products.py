"""Faster matrix products run only where they were measured to be right, and never outlive their block."""

import pytest
import torch
from torch import nn

from cost_hf import products
from cost_hf.products import EXACT, Products, fast_products, measure_products


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(48, 96), nn.LayerNorm(96), nn.Linear(96, 32))


@pytest.fixture(autouse=True)
def setting():
    """Tests start from, and must come back to, torch's default; a warning of an earlier test may come again."""
    products._warn.cache_clear()
    assert torch.get_float32_matmul_precision() == "highest"
    yield
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.fixture
def error(monkeypatch):
    """Set what the measurement finds."""
    return lambda value: monkeypatch.setattr(products, "product_error", lambda *_, **__: value)


def test_accurate_products_run_inside_the_block_alone(model, error):
    error(3e-7)

    with fast_products(model, "medium") as found:
        assert torch.get_float32_matmul_precision() == "medium"

    assert torch.get_float32_matmul_precision() == "highest"
    assert found == Products("medium", "medium", 3e-7)


@pytest.mark.parametrize("value", [1.01e-4, 2.4e-3, float("nan")])
def test_inaccurate_products_are_refused_with_their_error(model, error, caplog, value):
    error(value)

    with fast_products(model, "medium") as found:
        assert torch.get_float32_matmul_precision() == "highest"

    assert (found.asked, found.used) == ("medium", "exact")
    assert f"medium products are off by about {value:.0e}" in caplog.text
    assert "exact products are used" in caplog.text


def test_a_refusal_is_told_once(model, error, caplog):
    error(2.41e-3)
    measure_products(model, "medium")
    error(2.38e-3)
    measure_products(model, "medium")

    assert len(caplog.records) == 1


def test_refused_products_are_exact_inside_a_faster_block(model, error):
    error(1e-7)
    with fast_products(model, "medium"):
        error(1e-2)
        with fast_products(model, "medium"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"


def test_an_error_inside_the_block_puts_the_setting_back(model, error):
    error(1e-7)

    with pytest.raises(KeyError), fast_products(model, "medium"):
        raise KeyError("inside")

    assert torch.get_float32_matmul_precision() == "highest"


def test_the_callers_own_setting_comes_back_and_exact_leaves_it(model, error):
    error(1e-7)
    torch.set_float32_matmul_precision("high")
    try:
        with fast_products(model, "medium"):
            pass
        after = torch.get_float32_matmul_precision()
        with fast_products(model, "exact") as found:
            inside = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision("highest")

    assert (after, inside, found) == ("high", "high", EXACT)


def test_bf16_products_compute_in_bfloat16_where_the_limit_allows_it(model):
    inputs = torch.ones(2, 48)

    with fast_products(model, "bf16", limit=0.1) as found, torch.no_grad():
        inside = model[0](inputs)

    assert inside.dtype == torch.bfloat16
    assert 1e-4 < found.relative_error < 0.1
    assert model[0](inputs).dtype == torch.float32


def test_bf16_weights_that_change_inside_the_block_are_seen(model):
    inputs = torch.ones(2, 48)

    with fast_products(model, "bf16", limit=0.1):
        model[0](inputs)
        with torch.no_grad():
            model[0].weight.zero_(), model[0].bias.zero_()
        assert not model[0](inputs).any()


def test_bf16_is_refused_by_the_default_limit(model):
    assert measure_products(model, "bf16").used == "exact"


def test_the_measurement_agrees_with_the_products_of_the_model(model):
    found = measure_products(model, "medium", limit=1.0)
    inputs = torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
    exact = inputs.double() @ model[0].weight.detach().double().T

    with found.applied():
        own = inputs @ model[0].weight.detach().T

    error = float((own.double() - exact).norm() / exact.norm())
    assert found.used == "medium"
    assert error / 3 < found.relative_error < 3 * error


def test_matrices_of_zeros_and_of_other_precisions_are_no_obstacle(model, caplog):
    nn.init.zeros_(model[0].weight)
    assert measure_products(model, "medium", limit=1.0).used == "medium"

    assert measure_products(model.to(torch.bfloat16), "medium") == Products("medium", "exact")
    assert "no fp32 matrix" in caplog.text


def test_measuring_leaves_the_random_state_alone(model):
    before = torch.random.get_rng_state()

    measure_products(model, "medium")

    assert torch.equal(before, torch.random.get_rng_state())


def test_products_that_do_not_exist_are_an_error(model):
    with pytest.raises(ValueError, match="products must be one of exact, medium, bf16, got 'fp8'"):
        measure_products(model, "fp8")
