"""Explanations in words."""

import pytest

from cost_hf import explanation_text
from cost_hf.recommenders.base import Recommendation
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.ranker.ranker_toys import toy_ranker

LAST = ["semantic", "shares", "text"]  # first words of the lines
ORDERS = [["raised", *LAST], ["lowered", *LAST], ["raised", "lowered", *LAST]]


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
            assert lines[0].startswith("listed ") and len(lines) <= 6
            words = [line.split()[0] for line in lines[1:]]
            assert words in ORDERS or [*words, "text"] in ORDERS


def test_an_answer_by_popularity_says_so():
    answer = toy_fusion().recommend([], on_empty="popularity", top_k=1, explain=True)[0]

    assert explanation_text(answer) == "one of the most clicked items, because the history is empty"


def test_a_recommendation_that_was_not_explained_is_an_error():
    answer = toy_counting("markov").recommend(["item003"], top_k=1)[0]

    with pytest.raises(ValueError, match=r"of 'item\d+' has no explanation; call recommend\(\.\.\., explain=True\)"):
        explanation_text(answer)


def explained(**found) -> str:
    return explanation_text(Recommendation("n7", 0.1, {"explanation": {"among": "all items", **found}}))


PATH = {"codes": [3, 1, 0], "tokens": ["<s_a_3>", "<s_b_1>", "<s_c_0>"], "model_levels": 2}


def test_history_items_are_named_by_how_many_codes_they_share():
    shared = [
        {"item_id": "n1", "title": "Pot for tea", "shared_levels": 2},
        {"item_id": "n2", "shared_levels": 1},
        {"item_id": "n3", "title": " ", "shared_levels": 1},
    ]

    text = explained(semantic_id=PATH, shared_prefixes=shared)

    assert text.splitlines() == [
        "semantic ID <s_a_3><s_b_1><s_c_0>",
        'shares 2 of 2 codes with "Pot for tea"; 1 with n2, n3',
    ]
    assert explained(semantic_id=PATH, shared_prefixes=[]).splitlines()[1] == "shares no first code with the history"


def test_the_nearest_text_is_named_on_one_line_that_no_terminal_obeys():
    near = [{"item_id": "n1", "title": "a\x1b[31m\nb " + "word " * 40, "cosine": 0.876}]

    (line,) = explained(nearest_texts=near).splitlines()

    assert line.startswith('text most like "a\\x1b[31m\\nb word') and line.endswith('word …" (cosine 0.88)')
    assert explained(nearest_texts=[]) == explained(nearest_texts=[near[0] | {"cosine": -0.3}]) == ""


def test_a_reserved_place_is_named_where_no_part_lists_the_item():
    found = {"among": "cold items", "semantic_id": PATH, "shared_prefixes": []}

    assert explanation_text(Recommendation("n7", 0.1, {"explanation": found})).splitlines()[0] == (
        "listed among cold items"
    )
