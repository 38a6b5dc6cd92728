"""Tiny seeded models of GLASS, with the catalog and the histories that they read."""

from typing import Any

import numpy as np
import torch

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.generators.backbones import Backbone
from cost_hf.methods.glass.options import LongHistoryOptions
from cost_hf.methods.glass.ranker import GlassRanker
from cost_hf.methods.glass.recommender import GlassRecommender
from cost_hf.methods.glass.training import build_glass
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.liger.liger_toys import catalog_with_texts, generator_options, spread
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_TEXTS

ALL_OFF = {"tier_token": False, "retrieval": False}
CAUSAL = {"retrieval": False}
LONG = 12  # items of the longest history


def toy_glass(catalog: Catalog, *, body: str = "seq2seq", seed: int = 0, **long_history) -> Backbone:
    """A model whose weights and gates are spread, so that near ties hide no error."""
    defaults = {"retrieved_items": 4, "initial_gate": 1.0, "tier_edges": [0.0, 0.3, 0.6]}
    options = LongHistoryOptions(**defaults | long_history)
    backbone = build_glass(generator_options(body), options, catalog, seed=seed)
    backbone.model.eval()
    return backbone


def toy_catalog(items: int = 40) -> Catalog:
    return catalog_with_texts(items)


def long_histories(items: int, batch: int = 5, seed: int = 0) -> torch.Tensor:
    """Histories of 1 to `LONG` items, int64 `[B, LONG]`, -1 on the right; the first has only one item."""
    draws = np.random.default_rng(seed)
    histories = np.full((batch, LONG), -1, dtype=np.int64)
    for line, length in zip(histories, [1, *draws.integers(6, LONG + 1, batch - 1)], strict=True):
        line[:length] = draws.integers(0, items, length)
    return torch.from_numpy(histories)


def ranker_of(
    backbone: Backbone, catalog: Catalog, *, num_beams: int = 6, long_history: int = LONG, **search: Any
) -> GlassRanker:
    trie = SidTrie.from_catalog(catalog, popularity=np.arange(len(catalog)))
    return GlassRanker(
        backbone.model,
        backbone.prompts(catalog)[0],
        trie,
        long_history=long_history,
        item_tiers=backbone.model.item_tiers,
        num_beams=num_beams,
        **search,
    )


def glass_recommender(*, body: str = "seq2seq", clicks=TOY_CLICKS, **long_history) -> GlassRecommender:
    """A recommender with every part of a trained one: lsa, a seeded quantizer without layers, random weights."""
    lsa = LsaEncoder.fit(TOY_TEXTS, dim=8)
    vectors = torch.from_numpy(lsa.encode(TOY_TEXTS))
    torch.manual_seed(0)
    width = vectors.shape[1]
    quantizer = CostModel(CostConfig(item_dim=width, latent_dim=width, hidden_sizes=None, level_sizes=(4, 5)))
    for level, codes in enumerate((vectors[::5], vectors[:5] - vectors[0])):
        quantizer.quantizer.replace_codes(level, torch.arange(len(codes)), codes)
    catalog = Catalog.from_embeddings(TOY_IDS, vectors, quantizer, append_size=8, titles=TOY_TEXTS)
    catalog = catalog.with_vectors(TOY_IDS, vectors)
    backbone = spread(toy_glass(catalog, body=body, **long_history))
    settings = {"num_beams": 5, "quantizer": quantizer, "encoder": ItemEncoder.of(lsa, VectorOptions())}
    return GlassRecommender(backbone, catalog, popularity=clicks, long_history=LONG, **settings)
