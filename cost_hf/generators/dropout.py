"""Residual dropout of the causal generator in training, by hooks, so that the saved model is a stock Llama."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def add_residual_dropout(model: PreTrainedModel, share: float) -> list[Any]:
    """Drop activations after the embedding and every sub-layer of a Llama in training; return the hook handles.

    Small catalogs overfit without it; a share of 0 adds no hook. Llama's own dropout, of attention weights, stays off:
    with it CPUs have no fused attention.
    """
    if share == 0:
        return []

    def hook(module: nn.Module, _args: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (drop(output[0], share), *output[1:])
        return drop(output, share)

    layers = [part for layer in model.model.layers for part in (layer.self_attn, layer.mlp)]
    return [module.register_forward_hook(hook) for module in (model.get_input_embeddings(), *layers)]


def drop(values: Tensor, share: float) -> Tensor:
    """Zero a random share of the values and scale up the rest.

    On a CPU torch draws a Bernoulli variable for every value, slowly; here it is a random byte each, and the share is
    the nearest multiple of 1/256.

    Args:
        values: any shape.
        share: in [0, 1).
    """
    if values.device.type != "cpu":
        return nn.functional.dropout(values, share)
    dropped = min(round(share * 256), 255)
    words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)  # all 64 bits are random
    is_kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= dropped
    # scaled after the mask: a mask of scales would round the scale itself to bf16
    return (values * is_kept.to(values.dtype)).mul_(256 / (256 - dropped))
