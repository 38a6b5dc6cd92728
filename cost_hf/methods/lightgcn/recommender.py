"""LightGCN as a recommender that is saved, served and published like any other."""

from cost_hf.methods.lightgcn.modeling_lightgcn import LightGcnModel
from cost_hf.recommenders.dense import DenseRecommender


class LightGcnRecommender(DenseRecommender):
    """Recommends catalog items by the scores of a LightGCN model.

    All items of a history count alike, whatever their order. An empty history scores all items 0, so that popularity
    decides.
    """

    kind = "lightgcn"
    source = "lightgcn"
    model_class = LightGcnModel
    text_only_hint = "train another method, one that reads texts"
