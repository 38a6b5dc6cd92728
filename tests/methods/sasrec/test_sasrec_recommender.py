"""SASRec as a recommender: files, new items, and what it can't do."""

import numpy as np
import pytest

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import update_manifest
from cost_hf.semantic_ids.item_list import ItemList
from tests.methods.sasrec.sasrec_toys import ITEMS, WIDTH, tiny_model
from tests.near_ties import assert_same_list

IDS = tuple(f"item{row:03d}" for row in range(ITEMS))
PLACES = ("oslo", "lima", "quito", "dakar", "perth", "turin", "accra", "delhi", "cairo", "malmo")
TEXTS = [f"{theme} in {place}" for theme in ("football", "theatre", "weather") for place in PLACES]


def toy(inputs: str = "text", *, titles: bool = True) -> SasRecRecommender:
    lsa = LsaEncoder.fit([f"{text} number{row}" for row, text in enumerate(TEXTS)], dim=WIDTH)
    vectors = lsa.encode(TEXTS) if inputs != "ids" else None
    removed = np.zeros(ITEMS, dtype=bool)
    catalog = ItemList(IDS, removed, tuple(TEXTS) if titles else None, vectors)
    encoder = None if inputs == "ids" else ItemEncoder.of(lsa, VectorOptions())
    return SasRecRecommender(tiny_model(inputs=inputs), catalog, popularity=np.arange(ITEMS), encoder=encoder)


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


@pytest.mark.parametrize("inputs", ["ids", "text", "both"])
def test_a_saved_recommender_loads_through_the_base_class(tmp_path, inputs):
    system = toy(inputs)
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is SasRecRecommender
    assert loaded.recommend(["item003", "item007"], top_k=5) == system.recommend(["item003", "item007"], top_k=5)
    assert loaded.catalog.titles == tuple(TEXTS)


def test_a_model_of_text_takes_new_items_as_if_they_had_always_been_there(tmp_path):
    system = toy()
    system.save_pretrained(tmp_path)
    system.add_items(["new", "also"], ["football in perth and lima", "weather in oslo again"])
    system.save_catalog(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)

    answers = loaded.recommend(["item001"], top_k=ITEMS + 2, exclude_seen=False)

    assert_same_list(answers, system.recommend(["item001"], top_k=ITEMS + 2, exclude_seen=False))
    assert set(ids(answers)) == {*IDS, "new", "also"}
    vectors = np.concatenate(
        [toy().catalog.vectors, system.encoder.encode(["weather in oslo again", "football in perth and lima"])]
    )
    assert np.array_equal(loaded.catalog.vectors, vectors) and loaded.catalog.item_ids[-2:] == ("also", "new")
    loaded.rollback()
    back, first = (entry.recommend(["item001"], top_k=5) for entry in (loaded, toy()))
    assert_same_list(back, first)


def test_another_text_is_another_vector():
    system = toy()

    system.update_items(["item004"], [TEXTS[25]])

    assert np.array_equal(system.catalog.vectors[4], system.catalog.vectors[25])
    assert system.catalog.titles[4] == TEXTS[25]
    system.rollback()
    assert np.array_equal(system.catalog.vectors, toy().catalog.vectors)


@pytest.mark.parametrize("inputs", ["ids", "both"])
def test_items_that_are_rows_of_the_weights_can_go_but_not_come(inputs):
    system = toy(inputs)

    with pytest.raises(ValueError, match=r"knows its items by the rows of its weights.*--model.inputs text"):
        system.add_items(["new"], ["a text"])
    with pytest.raises(ValueError, match="has no codes"):
        toy().add_items(["new"], codes=np.array([[1]]))
    system.remove_items(["item003"])

    assert "item003" not in ids(system.recommend(["item001"], top_k=ITEMS))


def test_items_of_another_training_are_refused_with_both_digests(tmp_path):
    toy().save_pretrained(tmp_path)
    update_manifest(tmp_path, weights_items_digest="other")

    with pytest.raises(
        ValueError, match=r"the list of trained items in .* has digest \w+, recommender.json asks for other"
    ):
        Recommender.from_pretrained(tmp_path)


def test_a_catalog_that_does_not_fit_the_model_is_refused():
    short = ItemList(IDS[:-1], np.zeros(ITEMS - 1, dtype=bool))

    with pytest.raises(ValueError, match=f"must fit the catalog of {ITEMS - 1} items, got {ITEMS}"):
        SasRecRecommender(tiny_model(), short, popularity=np.zeros(ITEMS - 1))


def test_a_kind_that_this_version_does_not_know_is_said(tmp_path):
    toy().save_pretrained(tmp_path)
    update_manifest(tmp_path, kind="tree")

    with pytest.raises(ValueError, match=r"a recommender of kind 'tree', this version knows .*generator, .*sasrec"):
        Recommender.from_pretrained(tmp_path)
