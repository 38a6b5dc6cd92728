"""`recommend(..., exact=True)`: the best items of the whole catalog, and whether that is proved."""

from functools import partial

import pytest
import torch

from cost_hf.recommenders import beam_ranker
from cost_hf.recommenders.rankers import Ranking, exact_ranker
from cost_hf.search import exact_search
from cost_hf.search.beam_search import beam_search
from tests.methods.liger.liger_toys import text_recommender
from tests.near_ties import assert_same_list
from tests.recommenders.test_inputs import dense
from tests.recommenders.toys import TOY_IDS, TOY_ITEMS, toy_causal, toy_recommender, toy_t5

HISTORIES = [["item001", "item004"], ["item007"], ["item002", "item003", "item019"]]


@pytest.mark.parametrize("build", [toy_causal, toy_t5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exclude_seen": False},
        {"allowed": TOY_IDS[3:11]},
        {"denied": TOY_IDS[:9]},
        {"cold_share": 0.5},
        {"allowed": torch.arange(TOY_ITEMS) > torch.tensor([[2], [17], [9]])},
    ],
)
def test_an_exact_list_is_that_of_as_many_beams_as_items(build, options):
    narrow = toy_recommender(build=build, num_beams=1, popularity=[0, 0, 0, *[1] * (TOY_ITEMS - 3)])
    wide = toy_recommender(build=build, num_beams=TOY_ITEMS, popularity=[0, 0, 0, *[1] * (TOY_ITEMS - 3)])

    found = narrow.recommend(HISTORIES, top_k=4, exact=True, **options)
    expected = wide.recommend(HISTORIES, top_k=4, **options)

    for ours, theirs in zip(found, expected, strict=True):
        assert_same_list(ours, theirs)
        assert all(answer.fields["is_exact"] for answer in ours)
        assert all("is_exact" not in answer.fields for answer in theirs)


def test_a_list_says_how_far_its_proof_goes(monkeypatch):
    monkeypatch.setattr(exact_search, "MIN_WIDTH", 1)
    monkeypatch.setattr(beam_ranker, "beam_search", partial(beam_search, budget=1))
    recommender = toy_recommender()
    whole = recommender.recommend(HISTORIES[0], top_k=TOY_ITEMS, exclude_seen=False)

    answers = recommender.recommend(HISTORIES[0], top_k=6, exact=True, exclude_seen=False)

    is_exact = [answer.fields["is_exact"] for answer in answers]
    assert not is_exact[-1] and sorted(is_exact, reverse=True) == is_exact
    bounds = {answer.fields["bound"] for answer in answers if not answer.fields["is_exact"]}
    listed = {answer.item_id for answer in answers}
    (bound,) = bounds
    assert bound >= max(answer.score for answer in whole if answer.item_id not in listed) - 1e-4


def test_two_lists_that_are_merged_are_proved_together(monkeypatch):
    monkeypatch.setattr(exact_search, "MIN_WIDTH", 1)
    recommender = toy_recommender(popularity=[0] * 10 + [1] * 10)
    options = {"top_k": 6, "cold_share": 0.5, "exact": True}
    assert all(answer.fields["is_exact"] for answer in recommender.recommend(HISTORIES[0], **options))
    monkeypatch.setattr(beam_ranker, "beam_search", partial(beam_search, budget=1))

    answers = recommender.recommend(HISTORIES[0], **options)

    assert len(answers) == 6 and not any(answer.fields["is_exact"] for answer in answers)


def test_an_empty_history_is_answered_by_all_clicks():
    answers = toy_recommender().recommend([HISTORIES[0], []], top_k=3, exact=True, on_empty="popularity")

    assert [answer.fields["source"] for answer in answers[1]] == ["popularity"] * 3
    assert all(answer.fields["is_exact"] for answer in answers[1])


def test_a_recommender_that_scores_the_whole_catalog_is_exact_anyway():
    recommender = dense(TOY_IDS)

    plain = recommender.recommend(HISTORIES[0], top_k=5)
    found = recommender.recommend(HISTORIES[0], top_k=5, exact=True)

    assert [answer[:2] for answer in found] == [answer[:2] for answer in plain]
    assert all(answer.fields["is_exact"] for answer in found)


class SecondStage:
    """Orders the items of a beam search by scores of its own."""

    def __init__(self, first):
        self.first = first

    def rank(self, histories, *, top_k, mask=None):
        ranking = self.first.rank(histories, top_k=top_k, mask=mask)
        return Ranking(ranking.items, ranking.items.float())


def test_a_ranker_that_scores_candidates_alone_says_why_it_is_not_exact():
    with pytest.raises(ValueError, match=r"exact=True needs a score of every item .* SecondStage .* candidates alone"):
        exact_ranker(SecondStage(toy_recommender().ranker_for(3)))


def test_liger_says_that_it_is_not_exact():
    with pytest.raises(ValueError, match=r"exact=True needs a score of every item .* LigerRanker"):
        text_recommender().recommend(["item001"], top_k=3, exact=True)


def test_exact_is_a_bool():
    with pytest.raises(ValueError, match="exact must be True or False, got 'yes'"):
        toy_recommender().recommend(HISTORIES[0], exact="yes")
