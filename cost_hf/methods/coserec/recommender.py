"""CoSeRec as a recommender: a SASRec whose training had more losses."""

from cost_hf.methods.sasrec.recommender import SasRecRecommender


class CoSeRecRecommender(SasRecRecommender):
    """Recommends catalog items by the scores of a SASRec that was trained as CoSeRec."""

    kind = "coserec"
    source = "coserec"
