"""Texts of a few words, and text slots on a tiny language model."""

from pathlib import Path

import numpy as np
import torch

from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.text_slots.modeling_text_slots import TextSlotsModel
from cost_hf.quantizers.text_slots.training import untrained_model
from tests.generators.backbone_toys import causal_backbone

WORDS = ["red", "blue", "green", "lamp", "chair", "table", "desk", "item", "customer", "user"]


def texts_of(count: int, *, seed: int = 0) -> list[str]:
    """Different texts of two to five words and a number."""
    random = np.random.default_rng(seed)
    return [f"{' '.join(random.choice(WORDS, size=random.integers(2, 6)))} {row}" for row in range(count)]


def slot_options(backbone: Path, **changes) -> CodesOptions:
    """Three levels of eight codes, one epoch."""
    own = {"level_sizes": [8, 8, 8], "slot_dim": 8, "max_tokens": 24, "adapter_rank": 2, "epochs": 1, "batch_size": 16}
    return CodesOptions.of("text_slots", backbone=str(backbone), **(own | changes))


def slot_model(directory: Path, family: str = "llama", **changes) -> TextSlotsModel:
    """An untrained model whose adapter changes what its language model says, and with centroids of any values."""
    if not directory.is_dir():
        causal_backbone(directory, family)
    model = untrained_model(slot_options(directory, **changes), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in [*model.adapter.outer.values(), *model.centroids]:
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return model.eval()
