"""A tiny learned ranker over the items of `tests.recommenders.toys`, trained on made-up cases."""

from collections.abc import Mapping

import numpy as np

from cost_hf.methods.ranker.booster import RankingCases, train_boosters
from cost_hf.methods.ranker.features import ItemFacts, ItemTable, candidate_features, feature_names
from cost_hf.methods.ranker.model_text import model_text
from cost_hf.methods.ranker.options import RankerSection
from cost_hf.methods.ranker.recommender import RankerRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.hybrid import CandidateLists, PartRanker, bare_parts, text_vectors_of
from tests.methods.fusion.fusion_toys import toy_parts
from tests.recommenders.toys import TOY_ITEMS, toy_catalog, toy_histories

CASES = 60
TINY = RankerSection(rounds=12, folds=2, leaves=4)
MODELS: dict[tuple[tuple[str, str], ...], str] = {}  # by names and kinds of the parts


def toy_table() -> ItemTable:
    """Return a trend, a column of numbers and one of categories, each with an item of which nothing is known."""
    rows = np.arange(TOY_ITEMS, dtype=np.float64)
    columns = {"trend": 1 / (1 + rows), "column_list price (USD)": rows * 3.5, "column_topic": rows % 4}
    for values in columns.values():
        values[-1] = np.nan
    return ItemTable(columns, ("column_topic",))


def toy_cases(parts: Mapping[str, Recommender], table: ItemTable) -> tuple[RankingCases, list[str]]:
    """Return the candidates of made-up histories, whose target is the item after the last one of the history."""
    inputs = bare_parts(parts)
    vectors = text_vectors_of(inputs["parts"], inputs["catalog"])
    facts = ItemFacts.of(inputs["catalog"], vectors, inputs["popularity"], table)
    histories = toy_histories(toy_catalog(TOY_ITEMS), CASES)
    rankers = {name: PartRanker(part.ranker_for(10), TOY_ITEMS) for name, part in inputs["parts"].items()}
    lists = CandidateLists(rankers, num_items=TOY_ITEMS, depth=10)
    found = lists.candidates(histories, top_k=10)
    rows = histories.numpy()
    last = rows[np.arange(CASES), (rows >= 0).sum(axis=1) - 1]
    columns = np.maximum(found.columns_of((last[:, None] + 1) % TOY_ITEMS)[:, 0], 0)
    is_item = found.items >= 0
    labels = np.zeros(is_item.shape, dtype=np.int8)
    labels[np.arange(CASES), columns] = 1
    features = candidate_features(rows, found, facts)[is_item]
    cases = RankingCases(features, labels[is_item], is_item.sum(axis=1), np.arange(CASES) % 2)
    return cases, feature_names(list(parts), facts)


def ranker_of(parts: Mapping[str, Recommender]) -> RankerRecommender:
    """Return the ranker of recommenders over the toy items."""
    key = tuple((name, part.kind) for name, part in parts.items())
    if key not in MODELS:
        cases, features = toy_cases(parts, toy_table())
        boosters = train_boosters(cases, features, toy_table().categories, TINY, seed=0)
        MODELS[key] = model_text(boosters.final)
    return RankerRecommender.combine(parts, MODELS[key], toy_table())


def toy_ranker(*, titles: bool = True, **others: Recommender) -> RankerRecommender:
    return ranker_of(toy_parts(titles=titles, **others))
