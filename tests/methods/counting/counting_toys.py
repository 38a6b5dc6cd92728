"""Tiny counting recommenders over the items of `tests.recommenders.toys`."""

import numpy as np

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.methods.counting.counting import TEXTUAL, fit_tables
from cost_hf.methods.counting.recommender import CountingRecommender
from cost_hf.semantic_ids.item_list import ItemList
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, TOY_TEXTS


def toy_train() -> list[np.ndarray]:
    """Return 30 users whose clicks add up to `TOY_CLICKS`."""
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(TOY_ITEMS), TOY_CLICKS))
    return np.array_split(rows, 30)


def toy_encoder() -> ItemEncoder:
    return ItemEncoder.of(LsaEncoder.fit(TOY_TEXTS, dim=8), VectorOptions())


def toy_counting(name: str, *, titles: bool = True) -> CountingRecommender:
    encoder = toy_encoder() if name in TEXTUAL else None
    vectors = None if encoder is None else encoder.encode(TOY_TEXTS)
    catalog = ItemList(tuple(TOY_IDS), np.zeros(TOY_ITEMS, dtype=bool), tuple(TOY_TEXTS) if titles else None, vectors)
    tables = fit_tables(name, toy_train(), TOY_ITEMS)
    return CountingRecommender(name, tables, catalog, popularity=TOY_CLICKS, encoder=encoder)
