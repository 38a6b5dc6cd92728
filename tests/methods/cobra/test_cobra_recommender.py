"""A COBRA serves a catalog that changes: new items share semantic IDs with old ones, and nothing is lost on disk."""

import json
import pickle

import numpy as np
import pytest
import torch

from cost_hf import Recommender
from cost_hf.files import DamagedFileError
from cost_hf.methods.cobra.recommender import CobraRecommender
from cost_hf.methods.cobra.word_ids import word_ids
from tests.methods.cobra.cobra_toys import OFF, TEXTS, WIDTH, WORD_IDS, text_recommender, toy_cobra
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, TOY_TEXTS

HISTORY = ["item002", "item007"]
NEW = {"item100": "football in oslo tonight", "item101": "weather of lima and quito"}
EVERY = {"top_k": TOY_ITEMS + 2, "exclude_seen": False}


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def read_of(system: CobraRecommender, texts: list[str]) -> np.ndarray:
    """What the model reads of texts."""
    if system.reads_words:
        return word_ids(texts, words=WIDTH, ids=WORD_IDS)
    return system.encoder.encode(texts)


@pytest.fixture(params=TEXTS)
def mine(request) -> CobraRecommender:
    return text_recommender(request.param)


def test_every_item_of_the_catalog_can_be_recommended(mine):
    assert len(np.unique(mine.catalog.codes, axis=0)) < TOY_ITEMS  # some share a semantic ID

    answers = mine.recommend(HISTORY, top_k=TOY_ITEMS, exclude_seen=False)

    assert sorted(ids(answers)) == TOY_IDS and answers[0].fields["source"] == "cobra"
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True) and max(scores) < 0


def test_a_new_item_is_recommended_right_after_it_was_added(mine):
    sids = mine.catalog.codes.copy()

    change = mine.add_items(list(NEW), list(NEW.values()))

    assert change.item_ids == tuple(NEW)
    assert set(NEW) <= set(ids(mine.recommend(HISTORY, **EVERY)))
    assert np.array_equal(mine.catalog.codes[:TOY_ITEMS], sids)
    assert np.array_equal(mine.catalog.codes[TOY_ITEMS:], mine.encode(list(NEW.values())))
    assert np.array_equal(mine.catalog.vectors[TOY_ITEMS:], read_of(mine, list(NEW.values())))


def test_the_order_in_which_items_are_added_changes_nothing(mine):
    other = pickle.loads(pickle.dumps(mine))
    mine.add_items(list(NEW), list(NEW.values()))
    other.add_items(list(NEW)[::-1], list(NEW.values())[::-1])

    assert other.catalog.version == mine.catalog.version


def test_an_item_with_the_text_of_another_has_its_score(mine):
    mine.add_items(["item100"], [TOY_TEXTS[4]])

    scores = {answer.item_id: answer.score for answer in mine.recommend(HISTORY, **EVERY)}

    assert scores["item100"] == pytest.approx(scores["item004"], abs=1e-4)


def test_a_new_item_can_stand_in_a_history(mine):
    mine.add_items(list(NEW), list(NEW.values()))

    assert len(mine.recommend(["item002", "item100"], top_k=3)) == 3


def test_items_are_added_by_vectors_where_the_model_reads_them():
    mine, other = text_recommender("vectors"), text_recommender("vectors")
    mine.add_items(list(NEW), vectors=mine.encoder.encode(list(NEW.values())), titles=list(NEW.values()))
    other.add_items(list(NEW), list(NEW.values()))

    assert mine.new_item_inputs == ("texts", "vectors")
    assert mine.catalog.version == other.catalog.version
    with pytest.raises(ValueError, match="reads the texts of items, which codes do not hold"):
        mine.add_items(["item200"], codes=[[0, 0]])


def test_vectors_hold_no_words():
    mine = text_recommender("light")

    assert mine.new_item_inputs == ("texts",)
    with pytest.raises(ValueError, match="reads the words of texts, which vectors do not hold"):
        mine.add_items(list(NEW), vectors=mine.encoder.encode(list(NEW.values())))
    assert len(mine.catalog) == TOY_ITEMS


def test_masks_seen_items_and_removed_ones_hold(mine):
    mine.add_items(list(NEW), list(NEW.values()))

    assert not set(HISTORY) & set(ids(mine.recommend(HISTORY, top_k=TOY_ITEMS)))
    assert set(ids(mine.recommend(HISTORY, allowed=["item100", "item003"]))) == {"item100", "item003"}
    assert "item100" not in ids(mine.recommend(HISTORY, top_k=TOY_ITEMS, denied=["item100"]))
    mine.remove_items(["item100"])
    assert "item100" not in ids(mine.recommend(HISTORY, **EVERY))
    mine.add_items(["item100"], ["football in oslo tonight"])
    assert "item100" in ids(mine.recommend(HISTORY, **EVERY))


def test_a_share_of_the_list_may_be_kept_for_cold_items(mine):
    mine.add_items(list(NEW), list(NEW.values()))

    answers = mine.recommend(HISTORY, top_k=4, cold_share=0.5)

    assert len({"item000", *NEW} & set(ids(answers))) >= 2


def test_empty_histories_are_an_error_or_answered_by_popularity(mine):
    with pytest.raises(ValueError, match="history 0 is empty"):
        mine.recommend([])
    assert ids(mine.recommend([], top_k=2, on_empty="popularity")) == ["item019", "item018"]


def test_a_batch_answers_like_one_history_at_a_time(mine):
    histories = [["item001"], ["item002", "item003", "item004"], ["item009", "item001"]]

    for history, answers in zip(histories, mine.recommend(histories, top_k=4), strict=True):
        assert_same_list(answers, mine.recommend(history, top_k=4))


def test_save_and_load_bring_back_every_part_and_the_answers(mine, tmp_path):
    mine.add_items(list(NEW), list(NEW.values()))
    mine.tau, mine.psi, mine.items_per_leaf, mine.domain = 0.5, 4.0, 3, "all"
    mine.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is CobraRecommender
    assert (loaded.tau, loaded.psi, loaded.items_per_leaf, loaded.domain) == (0.5, 4.0, 3, "all")
    assert loaded.catalog.version == mine.catalog.version
    weights = loaded.generator.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in mine.generator.state_dict().items())
    for history in (HISTORY, ["item100"]):
        assert_same_list(loaded.recommend(history, top_k=9), mine.recommend(history, top_k=9))
    loaded.add_items(["item200"], ["markets of dakar"])
    assert "item200" in ids(loaded.recommend(HISTORY, **EVERY))


def test_a_catalog_saved_alone_is_the_one_that_was_changed(mine, tmp_path):
    mine.save_pretrained(tmp_path)
    mine.add_items(list(NEW), list(NEW.values()))
    mine.save_catalog(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert loaded.catalog.version == mine.catalog.version
    assert_same_list(loaded.recommend(HISTORY, top_k=9), mine.recommend(HISTORY, top_k=9))
    loaded.rollback()
    assert len(loaded.catalog) == TOY_ITEMS


def test_a_rollback_brings_back_the_answers(mine):
    before = mine.recommend(HISTORY, top_k=9)
    mine.add_items(list(NEW), list(NEW.values()))

    change = mine.rollback()

    assert change.action == "rollback" and mine.recommend(HISTORY, top_k=9) == before


def test_other_texts_change_what_is_read_and_no_sid(mine):
    before = mine.catalog

    change = mine.update_items(["item005", "item000"], ["theatre in quito", TOY_TEXTS[0]])

    after = mine.catalog
    assert np.array_equal(after.codes, before.codes)
    assert change.would_differ == int((mine.encode(["theatre in quito"])[0] != before.codes[5]).any())
    assert (after.vectors != before.vectors).any(1).nonzero()[0].tolist() == [5]
    assert np.array_equal(after.vectors[[5]], read_of(mine, ["theatre in quito"]))
    mine.rollback()
    assert mine.catalog.version == before.version


def test_texts_need_the_encoder(mine):
    mine.encoder = None

    with pytest.raises(ValueError, match="has no text encoder"):
        mine.add_items(list(NEW), list(NEW.values()))
    assert mine.update_items(["item005"], titles=["a title"]).item_ids == ("item005",)


def test_copies_and_devices_answer_alike(mine):
    mine.add_items(list(NEW), list(NEW.values()))
    expected = mine.recommend(HISTORY, top_k=9)

    assert pickle.loads(pickle.dumps(mine)).recommend(HISTORY, top_k=9) == expected
    assert mine.to("cpu").recommend(HISTORY, top_k=9) == expected


def test_another_catalog_of_the_same_training_can_be_taken(mine):
    mine.add_items(list(NEW), list(NEW.values()))
    catalog = mine.catalog
    mine.rollback()

    other = mine.with_catalog(catalog)

    assert "item100" in ids(other.recommend(HISTORY, **EVERY))
    assert "item100" not in mine.catalog


@pytest.mark.parametrize("dense", [OFF, {"weight": 0.0}], ids=["off", "inputs"])
def test_a_model_without_dense_head_serves_its_beams(dense, tmp_path):
    system = text_recommender(dense=dense)
    system.save_pretrained(tmp_path)

    answers = system.recommend(HISTORY, top_k=4)

    assert_same_list(Recommender.from_pretrained(tmp_path).recommend(HISTORY, top_k=4), answers)
    assert (tmp_path / "custom_generate").exists() == (not system.generator.config.use_text_input)


def test_prompts_of_generate_carry_the_dense_vectors(mine):
    histories = torch.tensor([[2, 7], [4, -1]])

    inputs = mine.prompt_inputs(histories)

    found = mine.generator.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert set(inputs) == {"inputs_embeds", "attention_mask"} and len(found) == 2
    assert inputs["inputs_embeds"].shape[1] == 1 + 2 * 3  # two codes and a dense vector an item


def test_parts_that_do_not_fit_are_refused(mine):
    backbone = toy_cobra(mine.catalog, "vectors", **OFF)
    wider = mine.catalog.with_vectors(TOY_IDS, mine.catalog.vectors)
    assert CobraRecommender(backbone, wider, popularity=TOY_CLICKS).catalog is wider
    with pytest.raises(ValueError, match=r"beam_fusion.domain must be one of leaf, all"):
        CobraRecommender(backbone, wider, popularity=TOY_CLICKS, domain="beam")
    bare = type(mine.catalog).from_codes(TOY_IDS, mine.catalog.codes, level_sizes=(4, 2), collisions="none")
    with pytest.raises(ValueError, match=r"reads text vectors of width \d, the catalog has None"):
        CobraRecommender(toy_cobra(mine.catalog), bare, popularity=TOY_CLICKS)


def test_a_manifest_with_another_fusion_is_damaged(mine, tmp_path):
    mine.save_pretrained(tmp_path)
    manifest = json.loads((tmp_path / "recommender.json").read_text())

    assert {"tau", "psi", "items_per_leaf", "domain"} <= set(manifest)
    (tmp_path / "recommender.json").write_text(json.dumps(manifest | {"psi": 4.0}))
    with pytest.raises(DamagedFileError, match="has the digest"):
        Recommender.from_pretrained(tmp_path)


def test_words_have_the_same_ids_everywhere():
    found = word_ids(["Tea, and TEA!", "", "a_b"], words=3, ids=1000)

    assert found.dtype == np.float32 and found.shape == (3, 3)
    assert found[0, 0] == found[0, 2] == 2 + 2391201714 % 998  # CRC-32 of "tea"
    assert (found[1] == 0).all() and (found[0] >= 2).all() and (found[2] > 0).tolist() == [True, True, False]
