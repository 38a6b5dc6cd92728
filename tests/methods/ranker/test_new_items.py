"""Copies of items that stand in as new ones: the parts know their texts and nothing else of them."""

import numpy as np
import pytest
import torch

from cost_hf.methods.ranker.features import candidate_features, feature_names
from cost_hf.methods.ranker.new_items import MARK, TrainingCatalog
from cost_hf.recommenders.hybrid import CandidateLists, PartRanker
from tests.methods.fusion.fusion_toys import toy_parts
from tests.methods.ranker.ranker_toys import toy_table
from tests.recommenders.toys import TOY_CLICKS, TOY_ITEMS, toy_recommender

SHARE = 0.3


@pytest.fixture(scope="module")
def trained() -> TrainingCatalog:
    return TrainingCatalog.of(toy_parts(), toy_table())


@pytest.fixture(scope="module")
def grown(trained) -> TrainingCatalog:
    return trained.with_new_items(SHARE, trained.facts.vectors, seed=0)


def drawn_rows(catalog: TrainingCatalog) -> list[int]:
    return np.flatnonzero(catalog.rows >= TOY_ITEMS).tolist()


def candidates_of(catalog: TrainingCatalog, histories: np.ndarray):
    rankers = {name: PartRanker(part.ranker_for(10), len(part.catalog)) for name, part in catalog.parts.items()}
    lists = CandidateLists(rankers, num_items=len(catalog.facts.clicks), depth=10)
    return lists.candidates(torch.from_numpy(histories), top_k=10, mask=catalog.mask)


def test_a_share_of_the_clicked_items_has_copies_with_the_same_texts_and_no_clicks(trained, grown):
    drawn = drawn_rows(grown)

    assert len(drawn) == round(SHARE * np.count_nonzero(TOY_CLICKS))
    assert all(TOY_CLICKS[row] for row in drawn)
    copies = grown.rows[drawn]
    assert sorted(copies) == list(range(TOY_ITEMS, TOY_ITEMS + len(drawn)))
    assert np.array_equal(grown.facts.vectors[copies], trained.facts.vectors[drawn])
    assert grown.facts.clicks[copies].tolist() == [0] * len(drawn)
    for part in grown.parts.values():
        ids = part.catalog.item_ids
        assert [ids[copy] for copy in copies] == [MARK + ids[row] for row in drawn]


def test_the_catalog_of_the_training_stays_as_it_is(trained, grown):
    assert {len(part.catalog) for part in trained.parts.values()} == {TOY_ITEMS}
    assert trained.rows.tolist() == list(range(TOY_ITEMS)) and trained.mask is None


def test_copies_are_listed_in_place_of_their_originals_and_counts_know_none_of_them(grown):
    drawn = drawn_rows(grown)
    found = candidates_of(grown, np.arange(TOY_ITEMS)[:, None])

    assert not np.isin(found.items, drawn).any()
    is_copy = found.items >= TOY_ITEMS
    assert is_copy.any()
    counted = list(grown.parts).index("markov")
    assert np.unique(found.scores[is_copy][:, counted]).size <= 1  # no evidence about any of them


def test_features_of_a_copy_are_those_of_a_new_item(trained, grown):
    history = grown.rows[np.arange(3)][None]
    found = candidates_of(grown, history)
    names = feature_names(list(grown.parts), grown.facts)
    features = candidate_features(history, found, grown.facts)[0]
    is_copy = found.items[0] >= TOY_ITEMS

    assert names == feature_names(list(trained.parts), trained.facts)
    assert is_copy.any() and (features[is_copy, names.index("popularity")] == 0).all()
    assert np.isnan(features[is_copy, names.index("trend")]).all()
    assert not np.isnan(features[is_copy, names.index("cosine_mean")]).any()


def test_the_draw_depends_on_the_seed_alone(trained, grown):
    again, other = (trained.with_new_items(SHARE, trained.facts.vectors, seed=seed) for seed in (0, 1))

    assert again.rows.tolist() == grown.rows.tolist() != other.rows.tolist()


def test_parts_that_take_no_new_items_keep_theirs_and_one_that_does_is_needed():
    foreign = toy_recommender()  # its quantizer is not known
    mixed = TrainingCatalog.of({"foreign": foreign, **toy_parts()}, toy_table())
    grown = mixed.with_new_items(SHARE, mixed.facts.vectors, seed=0)

    assert len(grown.parts["foreign"].catalog) == TOY_ITEMS < len(grown.parts["texts"].catalog)
    found = candidates_of(grown, grown.rows[np.arange(4)][:, None])
    is_copy = found.items >= TOY_ITEMS
    assert np.isnan(found.ranks[is_copy][:, list(grown.parts).index("foreign")]).all()
    alone = TrainingCatalog.of({"foreign": foreign, "others": foreign}, toy_table())
    with pytest.raises(
        ValueError, match="needs a part that takes new items, and none of foreign, others does; set it to 0"
    ):
        alone.with_new_items(SHARE, mixed.facts.vectors, seed=0)
