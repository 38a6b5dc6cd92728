"""Tiny seeded COBRAs with both text encoders, with the catalog, prompts and rankers that they need."""

from typing import Any

import numpy as np
import torch

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.collation import CausalCollator
from cost_hf.generators.options import GeneratorOptions
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.cobra.options import DenseOptions
from cost_hf.methods.cobra.ranker import BeamFusion, CobraRanker
from cost_hf.methods.cobra.recommender import CobraRecommender
from cost_hf.methods.cobra.training import build_cobra, ranker_of
from cost_hf.methods.cobra.word_ids import word_ids
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_TEXTS, toy_catalog

TEXTS = ("vectors", "light")
WIDTH = 6  # of text vectors, and words of a text
WORD_IDS = 40
HISTORY = 5
OFF = {"inputs": False, "weight": 0.0}
EXAMPLES = [("u", np.array([1, 2, 5, 2]), 0), ("v", np.array([7]), 0), ("w", np.array([4, 9, 5]), 1)]


def catalog_with_texts(texts: str = "vectors", items: int = 24, seed: int = 0, **options: Any) -> Catalog:
    """Items of which several share a semantic ID."""
    catalog = toy_catalog(items, (3, 2, 2), seed=seed, **{"collisions": "none"} | options)
    draws = np.random.default_rng([seed, 5])
    if texts == "vectors":
        table = draws.normal(size=(items, WIDTH))
    else:
        table = draws.integers(2, WORD_IDS, size=(items, WIDTH)) * (np.arange(WIDTH) < draws.integers(0, 7, (items, 1)))
    return catalog.with_vectors(list(catalog.item_ids), table.astype(np.float32))


def clicks_of(catalog: Catalog) -> np.ndarray:
    """Clicks of the items; one item has none."""
    return np.random.default_rng(1).permutation(len(catalog))


def dense_options(texts: str = "vectors", **options: Any) -> DenseOptions:
    sizes = {"hidden_sizes": [8, 7], "word_ids": WORD_IDS}
    return DenseOptions(**{"text_encoder": texts, "leaf_negatives": False} | sizes | options)


def generator_options(**options: Any) -> GeneratorOptions:
    return GeneratorOptions(**{"kind": "causal", "size": "tiny", "max_history": HISTORY} | options)


def toy_cobra(catalog: Catalog, texts: str = "vectors", *, seed: int = 0, generator=None, **dense: Any) -> Backbone:
    options = dense_options(texts, **dense)
    settings = generator_options(**(generator or {}))
    backbone = build_cobra(settings, options, catalog, popularity=clicks_of(catalog), seed=seed)
    backbone.model.eval()
    return backbone


def spread(backbone: Backbone, seed: int = 0) -> Backbone:
    """The model with an embedding of a larger spread, so that near ties hide no error."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight = backbone.model.get_input_embeddings().weight
        weight.copy_(torch.randn(weight.shape, generator=draws))
    return backbone


def batch_of(backbone: Backbone, prompts: PromptBuilder, examples=EXAMPLES, *, packs: bool = True):
    """The training batch of rows as a data set gives them: (user, rows, first label)."""
    collate = CausalCollator(backbone.vocabulary.pad_id, packs=packs, names_items=True)
    return collate([prompts.sequence(*example) for example in examples])


def ranker_for(backbone: Backbone, catalog: Catalog, **fusion: Any) -> CobraRanker:
    clicks = clicks_of(catalog)
    trie = SidTrie.from_catalog(catalog, popularity=clicks)
    return ranker_of(
        backbone.model, backbone.prompts(catalog)[0], trie, catalog, clicks, BeamFusion(**{"num_beams": 6} | fusion)
    )


def text_recommender(texts: str = "vectors", *, dense=None, **options: Any) -> CobraRecommender:
    """A recommender with every part of a trained one: lsa, a seeded quantizer without layers, random weights."""
    lsa = LsaEncoder.fit(TOY_TEXTS, dim=8)
    vectors = torch.from_numpy(lsa.encode(TOY_TEXTS))
    torch.manual_seed(0)
    width = vectors.shape[1]
    quantizer = CostModel(CostConfig(item_dim=width, latent_dim=width, hidden_sizes=None, level_sizes=(4, 2)))
    for level, codes in enumerate((vectors[::5], torch.randn(2, width) / 3)):
        quantizer.quantizer.replace_codes(level, torch.arange(len(codes)), codes)
    catalog = Catalog.from_embeddings(TOY_IDS, vectors, quantizer, collisions="none", titles=TOY_TEXTS)
    read = vectors if texts == "vectors" else word_ids(TOY_TEXTS, words=WIDTH, ids=WORD_IDS)
    catalog = catalog.with_vectors(TOY_IDS, read)
    backbone = spread(toy_cobra(catalog, texts, **(dense or {})))
    settings = {"num_beams": 5, "quantizer": quantizer, "encoder": ItemEncoder.of(lsa, VectorOptions())}
    return CobraRecommender(backbone, catalog, popularity=TOY_CLICKS, **settings | options)
