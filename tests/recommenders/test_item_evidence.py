"""What recommended items have in common with those of a history."""

import dataclasses

import numpy as np
import pytest

from cost_hf.recommenders.base import Recommendation
from cost_hf.recommenders.explanations import explanation_text
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.item_evidence import ItemEvidence, cosines_with
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.item_list import ItemList
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.sasrec.test_sasrec_recommender import toy as toy_sasrec
from tests.recommenders.toys import TOY_IDS, toy_backbone, toy_causal, toy_text_recommender

CODES = [[0, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
VECTORS = np.array([[1, 0], [1, 1], [0, 2], [0, 0], [3, 0]], dtype=np.float32)


@pytest.fixture
def evidence() -> ItemEvidence:
    catalog = Catalog.from_codes(list("abcde"), CODES, level_sizes=(2, 2, 2), quantizer_digest="toy", append_size=4)
    vocabulary = SidVocabulary.for_catalog(catalog)
    return ItemEvidence(catalog, VECTORS, catalog.codes, catalog.model_levels, vocabulary)


def test_the_path_is_that_of_the_catalog_with_its_appended_level(evidence):
    found = evidence.explain([0, 1], [])

    assert [entry["semantic_id"]["codes"] for entry in found] == [[0, 0, 1, 0], [0, 0, 1, 1]]
    assert found[1]["semantic_id"]["tokens"] == ["<s_a_0>", "<s_b_0>", "<s_c_1>", "<s_d_1>"]
    assert found[0]["semantic_id"]["model_levels"] == 3
    assert found[0]["shared_prefixes"] == found[0]["nearest_texts"] == []


def test_history_items_are_in_the_order_of_shared_codes_and_then_the_latest(evidence):
    (found,) = evidence.explain([0], [3, 2, 1, 4, 2])

    # b has all codes that the quantizer gives; d has another first code, though its second one is that of a
    assert found["shared_prefixes"] == [
        {"item_id": "b", "shared_levels": 3},
        {"item_id": "e", "shared_levels": 2},
        {"item_id": "c", "shared_levels": 1},
    ]


def test_history_items_are_in_the_order_of_cosines_and_one_without_words_is_in_none(evidence):
    (found,) = evidence.explain([0], [1, 2, 3, 4, 1])

    assert [(item["item_id"], item["cosine"]) for item in found["nearest_texts"]] == [
        ("e", 1.0),
        ("b", 0.7071),
        ("c", 0.0),
    ]
    assert evidence.explain([3], [1, 2])[0]["nearest_texts"] == []


def test_an_item_is_not_compared_with_itself(evidence):
    (found,) = evidence.explain([0], [0, 2])

    assert [item["item_id"] for item in found["shared_prefixes"]] == ["c"]
    assert [item["item_id"] for item in found["nearest_texts"]] == ["c"]


def test_items_of_equal_texts_are_in_the_order_of_the_history():
    vectors = np.random.default_rng(0).normal(size=(1, 50)).astype(np.float32).repeat(6, axis=0)
    catalog = ItemList(tuple("abcdef"), np.zeros(6, dtype=bool), ("A", None, "C", "D", "E", "F"), vectors)
    evidence = ItemEvidence(catalog, vectors)

    (found,) = evidence.explain([5], [2, 0, 1, 4])

    assert found == {
        "nearest_texts": [
            {"item_id": "e", "title": "E", "cosine": 1.0},
            {"item_id": "b", "cosine": 1.0},
            {"item_id": "a", "title": "A", "cosine": 1.0},
        ]
    }


def test_items_that_a_part_does_not_know_have_nothing_of_it(evidence):
    short = ItemEvidence(evidence.catalog, VECTORS[:2], evidence.codes[:3], 3, evidence.vocabulary)

    first, third, last = short.explain([0, 2, 4], [1, 3, 4])

    assert set(first) == {"semantic_id", "shared_prefixes", "nearest_texts"} and "nearest_texts" not in third
    assert [item["item_id"] for item in first["shared_prefixes"]] == ["b"] and last == {}


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (toy_text_recommender, {"semantic_id", "shared_prefixes"}),
        (lambda: toy_sasrec("text"), {"nearest_texts"}),
        (lambda: toy_counting("text_last"), {"nearest_texts"}),
        (toy_fusion, {"semantic_id", "shared_prefixes", "nearest_texts", "parts", "effects", "base_value"}),
    ],
)
def test_every_recommender_explains_by_what_it_knows(build, names):
    system = build()

    answers = system.recommend([["item003", "item007"], ["item009"]], top_k=5, explain=True)

    assert system.can_explain
    plain = system.recommend([["item003", "item007"], ["item009"]], top_k=5)
    for found, expected in zip(answers, plain, strict=True):
        assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
        for entry in found:
            assert set(entry.fields["explanation"]) == {"among", *names}
            assert entry.fields["explanation"]["among"] == "all items"


def test_a_cold_item_is_said_to_have_a_reserved_place():
    system = toy_text_recommender()
    system.add_items(["new"], ["football in oslo and lima"])

    answers = system.recommend(["item003"], top_k=4, cold_share=0.5, exclude_seen=False, explain=True)

    among = {entry.item_id: entry.fields["explanation"]["among"] for entry in answers}
    assert "new" in among and set(among.values()) <= {"all items", "cold items"}
    codes = system.encode(["football in oslo and lima"])[0].tolist()
    (new,) = [entry for entry in answers if entry.item_id == "new"]
    assert new.fields["explanation"]["semantic_id"]["codes"][:2] == codes


def test_codes_and_texts_are_those_of_the_catalog_that_the_list_is_of():
    system = toy_sasrec("text")
    before = system.recommend(["item003"], top_k=30, explain=True)
    system.update_items(["item007"], ["theatre in perth"])

    (after,) = [entry for entry in system.recommend(["item003"], top_k=30, explain=True) if entry.item_id == "item007"]

    (old,) = [entry for entry in before if entry.item_id == "item007"]
    vectors = system.catalog.vectors
    expected = float(cosines_with(vectors[7], vectors[3:4])[0])
    assert after.fields["explanation"]["nearest_texts"][0]["cosine"] == pytest.approx(expected, abs=1e-4)
    assert after.fields["explanation"] != old.fields["explanation"]


def test_what_knows_neither_codes_nor_texts_explains_nothing():
    assert not toy_sasrec("ids").can_explain and not toy_counting("markov").can_explain


def test_a_generator_whose_codes_came_from_elsewhere_explains_by_them():
    catalog = Catalog.from_codes(TOY_IDS, [[row % 4, row % 5] for row in range(20)], level_sizes=(4, 5))
    vocabulary = SidVocabulary.for_catalog(catalog)
    backbone = toy_backbone(toy_causal(vocabulary), vocabulary)
    system = GenerativeRecommender(backbone, catalog, popularity=np.ones(20), num_beams=8)

    (answer,) = system.recommend(["item003"], top_k=1, explain=True)

    assert answer.fields["explanation"]["semantic_id"]["model_levels"] == 2


def test_codes_of_parallel_levels_are_in_common_wherever_they_stand(evidence):
    parallel = dataclasses.replace(evidence, has_parallel_levels=True)

    (found,) = parallel.explain([0], [3, 2, 1])

    assert "shared_prefixes" not in found
    assert found["shared_codes"] == [
        {"item_id": "b", "shared_levels": 3},
        {"item_id": "c", "shared_levels": 1},
        {"item_id": "d", "shared_levels": 1},
    ]
    answer = Recommendation("a", 0.0, {"explanation": {"among": "all items", **found}})
    assert "shares 3 of 3 codes with b; 1 with c, d" in explanation_text(answer)
