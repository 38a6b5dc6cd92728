import pytest
import torch

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.dropout import add_residual_dropout, drop
from tests.recommenders.toys import toy_catalog


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_a_dropped_share_is_zero_and_the_rest_is_scaled_up(share):
    torch.manual_seed(0)
    values = torch.ones(64, 1001, 3)

    dropped = drop(values, share)

    assert dropped.shape == values.shape
    assert (dropped == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.005)
    assert len(dropped.unique()) == 2


def test_every_byte_of_a_random_word_is_used_alike():
    torch.manual_seed(0)

    dropped = drop(torch.ones(50_000, 8), 0.2)

    shares = (dropped == 0).float().mean(0)
    assert (shares - 51 / 256).abs().max() < 0.01


def test_half_precision_is_scaled_without_bias():
    torch.manual_seed(0)
    values = torch.rand(200_000).add(1.0).bfloat16()

    dropped = drop(values, 0.2)

    kept = dropped != 0
    assert (dropped[kept].double() / values[kept].double()).mean().item() == pytest.approx(256 / 205, rel=2e-4)


def test_gradients_flow_through_what_is_kept_alone():
    values = torch.ones(5, 7, dtype=torch.bfloat16, requires_grad=True)

    dropped = drop(values, 0.5)
    dropped.sum().backward()

    assert dropped.dtype == torch.bfloat16
    assert torch.equal(values.grad, dropped.detach())


def test_the_draw_follows_the_global_seed():
    values = torch.ones(1000)
    torch.manual_seed(1)
    first = drop(values, 0.3)
    torch.manual_seed(1)

    assert torch.equal(drop(values, 0.3), first)
    assert not torch.equal(drop(values, 0.3), first)


@pytest.mark.parametrize("share", [0.0, 0.9999])
def test_the_edges_stay_finite(share):
    assert drop(torch.ones(10), share).isfinite().all()
    assert torch.equal(drop(torch.ones(10), 0.0), torch.ones(10))


def test_a_share_of_zero_hooks_nothing():
    model = build_backbone(GeneratorOptions(size="tiny"), toy_catalog(), seed=0).model

    assert add_residual_dropout(model, 0.0) == []
    assert not model.get_input_embeddings()._forward_hooks
