"""Explanations in words."""

import pytest

from cost_hf import explanation_text
from cost_hf.recommenders.base import Recommendation
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.ranker.ranker_toys import toy_ranker


def recommendation(parts, effects, among="all items"):
    found = {"among": among, "parts": parts, "effects": effects, "base_value": -0.2}
    return Recommendation("n7", 0.1, {"source": "ranker", "explanation": found})


def test_lists_and_the_largest_effects_of_both_directions_are_named():
    effects = {"a": 0.5, "b": -0.4, "c": 0.3, "d": 0.2, "e": 0.1, "f": -0.004, "g": 0.0}

    text = explanation_text(recommendation({"markov": 2, "text_last": 5.5}, effects))

    assert text.splitlines() == [
        "listed by markov (rank 2), text_last (rank 5.5)",
        "raised by a +0.5, c +0.3, d +0.2",
        "lowered by b -0.4",
    ]


def test_without_effects_the_lists_are_all():
    assert explanation_text(recommendation({"markov": 1}, {"markov": 0.0})) == "listed by markov (rank 1)"
    assert (
        explanation_text(recommendation({"markov": 1}, {}, "cold items"))
        == "listed among cold items by markov (rank 1)"
    )


@pytest.mark.parametrize("build", [toy_fusion, toy_ranker])
def test_every_recommendation_of_a_hybrid_can_be_put_into_words(build):
    system = build()
    system.add_items(["new"], ["football in oslo"])

    for options in ({}, {"cold_share": 0.5}):
        for answer in system.recommend(["item003"], top_k=20, explain=True, **options):
            lines = explanation_text(answer).splitlines()
            assert lines[0].startswith("listed ") and 1 <= len(lines) <= 3


def test_an_answer_by_popularity_says_so():
    answer = toy_fusion().recommend([], on_empty="popularity", top_k=1, explain=True)[0]

    assert explanation_text(answer) == "one of the most clicked items, because the history is empty"


def test_a_recommendation_that_was_not_explained_is_an_error():
    answer = toy_counting("markov").recommend(["item003"], top_k=1)[0]

    with pytest.raises(ValueError, match=r"of 'item\d+' has no explanation; call recommend\(\.\.\., explain=True\)"):
        explanation_text(answer)
