"""Tiny seeded LIGERs of both bodies, with the catalog, prompts and rankers that they need."""

import numpy as np
import torch

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.collation import CausalCollator, Seq2SeqCollator
from cost_hf.generators.options import GeneratorOptions
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.liger.options import DenseOptions
from cost_hf.methods.liger.ranker import DenseIndex, LigerRanker, LigerSearch
from cost_hf.methods.liger.recommender import LigerRecommender
from cost_hf.methods.liger.training import build_liger
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.recommenders.text_generative import ItemTable
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_TEXTS, toy_catalog

BODIES = ("causal", "seq2seq")
WIDTH = 6
HISTORY = 5
OFF = {"text_input": False, "weight": 0.0}
UNCLICKED = (3, 11, 17)  # rows of the toy catalog


def catalog_with_texts(items: int = 24, seed: int = 0, **options) -> Catalog:
    catalog = toy_catalog(items, seed=seed, **options)
    vectors = np.random.default_rng([seed, 5]).normal(size=(items, WIDTH)).astype(np.float32)
    return catalog.with_vectors(list(catalog.item_ids), vectors)


def clicks_of(catalog: Catalog) -> np.ndarray:
    clicks = np.arange(1, len(catalog) + 1)
    clicks[list(UNCLICKED)] = 0
    return clicks


def generator_options(body: str, **options) -> GeneratorOptions:
    return GeneratorOptions(**{"kind": body, "size": "tiny", "max_history": HISTORY} | options)


def toy_liger(body: str, catalog: Catalog, *, seed: int = 0, generator=None, **dense) -> Backbone:
    """A model whose weights are spread, so that near ties hide no error, unless it adds nothing to the generator."""
    options = DenseOptions(**{"hidden_sizes": [8, 7]} | dense)
    backbone = build_liger(
        generator_options(body, **(generator or {})), options, catalog, popularity=clicks_of(catalog), seed=seed
    )
    backbone.model.eval()
    return backbone


def spread(backbone: Backbone, seed: int = 0) -> Backbone:
    """The model with weights of a larger spread in its embedding and text network."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight = backbone.model.get_input_embeddings().weight
        weight.copy_(torch.randn(weight.shape, generator=draws))
    return backbone


def batch_of(backbone: Backbone, prompts: PromptBuilder, examples, *, packs: bool = True, names_items: bool = True):
    """The training batch of rows as a data set gives them: (user, rows, first label), or (user, history, target)."""
    write = prompts.sequence if prompts.learns_all_positions else prompts.pair
    pad_id = backbone.vocabulary.pad_id
    if prompts.is_causal:
        collate = CausalCollator(pad_id, packs=packs, names_items=names_items)
    else:
        collate = Seq2SeqCollator(pad_id, names_items=names_items)
    return collate([write(*example) for example in examples])


def examples_for(body: str):
    if body == "causal":
        return [("u", np.array([1, 2, 5, 2]), 0), ("v", np.array([7]), 0), ("w", np.array([4, 9, 0]), 1)]
    return [("u", np.array([1, 2, 5]), 2), ("v", np.array([7]), 6), ("w", np.array([4, 9]), 0)]


def ranker_for(backbone: Backbone, catalog: Catalog, clicks=None, **search) -> LigerRanker:
    clicks = clicks_of(catalog) if clicks is None else clicks
    model = backbone.model
    table = ItemTable(model, torch.tensor(catalog.vectors)) if model.config.reads_text else None
    index = DenseIndex.of(catalog, clicks, table, torch.device("cpu"))
    trie = SidTrie.from_catalog(catalog, popularity=clicks)
    return LigerRanker(model, backbone.prompts(catalog)[0], trie, index, LigerSearch(**{"num_beams": 6} | search))


def text_recommender(body: str = "causal", *, dense=None, clicks=TOY_CLICKS, **options) -> LigerRecommender:
    """A recommender with every part of a trained one: lsa, a seeded quantizer without layers, random weights.

    Its first item has no click in training.
    """
    lsa = LsaEncoder.fit(TOY_TEXTS, dim=8)
    vectors = torch.from_numpy(lsa.encode(TOY_TEXTS))
    torch.manual_seed(0)
    width = vectors.shape[1]
    quantizer = CostModel(CostConfig(item_dim=width, latent_dim=width, hidden_sizes=None, level_sizes=(4, 5)))
    for level, codes in enumerate((vectors[::5], vectors[:5] - vectors[0])):
        quantizer.quantizer.replace_codes(level, torch.arange(len(codes)), codes)
    catalog = Catalog.from_embeddings(TOY_IDS, vectors, quantizer, append_size=8, titles=TOY_TEXTS)
    catalog = catalog.with_vectors(TOY_IDS, vectors)
    backbone = spread(toy_liger(body, catalog, **(dense or {})))
    settings = {"num_beams": 5, "quantizer": quantizer, "encoder": ItemEncoder.of(lsa, VectorOptions())}
    return LigerRecommender(backbone, catalog, popularity=clicks, **settings | options)
