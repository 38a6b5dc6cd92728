"""Tiny models and vectors, all from seeds."""

from typing import Any

import torch

from cost_hf.quantizers.cost import CostConfig, CostModel

TINY: dict[str, Any] = {"item_dim": 16, "hidden_sizes": (12,), "latent_dim": 6, "level_sizes": (5, 7, 4)}


def tiny_model(*, seed: int = 0, **changes: Any) -> CostModel:
    torch.manual_seed(seed)
    model = CostModel(CostConfig(**(TINY | changes)))
    for level, size in enumerate(model.level_sizes):  # codes as far apart as latents are, so that all are in play
        model.quantizer.replace_codes(level, torch.arange(size), torch.randn(size, model.config.latent_dim) / 2**level)
    return model


def item_vectors(num_items: int = 40, dim: int = 16, *, clusters: int = 8, seed: int = 0) -> torch.Tensor:
    """Unit vectors around `clusters` centers."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(clusters, dim, generator=generator)
    rows = torch.randint(clusters, (num_items,), generator=generator)
    noise = torch.randn(num_items, dim, generator=generator)
    return torch.nn.functional.normalize(centers[rows] + 0.4 * noise, dim=-1)
