"""Faster matrix products run only where they were measured to be right, and never outlive their block."""

import threading
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

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
    after = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    assert after == "highest"


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
    assert f"they are off by about {value:.0e} relative" in caplog.text
    assert "exact ones run" in caplog.text


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


@pytest.mark.parametrize("inner", ["exact", "medium"])
def test_exact_products_are_exact_inside_a_bf16_block(model, error, inner):
    inputs = torch.ones(2, 48)
    error(0.05)

    with fast_products(model, "bf16", limit=0.1):
        with fast_products(model, inner):
            assert model[0](inputs).dtype == torch.float32
            assert torch.get_float32_matmul_precision() == "highest"
        assert model[0](inputs).dtype == torch.bfloat16


def test_exact_products_leave_the_callers_own_autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16), fast_products(model, "exact"):
        assert model[0](torch.ones(2, 48)).dtype == torch.bfloat16


def test_measuring_is_the_same_inside_autocast(model):
    alone = measure_products(model, "medium")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measure_products(model, "medium") == alone


def test_overlapping_blocks_of_threads_put_the_setting_back(model, error):
    error(1e-7)
    blocks = [Block(model), Block(model)]
    before = torch.get_float32_matmul_precision()

    for block in blocks:
        block.enter()
    blocks[0].leave()
    between = torch.get_float32_matmul_precision()
    blocks[1].leave()

    assert (before, between, torch.get_float32_matmul_precision()) == ("highest", "medium", "highest")


class Block:
    """A thread that stays inside a block of medium products until it is told to leave."""

    def __init__(self, model):
        self.inside, self.told = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, args=(model,))

    def run(self, model):
        with fast_products(model, "medium"):
            self.inside.set()
            self.told.wait(60)

    def enter(self):
        self.thread.start()
        assert self.inside.wait(60)

    def leave(self):
        self.told.set()
        self.thread.join(60)


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


class Rounded(TorchDispatchMode):
    """Factors of products are rounded to bfloat16, as the faster products of some machines round them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        products = (torch.ops.aten.mm.default, torch.ops.aten.bmm.default)
        if func in products and args[0].dtype == torch.float32:
            args = [factor.bfloat16().float() for factor in args]
        return func(*args, **(kwargs or {}))


def test_the_measurement_agrees_with_the_products_of_the_model(model, monkeypatch):
    # the machine's own medium products may be as good as exact: an error of rounding alone, which can't be compared
    monkeypatch.setattr(Products, "applied", lambda self: nullcontext())
    inputs = torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
    exact = inputs.double() @ model[0].weight.detach().double().T

    with Rounded():
        found = measure_products(model, "medium", limit=1.0)
        own = inputs @ model[0].weight.detach().T

    error = float((own.double() - exact).norm() / exact.norm())
    assert found.used == "medium"
    assert error / 3 < found.relative_error < 3 * error


class Spoiled(TorchDispatchMode):
    """Products of factors with these shapes come out wrong by a hundredth."""

    def __init__(self, *shapes):
        super().__init__()
        self.shapes = shapes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        products = (torch.ops.aten.mm.default, torch.ops.aten.bmm.default)
        if func in products and args[0].dtype != torch.float64 and tuple(part.shape for part in args) == self.shapes:
            return result * 1.01
        return result


@pytest.mark.parametrize(
    "shapes",
    [
        ((128, 48), (48, 96)),
        ((128, 96), (96, 48)),
        ((96, 128), (128, 48)),
        ((4096, 96), (96, 32)),
        ((16, 128, 64), (16, 64, 128)),
        ((16, 128, 128), (16, 128, 64)),
    ],
    ids=["outputs", "gradients of inputs", "gradients of weights", "a training batch", "scores", "values"],
)
def test_every_kind_of_product_is_measured(model, shapes, monkeypatch):
    # the machine's own medium products may be off by more
    monkeypatch.setattr(Products, "applied", lambda self: nullcontext())
    assert measure_products(model, "medium").used == "medium"

    with Spoiled(*shapes):
        found = measure_products(model, "medium")

    assert found.used == "exact"
    assert found.relative_error == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Conv1d(24, 40, 5), (960, 5)), (nn.ParameterList([torch.ones(3, 20, 7)]), (60, 7))],
    ids=["convolution", "experts"],
)
def test_weights_of_more_dimensions_are_measured_as_matrices(layer, shape, monkeypatch):
    monkeypatch.setattr(Products, "applied", lambda self: nullcontext())

    with Spoiled((128, shape[0]), shape):
        found = measure_products(layer, "medium")

    assert found.relative_error == pytest.approx(0.01, rel=1e-3)


def test_products_are_measured_where_they_will_run(model, monkeypatch):
    found = []
    monkeypatch.setattr(products, "product_error", lambda *_, device: found.append(device) or 0.0)

    measured = [measure_products(model, "medium", device=device).device for device in (None, "cuda:0")]

    assert found == [torch.device("cpu"), torch.device("cuda:0")]
    assert measured == ["cpu", "cuda"]


def test_both_factors_are_brought_to_the_device_that_is_measured(model):
    factors = list(products._probes([model[0].weight.detach()], torch.device("meta")))

    assert len(factors) == 3 * 2 + 2
    assert {part.device.type for pair in factors for part in pair} == {"meta"}


def test_a_precision_set_for_one_backend_is_an_error(model):
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        with pytest.raises(RuntimeError, match=r"set for one backend .* ask for exact products"):
            measure_products(model, "medium")
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")


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
