"""A tiny fusion of a generator, counts and texts over the items of `tests.recommenders.toys`."""

from cost_hf.methods.fusion.recommender import FusionRecommender
from cost_hf.recommenders.base import Recommender
from tests.methods.counting.counting_toys import toy_counting
from tests.recommenders.toys import toy_text_recommender


def toy_parts(*, titles: bool = True, **others: Recommender) -> dict[str, Recommender]:
    return {
        "sids": toy_text_recommender(titles=titles),
        "markov": toy_counting("markov", titles=titles),
        "texts": toy_counting("text_last", titles=titles),
        **others,
    }


def toy_fusion(*, kind: str = "reciprocal_rank", titles: bool = True, **others: Recommender) -> FusionRecommender:
    weights = [0.5, 0.2, 0.3, *([0.1] * len(others))]
    return FusionRecommender.combine(toy_parts(titles=titles, **others), weights, kind=kind)
