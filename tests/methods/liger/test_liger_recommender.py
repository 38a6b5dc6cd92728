"""A LIGER serves a catalog that changes: new items are candidates at once, and nothing is lost on disk."""

import json
import pickle

import numpy as np
import pytest
import torch

from cost_hf import Recommender
from cost_hf.files import DamagedFileError
from cost_hf.methods.liger.recommender import LigerRecommender
from tests.methods.liger.liger_toys import BODIES, OFF, text_recommender, toy_liger
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, TOY_TEXTS

HISTORY = ["item002", "item007"]
NEW = {"item100": "football in oslo tonight", "item101": "weather of lima and quito"}
CLICKED = TOY_CLICKS + 1  # every item has a click, so that the beams alone are candidates


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


@pytest.fixture(params=BODIES)
def mine(request) -> LigerRecommender:
    return text_recommender(request.param)


def test_items_without_a_click_are_candidates_of_every_request(mine):
    answers = mine.recommend(HISTORY, top_k=5, exclude_seen=False)
    every = mine.recommend(HISTORY, top_k=TOY_ITEMS, exclude_seen=False)

    assert "item000" in ids(every)  # it has no click in training
    assert len(answers) == 5 and answers[0].fields["source"] == "liger"
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True) and max(map(abs, scores)) <= 1 / 0.07 + 1e-4


@pytest.mark.parametrize("body", BODIES)
def test_a_new_item_is_recommended_right_after_it_was_added(body):
    system = text_recommender(body, clicks=CLICKED)
    sids = system.catalog.codes.copy()

    change = system.add_items(list(NEW), list(NEW.values()))

    found = system.ranker_for(5).rank(torch.from_numpy(system.catalog.rows_of(HISTORY))[None], top_k=10).items
    assert change.item_ids == tuple(NEW)
    assert found.shape[1] == 5 + len(NEW) and {TOY_ITEMS, TOY_ITEMS + 1} <= set(found[0].tolist())
    assert set(NEW) <= set(ids(system.recommend(HISTORY, top_k=TOY_ITEMS + 2, exclude_seen=False)))
    assert np.array_equal(system.catalog.codes[:TOY_ITEMS], sids)
    assert np.array_equal(system.catalog.vectors[TOY_ITEMS:], system.encoder.encode(list(NEW.values())))


def test_a_new_item_can_stand_in_a_history(mine):
    mine.add_items(list(NEW), list(NEW.values()))

    assert len(mine.recommend(["item002", "item100"], top_k=3)) == 3


def test_vectors_are_a_way_in_and_codes_are_none(mine):
    vectors = mine.encoder.encode(list(NEW.values()))
    other = text_recommender("causal" if not mine.generator.config.is_encoder_decoder else "seq2seq")

    mine.add_items(list(NEW), vectors=vectors, titles=list(NEW.values()))
    other.add_items(list(NEW), list(NEW.values()))

    assert mine.new_item_inputs == ("texts", "vectors")
    assert mine.catalog.version == other.catalog.version
    with pytest.raises(ValueError, match="reads the texts of items, which codes do not hold"):
        mine.add_items(["item200"], codes=[[0, 0]])


def test_masks_seen_items_and_removed_ones_hold(mine):
    mine.add_items(list(NEW), list(NEW.values()))

    assert not set(HISTORY) & set(ids(mine.recommend(HISTORY, top_k=TOY_ITEMS)))
    assert set(ids(mine.recommend(HISTORY, allowed=["item100", "item003"]))) <= {"item100", "item003"}
    assert "item100" in ids(mine.recommend(HISTORY, allowed=["item100", "item003"]))
    assert "item100" not in ids(mine.recommend(HISTORY, top_k=TOY_ITEMS, denied=["item100"]))
    mine.remove_items(["item100"])
    assert "item100" not in ids(mine.recommend(HISTORY, top_k=TOY_ITEMS, exclude_seen=False))


def test_a_share_of_the_list_may_be_kept_for_cold_items(mine):
    mine.add_items(list(NEW), list(NEW.values()))

    answers = mine.recommend(HISTORY, top_k=4, cold_share=0.5)

    cold = {"item000", *NEW}
    assert len(cold & set(ids(answers))) >= 2


def test_empty_histories_are_an_error_or_answered_by_popularity(mine):
    with pytest.raises(ValueError, match="history 0 is empty"):
        mine.recommend([])
    assert ids(mine.recommend([], top_k=2, on_empty="popularity")) == ["item019", "item018"]


def test_a_batch_answers_like_one_history_at_a_time(mine):
    histories = [["item001"], ["item002", "item003", "item004"], ["item009", "item001"]]

    for history, answers in zip(histories, mine.recommend(histories, top_k=4), strict=True):
        assert_same_list(answers, mine.recommend(history, top_k=4))


def test_longer_lists_than_beams_widen_the_search(mine):
    assert len(mine.recommend(HISTORY, top_k=15, exclude_seen=False)) == 15 > mine.num_beams


def test_save_and_load_bring_back_every_part_and_the_answers(mine, tmp_path):
    mine.add_items(list(NEW), list(NEW.values()))
    mine.is_constrained, mine.dense_top_k = False, 3
    mine.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is LigerRecommender
    assert (loaded.is_constrained, loaded.ranks_catalog, loaded.dense_top_k) == (False, False, 3)
    assert loaded.catalog.version == mine.catalog.version
    assert np.array_equal(loaded.catalog.vectors, mine.catalog.vectors)
    weights = loaded.generator.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in mine.generator.state_dict().items())
    for history in (HISTORY, ["item100"]):
        assert_same_list(loaded.recommend(history, top_k=9), mine.recommend(history, top_k=9))


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


def test_other_texts_change_vectors_and_no_sid(mine):
    before = mine.catalog

    change = mine.update_items(["item005", "item000"], ["theatre in quito", TOY_TEXTS[0]])

    after = mine.catalog
    assert np.array_equal(after.codes, before.codes) and change.would_differ == 1
    assert (after.vectors != before.vectors).any(1).nonzero()[0].tolist() == [5]
    assert np.array_equal(after.vectors[[5]], mine.encoder.encode(["theatre in quito"]))
    scores = {answer.item_id: answer.score for answer in mine.recommend(HISTORY, allowed=["item000"])}
    assert scores  # still a candidate
    mine.rollback()
    assert mine.catalog.version == before.version


def test_texts_need_the_encoder(mine):
    mine.encoder = None

    with pytest.raises(ValueError, match="has no text encoder"):
        mine.update_items(["item005"], ["theatre in quito"])
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

    assert ids(other.recommend(HISTORY, allowed=["item100"])) == ["item100"]
    assert "item100" not in mine.catalog


@pytest.mark.parametrize("body", BODIES)
def test_the_whole_catalog_can_be_ranked_by_cosine(body):
    system = text_recommender(body, dense={"sid_weight": 0.0, "candidates": "catalog"}, ranks_catalog=True)

    answers = system.recommend(HISTORY, top_k=TOY_ITEMS, exclude_seen=False)

    assert sorted(ids(answers)) == sorted(TOY_IDS)


@pytest.mark.parametrize("dense", [OFF, {"weight": 0.0}], ids=["off", "no_dense"])
@pytest.mark.parametrize("body", BODIES)
def test_a_model_without_dense_head_serves_its_beams(body, dense, tmp_path):
    system = text_recommender(body, dense=dense)
    system.save_pretrained(tmp_path)

    answers = system.recommend(HISTORY, top_k=4)

    assert max(answer.score for answer in answers) < 0  # log-probabilities
    assert_same_list(Recommender.from_pretrained(tmp_path).recommend(HISTORY, top_k=4), answers)
    assert (tmp_path / "custom_generate").exists() == (not system.generator.config.use_text_input)


def test_a_script_that_knows_no_texts_is_not_shipped(mine, tmp_path):
    mine.save_pretrained(tmp_path)

    assert not (tmp_path / "custom_generate").exists()


def test_prompts_of_generate_carry_the_texts(mine):
    histories = torch.tensor([[2, 7], [4, -1]])

    inputs = mine.prompt_inputs(histories)

    found = mine.generator.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert set(inputs) == {"inputs_embeds", "attention_mask"} and len(found) == 2


def test_parts_that_do_not_fit_are_refused(mine):
    backbone = toy_liger("causal", mine.catalog, **OFF)

    with pytest.raises(ValueError, match="rank by a dense head, and the model has none"):
        LigerRecommender(backbone, mine.catalog, popularity=TOY_CLICKS, dense_top_k=2)
    wider = mine.catalog.with_vectors(TOY_IDS, np.ones((TOY_ITEMS, 8), np.float32))
    assert LigerRecommender(backbone, wider, popularity=TOY_CLICKS).catalog is wider
    with pytest.raises(ValueError, match="reads text vectors of width 8, the catalog has None"):
        bare = type(mine.catalog).from_codes(TOY_IDS, mine.catalog.codes[:, :2], level_sizes=(4, 5), append_size=8)
        LigerRecommender(toy_liger("causal", mine.catalog), bare, popularity=TOY_CLICKS)


def test_a_manifest_without_the_search_is_damaged(mine, tmp_path):
    mine.save_pretrained(tmp_path)
    manifest = json.loads((tmp_path / "recommender.json").read_text())

    assert {"is_constrained", "ranks_catalog", "dense_top_k"} <= set(manifest)
    (tmp_path / "recommender.json").write_text(json.dumps(manifest | {"dense_top_k": 4}))
    with pytest.raises(DamagedFileError, match="has the digest"):
        Recommender.from_pretrained(tmp_path)
