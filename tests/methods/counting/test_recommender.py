"""Counting baselines as recommenders: files, new items, and the same lists as their scorers."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from cost_hf.methods.counting.counting import BASELINES, TEXTUAL, build_baseline
from cost_hf.methods.counting.recommender import CountingRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.recommenders.repository import renew_files, update_manifest
from cost_hf.semantic_ids.item_list import ItemList
from tests.evaluation.stand_ins import pad
from tests.methods.counting.counting_toys import toy_counting, toy_encoder, toy_train
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, TOY_TEXTS

HISTORIES = pad([[3], [4, 17, 9], [0, 1, 2, 3, 4], [19, 19]])


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


@pytest.mark.parametrize("name", BASELINES)
def test_lists_are_those_of_the_scorer(name):
    vectors = toy_encoder().encode(TOY_TEXTS) if name in TEXTUAL else None
    scorer = build_baseline(name, toy_train(), TOY_ITEMS, vectors=vectors)
    expected = ScoringRanker(scorer, popularity=TOY_CLICKS, item_ids=TOY_IDS).rank(
        torch.from_numpy(HISTORIES), top_k=TOY_ITEMS
    )

    ranking = toy_counting(name).ranker_for(5).rank(torch.from_numpy(HISTORIES), top_k=TOY_ITEMS)

    assert ranking.items.tolist() == expected.items.tolist()
    assert ranking.scores.tolist() == expected.scores.tolist()


@pytest.mark.parametrize("name", BASELINES)
def test_a_saved_recommender_gives_the_same_lists(tmp_path, name):
    system = toy_counting(name)
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path, device="cpu")

    assert type(loaded) is CountingRecommender
    assert loaded.recommend(["item003", "item007"], top_k=20) == system.recommend(["item003", "item007"], top_k=20)
    assert loaded.catalog.titles == tuple(TOY_TEXTS)
    assert loaded.num_parameters == 0 and loaded.network is None
    assert f"CountingRecommender(counting, {TOY_ITEMS} items, 0 weights, catalog digest" in repr(loaded)


@pytest.mark.parametrize("name", BASELINES)
def test_new_items_leave_the_others_in_order_and_survive_a_save(tmp_path, name):
    system = toy_counting(name)
    before = ids(system.recommend(["item003"], top_k=20))
    system.save_pretrained(tmp_path)
    change = system.add_items(["new", "also"], ["football in oslo", "weather in lima"])
    system.save_catalog(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)
    answers = ids(loaded.recommend(["item003"], top_k=22))

    assert change.item_ids == ("new", "also")
    assert answers == ids(system.recommend(["item003"], top_k=22))
    assert set(answers) - set(before) == {"new", "also"}
    if name != "markov_text":  # there a new neighbour moves the ranks of those after it
        assert [item for item in answers if item not in ("new", "also")] == before
    assert loaded.catalog.titles[-2:] == ("weather in lima", "football in oslo")
    loaded.rollback()
    assert ids(loaded.recommend(["item003"], top_k=20)) == before


def test_a_new_item_without_counts_comes_last_or_through_the_quota():
    system = toy_counting("popularity")
    system.add_items(["new"], ["a text"])

    assert ids(system.recommend(["item003"], top_k=21))[-2:] == ["item000", "new"]  # no click, then by item id
    assert "new" in ids(system.recommend(["item003"], top_k=4, cold_share=0.5, denied=["item000"]))


def test_a_text_baseline_ranks_a_new_item_by_its_text():
    system = toy_counting("text_last")
    system.add_items(["new"], [TOY_TEXTS[3]])
    system.add_items(["same"], vectors=system.catalog.vectors[[3]])

    assert set(ids(system.recommend(["item003"], top_k=2))) == {"new", "same"}


def test_counting_baselines_need_no_encoder_for_new_items():
    system = toy_counting("markov", titles=False)

    system.add_items(["new"], ["a text"])
    system.add_items(["other"], vectors=np.ones((1, 3)))

    assert system.catalog.item_ids[-2:] == ("new", "other") and system.catalog.titles is None


@pytest.mark.parametrize("name", BASELINES)
def test_no_item_enters_by_codes(name):
    with pytest.raises(ValueError, match=f"{name} has no codes.*pass texts or vectors"):
        toy_counting(name).add_items(["new"], codes=np.array([[1]]))


def test_other_texts_are_other_vectors_and_counts_stay():
    text, markov = toy_counting("text_mean"), toy_counting("markov")

    for system in (text, markov):
        system.update_items(["item004"], [TOY_TEXTS[11]])

    assert np.array_equal(text.catalog.vectors[4], text.catalog.vectors[11])
    assert markov.catalog.titles[4] == TOY_TEXTS[11]
    assert ids(markov.recommend(["item003"])) == ids(toy_counting("markov").recommend(["item003"]))


@pytest.mark.parametrize("name", BASELINES)
def test_a_removed_item_is_not_recommended(name):
    system = toy_counting(name)
    system.remove_items(["item019"])

    assert "item019" not in ids(system.recommend(["item003"], top_k=20))


def test_an_unknown_device_is_an_error():
    with pytest.raises(ValueError, match="device must be one that torch has here"):
        toy_counting("markov").to("abacus")


def test_counts_of_other_items_are_refused_with_both_digests(tmp_path):
    toy_counting("markov").save_pretrained(tmp_path)
    tables = load_file(tmp_path / "model.safetensors")
    tables["counts"][0] += 1
    save_file(tables, tmp_path / "model.safetensors")
    renew_files(tmp_path)

    with pytest.raises(ValueError, match=r"the counts and their items in .* has digest \w+, recommender.json asks for"):
        Recommender.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tables: tables.pop("following.data"),
        lambda tables: tables.update(counts=tables["counts"][:-1]),
        lambda tables: tables.update({"following.indices": tables["following.indices"] + 1000}),
        lambda tables: tables.update({"following.data": tables["following.data"] * np.nan}),
        lambda tables: tables.update({"following.data": tables["following.data"] / 4}),
        lambda tables: tables.update({"following.data": -tables["following.data"]}),
        lambda tables: tables.update(counts=tables["counts"][:1].reshape(())),
        lambda tables: tables.update({"following.indptr": tables["following.indptr"][:1].reshape(())}),
    ],
    ids=["missing", "short", "outside", "nan", "fraction", "negative", "one count", "one row"],
)
def test_damaged_counts_are_refused(tmp_path, damage):
    toy_counting("markov").save_pretrained(tmp_path)
    tables = load_file(tmp_path / "model.safetensors")
    damage(tables)
    save_file(tables, tmp_path / "model.safetensors")
    renew_files(tmp_path)

    with pytest.raises(ValueError, match=r"model.safetensors does not fit the recommender"):
        Recommender.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", BASELINES)
def test_counts_of_another_format_are_refused(tmp_path, name):
    toy_counting(name).save_pretrained(tmp_path)
    update_manifest(tmp_path, tables_format=1)

    with pytest.raises(ValueError, match="the counts have format 1, this version reads 2; use the"):
        Recommender.from_pretrained(tmp_path)


def test_text_vectors_of_the_catalog_are_needed():
    catalog = ItemList(tuple(TOY_IDS), np.zeros(TOY_ITEMS, dtype=bool))

    with pytest.raises(ValueError, match="'text_last' needs one text vector per item, 20, got None"):
        CountingRecommender("text_last", {}, catalog, popularity=TOY_CLICKS)
    with pytest.raises(ValueError, match="one count for each of the 20 items, got 3"):
        CountingRecommender("popularity", {}, catalog, popularity=TOY_CLICKS[:3])


@pytest.mark.parametrize("name", BASELINES)
def test_empty_and_unknown_histories_are_answered_by_popularity(name):
    system = toy_counting(name)
    popular = [TOY_IDS[row] for row in system.snapshot.popularity_order[:5]]

    empty, unknown = system.recommend([[], ["gone"]], top_k=5, on_empty="popularity", on_unknown="drop")

    assert ids(empty) == ids(unknown) == popular
    assert {answer.fields["source"] for answer in empty} == {"popularity"}
    with pytest.raises(KeyError, match="'gone'"):
        system.recommend(["gone"])
    with pytest.raises(ValueError, match="history 0 is empty"):
        system.recommend([[]])


@pytest.mark.parametrize("name", BASELINES)
def test_what_a_new_item_may_bring(name):
    system = toy_counting(name)
    assert system.new_item_inputs == ("texts", "vectors")

    system.encoder = None
    assert system.new_item_inputs == (("vectors",) if name in TEXTUAL else ("texts", "vectors"))


def test_text_vectors_are_known_to_be_carried():
    assert toy_counting("text_last").carries_text_vectors and not toy_counting("markov").carries_text_vectors


@pytest.mark.parametrize("name", BASELINES)
def test_a_copy_without_titles_gives_the_same_lists(name):
    system = toy_counting(name)

    copy = system.without_metadata()

    assert copy.catalog.titles is None and ids(copy.recommend(["item003"])) == ids(system.recommend(["item003"]))
