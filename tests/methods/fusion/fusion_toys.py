"""A tiny fusion of a generator, counts and texts over the items of `tests.recommenders.toys`."""

from cost_hf.methods.fusion.recommender import FusionRecommender
from tests.methods.counting.counting_toys import toy_counting
from tests.recommenders.toys import toy_text_recommender


def toy_fusion(*, titles: bool = True, **others) -> FusionRecommender:
    members = {
        "sids": toy_text_recommender(titles=titles),
        "markov": toy_counting("markov", titles=titles),
        "texts": toy_counting("text_last", titles=titles),
        **others,
    }
    return FusionRecommender.combine(members, [0.5, 0.2, 0.3, *([0.1] * len(others))])
