"""Tiny ACERec models, catalogs of codes and recommenders, all from seeds."""

from typing import Any

import numpy as np
import torch

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.methods.acerec.configuration_acerec import AceRecConfig
from cost_hf.methods.acerec.modeling_acerec import AceRecModel
from cost_hf.methods.acerec.recommender import AceRecRecommender
from cost_hf.quantizers.opq.configuration_opq import OpqConfig
from cost_hf.quantizers.opq.fitting import fit_opq
from cost_hf.semantic_ids.catalog import Catalog

ITEMS = 30
SIZES = (5, 4, 6, 5, 4, 6)  # no two neighbours alike, so that mixed up levels show
IDS = tuple(f"item{row:03d}" for row in range(ITEMS))
PLACES = ("oslo", "lima", "quito", "dakar", "perth", "turin", "accra", "delhi", "cairo", "malmo")
TEXTS = [f"{theme} in {place}" for theme in ("football", "theatre", "weather") for place in PLACES]
TINY: dict[str, Any] = {
    "level_sizes": SIZES,
    "num_latents": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_heads": 2,
    "dropout": 0.2,
    "max_history": 6,
    "initializer_range": 0.5,  # spread scores: near ties would hide an error
}


def tiny_model(*, seed: int = 0, **changes: Any) -> AceRecModel:
    """Build a model in eval mode."""
    torch.manual_seed(seed)
    return AceRecModel(AceRecConfig(**TINY | changes)).eval()


def toy_codes(items: int = ITEMS, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> torch.Tensor:
    draws = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([draws.integers(size, size=items) for size in sizes], axis=1))


def toy_recommender(*, titles: bool = True, **changes: Any) -> AceRecRecommender:
    """A recommender with every part of a trained one: lsa, product quantization fitted to it, random weights."""
    lsa = LsaEncoder.fit([f"{text} number{row}" for row, text in enumerate(TEXTS)], dim=12)
    vectors = torch.from_numpy(lsa.encode(TEXTS))
    config = OpqConfig(item_dim=vectors.shape[1], level_sizes=SIZES)
    quantizer = fit_opq(vectors, config, iterations=2, seed=0)
    catalog = Catalog.from_embeddings(
        IDS, vectors, quantizer, collisions="none", titles=TEXTS if titles else None, text_digest="toy"
    )
    return AceRecRecommender(
        tiny_model(**changes),
        catalog,
        popularity=np.arange(ITEMS),
        quantizer=quantizer,
        encoder=ItemEncoder.of(lsa, VectorOptions()),
    )
