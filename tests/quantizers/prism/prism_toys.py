"""Tiny PRISM quantizers, items and tags, all from seeds."""

from typing import Any

import torch

from cost_hf.quantizers.prism.configuration_prism import PrismConfig
from cost_hf.quantizers.prism.modeling_prism import PrismModel
from tests.quantizers.cost.toys import item_vectors

CONTENT, COLLABORATIVE = 16, 8
TAG_SIZES = (3, 5)
TINY: dict[str, Any] = {
    "item_dim": CONTENT,
    "collaborative_dim": COLLABORATIVE,
    "hidden_sizes": (12,),
    "latent_dim": 6,
    "level_sizes": (5, 7, 4),
    "dropout": 0.0,
    "input_norm": "l2",
}
TAGGED: dict[str, Any] = {"tag_sizes": TAG_SIZES, "tag_weight": 0.25, "anchor_weight": 0.3}
# what makes it a plain residual quantizer of content vectors
PLAIN: dict[str, Any] = {"collaborative_weight": 0.0, "gate_weight": 0.0, "balance_weight": 0.0}
AVERAGED: dict[str, Any] = {"codebook_update": "ema", "codebook_weight": 0.0, "balance_weight": 0.0}


def tiny_prism(*, seed: int = 0, **changes: Any) -> PrismModel:
    """Build a model in training mode, with codes as far apart as latents are."""
    torch.manual_seed(seed)
    model = PrismModel(PrismConfig(**(TINY | changes)))
    for level, size in enumerate(model.level_sizes):
        model.quantizer.replace_codes(level, torch.arange(size), torch.randn(size, model.config.latent_dim) / 2**level)
    return model.train()


def both_vectors(num_items: int = 40) -> torch.Tensor:
    """Content and collaborative vectors side by side; every tenth item has no collaborative one."""
    collaborative = 3 * item_vectors(num_items, COLLABORATIVE, clusters=10, seed=7)
    collaborative[::10] = 0
    return torch.cat([item_vectors(num_items, CONTENT), collaborative], 1)


def training_inputs(num_items: int = 40) -> dict[str, Any]:
    """All arguments of `forward`."""
    generator = torch.Generator().manual_seed(3)
    tags = torch.stack([torch.randint(-1, size, (num_items,), generator=generator) for size in TAG_SIZES], 1)
    return {
        "item_embeddings": both_vectors(num_items),
        "popularity": torch.rand(num_items, generator=generator),
        "tags": tags,
        "tag_vectors": [item_vectors(size, CONTENT, seed=9) for size in TAG_SIZES],
    }
