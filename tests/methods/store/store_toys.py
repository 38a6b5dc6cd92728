"""A tiny STORE-style recommender, untrained: text slots and an adapter of one language model."""

from pathlib import Path

import numpy as np
import torch

from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.options import AdapterOptions, GeneratorOptions
from cost_hf.quantizers.text_slots.training import set_centroids
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from tests.quantizers.text_slots.slot_toys import slot_model, texts_of

NUM_ITEMS = 30
TEXTS = texts_of(NUM_ITEMS)
IDS = [f"item{row:03d}" for row in range(NUM_ITEMS)]


def store_recommender(base: Path, *, init: str = "mapped") -> GenerativeRecommender:
    """Codes of 30 texts and a generator with LoRA on the same language model."""
    quantizer = slot_model(base)
    slots = quantizer.embed_texts(TEXTS)
    set_centroids(quantizer, slots, seed=0)
    quantizer.release_base()
    catalog = Catalog.from_embeddings(IDS, slots, quantizer, titles=TEXTS)
    backbone = build_backbone(
        GeneratorOptions(backbone=str(base), prompt="continuation", embedding_init=init, max_history=5),
        catalog,
        seed=0,
        adapter=AdapterOptions(r=2),
        level_vectors=[quantizer.token_vectors(level) for level in range(3)],
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # an adapter that acts
        for name, weight in backbone.model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    popularity = np.zeros(NUM_ITEMS, dtype=np.int64)
    return GenerativeRecommender(backbone, catalog, popularity=popularity, num_beams=10, quantizer=quantizer)
