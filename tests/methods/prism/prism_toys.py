"""Tiny seeded models of PRISM's recommender in both bodies, with the catalog and the tags that they read."""

import numpy as np
import torch

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.data.category_tags import CategoryTags
from cost_hf.generators.backbones import Backbone
from cost_hf.methods.prism.options import IsrOptions
from cost_hf.methods.prism.recommender import PrismRecommender
from cost_hf.methods.prism.training import build_prism, code_vectors
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.semantic_ids.catalog import Catalog
from tests.methods.liger.liger_toys import generator_options, spread
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_TEXTS, toy_catalog

BODIES = ("causal", "seq2seq")
TEXT, CLICKS, CODE = 6, 3, 5  # widths
OFF = {"fusion": False, "positions": False, "codebook_weight": 0.0, "density_temperatures": None}
WITH_CLICKS = {"collaborative_method": "sasrec", "collaborative_dim": CLICKS}
SMALL = {"content_size": 7, "collaborative_size": 4, "expert_sizes": [9, 8]}


def catalog_with_vectors(items: int = 24, seed: int = 0, **options) -> Catalog:
    """A catalog of three levels and an appended one, whose vectors are of texts and, after them, of clicks."""
    catalog = toy_catalog(items, seed=seed, **{"collisions": "append", "append_size": 4} | options)
    vectors = np.random.default_rng([seed, 5]).normal(size=(items, TEXT + CLICKS)).astype(np.float32)
    return catalog.with_vectors(list(catalog.item_ids), vectors)


def toy_tags(items: int = 24) -> CategoryTags:
    return CategoryTags(np.random.default_rng(2).integers(-1, 4, size=(items, 2)), (4, 4))


def toy_levels(catalog: Catalog) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(9)
    return [torch.randn(size, CODE, generator=draws) for size in catalog.level_sizes[: catalog.model_levels]]


def toy_prism(body: str, catalog: Catalog, *, seed: int = 0, generator=None, levels=None, tags=None, **isr) -> Backbone:
    backbone = build_prism(
        generator_options(body, **(generator or {})),
        IsrOptions(**SMALL | isr),
        catalog,
        levels=toy_levels(catalog) if levels is None else levels,
        tags=tags,
        seed=seed,
    )
    backbone.model.eval()
    return backbone


def prism_recommender(body: str = "seq2seq", *, clicks=TOY_CLICKS, isr=None, **options) -> PrismRecommender:
    """A recommender with every part of a trained one: lsa, a seeded quantizer without layers, random weights."""
    lsa = LsaEncoder.fit(TOY_TEXTS, dim=8)
    vectors = torch.from_numpy(lsa.encode(TOY_TEXTS))
    torch.manual_seed(0)
    width = vectors.shape[1]
    quantizer = CostModel(CostConfig(item_dim=width, latent_dim=width, hidden_sizes=None, level_sizes=(4, 5)))
    for level, codes in enumerate((vectors[::5], vectors[:5] - vectors[0])):
        quantizer.quantizer.replace_codes(level, torch.arange(len(codes)), codes)
    catalog = Catalog.from_embeddings(TOY_IDS, vectors, quantizer, append_size=8, titles=TOY_TEXTS)
    of_clicks = np.random.default_rng(4).normal(size=(len(TOY_IDS), CLICKS)).astype(np.float32)
    isr = WITH_CLICKS if isr is None else isr
    if isr.get("fusion", True):
        catalog = catalog.with_vectors(TOY_IDS, np.concatenate([vectors.numpy(), of_clicks], 1))
    backbone = spread(toy_prism(body, catalog, levels=code_vectors(quantizer, 2), **isr))
    settings = {"num_beams": 5, "quantizer": quantizer, "encoder": ItemEncoder.of(lsa, VectorOptions())}
    return PrismRecommender(backbone, catalog, popularity=clicks, **settings | options)
