"""A generator with a token merger as a recommender; it differs from others by its model alone."""

from cost_hf.recommenders.generative import GenerativeRecommender


class TokenMergerRecommender(GenerativeRecommender):
    """Recommends catalog items by constrained generation from merged items; arguments are those of its base class."""

    kind = "token_merger"
    source = "token_merger"
    has_own_code = True
