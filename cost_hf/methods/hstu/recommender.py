"""HSTU as a recommender that is saved, served and published like any other."""

from cost_hf.methods.hstu.modeling_hstu import HstuModel
from cost_hf.recommenders.dense import DenseRecommender


class HstuRecommender(DenseRecommender):
    """Recommends catalog items by the scores of an HSTU model.

    The latest `max_history` items are read. An empty history scores all items 0, so that popularity decides.
    """

    kind = "hstu"
    source = "hstu"
    model_class = HstuModel
    text_only_hint = "train with --model.inputs text"
