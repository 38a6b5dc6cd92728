"""Recommenders of every method whose model reads a history item by item: files, and the Hub's code."""

import numpy as np
import pytest
from transformers import AutoModel

from cost_hf.methods.cadirec.recommender import CaDiRecRecommender
from cost_hf.methods.coserec.recommender import CoSeRecRecommender
from cost_hf.methods.hstu.configuration_hstu import HstuConfig
from cost_hf.methods.hstu.modeling_hstu import HstuModel
from cost_hf.methods.hstu.recommender import HstuRecommender
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.item_list import ItemList
from tests.methods.sasrec.sasrec_toys import ITEMS, TINY, tiny_model

CATALOG = ItemList(tuple(f"item{row:03d}" for row in range(ITEMS)), np.zeros(ITEMS, dtype=bool), None, None)


@pytest.mark.parametrize("kind", [SasRecRecommender, HstuRecommender, CoSeRecRecommender, CaDiRecRecommender])
def test_a_saved_recommender_loads_through_the_base_class_and_its_model_through_auto_model(tmp_path, kind):
    model = HstuModel(HstuConfig(**TINY | {"intermediate_size": 12})) if kind is HstuRecommender else tiny_model()
    system = kind(model, CATALOG, popularity=np.arange(ITEMS))
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is kind
    assert loaded.recommend(["item003", "item007"], top_k=5) == system.recommend(["item003", "item007"], top_k=5)
    assert type(AutoModel.from_pretrained(tmp_path)) is type(model)
