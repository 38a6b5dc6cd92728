"""Similar items, compared with a search over all items by plain loops."""

import json

import numpy as np
import pytest

from cost_hf.recommenders.requests import BadRequest, parse_similar
from cost_hf.recommenders.service import RecommenderService
from tests.item_vectors.famae.famae_toys import shop_items, untrained_encoder
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.sasrec.test_sasrec_recommender import toy as toy_sasrec
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_COLUMNS, TOY_IDS, toy_text_recommender


def ask(item, **parameters):
    return parse_similar({"item_id": item, "parameters": parameters})


def pairs(answers):
    return [(entry["item_id"], entry["score"]) for entry in answers]


def cosines(vectors, row):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit[row]


@pytest.mark.parametrize(
    ("build", "source"),
    [
        (lambda: toy_sasrec("text"), "text"),
        (lambda: toy_sasrec("both"), "text"),
        (lambda: toy_counting("markov_text"), "text"),
        (toy_fusion, "text"),
        (lambda: toy_sasrec("ids"), "item_vectors"),
    ],
)
def test_items_are_ordered_by_the_cosine_of_their_vectors(build, source):
    system = build()

    found = RecommenderService(system).similar(ask("item003", top_k=8))

    vectors = system.text_vectors(system.catalog)
    scores = cosines(system.scorer.targets.numpy() if vectors is None else vectors, 3)
    order = sorted((row for row in range(len(scores)) if row != 3), key=lambda row: -scores[row])[:8]
    assert_same_list(pairs(found), [(system.catalog.item_ids[row], scores[row]) for row in order])
    assert {entry["source"] for entry in found} == {source}
    titles = system.catalog.titles
    assert titles is None or all(entry["title"] == titles[system.catalog.row_of(entry["item_id"])] for entry in found)
    json.dumps(found, allow_nan=False)


def test_without_vectors_they_are_ordered_by_shared_codes_and_then_popularity():
    system = toy_text_recommender()
    codes = system.catalog.codes[:, :2]

    found = RecommenderService(system).similar(ask("item003", top_k=20))

    shared = {}
    for row, own in enumerate(codes):
        same = own == codes[3]
        shared[row] = 0 if not same[0] else 2 if same[1] else 1
    order = sorted((row for row in shared if row != 3 and shared[row]), key=lambda row: (-shared[row], -row))
    assert pairs(found) == [(TOY_IDS[row], shared[row]) for row in order]  # later toy items have more clicks
    assert {entry["source"] for entry in found} == {"semantic_id"}


def test_cosines_of_vectors_that_are_not_of_texts_are_not_called_so():
    system = toy_sasrec("text")
    system.encoder = untrained_encoder(shop_items())

    found = RecommenderService(system).similar(ask("item003"))

    assert {entry["source"] for entry in found} == {"item_vectors"}


def test_counts_list_what_follows_the_item():
    system = toy_counting("markov")

    found = RecommenderService(system).similar(ask("item003", top_k=4, denied=["item004"]))

    expected = system.recommend(["item003"], top_k=4, denied=["item004"])
    assert [entry["item_id"] for entry in found] == [entry.item_id for entry in expected]
    assert {entry["source"] for entry in found} == {"counting"}


@pytest.mark.parametrize("build", [lambda: toy_sasrec("text"), toy_text_recommender, lambda: toy_counting("markov")])
def test_filters_and_removals_are_those_of_recommend(build):
    system = build()
    system.add_columns(TOY_IDS, TOY_COLUMNS)
    service = RecommenderService(system)
    everything = [entry["item_id"] for entry in service.similar(ask("item003", top_k=200))]
    service.similar(ask("item003"))  # what is kept for later requests is of the catalog before
    system.remove_items([everything[0]])

    assert everything[0] not in [entry["item_id"] for entry in service.similar(ask("item003", top_k=200))]
    where = {"price": {"max": 30}, "brand": ["Alba"]}
    found = [entry["item_id"] for entry in service.similar(ask("item003", top_k=200, where=where))]
    fitting = {
        item
        for item, price, brand in zip(TOY_IDS, TOY_COLUMNS["price"], TOY_COLUMNS["brand"], strict=True)
        if price is not None and price <= 30 and brand == "Alba"
    }
    assert found == [item for item in everything[1:] if item in fitting]
    both = service.similar(ask("item003", allowed=["item003", *everything[:4]], denied=[everything[2]]))
    assert [entry["item_id"] for entry in both] == [everything[1], everything[3]]
    assert "item003" not in everything


def test_an_item_that_was_added_or_removed_has_similar_items():
    system = toy_sasrec("text")
    service = RecommenderService(system)
    before = service.similar(ask("item003", top_k=5))
    system.add_items(["ünï-字"], ["football in dakar"])

    found = service.similar(ask("ünï-字", top_k=1))

    assert found[0]["score"] == pytest.approx(1.0, abs=0.2)
    system.remove_items(["item003"])
    assert_same_list(
        [pair for pair in pairs(service.similar(ask("item003", top_k=6))) if pair[0] != "ünï-字"][:5], pairs(before)
    )


def test_changed_columns_and_texts_are_seen_by_the_next_request():
    system = toy_sasrec("text")
    system.add_columns(TOY_IDS, TOY_COLUMNS)
    service = RecommenderService(system)
    (before,) = service.similar(ask("item003", top_k=1))

    system.update_items(["item003"], [f"{system.catalog.titles[20]}"])
    (after,) = service.similar(ask("item003", top_k=1))
    assert (after["item_id"], before["item_id"] != "item020") == ("item020", True)
    system.update_items(["item005"], columns={"brand": ["Dora"]})
    assert [entry["item_id"] for entry in service.similar(ask("item003", where={"brand": "Dora"}))] == ["item005"]


def test_an_item_without_words_is_similar_to_none_by_text():
    system = toy_sasrec("text")
    vectors = system.catalog.vectors.copy()
    vectors[5] = 0
    system.snapshot = system._snapshot_of(system.catalog.with_vectors(["item005"], vectors[5:6]))
    service = RecommenderService(system)

    assert "item005" not in [entry["item_id"] for entry in service.similar(ask("item003", top_k=200))]
    assert {entry["source"] for entry in service.similar(ask("item005"))} == {"sasrec"}


@pytest.mark.parametrize(
    ("item", "parameters", "field"),
    [
        ("gone", {}, "item_id"),
        ("item003", {"denied": ["gone"]}, "parameters.denied"),
        ("item003", {"where": {"colour": 1}}, "parameters.where"),
    ],
)
def test_a_bad_request_names_its_field(item, parameters, field):
    with pytest.raises(BadRequest) as caught:
        RecommenderService(toy_text_recommender()).similar(ask(item, **parameters))
    assert caught.value.field == field
