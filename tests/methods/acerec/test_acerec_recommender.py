"""ACERec as a recommender: files, masks, new items, ties, and what it can't do."""

import numpy as np
import pytest
import torch

from cost_hf.methods.acerec.recommender import AceRecRecommender
from cost_hf.quantizers.opq.configuration_opq import OpqConfig
from cost_hf.quantizers.opq.modeling_opq import OpqModel
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import update_manifest
from cost_hf.semantic_ids.catalog import Catalog
from tests.methods.acerec.acerec_toys import IDS, ITEMS, SIZES, TEXTS, tiny_model, toy_codes, toy_recommender
from tests.near_ties import assert_same_list

HISTORY = ["item003", "item007"]


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def test_a_saved_recommender_loads_through_the_base_class(tmp_path):
    system = toy_recommender()
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is AceRecRecommender
    assert_same_list(loaded.recommend(HISTORY, top_k=5), system.recommend(HISTORY, top_k=5))
    assert loaded.catalog.titles == tuple(TEXTS)
    assert np.array_equal(loaded.encode(TEXTS[:3]), system.catalog.codes[:3])


def test_scores_are_those_of_the_model_best_first():
    system = toy_recommender()

    answers = system.recommend(HISTORY, top_k=ITEMS, exclude_seen=False)

    tokens = system.model.item_tokens(torch.from_numpy(system.catalog.codes.copy()))
    with torch.no_grad():
        scores = system.model.scores(torch.tensor([[3, 7]]), tokens)[0]
    assert len(answers) == ITEMS
    assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)
    for answer in answers:
        assert answer.score == pytest.approx(float(scores[system.catalog.row_of(answer.item_id)]))


def test_seen_denied_and_removed_items_are_left_out_inside_the_ranking():
    system = toy_recommender()
    every = ids(system.recommend(HISTORY, top_k=ITEMS, exclude_seen=False))
    system.remove_items(["item011"])

    left = ids(system.recommend(HISTORY, top_k=ITEMS, denied=["item005"]))

    assert left == [item for item in every if item not in {*HISTORY, "item005", "item011"}]
    assert ids(system.recommend(HISTORY, allowed=["item020", "item011", "item003"])) == ["item020"]


def test_items_with_the_same_digits_are_ordered_by_popularity_then_by_id():
    codes = toy_codes().numpy()
    codes[[4, 21, 9]] = codes[2]
    clicks = np.zeros(ITEMS, dtype=np.int64)
    clicks[21] = 3
    catalog = Catalog.from_codes(IDS, codes, level_sizes=SIZES, collisions="none")
    system = AceRecRecommender(tiny_model(), catalog, popularity=clicks)

    answers = system.recommend(HISTORY, allowed=["item009", "item004", "item021", "item002"])

    assert ids(answers) == ["item021", "item002", "item004", "item009"]
    assert len({answer.score for answer in answers}) == 1


def test_a_new_item_is_scored_as_if_it_had_always_been_there(tmp_path):
    system = toy_recommender()
    before = system.recommend(HISTORY, top_k=5)
    system.save_pretrained(tmp_path)
    system.add_items(["twin", "other"], [TEXTS[11], "weather in oslo and lima"])
    system.save_catalog(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)

    answers = loaded.recommend(HISTORY, top_k=ITEMS + 2, exclude_seen=False)

    assert_same_list(answers, system.recommend(HISTORY, top_k=ITEMS + 2, exclude_seen=False))
    scores = {answer.item_id: answer.score for answer in answers}
    assert set(scores) == {*IDS, "twin", "other"} and scores["twin"] == scores["item011"]
    assert np.array_equal(loaded.catalog.codes[:ITEMS], toy_recommender().catalog.codes)
    assert ids(loaded.recommend(["twin"], top_k=3))  # it can be read, too
    loaded.rollback()
    assert_same_list(loaded.recommend(HISTORY, top_k=5), before)


def test_codes_from_elsewhere_can_be_added_and_vectors_need_the_quantizer():
    catalog = Catalog.from_codes(IDS, toy_codes().numpy(), level_sizes=SIZES, collisions="none")
    system = AceRecRecommender(tiny_model(), catalog, popularity=np.zeros(ITEMS))

    system.add_items(["new"], codes=[[0, 1, 2, 3, 0, 1]])

    assert "new" in ids(system.recommend(HISTORY, top_k=ITEMS + 1))
    with pytest.raises(ValueError, match="has no quantizer"):
        system.add_items(["more"], vectors=np.ones((1, 12), dtype=np.float32))


def test_an_item_with_another_text_counts_as_different_where_its_digits_would_be():
    system = toy_recommender()

    change = system.update_items(["item004", "item005"], [TEXTS[25], TEXTS[5]])

    assert change.would_differ == 1
    assert np.array_equal(system.catalog.codes, toy_recommender().catalog.codes)


def test_codes_of_another_quantizer_are_refused_with_both_digests(tmp_path):
    system = toy_recommender()
    system.save_pretrained(tmp_path)
    update_manifest(tmp_path, assignment_digest="other")

    with pytest.raises(ValueError, match=r"the assignment of the catalog in .* has digest \w+, .* asks for other"):
        Recommender.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="take both from one run"):
        AceRecRecommender(
            system.model,
            Catalog.from_codes(IDS, toy_codes(), level_sizes=SIZES, collisions="none"),
            popularity=np.zeros(ITEMS),
        )
    stranger = OpqModel(OpqConfig(item_dim=12, level_sizes=SIZES))
    system.quantizer = stranger
    with pytest.raises(ValueError, match="save the quantizer that they were made with"):
        system.save_pretrained(tmp_path / "again")


def test_levels_that_the_model_has_not_learned_are_refused():
    codes = np.column_stack([toy_codes().numpy(), np.zeros(ITEMS, dtype=np.int64)])
    catalog = Catalog.from_codes(IDS, codes, level_sizes=(*SIZES, 2), collisions="none")

    with pytest.raises(ValueError, match=r"has learned codes of levels \(5, 4, 6, 5, 4, 6\)"):
        AceRecRecommender(tiny_model(), catalog, popularity=np.zeros(ITEMS))


def test_empty_histories_are_answered_by_popularity():
    answers = toy_recommender().recommend([], top_k=2, on_empty="popularity")

    assert ids(answers) == ["item029", "item028"] and answers[0].fields["source"] == "popularity"
