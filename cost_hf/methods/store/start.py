"""The start of the recommending adapter: a copy of the one that makes codes of texts."""

from typing import Any

import torch


@torch.no_grad()
def start_adapter(generator: Any, quantizer: Any) -> None:
    """Copy the LoRA matrices of text slots into those of a generator, in place.

    Args:
        generator: a peft model with LoRA of the same rank on the same layers.
        quantizer: a `TextSlotsModel`.

    Raises:
        ValueError: for other layers or another rank.
    """
    base = generator.get_base_model()
    name = generator.active_adapter
    adapted = {path: layer for path, layer in base.named_modules() if hasattr(layer, "lora_A")}
    own = {path: tuple(layer.lora_A[name].weight.shape) for path, layer in adapted.items()}
    given = {key.replace("/", "."): tuple(weight.shape) for key, weight in quantizer.adapter.inner.items()}
    if own != given:
        different = sorted(set(own.items()) ^ set(given.items()))
        raise ValueError(
            f"the adapter of the generator must have the layers and the rank of that of the codes, got another at "
            f"{different[0][0]}; set adapter.target_modules and r as codes.adapter_modules and adapter_rank, or "
            "start.from_tokenizer to false"
        )
    for path, layer in adapted.items():
        layer.lora_A[name].weight.copy_(quantizer.adapter.inner[path.replace(".", "/")])
        layer.lora_B[name].weight.copy_(quantizer.adapter.outer[path.replace(".", "/")])
