"""SASRec as a recommender that is saved, served and published like any other."""

from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.recommenders.dense import DenseRecommender


class SasRecRecommender(DenseRecommender):
    """Recommends catalog items by the scores of a SASRec model.

    The latest `max_history` items are read. An empty history scores all items 0, so that popularity decides.
    """

    kind = "sasrec"
    source = "sasrec"
    model_class = SasRecModel
    text_only_hint = "train with --model.inputs text"
