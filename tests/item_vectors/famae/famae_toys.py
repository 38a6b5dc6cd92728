"""A small shop with brands and category paths, and models of its fields."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import PreparedData, prepare_data
from cost_hf.item_vectors.famae.configuration_famae import FamaeConfig
from cost_hf.item_vectors.famae.encoder import FamaeItemEncoder
from cost_hf.item_vectors.famae.fields import FieldVocabulary, render_fields
from cost_hf.item_vectors.famae.modeling_famae import FamaeModel
from cost_hf.item_vectors.famae.options import FamaeOptions
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.rkmeans import fit_rkmeans
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from tests.recommenders.toys import toy_recommender

NUM_ITEMS = 24
FIELDS = ["brand", "categories:1", "categories:2"]
SIZES = (7, 4, 5)  # of the tiny model's fields, the missing value included


def shop_items() -> pd.DataFrame:
    rows = range(NUM_ITEMS)
    return pd.DataFrame(
        {
            "item_id": [f"i{row}" for row in rows],
            "title": [f"thing number {row}" for row in rows],
            "brand": [None if row % 7 == 0 else f"brand {row % 4}" for row in rows],
            "categories": [f"Home, Room {row % 3}" if row % 5 else "Home" for row in rows],
        }
    )


def shop_clicks(users: int = 40) -> pd.DataFrame:
    """Return clicks of users who go through the shop from an item of theirs on; the last item is never clicked."""
    rows = [(f"u{user}", f"i{(user + step) % (NUM_ITEMS - 1)}", step) for user in range(users) for step in range(6)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "position"])


def shop_data(clicks: pd.DataFrame | None = None) -> PreparedData:
    return prepare_data(DataOptions(), items=shop_items(), interactions=shop_clicks() if clicks is None else clicks)


def tiny_options(**values: Any) -> FamaeOptions:
    settings = {"fields": list(FIELDS), "dim": 8, "num_heads": 2, "intermediate_size": 16, "epochs": 1}
    return FamaeOptions(**{**settings, "max_items": 5, "batch_size": 32, **values})


def tiny_model(**values: Any) -> FamaeModel:
    settings: dict[str, Any] = {"vocab_sizes": list(SIZES), "hidden_size": 8, "num_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    return FamaeModel(FamaeConfig(**{**settings, "max_length": 5, **values})).eval()


def tiny_fields(length: int = 4, *, batch: int = 6) -> torch.Tensor:
    """Return windows `[B, T, J]` of known values, the second one shorter."""
    generator = np.random.default_rng(0)
    fields = np.stack([generator.integers(1, size, (batch, length)) for size in SIZES], axis=-1)
    fields[1:2, :2] = -1
    return torch.from_numpy(fields)


def untrained_encoder(items: pd.DataFrame, **values: Any) -> FamaeItemEncoder:
    """An encoder of fresh weights that knows the ids and field values of all items."""
    options = tiny_options(**values)
    texts = render_fields(items, options.fields)
    vocabulary = FieldVocabulary.of(options.fields, texts, np.ones(len(items), dtype=bool))
    model = tiny_model(vocab_sizes=list(vocabulary.sizes), initializer_range=1.0)
    return FamaeItemEncoder(options, vocabulary, model)


def untrained_recommender(items: pd.DataFrame, *, columns: bool = True) -> GenerativeRecommender:
    """A recommender whose SIDs are residual k-means of vectors of fresh weights; its catalog keeps columns, or none."""
    encoder = untrained_encoder(items)
    vectors = torch.from_numpy(encoder.encode(encoder.render(items)))
    options = CodesOptions.of("rkmeans", level_sizes=[4, 4], pca_dim=8)
    quantizer = fit_rkmeans(vectors, options.config(vectors.shape[1]), seed=0)
    ids = items["item_id"].tolist()
    catalog = Catalog.from_embeddings(ids, vectors, quantizer, append_size=64, titles=items["title"].tolist())
    clicks = np.arange(1, len(items) + 1)
    recommender = toy_recommender(catalog, quantizer=quantizer, encoder=encoder, popularity=clicks)
    if columns:
        recommender.add_columns(ids, items[["brand", "categories"]])
    return recommender
