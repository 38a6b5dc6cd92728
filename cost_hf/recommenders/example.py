"""A tiny recommender for examples, and for tests of programs that serve or update one. It is not trained."""

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.prompts import PromptLayout
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

TEXTS = {
    "kettle": "kettle for tea",
    "teapot": "pot for tea",
    "teacup": "cup for tea",
    "grinder": "grinder for coffee",
    "filter": "filter for coffee",
    "press": "press for coffee",
}

COLUMNS = {
    "price": [39.0, 28.0, 9.0, 65.0, 7.5, 24.0],
    "brand": ["Alba", "Brisa", "Alba", "Alba", "Brisa", "Corva"],
    "in_stock": [True, True, True, True, False, True],
}


def example_recommender() -> GenerativeRecommender:
    """Return a generative recommender of six items with random weights, made in memory in less than a second.

    It has every part of a trained one: texts are encoded by LSA and quantized to semantic IDs, so that it can be saved,
    loaded, published and given new items.

    Examples:
        >>> from cost_hf.recommenders.example import example_recommender
        >>> recommender = example_recommender()
        >>> recommender.catalog.item_ids
        ('kettle', 'teapot', 'teacup', 'grinder', 'filter', 'press')
        >>> recommender.new_item_inputs
        ('texts', 'vectors', 'codes')
    """
    texts = list(TEXTS.values())
    lsa = LsaEncoder.fit(texts, dim=4)
    vectors = torch.from_numpy(lsa.encode(texts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        width = vectors.shape[1]
        quantizer = CostModel(CostConfig(item_dim=width, latent_dim=width, hidden_sizes=None, level_sizes=(4, 4)))
        catalog = Catalog.from_embeddings(list(TEXTS), vectors, quantizer, append_size=8, titles=texts)
        catalog = catalog.with_columns(COLUMNS)
        vocabulary = SidVocabulary.for_catalog(catalog)
        generator = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary.size,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=1,
                num_attention_heads=2,
                pad_token_id=vocabulary.pad_id,
                bos_token_id=vocabulary.begin_id,
                eos_token_id=vocabulary.end_id,
            )
        )
    layout = PromptLayout.bare(vocabulary, is_causal=True)
    return GenerativeRecommender(
        Backbone(generator, vocabulary, (layout,), max_history=10),
        catalog,
        popularity=np.arange(len(texts), 0, -1),
        num_beams=8,
        quantizer=quantizer,
        encoder=ItemEncoder.of(lsa, VectorOptions()),
    )
