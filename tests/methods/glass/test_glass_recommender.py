"""GLASS as a recommender: whole histories are read, catalogs change, and files carry all that a request needs."""

import numpy as np
import pytest
import torch

from cost_hf import Recommender
from cost_hf.methods.glass.recommender import GlassRecommender
from tests.methods.glass.glass_toys import ALL_OFF, CAUSAL, LONG, glass_recommender
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_IDS, TOY_ITEMS

HISTORY = [TOY_IDS[row] for row in (3, 8, 2, 7, 11, 12, 13, 14)]  # the prompt holds the last five
NEW = {"item100": "football in oslo tonight", "item101": "weather of lima and quito"}
BODIES = {"seq2seq": {}, "causal": CAUSAL}


@pytest.fixture(params=BODIES)
def mine(request) -> GlassRecommender:
    return glass_recommender(body=request.param, **BODIES[request.param])


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def test_lists_are_beams_with_their_log_probabilities(mine):
    answers = mine.recommend(HISTORY, top_k=5)

    scores = [answer.score for answer in answers]
    assert len(answers) == 5 and scores == sorted(scores, reverse=True) and max(scores) < 0
    assert not set(ids(answers)) & set(HISTORY) and answers[0].fields["source"] == "glass"


def test_items_before_those_of_the_prompt_change_the_scores(mine):
    other = [*[TOY_IDS[10]] * 3, *HISTORY[3:]]

    found, expected = (mine.recommend(own, top_k=5, exclude_seen=False) for own in (HISTORY, other))

    assert [answer.score for answer in found] != [answer.score for answer in expected]


def test_a_batch_of_histories_gives_the_lists_of_each(mine):
    histories = [HISTORY, HISTORY[:1], HISTORY[2:5]]

    for own, found in zip(histories, mine.recommend(histories, top_k=4), strict=True):
        assert_same_list(found, mine.recommend(own, top_k=4))


def test_a_new_item_is_read_and_recommended_and_keeps_the_prototypes(mine):
    prototypes = mine.generator.prototypes.clone()

    mine.add_items(list(NEW), list(NEW.values()))

    assert set(NEW) <= set(ids(mine.recommend(HISTORY, top_k=TOY_ITEMS + 2, exclude_seen=False)))
    assert len(mine.recommend(["item100", *HISTORY], top_k=3)) == 3
    assert torch.equal(mine.generator.prototypes, prototypes)
    assert len(mine.snapshot.table.rows) == TOY_ITEMS + 2
    mine.remove_items(["item100"])
    assert "item100" not in ids(mine.recommend(["item100", *HISTORY], top_k=TOY_ITEMS, exclude_seen=False))


@pytest.mark.parametrize(
    ("changes", "reads_tokens_alone"), [({}, False), (ALL_OFF, True), (ALL_OFF | {"positions": True}, False)]
)
def test_a_saved_recommender_gives_the_same_lists(mine, changes, reads_tokens_alone, tmp_path):
    system = glass_recommender(**changes) if changes else mine
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is GlassRecommender and loaded.long_history == LONG
    assert (tmp_path / "custom_generate").is_dir() == reads_tokens_alone
    assert_same_list(loaded.recommend(HISTORY, top_k=5), system.recommend(HISTORY, top_k=5))


def test_prompt_inputs_are_those_of_generate():
    system = glass_recommender()
    rows = torch.from_numpy(system.catalog.rows_of(HISTORY))[None]

    inputs = system.prompt_inputs(rows)
    first = system.generator.generate(**inputs, max_new_tokens=1, do_sample=False)

    assert set(inputs) == {"inputs_embeds", "attention_mask", "bank_tokens", "bank_starts"}
    assert first.shape == (1, 2)


def test_a_long_history_that_no_request_has_is_refused():
    system = glass_recommender()

    with pytest.raises(ValueError, match="long_history must be at least 1"):
        GlassRecommender(system.backbone, system.catalog, popularity=np.ones(TOY_ITEMS), long_history=0)
