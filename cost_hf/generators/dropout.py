"""Dropout of both generators in training, fast on CPUs.

A Llama gets it by hooks, a T5 has modules of its own that draw otherwise for the time of training; either way the saved
model is a stock one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def add_residual_dropout(model: PreTrainedModel, share: float) -> list[Any]:
    """Drop activations behind the embedding and every sub-layer of a Llama in training; return the hook handles.

    Small catalogs overfit without it; a share of 0 hooks nothing. Llama's own dropout, of attention weights, stays off:
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


@dataclass(frozen=True)
class ByteDropout:
    """A `Dropout` module that drops by `drop` until it is removed; made by `use_byte_dropout`."""

    module: nn.Dropout

    def __post_init__(self) -> None:
        self.module.__dict__["forward"] = self  # hides the class's own, as an attribute of the instance

    def __call__(self, values: Tensor) -> Tensor:
        """Drop in training alone, as the module does."""
        return drop(values, self.module.p) if self.module.training else values

    def remove(self) -> None:
        """Give the module its own draws back."""
        del self.module.__dict__["forward"]


def use_byte_dropout(model: PreTrainedModel) -> list[ByteDropout]:
    """Let every `Dropout` module of a T5 or another backbone drop by `drop`; return the handles.

    Dropout of attention weights, which is no module there, stays torch's.
    """
    modules = [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    return [ByteDropout(module) for module in modules]


def drop(values: Tensor, share: float) -> Tensor:
    """Zero a random share of the values and scale up the rest.

    On a CPU torch draws a Bernoulli variable for every value, slowly; a random byte each serves as well, and the share
    is the nearest multiple of 1/256.

    Args:
        values: any shape.
        share: in [0, 1).
    """
    if values.device.type != "cpu":
        return nn.functional.dropout(values, share)
    dropped = min(round(share * 256), 255)
    words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)  # all 64 bits are random
    is_kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= dropped
    # scaled behind the mask: a mask of scales would round the scale itself to bf16
    return (values * is_kept.to(values.dtype)).mul_(256 / (256 - dropped))
