"""PRISM's recommender serves a catalog that changes: new items have their text and no collaborative vector."""

import numpy as np
import pytest
import torch

from cost_hf import Recommender
from cost_hf.methods.prism.recommender import PrismRecommender
from cost_hf.search.catalog_scores import score_catalog
from tests.methods.prism.prism_toys import BODIES, CLICKS, OFF, prism_recommender
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_IDS, TOY_ITEMS, TOY_TEXTS

HISTORY = ["item002", "item007"]
NEW = {"item100": "football in oslo tonight", "item101": "weather of lima and quito"}


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


@pytest.fixture(params=BODIES)
def mine(request) -> PrismRecommender:
    return prism_recommender(request.param)


def test_lists_are_beams_with_their_log_probabilities(mine):
    answers = mine.recommend(HISTORY, top_k=5)

    scores = [answer.score for answer in answers]
    assert len(answers) == 5 and scores == sorted(scores, reverse=True) and max(scores) < 0
    assert not set(ids(answers)) & set(HISTORY) and answers[0].fields["source"] == "prism"


def test_scores_are_those_of_the_model_with_the_vectors_of_the_catalog(mine):
    rows = torch.from_numpy(mine.catalog.rows_of(HISTORY))[None]
    found = mine.ranker_for(5).exact().rank(rows, top_k=5)

    input_ids, attention_mask, item_rows = mine.prompts.inputs_with_items(rows)
    read = {"item_rows": item_rows, "item_table": mine.generator.item_table(torch.tensor(mine.catalog.vectors))}
    every = score_catalog(
        mine.generator, input_ids, attention_mask, trie=mine.trie, vocabulary=mine.vocabulary, model_kwargs=read
    )

    torch.testing.assert_close(found.scores, every.topk(5, 1).values, rtol=1e-4, atol=1e-4)


def test_a_new_item_has_its_text_and_no_collaborative_vector(mine):
    sids = mine.catalog.codes.copy()

    change = mine.add_items(list(NEW), list(NEW.values()))

    assert change.item_ids == tuple(NEW)
    assert set(NEW) <= set(ids(mine.recommend(HISTORY, top_k=TOY_ITEMS + 2, exclude_seen=False)))
    assert len(mine.recommend(["item002", "item100"], top_k=3)) == 3
    added = mine.catalog.vectors[TOY_ITEMS:]
    assert np.array_equal(added[:, :-CLICKS], mine.encoder.encode(list(NEW.values())))
    assert not added[:, -CLICKS:].any()
    assert np.array_equal(mine.catalog.codes[:TOY_ITEMS], sids)
    assert np.array_equal(mine.text_vectors(mine.catalog), mine.catalog.vectors[:, :-CLICKS])


def test_the_order_of_new_items_does_not_matter(mine):
    other = prism_recommender("seq2seq" if mine.generator.config.is_encoder_decoder else "causal")

    mine.add_items(list(NEW), vectors=mine.encoder.encode(list(NEW.values())), titles=list(NEW.values()))
    other.add_items(list(NEW)[::-1], list(NEW.values())[::-1])

    assert mine.catalog.version == other.catalog.version
    with pytest.raises(ValueError, match="reads the texts of items, which codes do not hold"):
        mine.add_items(["item200"], codes=[[0, 0]])


def test_a_new_text_keeps_the_collaborative_vector(mine):
    before = mine.catalog.vectors[3].copy()

    mine.update_items([TOY_IDS[3]], ["chess in lima"])

    after = mine.catalog.vectors[3]
    assert np.array_equal(after[-CLICKS:], before[-CLICKS:]) and not np.array_equal(after, before)
    assert np.array_equal(mine.catalog.codes[3], prism_recommender().catalog.codes[3])
    assert mine.snapshot.table is not None and len(mine.snapshot.table.rows) == len(TOY_TEXTS)


def test_removed_items_are_not_recommended(mine):
    mine.remove_items(["item003"])

    assert "item003" not in ids(mine.recommend(HISTORY, top_k=TOY_ITEMS, exclude_seen=False))


def test_save_and_load_bring_back_every_part_and_the_answers(mine, tmp_path):
    mine.add_items(list(NEW), list(NEW.values()))
    mine.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is PrismRecommender
    assert loaded.catalog.version == mine.catalog.version
    assert np.array_equal(loaded.catalog.vectors, mine.catalog.vectors)
    weights = loaded.generator.state_dict()
    assert {"code_vectors", "item_fusion.gate"} <= set(weights)
    assert all(torch.equal(weight, weights[name]) for name, weight in mine.generator.state_dict().items())
    for history in (HISTORY, ["item100"]):
        assert_same_list(loaded.recommend(history, top_k=9), mine.recommend(history, top_k=9))
    assert not (tmp_path / "custom_generate").exists()  # that script searches from tokens alone


@pytest.mark.parametrize("isr", [OFF, OFF | {"positions": True}], ids=["nothing", "positions"])
def test_without_fusion_the_catalog_holds_no_vectors(isr, tmp_path):
    system = prism_recommender(isr=isr)
    system.add_items(list(NEW), list(NEW.values()))
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert loaded.catalog.vectors is None
    assert_same_list(loaded.recommend(HISTORY, top_k=9), system.recommend(HISTORY, top_k=9))
    assert (tmp_path / "custom_generate").exists() == (not system.generator.config.use_text_input)
